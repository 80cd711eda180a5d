use std::net::IpAddr;

use super::*;
use crate::model::{
    Address, Candidate, Changed, DestinationKey, DestinationState, Family, Name, Netns, Protocol, Remaining,
    Setting, Value,
};

fn state(last: u8, weight: u32) -> DestinationState {
    let address = Address::from(IpAddr::from([10, 8, 0, last]));
    DestinationState {
        key: DestinationKey { address, port: 8080 },
        weight,
        active: 2,
        inactive: 10,
        overloaded: false,
    }
}

fn decision(outcome: Outcome, destination: Option<DestinationState>, reason: &str) -> Decision {
    Decision {
        time: 1_700_000_000_123_456_789,
        netns: Netns(1),
        service: ServiceKey::Fwmark {
            family: Family::INET,
            mark: 47,
        },
        scheduler: Name::from("wlc"),
        client: Address::from(IpAddr::from([192, 0, 2, 7])),
        client_port: 40_000,
        r#virtual: Virtual {
            protocol: Protocol::TCP,
            address: Address::from(IpAddr::from([192, 0, 2, 1])),
            port: 443,
        },
        begun_by: Some(BegunBy::Syn),
        destination,
        ns: destination.map(|_| 1_234),
        outcome,
        reason: reason.to_owned(),
        candidates: None,
    }
}

/// What is written below the heading.
fn written(events: &[Traced]) -> String {
    let (mut text, mut out) = (Text::new(false, LocalClock::fixed(0)), Vec::new());
    for event in events {
        text.event(event, None, &mut out);
    }
    let text = String::from_utf8_lossy(&out);
    let below = text.strip_prefix("times are local, UTC+00:00\n");
    below.expect("a heading").to_owned()
}

#[test]
fn a_decision_is_a_line_with_its_reason_in_words() {
    let events = [
        decision(Outcome::Scheduled, Some(state(1, 3)), ""),
        decision(Outcome::None, None, "all weights are 0"),
    ];
    let text = written(&events.map(|decision| Traced::Decision(Box::new(decision))));
    assert_eq!(
        text,
        "22:13:20.123456  fwmark:47/inet  wlc  192.0.2.7:40000 -> 10.8.0.1:8080  w=3    a=2    i=10      1234ns  scheduled; asked for tcp://192.0.2.1:443\n\
         22:13:20.123456  fwmark:47/inet  wlc  192.0.2.7:40000 -> -                                           -  no destination: all weights are 0; asked for tcp://192.0.2.1:443\n"
    );
}

#[test]
fn a_connection_that_something_else_than_a_syn_began_says_so() {
    let mut decision = decision(Outcome::Accepted, None, "the packet is for another port");
    decision.service = ServiceKey::Endpoint {
        address: Address::from(IpAddr::from([192, 0, 2, 1])),
        protocol: Protocol::TCP,
        port: 21,
    };
    for (begun_by, end) in [
        (None, "port\n"),
        (Some(BegunBy::Syn), "port\n"),
        (
            Some(BegunBy::Data),
            "port; begun by a packet that is no SYN (sloppy_tcp or sloppy_sctp)\n",
        ),
        (
            Some(BegunBy::Icmp),
            "port; begun by a packet within an ICMP message (schedule_icmp)\n",
        ),
    ] {
        decision.begun_by = begun_by;
        let text = written(&[Traced::Decision(Box::new(decision.clone()))]);
        let expected = format!("  handed on to this host: the packet is for another {end}");
        assert!(text.ends_with(&expected), "{text}");
    }
}

#[test]
fn candidates_stand_below_with_the_winner_marked_and_the_rule_named() {
    let mut decision = decision(Outcome::Scheduled, Some(state(1, 3)), "");
    let candidate = |last, weight, cost, chosen| Candidate {
        state: state(last, weight),
        cost,
        chosen,
    };
    decision.candidates = Some(Candidates {
        list: vec![candidate(1, 3, Some(174.0), true), candidate(2, 0, None, false)],
        more: 5,
        rule: "least of (active * 256 + inactive) / weight".to_owned(),
        computed: Some(0),
    });
    let text = written(&[Traced::Decision(Box::new(decision))]);
    let below = text.split_once('\n').map(|parts| parts.1);
    assert_eq!(
        below,
        Some(
            "      candidate       weight    active  inactive          cost\n   \
             => 10.8.0.1:8080        3         2        10           174  chosen\n      \
             10.8.0.2:8080        0         2        10             -  drained\n      \
             and 5 more that an event has no room for\n      \
             least of (active * 256 + inactive) / weight\n"
        )
    );
}

#[test]
fn a_name_cannot_speak_to_the_terminal_or_turn_the_line_around() {
    let mut decision = decision(Outcome::None, None, "says \u{1b}]0;x\u{7}");
    decision.scheduler = Name::from("a\u{1b}[2J\u{202e}\n");
    let text = written(&[Traced::Decision(Box::new(decision))]);
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains("a\\u{1b}[2J\\u{202e}\\n"), "{text}");
    assert!(text.contains("says \\u{1b}]0;x\\u{7}"), "{text}");
}

#[test]
fn how_long_a_scheduler_took_can_be_typed_as_it_is_shown() {
    for (ns, shown) in [
        (850, 850),
        (12_345, 12_300),
        (9_999_999, 9_999_900),
        (45_678_901, 45_600_000),
    ] {
        let typed = crate::settings::duration(&duration(ns));
        assert_eq!(typed, Ok(std::time::Duration::from_nanos(shown)));
    }
}

fn change(action: Action, weights: (Option<u32>, Option<u32>)) -> Change {
    Change {
        time: 1_700_000_000_000_000_000,
        netns: Netns(1),
        action,
        service: ServiceKey::Fwmark {
            family: Family::INET,
            mark: 47,
        },
        destination: Some(state(1, 3).key),
        weight_before: weights.0,
        weight_after: weights.1,
        changed: None,
        remaining: None,
        left: String::new(),
        comm: Name::from("ipvsadm"),
        pid: 42,
        parent_comm: Name::from("drain.sh"),
        parent_pid: 41,
    }
}

/// What a change is in words.
fn told(change: Change) -> String {
    let text = written(&[Traced::Change(change)]);
    let words = text.strip_prefix("22:13:20.000000  fwmark:47/inet  ");
    words.expect("a change").trim_end().to_owned()
}

const BY: &str = "by ipvsadm[42] of drain.sh[41]";

#[test]
fn a_change_names_what_was_done_and_who_did_it() {
    assert_eq!(
        told(change(Action::EditDestination, (Some(3), Some(0)))),
        format!("edit destination 10.8.0.1:8080, weight 3 -> 0, {BY}")
    );
}

#[test]
fn an_edit_says_everything_that_it_changed_or_that_it_changed_nothing() {
    let mut edit = change(Action::EditService, (None, None));
    edit.destination = None;
    let [rr, wlc] = ["rr", "wlc"].map(|name| Some(Value::Text(name.to_owned())));
    edit.changed = Some(vec![
        Changed {
            what: Setting::Scheduler,
            before: rr,
            after: wlc.clone(),
        },
        Changed {
            what: Setting::PersistenceTimeout,
            before: Some(Value::Number(0)),
            after: Some(Value::Number(60)),
        },
    ]);
    let words = "scheduler rr -> wlc, persistence timeout 0 -> 60";
    assert_eq!(told(edit.clone()), format!("edit service, {words}, {BY}"));
    edit.changed = Some(Vec::new());
    assert_eq!(told(edit.clone()), format!("edit service, nothing changed, {BY}"));
    edit.action = Action::AddService;
    edit.changed = Some(vec![Changed {
        what: Setting::Scheduler,
        before: None,
        after: wlc,
    }]);
    assert_eq!(told(edit), format!("add service, scheduler wlc, {BY}"));
}

#[test]
fn a_deletion_says_what_is_left_and_what_becomes_of_it() {
    let mut deletion = change(Action::DeleteDestination, (Some(3), None));
    deletion.remaining = Some(Remaining::default());
    deletion.left = "nothing".to_owned();
    assert_eq!(
        told(deletion.clone()),
        format!("delete destination 10.8.0.1:8080, weight was 3, {BY}; left: nothing")
    );
    deletion.remaining = Some(Remaining {
        active: 1,
        inactive: 2,
        templates: 1,
    });
    deletion.left = "all end".to_owned();
    assert_eq!(
        told(deletion),
        format!(
            "delete destination 10.8.0.1:8080, weight was 3, {BY}; left: 1 active, 2 inactive, 1 template: all end"
        )
    );
}
