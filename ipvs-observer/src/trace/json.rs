//! A trace for programs: one JSON object a line. A field without a value is left out; `destination` is null, so that it
//! says that there is none.

mod change;
mod connection;

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use crate::model::{
    Address, BegunBy, Candidate, Candidates, Decision, DestinationKey, DestinationState, Lost, Netns,
    ServiceKey, Traced, Virtual,
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
        let family = key.family().to_string();
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

#[derive(Serialize)]
struct EndpointObject {
    address: String,
    port: u16,
}

impl EndpointObject {
    fn of(address: Address, port: u16) -> Self {
        let address = address.to_string();
        Self { address, port }
    }
}

impl From<&DestinationKey> for EndpointObject {
    fn from(&DestinationKey { address, port }: &DestinationKey) -> Self {
        Self::of(address, port)
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
        let Virtual {
            protocol,
            address,
            port,
        } = *asked;
        Self {
            protocol: protocol.to_string(),
            endpoint: EndpointObject::of(address, port),
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
            // Shown of candidates.
            overloaded: _,
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

impl From<&Candidate> for CandidateObject {
    fn from(candidate: &Candidate) -> Self {
        let Candidate { state, cost, chosen } = candidate;
        Self {
            destination: state.into(),
            overloaded: state.overloaded,
            cost: *cost,
            chosen: *chosen,
        }
    }
}

#[derive(Serialize)]
struct CandidatesObject {
    candidates: Vec<CandidateObject>,
    #[serde(skip_serializing_if = "is_zero")]
    more_candidates: u32,
    rule: String,
}

impl From<&Candidates> for CandidatesObject {
    fn from(candidates: &Candidates) -> Self {
        let Candidates {
            list,
            more,
            rule,
            // The rule says it where it is not what was chosen.
            computed: _,
        } = candidates;
        Self {
            candidates: list.iter().map(Into::into).collect(),
            more_candidates: *more,
            rule: rule.clone(),
        }
    }
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
    #[serde(flatten)]
    candidates: Option<CandidatesObject>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct LostObject {
    time: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<Value>,
    decisions: u64,
    changes: u64,
    drops: u64,
    ends: u64,
    candidates: u64,
    skipped: u64,
}

impl Json {
    /// Appends an event, with its newline. `name`: that of its namespace, if it was given one.
    pub fn event(&self, event: &Traced, name: Option<&str>, out: &mut Vec<u8>) {
        match event {
            Traced::Decision(decision) => line(&decision_object(decision, name), out),
            Traced::Change(change) => line(&change::object(change, name), out),
            Traced::Drop(drop) => line(&connection::dropped(drop, name), out),
            Traced::End(end) => line(&connection::ended(end, name), out),
        }
    }

    /// Appends what was lost up to `time` since the last time, in ns since the epoch. `netns`: where, which is not known
    /// where several namespaces are traced.
    pub fn lost(&self, lost: &Lost, netns: Option<(Netns, Option<&str>)>, time: u64, out: &mut Vec<u8>) {
        let Lost {
            decisions,
            changes,
            drops,
            ends,
            candidates,
            skipped,
        } = *lost;
        line(
            &LostObject {
                time: moment(time),
                kind: "lost",
                netns: netns.map(|(netns, name)| namespace(netns, name)),
                decisions,
                changes,
                drops,
                ends,
                candidates,
                skipped,
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
    let Decision {
        time,
        netns,
        service,
        scheduler,
        client,
        client_port,
        r#virtual,
        begun_by,
        destination,
        ns,
        outcome,
        reason,
        candidates,
    } = decision;
    DecisionObject {
        time: moment(*time),
        kind: "decision",
        netns: namespace(*netns, name),
        service: service.into(),
        r#virtual: r#virtual.into(),
        scheduler: scheduler.to_string(),
        client: EndpointObject::of(*client, *client_port),
        destination: destination.as_ref().map(Into::into),
        ns: *ns,
        outcome: outcome.name(),
        begun_by: begun_by.map(BegunBy::name),
        reason: reason.clone(),
        candidates: candidates.as_ref().map(Into::into),
    }
}

/// RFC 3339, in UTC, to the nanosecond.
pub(super) fn moment(nanoseconds: u64) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(nanoseconds)).to_string()
}

#[cfg(test)]
mod tests;
