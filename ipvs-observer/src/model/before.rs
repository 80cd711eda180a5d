//! What a scheduler had before it, as it was read.

use super::{Address, DestinationState, Name};

/// What a scheduler had before it when it was asked, and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Its name.
    pub scheduler: Name,
    /// The service's destinations, in its order.
    pub list: Vec<DestinationState>,
    /// Destinations that the service has beyond the list.
    pub more: u32,
    /// Whether this kernel keeps the sum of all connections, and then counts active ones 257 times and not 256.
    pub total_connections: bool,
    /// What a hash goes by.
    pub packet: Packet,
    /// What it remembered of its last turn.
    pub memory: Memory,
    /// What it did.
    pub choice: Choice,
}

/// What a hash goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The client's address.
    pub client: Address,
    /// The client's port, if it could be read.
    pub client_port: Option<u16>,
    /// The address that the packet is for.
    pub target: Address,
    /// The service's flags.
    pub service_flags: u32,
}

/// What a scheduler remembers from one turn to the next. Places are in the list; none is its head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Nothing that was read.
    #[default]
    Unread,
    /// The round robin: the place of the destination taken last.
    Last(Option<usize>),
    /// The weighted round robin.
    Weighted {
        /// The place of the destination taken last.
        last: Option<usize>,
        /// The weight that a destination must have in this round (`cw`).
        current: i32,
        /// The weight with which rounds begin (`mw`), 0: no destination has a weight.
        greatest: i32,
        /// By how much it goes down from round to round (`di`).
        step: i32,
    },
    /// A table by a hash: how many buckets it has.
    Buckets(u32),
    /// Maglev hashing: each destination's last weight that was not 0.
    LastWeights(Vec<u32>),
}

/// What a scheduler did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It took the destination at this place in the list.
    Took(usize),
    /// It took one that is not in the list.
    TookAnother,
    /// It took none.
    Nothing,
    /// What it took is not known.
    Unknown,
}
