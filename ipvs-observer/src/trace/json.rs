//! A trace for programs: one JSON object a line. A field without a value is left out; `destination` is null, so that it
//! says that there is none.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use crate::model::{
    BegunBy, Change, Decision, DestinationKey, DestinationState, Family, Lost, Netns, ServiceKey, Traced,
    Virtual,
};

/// Writes events as JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[derive(Serialize)]
#[serde(untagged)]
enum ServiceObject {
    Endpoint {
        family: String,
        protocol: String,
        address: String,
        port: u16,
    },
    Fwmark {
        family: String,
        fwmark: u32,
    },
}

impl From<&ServiceKey> for ServiceObject {
    fn from(key: &ServiceKey) -> Self {
        let family = family(key.family());
        match key {
            ServiceKey::Fwmark { mark, .. } => Self::Fwmark {
                family,
                fwmark: *mark,
            },
            ServiceKey::Endpoint {
                address,
                protocol,
                port,
            } => Self::Endpoint {
                family,
                protocol: protocol.to_string(),
                address: address.to_string(),
                port: *port,
            },
        }
    }
}

fn family(family: Family) -> String {
    family.to_string()
}

#[derive(Serialize)]
struct EndpointObject {
    address: String,
    port: u16,
}

impl From<&DestinationKey> for EndpointObject {
    fn from(key: &DestinationKey) -> Self {
        Self {
            address: key.address.to_string(),
            port: key.port,
        }
    }
}

#[derive(Serialize)]
struct VirtualObject {
    protocol: String,
    #[serde(flatten)]
    endpoint: EndpointObject,
}

impl From<&Virtual> for VirtualObject {
    fn from(asked: &Virtual) -> Self {
        Self {
            protocol: asked.protocol.to_string(),
            endpoint: EndpointObject {
                address: asked.address.to_string(),
                port: asked.port,
            },
        }
    }
}

#[derive(Serialize)]
struct DestinationObject {
    #[serde(flatten)]
    endpoint: EndpointObject,
    weight: u32,
    active: u32,
    inactive: u32,
}

impl From<&DestinationState> for DestinationObject {
    fn from(state: &DestinationState) -> Self {
        let DestinationState {
            key,
            weight,
            active,
            inactive,
            ..
        } = state;
        Self {
            endpoint: key.into(),
            weight: *weight,
            active: *active,
            inactive: *inactive,
        }
    }
}

#[derive(Serialize)]
struct CandidateObject {
    #[serde(flatten)]
    destination: DestinationObject,
    overloaded: bool,
    cost: Option<f64>,
    chosen: bool,
}

#[derive(Serialize)]
struct DecisionObject {
    time: String,
    kind: &'static str,
    netns: Value,
    service: ServiceObject,
    r#virtual: VirtualObject,
    #[serde(skip_serializing_if = "String::is_empty")]
    scheduler: String,
    client: EndpointObject,
    destination: Option<DestinationObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ns: Option<u64>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    begun_by: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<Vec<CandidateObject>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more_candidates: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

#[derive(Serialize)]
struct ChangeObject {
    time: String,
    kind: &'static str,
    netns: Value,
    service: ServiceObject,
    action: &'static str,
    destination: Option<EndpointObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_before: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_after: Option<u32>,
    // No process fills a real server.
    #[serde(skip_serializing_if = "String::is_empty")]
    comm: String,
    #[serde(skip_serializing_if = "is_nobody")]
    pid: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_comm: String,
    #[serde(skip_serializing_if = "is_nobody")]
    parent_pid: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_nobody(pid: &u32) -> bool {
    *pid == 0
}

#[derive(Serialize)]
struct LostObject {
    time: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<Value>,
    decisions: u64,
    changes: u64,
    candidates: u64,
}

impl Json {
    /// Appends an event, with its newline. `name`: that of its namespace, if it was given one.
    pub fn event(&self, event: &Traced, name: Option<&str>, out: &mut Vec<u8>) {
        match event {
            Traced::Decision(decision) => line(&decision_object(decision, name), out),
            Traced::Change(change) => line(&change_object(change, name), out),
        }
    }

    /// Appends what was lost up to `time` since the last time, in ns since the epoch. `netns`: where, which is not known
    /// where several namespaces are traced.
    pub fn lost(&self, lost: &Lost, netns: Option<(Netns, Option<&str>)>, time: u64, out: &mut Vec<u8>) {
        let Lost {
            decisions,
            changes,
            candidates,
        } = *lost;
        line(
            &LostObject {
                time: moment(time),
                kind: "lost",
                netns: netns.map(|(netns, name)| namespace(netns, name)),
                decisions,
                changes,
                candidates,
            },
            out,
        );
    }
}

/// A namespace's name where it was given one, else its inode.
fn namespace(netns: Netns, name: Option<&str>) -> Value {
    name.map_or_else(|| netns.0.into(), Into::into)
}

fn line(object: &impl Serialize, out: &mut Vec<u8>) {
    // Plain structures into memory: there is nothing that could fail.
    let _ = serde_json::to_writer(&mut *out, object);
    out.push(b'\n');
}

fn decision_object(decision: &Decision, name: Option<&str>) -> DecisionObject {
    let candidates = decision.candidates.as_ref().map(|candidates| {
        let object = |candidate: &crate::model::Candidate| CandidateObject {
            destination: (&candidate.state).into(),
            overloaded: candidate.state.overloaded,
            cost: candidate.cost,
            chosen: candidate.chosen,
        };
        candidates.list.iter().map(object).collect()
    });
    let more = decision
        .candidates
        .as_ref()
        .map(|candidates| candidates.more)
        .filter(|&more| more > 0);
    DecisionObject {
        time: moment(decision.time),
        kind: "decision",
        netns: namespace(decision.netns, name),
        service: (&decision.service).into(),
        r#virtual: (&decision.r#virtual).into(),
        scheduler: decision.scheduler.to_string(),
        client: EndpointObject {
            address: decision.client.to_string(),
            port: decision.client_port,
        },
        destination: decision.destination.as_ref().map(Into::into),
        ns: decision.ns,
        outcome: decision.outcome.name(),
        begun_by: decision.begun_by.map(BegunBy::name),
        reason: decision.reason.clone(),
        candidates,
        more_candidates: more,
        rule: decision
            .candidates
            .as_ref()
            .map(|candidates| candidates.rule.clone()),
    }
}

fn change_object(change: &Change, name: Option<&str>) -> ChangeObject {
    ChangeObject {
        time: moment(change.time),
        kind: "change",
        netns: namespace(change.netns, name),
        service: (&change.service).into(),
        action: change.action.name(),
        destination: change.destination.as_ref().map(Into::into),
        weight_before: change.weight_before,
        weight_after: change.weight_after,
        comm: change.comm.to_string(),
        pid: change.pid,
        parent_comm: change.parent_comm.to_string(),
        parent_pid: change.parent_pid,
    }
}

/// RFC 3339, in UTC, to the nanosecond.
pub(super) fn moment(nanoseconds: u64) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(nanoseconds)).to_string()
}

#[cfg(test)]
mod tests {
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
}
