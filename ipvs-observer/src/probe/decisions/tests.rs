//! What decisions say, of what the programs tell.

use std::path::Path;

use ipvs_observer_common::{
    event::{DECISION, HAS_CANDIDATES, OUTCOME_NONE, OUTCOME_SCHEDULED, TOTAL_CONNECTIONS},
    key::ServiceKey,
};

use super::*;
use crate::model::Memory;

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
    let decision = decision(&told, CLOCK);
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
    let before = decisions.before(&told).expect("what the scheduler had before it");
    assert_eq!((before.list.len(), before.more), (2, 0));
    assert_eq!(before.memory, Memory::Last(Some(0)));
    assert!(decisions.before(&told).is_none());
}

#[test]
fn inactive_connections_are_what_is_not_active_of_a_total() {
    let mut told = told(OUTCOME_SCHEDULED);
    told.destination = destination(0x1000, 1);
    let inactive = |told: &KernelDecision| {
        let destination = decision(told, CLOCK).destination;
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
    let decision = decision(&told, CLOCK);
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
        decision(&told, CLOCK).reason
    };
    assert_eq!(reason(event::OVERLOADED), "although it is overloaded");
    assert_eq!(reason(0), "", "the connection that causes the overload");
}

#[test]
fn what_was_taken_is_named_by_its_place_in_the_list() {
    let choice = |outcome, pointer| {
        let mut decisions = decisions();
        decisions.keep(
            Box::new(header(77)),
            vec![destination(0x1000, 1), destination(0x2000, 1)],
        );
        let mut told = told(outcome);
        told.destination.pointer = pointer;
        decisions.before(&told).map(|before| before.choice)
    };
    for (outcome, pointer, expected) in [
        (OUTCOME_SCHEDULED, 0x2000, Choice::Took(1)),
        (OUTCOME_SCHEDULED, 0x3000, Choice::TookAnother),
        (OUTCOME_NONE, 0, Choice::Nothing),
        (event::OUTCOME_FATAL, 0x1000, Choice::Took(0)),
        (event::OUTCOME_FATAL, 0, Choice::Unknown),
    ] {
        assert_eq!(
            choice(outcome, pointer),
            Some(expected),
            "{outcome}, {pointer:#x}"
        );
    }
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
        let decision = decision(&told, CLOCK);
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
