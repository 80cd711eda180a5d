//! What the scheduler decided, one connection at a time.

use super::{
    Address, BegunBy, Change, DestinationKey, Drop, End, Name, Netns, Outcome, Protocol, ServiceKey,
};

/// What a packet asked for, which for a service by mark or on port 0 is not the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Virtual {
    /// The packet's protocol.
    pub protocol: Protocol,
    /// The address that it was sent to.
    pub address: Address,
    /// The port, in host order; 0 if it could not be read.
    pub port: u16,
}

/// A destination as it was when the scheduler looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationState {
    /// What names it.
    pub key: DestinationKey,
    /// Its weight.
    pub weight: u32,
    /// Its connections in an active state.
    pub active: u32,
    /// All others.
    pub inactive: u32,
    /// Whether it took no more connections.
    pub overloaded: bool,
}

/// A destination that the scheduler had before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// How it stood.
    pub state: DestinationState,
    /// What this scheduler's own rule makes of it, where there is such a number.
    pub cost: Option<f64>,
    /// Whether it was chosen.
    pub chosen: bool,
}

/// Everything that the scheduler had before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    /// In the service's order.
    pub list: Vec<Candidate>,
    /// How many more there were than an event holds.
    pub more: u32,
    /// The scheduler's rule in words, or why there is none that can be computed.
    pub rule: String,
    /// The candidate that the rule computes as the winner, by its place in the list, where it can be known.
    pub computed: Option<usize>,
}

/// What the scheduler decided for the first packet of a connection, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// When, in ns since the epoch.
    pub time: u64,
    /// In which network namespace.
    pub netns: Netns,
    /// For which service.
    pub service: ServiceKey,
    /// By which scheduler; empty while the service has none.
    pub scheduler: Name,
    /// For which client.
    pub client: Address,
    /// The client's port, in host order; 0 if it could not be read.
    pub client_port: u16,
    /// What it asked for.
    pub r#virtual: Virtual,
    /// What kind of packet it was; none for a protocol that has one kind.
    pub begun_by: Option<BegunBy>,
    /// What was taken, as it was before this connection.
    pub destination: Option<DestinationState>,
    /// How long the scheduler took, in ns; none where it was not asked.
    pub ns: Option<u64>,
    /// What became of the packet.
    pub outcome: Outcome,
    /// Why, in words; empty where the outcome says it all.
    pub reason: String,
    /// What the scheduler had before it, where that was asked for and not lost.
    pub candidates: Option<Candidates>,
}

/// Events that were made and did not arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Decisions.
    pub decisions: u64,
    /// Configuration changes and overload transitions.
    pub changes: u64,
    /// Packets dropped before and after the scheduler.
    pub drops: u64,
    /// Ends of connections.
    pub ends: u64,
    /// Lists of candidates of decisions that did arrive.
    pub candidates: u64,
    /// Decisions that the kernel ran no probe for. Nothing is known of them, not even whether they were asked for.
    pub skipped: u64,
}

impl Lost {
    /// Whether nothing was lost.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing was lost for want of room.
    pub fn had_room(&self) -> bool {
        let Self { skipped, .. } = *self;
        *self
            == Self {
                skipped,
                ..Self::default()
            }
    }
}

/// What a trace is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Traced {
    /// A decision.
    Decision(Box<Decision>),
    /// A change.
    Change(Change),
    /// A packet that was dropped before or after the scheduler.
    Drop(Drop),
    /// The end of a connection.
    End(End),
}

impl Traced {
    /// The namespace that it happened in.
    pub fn netns(&self) -> Netns {
        match self {
            Self::Decision(decision) => decision.netns,
            Self::Change(change) => change.netns,
            Self::Drop(drop) => drop.connection.netns,
            Self::End(end) => end.connection.netns,
        }
    }
}
