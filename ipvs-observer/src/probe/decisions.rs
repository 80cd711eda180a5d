//! Scheduling decisions, from the programs' words to the model's: the outcome, the reason in words, and what the
//! scheduler had before it.

use std::collections::{HashMap, VecDeque};

use ipvs_observer_common::event::{
    self, CandidatesHeader, Decision as KernelDecision, DestinationState as KernelState, Summary,
};

use super::{
    btf::Source,
    changes,
    clock::Clock,
    convert,
    events::Event,
    memory::{Memories, Seen},
};
use crate::{
    explain::{self, Before, Choice},
    model::{
        Address, BegunBy, Candidates, Decision, DestinationState, Name, Outcome, Protocol, Traced, Virtual,
    },
};

/// Lists of candidates kept until their decision comes. A list comes first, and its decision some microseconds
/// later; a decision that was lost leaves its list behind.
const KEPT: usize = 1024;

/// Puts decisions and their candidates together.
pub(super) struct Decisions {
    waiting: HashMap<u64, Seen>,
    order: VecDeque<u64>,
    memories: Memories,
}

impl Decisions {
    /// Nothing is waiting. What a scheduler remembers is read with the help of `source`.
    pub(super) fn new(source: Source) -> Self {
        Self {
            waiting: HashMap::new(),
            order: VecDeque::new(),
            memories: Memories::new(source),
        }
    }

    /// What an event tells. Candidates tell nothing until their decision comes.
    pub(super) fn told(&mut self, event: Event, clock: Clock) -> Option<Traced> {
        match event {
            Event::Change(told) => changes::change(&told, clock).map(Traced::Change),
            Event::Candidates(header, list) => {
                self.keep(header, list);
                None
            }
            Event::Decision(told) => Some(Traced::Decision(Box::new(self.decision(&told, clock)))),
        }
    }

    /// Forgets what is waiting.
    #[cfg(feature = "fuzzing")]
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.order.clear();
    }

    /// Keeps a list until its decision comes.
    fn keep(&mut self, header: Box<CandidatesHeader>, list: Vec<KernelState>) {
        if self.order.len() >= KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
        self.order.push_back(header.call);
        self.waiting.insert(header.call, Seen { header, list });
    }

    /// A decision, with its candidates if they came.
    fn decision(&mut self, told: &KernelDecision, clock: Clock) -> Decision {
        let (netns, service) = convert::service(&told.service);
        let total = told.flags & event::TOTAL_CONNECTIONS != 0;
        let seen = (told.flags & event::HAS_CANDIDATES != 0)
            .then(|| self.waiting.remove(&told.call))
            .flatten();
        let destination = (told.destination.family != 0).then(|| state(&told.destination, total));
        let scheduler = Name::from_bytes(&told.scheduler);
        let (outcome, reason) = reason(told, destination.as_ref(), scheduler.as_str());
        Decision {
            time: clock.real(told.time),
            netns,
            service,
            scheduler,
            client: Address::new(service.family(), told.client),
            client_port: told.client_port,
            r#virtual: Virtual {
                protocol: Protocol(told.protocol as u16),
                address: Address::new(service.family(), told.virtual_address),
                port: told.virtual_port,
            },
            begun_by: match told.begun_by {
                event::BEGUN_BY_SYN => Some(BegunBy::Syn),
                event::BEGUN_BY_DATA => Some(BegunBy::Data),
                event::BEGUN_BY_ICMP => Some(BegunBy::Icmp),
                _ => None,
            },
            destination,
            ns: (told.ns != 0).then_some(told.ns),
            outcome,
            reason,
            candidates: seen.map(|seen| self.explained(&seen, told, scheduler.as_str(), total)),
        }
    }

    fn explained(&self, seen: &Seen, told: &KernelDecision, scheduler: &str, total: bool) -> Candidates {
        let list: Vec<_> = seen
            .list
            .iter()
            .map(|candidate| state(candidate, total))
            .collect();
        let chosen = seen
            .list
            .iter()
            .position(|candidate| candidate.pointer == told.destination.pointer);
        let more = seen.header.all.saturating_sub(seen.header.count);
        let before = Before {
            scheduler,
            list: &list,
            more,
            total_connections: total,
            memory: self.memories.of(scheduler, seen, &list, told),
        };
        let choice = match chosen {
            Some(place) => Choice::Took(place),
            None if told.outcome == event::OUTCOME_NONE => Choice::Nothing,
            None => Choice::Unknown,
        };
        explain::explain(&before, choice)
    }
}

/// A destination as it was. Where the kernel counts all connections, the inactive ones are the rest.
fn state(state: &KernelState, total: bool) -> DestinationState {
    DestinationState {
        key: convert::destination(state.family, state.address, state.port),
        weight: u32::try_from(state.weight).unwrap_or(0),
        active: state.active,
        inactive: if total {
            state.other.saturating_sub(state.active)
        } else {
            state.other
        },
        overloaded: state.flags & event::OVERLOADED != 0,
    }
}

/// What became of the packet, and why. Of one without a destination, the function after the scheduler decides.
fn reason(
    told: &KernelDecision,
    destination: Option<&DestinationState>,
    scheduler: &str,
) -> (Outcome, String) {
    let (outcome, reason) = by_scheduling(told, destination, scheduler);
    if told.flags & event::ACCEPTED != 0 {
        (Outcome::Accepted, reason)
    } else if told.flags & event::BYPASSED != 0 {
        (
            Outcome::Bypassed,
            format!("{reason} (net.ipv4.vs.cache_bypass is on)"),
        )
    } else {
        (outcome, reason)
    }
}

fn by_scheduling(
    told: &KernelDecision,
    destination: Option<&DestinationState>,
    scheduler: &str,
) -> (Outcome, String) {
    match told.outcome {
        event::OUTCOME_SCHEDULED => (Outcome::Scheduled, String::new()),
        event::OUTCOME_TEMPLATE => (Outcome::Template, held(destination).to_owned()),
        event::OUTCOME_FATAL => (
            Outcome::Fatal,
            "no memory, too many connections (conn_max), or the persistence engine refused".to_owned(),
        ),
        event::OUTCOME_UNASKED if !scheduler.is_empty() => (
            Outcome::None,
            "the packet is for another port than the service's".to_owned(),
        ),
        _ if scheduler.is_empty() => (Outcome::None, "the service has no scheduler".to_owned()),
        _ => nothing(&told.summary, &told.message),
    }
}

/// A template goes on giving what no scheduler would.
fn held(destination: Option<&DestinationState>) -> &'static str {
    match destination {
        Some(state) if state.weight == 0 => {
            "although the weight is 0 (net.ipv4.vs.expire_quiescent_template would end that)"
        }
        Some(state) if state.overloaded => "although it is overloaded",
        _ => "",
    }
}

/// Why a scheduler gave none.
fn nothing(summary: &Summary, message: &[u8]) -> (Outcome, String) {
    let Summary {
        looked_at,
        drained,
        overloaded,
        all,
    } = *summary;
    if all == 0 {
        return (Outcome::None, "the service has no real servers".to_owned());
    }
    let whole = looked_at >= all;
    let unable = drained.saturating_add(overloaded);
    if whole && drained == looked_at {
        return (Outcome::None, "all weights are 0".to_owned());
    }
    if whole && unable == looked_at {
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
    let able = looked_at.saturating_sub(unable);
    let end = message
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(message.len());
    let said = match String::from_utf8_lossy(&message[..end]).trim() {
        "" => String::new(),
        words => format!("the scheduler says \"{words}\", though "),
    };
    let examined = if whole {
        all.to_string()
    } else {
        format!("the first {looked_at} of {all}")
    };
    (
        Outcome::None,
        format!("{said}{able} of {examined} real servers could take connections"),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ipvs_observer_common::{
        event::{DECISION, HAS_CANDIDATES, OUTCOME_NONE, OUTCOME_SCHEDULED, TOTAL_CONNECTIONS},
        key::ServiceKey,
    };

    use super::*;

    const LIST: u64 = 0x9000;
    const OFFSET: u32 = 0x10;
    const CLOCK: Clock = Clock { ahead: 0 };

    fn decisions() -> Decisions {
        Decisions::new(Source::new(Some(Path::new("/nonexistent"))))
    }

    fn told(outcome: u32) -> KernelDecision {
        KernelDecision {
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
            virtual_address: [0; 16],
            client_port: 4000,
            virtual_port: 80,
            flags: HAS_CANDIDATES,
            protocol: 6,
            begun_by: event::BEGUN_BY_SYN,
            destination: KernelState::default(),
            summary: Summary::default(),
            message: [0; event::MESSAGE],
        }
    }

    fn destination(pointer: u64, weight: i32) -> KernelState {
        KernelState {
            pointer,
            family: 2,
            port: 8080,
            weight,
            active: 2,
            other: 7,
            ..KernelState::default()
        }
    }

    fn header(call: u64) -> CandidatesHeader {
        CandidatesHeader {
            kind: event::CANDIDATES,
            count: 2,
            call,
            all: 2,
            service_flags: 0,
            list: LIST,
            scheduler_data: 0x1000 + u64::from(OFFSET),
            scheduler_state: [0; event::SCHEDULER_STATE],
            target: [0; 16],
            list_offset: OFFSET,
            reserved: 0,
        }
    }

    #[test]
    fn more_destinations_than_can_be_counted_are_all_of_them() {
        let mut told = told(OUTCOME_NONE);
        told.summary = Summary {
            looked_at: u32::MAX,
            drained: u32::MAX - 1,
            overloaded: u32::MAX,
            all: 3,
        };
        let decision = decisions().decision(&told, CLOCK);
        assert_eq!(decision.outcome, Outcome::Overloaded);
    }

    #[test]
    fn a_decision_is_joined_once_with_what_the_scheduler_had_before_it() {
        let mut decisions = decisions();
        decisions.keep(
            Box::new(header(77)),
            vec![destination(0x1000, 1), destination(0x2000, 1)],
        );
        let mut told = told(OUTCOME_SCHEDULED);
        told.destination = destination(0x2000, 1);
        let candidates = decisions.decision(&told, CLOCK).candidates.expect("candidates");
        assert_eq!(candidates.computed, Some(1), "behind the one taken last");
        let chosen: Vec<_> = candidates.list.iter().map(|one| one.chosen).collect();
        assert_eq!(chosen, [false, true]);
        assert!(decisions.decision(&told, CLOCK).candidates.is_none());
    }

    #[test]
    fn inactive_connections_are_what_is_not_active_of_a_total() {
        let mut told = told(OUTCOME_SCHEDULED);
        told.destination = destination(0x1000, 1);
        let inactive = |told: &KernelDecision| {
            let destination = decisions().decision(told, CLOCK).destination;
            destination.map(|state| state.inactive)
        };
        assert_eq!(inactive(&told), Some(7));
        told.flags |= TOTAL_CONNECTIONS;
        assert_eq!(inactive(&told), Some(5));
    }

    #[test]
    fn a_template_that_gives_what_no_scheduler_would_says_so() {
        let mut told = told(event::OUTCOME_TEMPLATE);
        told.destination = destination(0x1000, 0);
        let decision = decisions().decision(&told, CLOCK);
        assert_eq!(decision.outcome, Outcome::Template);
        assert!(
            decision.reason.starts_with("although the weight is 0"),
            "{}",
            decision.reason
        );
    }

    #[test]
    fn a_template_says_overloaded_only_of_a_destination_that_was_so_before_the_connection() {
        let reason = |flags| {
            let mut told = told(event::OUTCOME_TEMPLATE);
            told.destination = KernelState {
                flags,
                ..destination(0x1000, 1)
            };
            decisions().decision(&told, CLOCK).reason
        };
        assert_eq!(reason(event::OVERLOADED), "although it is overloaded");
        assert_eq!(reason(0), "", "the connection that causes the overload");
    }

    #[test]
    fn a_scheduler_that_gives_none_although_its_rule_finds_one_is_said_to_differ() {
        let rule = |outcome| {
            let mut decisions = decisions();
            decisions.keep(
                Box::new(header(77)),
                vec![destination(0x1000, 1), destination(0x2000, 1)],
            );
            let candidates = decisions.decision(&told(outcome), CLOCK).candidates;
            candidates.expect("candidates").rule
        };
        assert!(rule(OUTCOME_NONE).contains("but the scheduler took none"));
        assert!(
            !rule(event::OUTCOME_FATAL).contains("but"),
            "what it took is not known"
        );
    }

    #[test]
    fn nothing_to_take_is_said_in_words() {
        let why = |looked_at, drained, overloaded, all| {
            let mut told = told(OUTCOME_NONE);
            told.summary = Summary {
                looked_at,
                drained,
                overloaded,
                all,
            };
            told.message[..4].copy_from_slice(b"no!\n");
            let decision = decisions().decision(&told, CLOCK);
            (decision.outcome, decision.reason)
        };
        for (summary, outcome, words) in [
            ((0, 0, 0, 0), Outcome::None, "the service has no real servers"),
            ((3, 3, 0, 3), Outcome::None, "all weights are 0"),
            (
                (3, 0, 3, 3),
                Outcome::Overloaded,
                "3 of 3 real servers are overloaded",
            ),
            (
                (3, 1, 2, 3),
                Outcome::Overloaded,
                "2 of 3 real servers are overloaded, and 1 have weight 0",
            ),
            (
                (3, 1, 0, 3),
                Outcome::None,
                "the scheduler says \"no!\", though 2 of 3 real servers could take connections",
            ),
            // Of those that were not looked at, nothing is said.
            (
                (128, 128, 0, 140),
                Outcome::None,
                "the scheduler says \"no!\", though 0 of the first 128 of 140 real servers could take connections",
            ),
        ] {
            let (looked_at, drained, overloaded, all) = summary;
            let expected = (outcome, words.to_owned());
            assert_eq!(why(looked_at, drained, overloaded, all), expected, "{summary:?}");
        }
    }

    #[test]
    fn candidates_without_their_decision_do_not_pile_up() {
        let mut decisions = decisions();
        for call in 0..10_000 {
            decisions.keep(Box::new(header(call)), Vec::new());
        }
        assert_eq!((decisions.waiting.len(), decisions.order.len()), (KEPT, KEPT));
        assert!(decisions.waiting.contains_key(&9_999), "the oldest go first");
    }
}
