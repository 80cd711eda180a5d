//! A configuration change.

use serde::Serialize;
use serde_json::Value;

use super::{EndpointObject, ServiceObject, is_zero, moment, namespace};
use crate::model::{Change, Changed, Remaining, Value as Setting};

/// A destination that is changed: what is not known of it is left out.
#[derive(Serialize)]
struct ChangedDestinationObject {
    #[serde(flatten)]
    endpoint: EndpointObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive: Option<u32>,
}

#[derive(Serialize)]
struct ChangedObject {
    what: &'static str,
    before: Value,
    after: Value,
}

impl From<&Changed> for ChangedObject {
    fn from(Changed { what, before, after }: &Changed) -> Self {
        let value = |setting: &Option<Setting>| match setting {
            None => Value::Null,
            Some(Setting::Number(number)) => (*number).into(),
            Some(Setting::Text(text)) => text.as_str().into(),
        };
        Self {
            what: what.name(),
            before: value(before),
            after: value(after),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ChangeObject {
    time: String,
    kind: &'static str,
    netns: Value,
    service: ServiceObject,
    action: &'static str,
    destination: Option<ChangedDestinationObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_before: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_after: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<ChangedObject>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    templates: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    left: String,
    // No process fills a real server.
    #[serde(skip_serializing_if = "String::is_empty")]
    comm: String,
    #[serde(skip_serializing_if = "is_zero")]
    pid: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_comm: String,
    #[serde(skip_serializing_if = "is_zero")]
    parent_pid: u32,
}

/// A change as an object. `name`: that of its namespace, if it was given one.
pub(super) fn object(change: &Change, name: Option<&str>) -> ChangeObject {
    let Change {
        time,
        netns,
        action,
        service,
        destination,
        weight_before,
        weight_after,
        changed,
        remaining,
        left,
        comm,
        pid,
        parent_comm,
        parent_pid,
    } = change;
    let destination = destination.as_ref().map(|key| ChangedDestinationObject {
        endpoint: key.into(),
        weight: weight_after.or(*weight_before),
        active: remaining.map(|Remaining { active, .. }| active),
        inactive: remaining.map(|Remaining { inactive, .. }| inactive),
    });
    ChangeObject {
        time: moment(*time),
        kind: "change",
        netns: namespace(*netns, name),
        service: service.into(),
        action: action.name(),
        destination,
        weight_before: *weight_before,
        weight_after: *weight_after,
        changed: changed
            .as_ref()
            .map(|changed| changed.iter().map(Into::into).collect()),
        templates: remaining.map(|remaining| remaining.templates),
        left: left.clone(),
        comm: comm.to_string(),
        pid: *pid,
        parent_comm: parent_comm.to_string(),
        parent_pid: *parent_pid,
    }
}
