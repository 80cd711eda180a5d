//! What befalls a connection beside the scheduler: a packet that is dropped, and its end.

use super::{Address, DestinationState, DropReason, How, Netns, ServiceKey, Virtual};

/// A connection, at some moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connection {
    /// When, in ns since the epoch.
    pub time: u64,
    /// In which network namespace.
    pub netns: Netns,
    /// Of which service.
    pub service: ServiceKey,
    /// Of which client.
    pub client: Address,
    /// The client's port, in host order.
    pub client_port: u16,
    /// What it asked for.
    pub r#virtual: Virtual,
    /// Where to, if anywhere, as it was at that moment.
    pub destination: Option<DestinationState>,
}

/// A packet that was dropped before or after the scheduler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drop {
    /// Of which connection.
    pub connection: Connection,
    /// Why.
    pub reason: DropReason,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct End {
    /// Of which.
    pub connection: Connection,
    /// How it ended.
    pub how: How,
    /// The kernel's name of the state that it was in; none of a protocol without states.
    pub state: Option<&'static str>,
}
