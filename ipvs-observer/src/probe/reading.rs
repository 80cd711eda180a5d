//! What the probes saw and said: counters, their account of themselves, and events.

use std::{io, thread, time::Duration};

use super::{Probes, clock::Clock, counters};
use crate::model::{Activity, Before, Refusal, Traced};

impl Probes {
    /// Reads the counters into `activity`. What could not be read is left out, and `activity.diagnostics` says
    /// so.
    pub fn read(&mut self, activity: &mut Activity) {
        activity.begin();
        let (Some(object), Some(counters)) = (&mut self.object, &mut self.counters) else {
            return activity.clear();
        };
        activity.probes = counters::account(object);
        activity.overload_by_scheduling = !self.attached.tells_of_overload();
        activity.watched = self.attached.watches(object.features);
        // The interval ends for the programs first: what comes after belongs to the next.
        let ended = self.control.interval;
        self.control.interval = ended.wrapping_add(1);
        object.orders(&self.control);
        if let Err(error) = counters.read(&object.health(), ended, activity) {
            activity.clear();
            activity.diagnostics.push(format!(
                "the counters of the probes cannot be read ({error}), so this gather has none of them; leave this \
                 process more memory"
            ));
        }
        if let Some(events) = &mut self.events {
            let (clock, decisions) = (Clock::now(), &mut self.decisions);
            events.drain(|event| match decisions.told(event, clock) {
                Some((Traced::Change(change), _)) => activity.changes.push(change),
                Some((Traced::Decision(decision), _)) => {
                    activity.refusals.push(Refusal::Decision(decision));
                }
                Some((Traced::Drop(drop), _)) => activity.refusals.push(Refusal::Drop(drop)),
                // Nobody who reads counters asked for it.
                Some((Traced::End(_), _)) | None => {}
            });
        }
        object.diagnostics.drain_into(&mut activity.diagnostics);
    }

    /// Reads the probes' account of themselves into `activity`, and leaves events where they are.
    pub fn health(&mut self, activity: &mut Activity) {
        activity.diagnostics.clear();
        let Some(object) = &mut self.object else { return };
        activity.probes = counters::account(object);
        object.diagnostics.drain_into(&mut activity.diagnostics);
    }

    /// Gives the events that are there to `each`, in the order in which they happened on each processor, and says
    /// whether there were any. With a decision comes what the scheduler had before it, where that was asked for and
    /// not lost. What comes faster than it is read waits for the next time.
    pub fn events(&mut self, mut each: impl FnMut(Traced, Option<Before>)) -> bool {
        let Some(events) = &mut self.events else {
            return false;
        };
        let (clock, decisions) = (Clock::now(), &mut self.decisions);
        let read = events.drain(|event| {
            if let Some((traced, before)) = decisions.told(event, clock) {
                each(traced, before);
            }
        });
        read > 0
    }

    /// Lets no more events leave the kernel. What has left it can still be read, and then all is told: what was
    /// seen and what was lost is what was made.
    pub fn fall_silent(&mut self) {
        self.control.events = 0;
        if let Some(object) = &mut self.object {
            object.orders(&self.control);
        }
    }

    /// Waits until an event is there to be read; false if none came in time, or if there are no events.
    ///
    /// # Errors
    /// The kernel will not wait.
    pub fn wait(&self, longest: Duration) -> io::Result<bool> {
        let Some(events) = &self.events else {
            thread::sleep(longest);
            return Ok(false);
        };
        events.wait(longest)
    }
}
