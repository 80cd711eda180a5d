use std::net::IpAddr;

use super::Json;
use crate::model::{
    Action, Address, BegunBy, Change, Changed, Decision, DestinationKey, Family, Name, Netns, Outcome,
    Protocol, Remaining, ServiceKey, Setting, Traced, Value, Virtual,
};

const SERVICE: ServiceKey = ServiceKey::Fwmark {
    family: Family::INET,
    mark: 47,
};

fn written(event: &Traced) -> serde_json::Value {
    let mut out = Vec::new();
    Json.event(event, None, &mut out);
    serde_json::from_slice(&out).expect("an object")
}

fn address(last: u8) -> Address {
    Address::from(IpAddr::from([192, 0, 2, last]))
}

#[test]
fn a_decision_has_no_field_without_a_value_but_the_destination() {
    let decision = Decision {
        time: 1,
        netns: Netns(7),
        service: SERVICE,
        scheduler: Name::default(),
        client: address(9),
        client_port: 4000,
        r#virtual: Virtual {
            protocol: Protocol::TCP,
            address: address(1),
            port: 443,
        },
        begun_by: Some(BegunBy::Data),
        destination: None,
        ns: None,
        outcome: Outcome::Accepted,
        reason: String::new(),
        candidates: None,
    };
    let expected = serde_json::json!({
        "time": "1970-01-01T00:00:00.000000001Z",
        "kind": "decision",
        "netns": 7,
        "service": {"family": "inet", "fwmark": 47},
        "virtual": {"protocol": "tcp", "address": "192.0.2.1", "port": 443},
        "client": {"address": "192.0.2.9", "port": 4000},
        "destination": null,
        "outcome": "accepted",
        "begun_by": "data",
    });
    assert_eq!(written(&Traced::Decision(Box::new(decision))), expected);
}

#[test]
fn an_overload_names_no_process() {
    let change = Change {
        time: 1,
        netns: Netns(7),
        action: Action::Overload,
        service: SERVICE,
        destination: Some(DestinationKey {
            address: address(2),
            port: 80,
        }),
        weight_before: Some(3),
        weight_after: None,
        changed: None,
        remaining: None,
        left: String::new(),
        comm: Name::default(),
        pid: 0,
        parent_comm: Name::default(),
        parent_pid: 0,
    };
    let expected = serde_json::json!({
        "time": "1970-01-01T00:00:00.000000001Z",
        "kind": "change",
        "netns": 7,
        "service": {"family": "inet", "fwmark": 47},
        "action": "overload",
        "destination": {"address": "192.0.2.2", "port": 80, "weight": 3},
        "weight_before": 3,
    });
    assert_eq!(written(&Traced::Change(change)), expected);
}

#[test]
fn a_change_says_what_was_what_is_and_what_is_left() {
    let mut change = Change {
        time: 1,
        netns: Netns(7),
        action: Action::EditDestination,
        service: SERVICE,
        destination: Some(DestinationKey {
            address: address(2),
            port: 80,
        }),
        weight_before: Some(3),
        weight_after: Some(0),
        changed: Some(vec![
            Changed {
                what: Setting::Weight,
                before: Some(Value::Number(3)),
                after: Some(Value::Number(0)),
            },
            Changed {
                what: Setting::Tunnel,
                before: None,
                after: Some(Value::Text("ipip".to_owned())),
            },
        ]),
        remaining: Some(Remaining {
            active: 1,
            inactive: 2,
            templates: 0,
        }),
        left: "connections go on".to_owned(),
        comm: Name::from("ipvsadm"),
        pid: 42,
        parent_comm: Name::from("drain.sh"),
        parent_pid: 41,
    };
    let expected = serde_json::json!({
        "time": "1970-01-01T00:00:00.000000001Z",
        "kind": "change",
        "netns": 7,
        "service": {"family": "inet", "fwmark": 47},
        "action": "edit_destination",
        "destination": {"address": "192.0.2.2", "port": 80, "weight": 0, "active": 1, "inactive": 2},
        "weight_before": 3,
        "weight_after": 0,
        "changed": [
            {"what": "weight", "before": 3, "after": 0},
            {"what": "tunnel", "before": null, "after": "ipip"},
        ],
        "templates": 0,
        "left": "connections go on",
        "comm": "ipvsadm",
        "pid": 42,
        "parent_comm": "drain.sh",
        "parent_pid": 41,
    });
    assert_eq!(written(&Traced::Change(change.clone())), expected);
    change.changed = Some(Vec::new());
    let nothing = &written(&Traced::Change(change))["changed"];
    assert_eq!(
        nothing,
        &serde_json::json!([]),
        "an edit that changed nothing says so"
    );
}
