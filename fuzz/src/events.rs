//! The ring buffer: records as the programs write them and as they never would, and what is shown of them.

use std::{cell::RefCell, path::Path};

use ipvs_observer::{
    explain::{Explainer, hash},
    line::Encoder,
    model::{Decision as Told, DestinationState as State, Packet, Traced},
    points::{Points, Schema},
    probe::fuzzing::{self, Ring},
    trace::{Json, LocalClock, Text},
};
use ipvs_observer_common::{
    event::{
        self, CandidatesHeader, Change, ConnectionEvent, Decision, DestinationChange, DestinationSettings,
        DestinationState, MESSAGE, Remaining, SCHEDULER_STATE, ServiceChange, ServiceSettings, Summary,
    },
    key::{DestinationKey, ServiceKey},
};

use crate::{FIXTURES, frame, frames, reader};

/// How far the clock of people is ahead of the events', as in a record of the lab.
const AHEAD: u64 = 1_700_000_000_000_000_000;

thread_local! {
    // Reads BTF from files when a scheduler first asks for it, so it is kept.
    static RING: RefCell<Ring> = RefCell::new(Ring::new(&Path::new(FIXTURES).join("btf/6.12")));
}

/// The first byte says whether the clock is right; then a stretch for each record.
pub fn run(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else {
        return;
    };
    let ahead = if mode == 0 { AHEAD } else { u64::from(mode) << 56 };
    let (mut points, mut encoder) = (Points::new(Schema::Full, None), Encoder::new(false));
    let mut text = Text::new(false, LocalClock::fixed(2));
    let mut explainer = Explainer::default();
    RING.with_borrow_mut(|ring| {
        ring.forget();
        for (_, record) in frames(rest) {
            let Some((traced, before)) = ring.record(record, ahead) else {
                continue;
            };
            let traced = explainer.explain(traced, before);
            people(&mut text, &traced);
            programs(&traced);
            match &traced {
                Traced::Decision(decision) => {
                    explained(decision);
                    points.decision(&mut encoder, decision);
                }
                Traced::Change(change) => points.changes(&mut encoder, [change]),
                Traced::Drop(drop) => points.dropped(&mut encoder, drop),
                Traced::End(end) => points.ended(&mut encoder, end),
            }
        }
    });
    let lines = encoder.lines();
    let text = String::from_utf8(encoder.take().to_vec()).expect("text");
    let read = reader::parse(&text);
    assert_eq!(read.len() as u64, lines, "a line for each record");
    assert!(read.iter().all(|line| line.timestamp > 0));
}

/// A terminal is told nothing but text: a process names itself, and its name is shown.
fn people(text: &mut Text, traced: &Traced) {
    let mut out = Vec::new();
    text.event(traced, Some("blue"), &mut out);
    let shown = String::from_utf8(out).expect("text");
    let control = |letter: char| letter.is_control() && letter != '\n';
    assert!(!shown.contains(control), "{shown:?}");
    let lines = match traced {
        Traced::Decision(decision) => decision.candidates.as_ref().map_or(1, |candidates| {
            3 + candidates.list.len() + usize::from(candidates.more > 0)
        }),
        Traced::Change(_) | Traced::Drop(_) | Traced::End(_) => 1,
    };
    let headings = shown
        .lines()
        .filter(|line| line.starts_with("times are local"))
        .count();
    assert_eq!(shown.lines().count(), lines + headings, "{shown:?}");
}

fn programs(traced: &Traced) {
    let mut out = Vec::new();
    Json.event(traced, None, &mut out);
    let (end, object) = out.split_last().expect("a line");
    assert!(*end == b'\n' && !object.contains(&b'\n'));
    let object: serde_json::Value = serde_json::from_slice(object).expect("JSON");
    assert!(object["kind"].is_string() && object["service"].is_object());
}

/// The winner is one of the candidates, and a hash finds its bucket in a table of any size.
fn explained(decision: &Told) {
    let Some(candidates) = &decision.candidates else {
        return;
    };
    let length = candidates.list.len();
    assert!(candidates.computed.is_none_or(|place| place < length));
    assert!(
        candidates
            .list
            .iter()
            .filter(|candidate| candidate.chosen)
            .count()
            <= 1
    );
    assert!(
        candidates
            .list
            .iter()
            .all(|candidate| candidate.cost.is_none_or(f64::is_finite))
    );
    let list: Vec<State> = candidates.list.iter().map(|candidate| candidate.state).collect();
    let packet = Packet {
        client: decision.client,
        client_port: (decision.client_port != 0).then_some(decision.client_port),
        target: decision.client,
        service_flags: decision.client_port.into(),
    };
    for size in [0, 1, 256] {
        for found in [
            hash::source(&list, &packet, size),
            hash::destination(&list, &packet, size),
        ] {
            assert!(found.is_none_or(|found| found.owner < length && found.bucket < size));
        }
    }
}

const SCHEDULERS: [&str; 15] = [
    "rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "sh", "dh", "mh", "lblc", "lblcr", "twos", "",
];
const LIST: u64 = 0xffff_8880_0000_0050;
const OFFSET: u32 = 0x10;

/// What the programs write: a decision of each scheduler and outcome with its candidates, each change, and what befalls connections.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, scheduler) in (1..).zip(SCHEDULERS) {
        for outcome in [
            event::OUTCOME_SCHEDULED,
            event::OUTCOME_TEMPLATE,
            event::OUTCOME_NONE,
            event::OUTCOME_UNASKED,
            event::OUTCOME_FATAL,
        ] {
            let mut seed = vec![0];
            let list = [state(1, 3), state(2, 0), state(3, 1)];
            let mut candidates = fuzzing::record(&header(number, list.len()));
            for state in &list {
                candidates.extend(fuzzing::record(state));
            }
            frame(&mut seed, &candidates);
            frame(&mut seed, &fuzzing::record(&decision(number, scheduler, outcome)));
            seeds.push(seed);
        }
    }
    let mut seed = vec![0];
    for action in event::ACTION_ADD_SERVICE..=event::ACTION_RECOVER {
        let record = change_record(action);
        seeds.push([&[0, record.len() as u8, 0][..], &record].concat());
        frame(&mut seed, &record);
    }
    let befallen = [
        (
            event::DROP,
            event::DROPPED_OLD_CONNTRACK..=event::DROPPED_SERVER_REMOVED,
        ),
        (event::END, event::HOW_CLOSED..=event::HOW_SERVER_REMOVED),
        (event::ELSEWHERE, event::BEGUN_BY_SERVER..=event::BEGUN_BY_FTP),
    ];
    for (kind, what) in befallen {
        for what in what {
            frame(&mut seed, &fuzzing::record(&befell(kind, what)));
        }
    }
    seeds.push(seed);
    seeds
}

fn service() -> ServiceKey {
    ServiceKey {
        netns: 4_026_531_840,
        family: 2,
        protocol: 6,
        port: 80,
        address: address(1),
        ..ServiceKey::default()
    }
}

fn address(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[10, 0, 0, last]);
    address
}

fn state(last: u8, weight: i32) -> DestinationState {
    DestinationState {
        pointer: LIST + 0x1000 * u64::from(last),
        address: address(last),
        family: 2,
        port: 8080,
        weight,
        last_weight: weight.max(1),
        active: 2,
        other: 7,
        flags: 0,
    }
}

fn named<const N: usize>(name: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

fn header(call: u64, count: usize) -> CandidatesHeader {
    let mut scheduler_state = [0; SCHEDULER_STATE];
    // `wrr`: the one chosen last as if the list were in it, the round's weight, the greatest, the step.
    scheduler_state[..8].copy_from_slice(&(LIST + 0x1000).to_ne_bytes());
    for (place, number) in scheduler_state[8..20].chunks_exact_mut(4).zip([2_i32, 3, 1]) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    CandidatesHeader {
        kind: event::CANDIDATES,
        count: count as u32,
        call,
        all: count as u32,
        service_flags: 8,
        list: LIST,
        scheduler_data: LIST + 0x1000 + u64::from(OFFSET),
        scheduler_state,
        target: address(1),
        list_offset: OFFSET,
        reserved: 0,
    }
}

fn decision(call: u64, scheduler: &str, outcome: u32) -> Decision {
    let taken = matches!(outcome, event::OUTCOME_SCHEDULED | event::OUTCOME_TEMPLATE);
    Decision {
        kind: event::DECISION,
        outcome,
        time: 90_000_000_000 + call,
        call,
        ns: 1234,
        service: service(),
        scheduler: named(scheduler),
        client: address(200),
        virtual_address: address(1),
        client_port: 40_000,
        virtual_port: 443,
        flags: event::HAS_CANDIDATES | (call as u32 & event::TOTAL_CONNECTIONS),
        protocol: 6,
        begun_by: event::BEGUN_BY_SYN,
        destination: if taken {
            state(1, 3)
        } else {
            DestinationState::default()
        },
        summary: Summary {
            looked_at: 3,
            drained: 1,
            overloaded: 2,
            all: 3,
        },
        message: named::<MESSAGE>("no destination available"),
    }
}

fn befell(kind: u32, what: u32) -> ConnectionEvent {
    ConnectionEvent {
        kind,
        what,
        time: 92_000_000_000 + u64::from(what),
        service: service(),
        client: address(200),
        virtual_address: address(1),
        client_port: 40_000,
        virtual_port: 443,
        protocol: 6,
        state: what as u16,
        destination: state(1, 3),
        ..ConnectionEvent::default()
    }
}

/// A change as the programs tell it: all known, and all the settings that decide set.
fn change_record(action: u32) -> Vec<u8> {
    let on_service = matches!(
        action,
        event::ACTION_ADD_SERVICE | event::ACTION_EDIT_SERVICE | event::ACTION_DELETE_SERVICE
    );
    let change = Change {
        kind: if on_service {
            event::SERVICE_CHANGE
        } else {
            event::DESTINATION_CHANGE
        },
        action,
        time: 91_000_000_000 + u64::from(action),
        key: DestinationKey {
            service: service(),
            address: address(2),
            family: 2,
            port: 8080,
            reserved: 0,
        },
        pid: 4242,
        parent_pid: 4200,
        comm: named("ipvsadm"),
        parent_comm: named("drain.sh"),
        flags: event::BEFORE
            | event::AFTER
            | event::REMAINING
            | event::EXPIRE_QUIESCENT_TEMPLATE
            | event::CONNTRACK
            | event::TOTAL_CONNECTIONS,
        reserved: 0,
    };
    if on_service {
        let before = ServiceSettings {
            scheduler: named("rr"),
            engine: named("sip"),
            flags: 0x0f,
            timeout: 75_000,
            netmask: u32::MAX,
        };
        let scheduler = named("sh");
        return fuzzing::record(&ServiceChange {
            change,
            before,
            after: ServiceSettings { scheduler, ..before },
        });
    }
    let before = DestinationSettings {
        connection_flags: 2,
        upper_threshold: 10,
        lower_threshold: 5,
        tunnel_kind: 1,
        tunnel_port: 6080,
        tunnel_flags: 1,
        reserved: 0,
    };
    fuzzing::record(&DestinationChange {
        change,
        weight_before: 3,
        weight_after: 0,
        before,
        after: DestinationSettings::default(),
        remaining: Remaining {
            active: 2,
            other: 7,
            templates: 1,
        },
        reserved: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_of_as_many_events_as_it_has_records() {
        let mut ring = Ring::new(&Path::new(FIXTURES).join("btf/6.12"));
        let (mut decisions, mut changes, mut explained, mut drops, mut ends) = (0, 0, 0, 0, 0);
        for seed in seeds() {
            for (_, record) in frames(&seed[1..]) {
                match ring.record(record, AHEAD) {
                    Some((Traced::Decision(_), before)) => {
                        decisions += 1;
                        explained += usize::from(before.is_some());
                    }
                    Some((Traced::Change(_), _)) => changes += 1,
                    Some((Traced::Drop(_), _)) => drops += 1,
                    Some((Traced::End(_), _)) => ends += 1,
                    None => {}
                }
            }
        }
        assert_eq!((decisions, explained, changes), (77, 75, 16));
        assert_eq!((drops, ends), (2, 8));
    }
}
