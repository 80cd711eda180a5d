use std::net::IpAddr;

use serde_json::Value;

use super::Json;
use crate::model::{
    Action, Address, BegunBy, Change, Decision, DestinationKey, Family, Name, Netns, Outcome, Protocol,
    ServiceKey, Traced, Virtual,
};

const SERVICE: ServiceKey = ServiceKey::Fwmark {
    family: Family::INET,
    mark: 47,
};

fn written(event: &Traced) -> Value {
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
        "destination": {"address": "192.0.2.2", "port": 80},
        "weight_before": 3,
    });
    assert_eq!(written(&Traced::Change(change)), expected);
}
