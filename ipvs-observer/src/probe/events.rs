//! The ring buffer: what leaves the kernel, turned into the model's values.

use std::{io, mem::size_of, time::Duration};

use aya::{
    Pod,
    maps::{MapData, RingBuf},
};
use ipvs_observer_common::event::{
    self, CandidatesHeader, Change as KernelChange, Decision as KernelDecision, DestinationState as State,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    time::{ClockId, clock_gettime},
};

use super::{btf::WrrMark, convert, decisions::Assembly};
use crate::model::{Action, Change, Name, Traced};

/// The reading end of the ring buffer.
pub(super) struct Events {
    ring: RingBuf<MapData>,
    assembly: Assembly,
}

impl Events {
    /// The reading end; there is one.
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self {
            ring,
            assembly: Assembly::default(),
        }
    }

    /// Takes note of where the weighted round robin keeps its state.
    pub(super) fn know(&mut self, wrr: Option<WrrMark>) {
        self.assembly.know(wrr);
    }

    /// Gives everything that is there to `each`.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Traced)) {
        let clock = Clock::now();
        while let Some(record) = self.ring.next() {
            let Some(kind) = record.first_chunk().map(|kind| u32::from_ne_bytes(*kind)) else {
                continue;
            };
            let event = match kind {
                event::CHANGE => whole::<KernelChange>(&record)
                    .and_then(|change| change_of(&change, &clock))
                    .map(Traced::Change),
                event::DECISION => whole::<KernelDecision>(&record).and_then(|decision| {
                    let time = clock.real(decision.time);
                    self.assembly
                        .decision(&decision, time)
                        .map(|decision| Traced::Decision(Box::new(decision)))
                }),
                event::CANDIDATES => {
                    if let Some(header) = whole::<CandidatesHeader>(&record) {
                        let states = record[size_of::<CandidatesHeader>()..].chunks_exact(size_of::<State>());
                        let states = states.filter_map(whole::<State>).take(header.count as usize);
                        self.assembly.candidates(header, states.collect());
                    }
                    None
                }
                _ => None,
            };
            if let Some(event) = event {
                each(event);
            }
        }
    }

    /// Waits until something is there; false if nothing came in time.
    pub(super) fn wait(&self, longest: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.ring, PollFlags::IN)];
        let timeout = Timespec::try_from(longest).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A record as a value; none if it is shorter.
fn whole<T: Pod>(record: &[u8]) -> Option<T> {
    (record.len() >= size_of::<T>()).then(|| {
        // SAFETY: `Pod` promises that every pattern of bytes is a value, and there are enough of them.
        unsafe { record.as_ptr().cast::<T>().read_unaligned() }
    })
}

/// From the clock of the kernel's events to that of people.
struct Clock {
    /// Nanoseconds from the one's zero to the other's.
    ahead: u64,
}

impl Clock {
    /// As it is now: it changes where the machine's time is set, or corrected step by step.
    fn now() -> Self {
        let [monotonic, real] = [ClockId::Monotonic, ClockId::Realtime].map(|clock| {
            let time = clock_gettime(clock);
            time.tv_sec
                .cast_unsigned()
                .wrapping_mul(1_000_000_000)
                .wrapping_add(time.tv_nsec.cast_unsigned())
        });
        Self {
            ahead: real.wrapping_sub(monotonic),
        }
    }

    /// Nanoseconds since the epoch.
    fn real(&self, monotonic: u64) -> u64 {
        monotonic.wrapping_add(self.ahead)
    }
}

fn change_of(change: &KernelChange, clock: &Clock) -> Option<Change> {
    let action = match change.action {
        event::ACTION_ADD_SERVICE => Action::AddService,
        event::ACTION_EDIT_SERVICE => Action::EditService,
        event::ACTION_DELETE_SERVICE => Action::DeleteService,
        event::ACTION_ADD_DESTINATION => Action::AddDestination,
        event::ACTION_EDIT_DESTINATION => Action::EditDestination,
        event::ACTION_DELETE_DESTINATION => Action::DeleteDestination,
        event::ACTION_OVERLOAD => Action::Overload,
        event::ACTION_RECOVER => Action::Recover,
        _ => return None,
    };
    let (netns, service) = convert::service(&change.key.service);
    let on_service = matches!(
        action,
        Action::AddService | Action::EditService | Action::DeleteService
    );
    // The threshold is crossed by a packet or a timer, over whatever process was there.
    let by_process = !matches!(action, Action::Overload | Action::Recover);
    Some(Change {
        time: clock.real(change.time),
        netns,
        action,
        service,
        destination: (!on_service)
            .then(|| convert::destination(change.key.family, change.key.address, change.key.port)),
        weight_before: u32::try_from(change.weight_before).ok(),
        weight_after: u32::try_from(change.weight_after).ok(),
        comm: if by_process {
            Name::from_bytes(&change.comm)
        } else {
            Name::default()
        },
        pid: if by_process { change.pid } else { 0 },
        parent_comm: if by_process {
            Name::from_bytes(&change.parent_comm)
        } else {
            Name::default()
        },
        parent_pid: if by_process { change.parent_pid } else { 0 },
    })
}

#[cfg(test)]
mod tests {
    use ipvs_observer_common::event::{self, Change};

    use super::{Clock, change_of};
    use crate::model::Action;

    #[test]
    fn a_change_names_who_made_it_and_what_was_before() {
        let mut change = Change {
            kind: event::CHANGE,
            action: event::ACTION_EDIT_DESTINATION,
            time: 5,
            weight_before: 3,
            weight_after: 0,
            pid: 42,
            ..Change::default()
        };
        change.comm[..8].copy_from_slice(b"drain.sh");
        let change = change_of(&change, &Clock { ahead: 1000 }).expect("a known action");
        assert_eq!(change.action, Action::EditDestination);
        assert_eq!((change.weight_before, change.weight_after), (Some(3), Some(0)));
        assert_eq!(
            (change.comm.as_str(), change.pid, change.time),
            ("drain.sh", 42, 1005)
        );
        assert!(change.destination.is_some());
    }

    #[test]
    fn nobody_is_named_for_an_overload_which_no_process_made() {
        let mut change = Change {
            action: event::ACTION_OVERLOAD,
            pid: 42,
            ..Change::default()
        };
        change.comm[..5].copy_from_slice(b"nginx");
        let change = change_of(&change, &Clock { ahead: 0 }).expect("a known action");
        assert!(change.comm.is_empty() && change.pid == 0);
    }

    #[test]
    fn a_service_that_goes_has_no_destination_and_no_weight() {
        let change = Change {
            action: event::ACTION_DELETE_SERVICE,
            weight_before: -1,
            weight_after: -1,
            ..Change::default()
        };
        let change = change_of(&change, &Clock { ahead: 0 }).expect("a known action");
        assert_eq!(
            (change.destination, change.weight_before, change.weight_after),
            (None, None, None)
        );
    }
}
