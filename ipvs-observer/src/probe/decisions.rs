//! Decisions, put together from what left the kernel.
//!
//! Owns: what the programs' records mean. Refuses to know: how they came. What the scheduler had before it leaves
//! before what came of it, and the two are joined by the call that both name.

use std::collections::HashMap;

use ipvs_observer_common::event::{
    self, CandidatesHeader, Decision as Record, DestinationState as State, OVERLOADED, Summary,
};

use super::{btf::WrrMark, convert};
use crate::{
    explain::{self, Before, Memory},
    model::{Address, Candidates, Decision, DestinationState, Name, Outcome},
};

/// Calls whose decision has not come: those whose decision was lost stay here, until there are so many.
const MOST_WAITING: usize = 1024;

/// What a scheduler had before it, waiting for what came of it.
#[derive(Debug)]
struct Waiting {
    header: CandidatesHeader,
    states: Vec<State>,
}

/// Puts decisions together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    waiting: HashMap<u64, Waiting>,
    wrr: Option<WrrMark>,
}

impl Assembly {
    /// Takes note of where the weighted round robin keeps its state, if that is known.
    pub(super) fn know(&mut self, wrr: Option<WrrMark>) {
        self.wrr = wrr;
    }

    /// Takes what a scheduler had before it.
    pub(super) fn candidates(&mut self, header: CandidatesHeader, states: Vec<State>) {
        if self.waiting.len() >= MOST_WAITING {
            self.waiting.clear();
        }
        self.waiting.insert(header.call, Waiting { header, states });
    }

    /// What came of a call, at `time` in ns since the epoch.
    pub(super) fn decision(&mut self, record: &Record, time: u64) -> Option<Decision> {
        let total = record.flags & event::TOTAL_CONNECTIONS != 0;
        let waiting = match record.flags & event::HAS_CANDIDATES {
            0 => None,
            _ => self.waiting.remove(&record.call),
        };
        let (netns, service) = convert::service(&record.service);
        let scheduler = Name::from_bytes(&record.scheduler);
        let (outcome, reason) = outcome(record)?;
        let candidates = waiting.map(|waiting| {
            candidates(
                &waiting,
                scheduler.as_str(),
                total,
                self.wrr.as_ref(),
                record.destination.pointer,
            )
        });
        Some(Decision {
            time,
            netns,
            service,
            scheduler,
            client: Address::new(service.family(), record.client),
            client_port: record.client_port,
            destination: (record.destination.family != 0).then(|| state(&record.destination, total)),
            ns: (record.ns != 0).then_some(record.ns),
            outcome,
            reason,
            candidates,
        })
    }
}

fn state(state: &State, total: bool) -> DestinationState {
    DestinationState {
        key: convert::destination(state.family, state.address, state.port),
        weight: u32::try_from(state.weight).unwrap_or(0),
        active: state.active,
        inactive: if total {
            state.other.saturating_sub(state.active)
        } else {
            state.other
        },
        overloaded: state.flags & OVERLOADED != 0,
    }
}

fn candidates(
    waiting: &Waiting,
    scheduler: &str,
    total: bool,
    wrr: Option<&WrrMark>,
    taken: u64,
) -> Candidates {
    let list: Vec<_> = waiting
        .states
        .iter()
        .map(|candidate| state(candidate, total))
        .collect();
    let before = Before {
        scheduler,
        list: &list,
        more: waiting.header.all.saturating_sub(list.len() as u32),
        total_connections: total,
        memory: memory(waiting, scheduler, wrr),
    };
    let taken = waiting
        .states
        .iter()
        .position(|candidate| taken != 0 && candidate.pointer == taken);
    explain::explain(&before, taken)
}

/// What the scheduler remembered; unread where it points to a destination that is not in the list.
fn memory(waiting: &Waiting, scheduler: &str, wrr: Option<&WrrMark>) -> Memory {
    let Waiting { header, states } = waiting;
    let place = |node: u64| {
        if node == header.list {
            return Some(None);
        }
        let offset = u64::from(header.list_offset);
        states
            .iter()
            .position(|state| state.pointer.wrapping_add(offset) == node)
            .map(Some)
    };
    match (scheduler, wrr) {
        ("rr", _) => place(header.scheduler_data).map_or(Memory::Unread, Memory::Last),
        ("wrr", Some(mark)) => {
            let number = |field| member(&header.scheduler_state, field);
            let last = number(mark.cl).and_then(|dest| place(dest.wrapping_add(header.list_offset.into())));
            match (last, number(mark.cw), number(mark.mw), number(mark.di)) {
                (Some(last), Some(current), Some(greatest), Some(step)) => Memory::Weighted {
                    last,
                    // The kernel's are 32 bits wide, and signed.
                    current: current as i32,
                    greatest: greatest as i32,
                    step: step as i32,
                },
                _ => Memory::Unread,
            }
        }
        _ => Memory::Unread,
    }
}

/// A member of a structure of which the beginning was read, as a number.
fn member(bytes: &[u8], field: ipvs_observer_common::layout::Field) -> Option<u64> {
    let start = usize::from(field.offset);
    let member = bytes.get(start..start + usize::from(field.size))?;
    let mut number = [0; 8];
    number.get_mut(..member.len())?.copy_from_slice(member);
    Some(u64::from_le_bytes(number))
}

/// What became of the packet, and why, in words.
fn outcome(record: &Record) -> Option<(Outcome, String)> {
    let words = |outcome, words: &str| Some((outcome, words.to_owned()));
    match record.outcome {
        event::OUTCOME_SCHEDULED => words(Outcome::Scheduled, ""),
        event::OUTCOME_TEMPLATE => words(Outcome::Template, ""),
        event::OUTCOME_NONE => {
            let said = Name64(&record.message).text();
            Some(why_none(&record.summary, &said))
        }
        event::OUTCOME_UNASKED => words(
            Outcome::None,
            "the packet is for no port of the service, or the service has no scheduler",
        ),
        event::OUTCOME_FATAL => words(
            Outcome::Fatal,
            "no memory, a persistence engine's refusal, or too many connections",
        ),
        _ => None,
    }
}

fn why_none(summary: &Summary, said: &str) -> (Outcome, String) {
    let Summary {
        looked_at,
        drained,
        overloaded,
        all,
    } = *summary;
    if all == 0 {
        return (Outcome::None, "the service has no real servers".to_owned());
    }
    if looked_at >= all && drained == looked_at {
        return (Outcome::None, "all weights are 0".to_owned());
    }
    if looked_at >= all && drained + overloaded == looked_at {
        let rest = if drained > 0 {
            format!(", and {drained} have weight 0")
        } else {
            String::new()
        };
        return (
            Outcome::Overloaded,
            format!("{overloaded} of {all} real servers are overloaded{rest}"),
        );
    }
    let able = looked_at.saturating_sub(drained + overloaded);
    let said = if said.is_empty() {
        String::new()
    } else {
        format!("the scheduler says \"{said}\", though ")
    };
    (
        Outcome::None,
        format!("{said}{able} of {all} real servers could take connections"),
    )
}

/// A text of the kernel, to the first NUL.
struct Name64<'a>(&'a [u8]);

impl Name64<'_> {
    fn text(&self) -> String {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        String::from_utf8_lossy(&self.0[..end]).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use ipvs_observer_common::{
        event::{DECISION, HAS_CANDIDATES, OUTCOME_NONE, OUTCOME_SCHEDULED, TOTAL_CONNECTIONS},
        key::ServiceKey,
        layout::Field,
    };

    use super::*;

    const LIST: u64 = 0x9000;
    const OFFSET: u32 = 0x10;

    fn record(outcome: u32) -> Record {
        Record {
            kind: DECISION,
            outcome,
            time: 5,
            call: 77,
            ns: 1000,
            service: ServiceKey {
                family: 2,
                protocol: 6,
                port: 80,
                ..ServiceKey::default()
            },
            scheduler: *b"rr\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            client: [0; 16],
            client_port: 4000,
            reserved: 0,
            flags: HAS_CANDIDATES,
            destination: State::default(),
            summary: Summary::default(),
            message: [0; event::MESSAGE],
        }
    }

    fn destination(pointer: u64, weight: i32) -> State {
        State {
            pointer,
            family: 2,
            port: 8080,
            weight,
            active: 2,
            other: 7,
            ..State::default()
        }
    }

    fn header() -> CandidatesHeader {
        CandidatesHeader {
            kind: event::CANDIDATES,
            count: 2,
            call: 77,
            all: 2,
            service_flags: 0,
            list: LIST,
            scheduler_data: LIST,
            scheduler_state: [0; event::SCHEDULER_STATE],
            target: [0; 16],
            list_offset: OFFSET,
            reserved: 0,
        }
    }

    #[test]
    fn a_decision_is_joined_with_what_the_scheduler_had_before_it() {
        let mut assembly = Assembly::default();
        let states = vec![destination(0x1000, 1), destination(0x2000, 1)];
        let header = CandidatesHeader {
            scheduler_data: 0x1000 + u64::from(OFFSET),
            ..header()
        };
        assembly.candidates(header, states);
        let mut record = record(OUTCOME_SCHEDULED);
        record.destination = destination(0x2000, 1);
        let decision = assembly.decision(&record, 9).expect("a decision");
        let candidates = decision.candidates.expect("candidates");
        assert_eq!(candidates.computed, Some(1), "behind the one taken last");
        assert_eq!(
            candidates.list.iter().map(|one| one.chosen).collect::<Vec<_>>(),
            [false, true]
        );
        assert!(
            assembly
                .decision(&record, 9)
                .expect("a decision")
                .candidates
                .is_none(),
            "they are used once"
        );
    }

    #[test]
    fn inactive_connections_are_what_is_not_active_of_a_total() {
        let mut record = record(OUTCOME_SCHEDULED);
        record.destination = destination(0x1000, 1);
        let inactive = |record: &Record| {
            let decision = Assembly::default().decision(record, 9).expect("a decision");
            decision.destination.map(|state| state.inactive)
        };
        assert_eq!(inactive(&record), Some(7));
        record.flags |= TOTAL_CONNECTIONS;
        assert_eq!(inactive(&record), Some(5));
    }

    #[test]
    fn the_weighted_round_robins_state_is_read_member_by_member() {
        let mark = WrrMark {
            cl: Field { offset: 0, size: 8 },
            cw: Field { offset: 8, size: 4 },
            mw: Field { offset: 12, size: 4 },
            di: Field { offset: 16, size: 4 },
        };
        let mut header = header();
        header.scheduler_state[..8].copy_from_slice(&(LIST - u64::from(OFFSET)).to_le_bytes());
        header.scheduler_state[8..12].copy_from_slice(&3i32.to_le_bytes());
        header.scheduler_state[12..16].copy_from_slice(&3i32.to_le_bytes());
        header.scheduler_state[16..20].copy_from_slice(&1i32.to_le_bytes());
        let waiting = Waiting {
            header,
            states: vec![destination(0x1000, 1), destination(0x2000, 3)],
        };
        let expected = Memory::Weighted {
            last: None,
            current: 3,
            greatest: 3,
            step: 1,
        };
        assert_eq!(memory(&waiting, "wrr", Some(&mark)), expected);
        assert_eq!(memory(&waiting, "wrr", None), Memory::Unread);
        assert_eq!(
            candidates(&waiting, "wrr", false, Some(&mark), 0x2000).computed,
            Some(1)
        );
    }

    #[test]
    fn nothing_to_take_is_said_in_words() {
        let why = |looked_at, drained, overloaded, all| {
            let mut record = record(OUTCOME_NONE);
            record.summary = Summary {
                looked_at,
                drained,
                overloaded,
                all,
            };
            let decision = Assembly::default().decision(&record, 9).expect("a decision");
            (decision.outcome, decision.reason)
        };
        let words = |outcome, text: &str| (outcome, text.to_owned());
        assert_eq!(
            why(0, 0, 0, 0),
            words(Outcome::None, "the service has no real servers")
        );
        assert_eq!(why(3, 3, 0, 3), words(Outcome::None, "all weights are 0"));
        assert_eq!(
            why(3, 0, 3, 3),
            words(Outcome::Overloaded, "3 of 3 real servers are overloaded")
        );
        assert_eq!(
            why(3, 1, 2, 3),
            words(
                Outcome::Overloaded,
                "2 of 3 real servers are overloaded, and 1 have weight 0"
            )
        );
        assert_eq!(
            why(3, 1, 0, 3),
            words(Outcome::None, "2 of 3 real servers could take connections")
        );
    }

    #[test]
    fn candidates_without_their_decision_do_not_pile_up() {
        let mut assembly = Assembly::default();
        for call in 0..10_000 {
            assembly.candidates(CandidatesHeader { call, ..header() }, Vec::new());
        }
        assert!(assembly.waiting.len() <= MOST_WAITING);
    }
}
