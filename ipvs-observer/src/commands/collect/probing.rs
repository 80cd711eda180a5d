//! The probes from gather to gather.
//!
//! Where `ip_vs` itself comes or goes, all of them are attached or taken away, which takes the kernel from half a
//! second to several: that is done beside the gathers, which go on without them. A scheduler's own two are a matter
//! of a moment, and what was counted so far is not left out for it.
//!
//! What they are attached for is looked for between gathers too: what happens before they are attached is not counted, and
//! an interval may be long.

use std::{
    mem,
    panic::resume_unwind,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use crate::{
    leave::Held,
    model::{Activity, Netns},
    privilege,
    probe::{Availability, Outlook, ProbeSettings, Probes},
};

/// The probes, or whoever is attaching them.
pub(super) struct Probing {
    state: State,
    /// What they lack while they are not here.
    away: Availability,
}

enum State {
    Here(Box<Held<Probes>>),
    Away(Option<JoinHandle<Option<Box<Held<Probes>>>>>),
}

impl Probing {
    /// Attaches what there is.
    pub(super) fn attach(settings: &ProbeSettings) -> Self {
        let probing = Self {
            state: State::Here(Box::new(Held::new(|| Probes::attach(settings)))),
            away: Availability::being_attached(),
        };
        probing.give_up();
        probing
    }

    /// The probes, unless they are being attached or taken away.
    pub(super) fn here(&self) -> Option<&Probes> {
        match &self.state {
            State::Here(probes) => Some(probes),
            State::Away(_) => None,
        }
    }

    /// What works, what does not, and why.
    pub(super) fn availability(&self) -> &Availability {
        self.here().map_or(&self.away, Probes::availability)
    }

    /// Follows modules that came or went, and reads what the probes saw in these namespaces. While they are away
    /// that is nothing.
    pub(super) fn read(&mut self, observed: &[Netns], activity: &mut Activity) {
        self.welcome();
        let State::Here(probes) = &mut self.state else {
            return activity.clear();
        };
        // What it found last time stays, for what is new since then.
        match probes.look() {
            Outlook::Same => {}
            Outlook::Some => probes.renew(),
            Outlook::Ipvs => {
                // What was told until now goes with the probes that told it.
                probes.read(activity);
                self.renew();
                return;
            }
        }
        probes.observe(observed);
        probes.read(activity);
        self.give_up();
    }

    /// Between gathers, which may be long: has the probes attached if `ip_vs` has come, and those that are attached on
    /// an occasion if that has. Other modules wait for the gather, which tells what was seen of them before it follows
    /// them.
    pub(super) fn follow(&mut self) {
        self.welcome();
        let State::Here(probes) = &mut self.state else {
            return;
        };
        if probes.attached() {
            if probes.look_for_occasions() != Outlook::Same {
                probes.renew();
            }
        } else if probes.look() != Outlook::Same {
            self.renew();
        }
    }

    /// Whoever has the probes, attached, gives up what attaching them took, if that is to be given up.
    fn give_up(&self) {
        if self.here().is_some_and(Probes::attached) {
            privilege::attached();
        }
    }

    fn renew(&mut self) {
        let (sender, receiver) = mpsc::channel::<Box<Held<Probes>>>();
        let renewing = thread::Builder::new().name("probes".to_owned()).spawn(move || {
            let mut probes = receiver.recv().ok()?;
            probes.renew();
            Some(probes)
        });
        let State::Here(probes) = &mut self.state else {
            return;
        };
        let Ok(thread) = renewing else {
            // Without a thread for it, this gather waits.
            return probes.renew();
        };
        if let State::Here(probes) = mem::replace(&mut self.state, State::Away(Some(thread))) {
            // It receives until it has them.
            let _ = sender.send(probes);
        }
    }

    /// Takes the probes back, if they are ready.
    fn welcome(&mut self) {
        let State::Away(thread) = &mut self.state else {
            return;
        };
        if let Some(thread) = thread.take_if(|thread| thread.is_finished())
            && let Some(probes) = thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        {
            self.state = State::Here(probes);
        }
    }
}
