//! What befell a connection beside the scheduler, as an object.

use serde::Serialize;
use serde_json::Value;

use super::{DestinationObject, EndpointObject, ServiceObject, VirtualObject, moment, namespace};
use crate::model::{Connection, Drop, End};

#[derive(Serialize)]
pub(super) struct ConnectionObject {
    time: String,
    kind: &'static str,
    netns: Value,
    service: ServiceObject,
    r#virtual: VirtualObject,
    client: EndpointObject,
    destination: Option<DestinationObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    how: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

/// A packet that was dropped.
pub(super) fn dropped(drop: &Drop, name: Option<&str>) -> ConnectionObject {
    let Drop { connection, reason } = drop;
    ConnectionObject {
        reason: Some(reason.name()),
        ..object("drop", connection, name)
    }
}

/// The end of a connection.
pub(super) fn ended(end: &End, name: Option<&str>) -> ConnectionObject {
    let End {
        connection,
        how,
        state,
    } = end;
    ConnectionObject {
        how: Some(how.name()),
        state: *state,
        ..object("end", connection, name)
    }
}

/// What befell a connection; what that was is still to be filled in.
fn object(kind: &'static str, connection: &Connection, name: Option<&str>) -> ConnectionObject {
    let Connection {
        time,
        netns,
        service,
        client,
        client_port,
        r#virtual,
        destination,
    } = connection;
    ConnectionObject {
        time: moment(*time),
        kind,
        netns: namespace(*netns, name),
        service: service.into(),
        r#virtual: r#virtual.into(),
        client: EndpointObject::of(*client, *client_port),
        destination: destination.as_ref().map(Into::into),
        reason: None,
        how: None,
        state: None,
    }
}
