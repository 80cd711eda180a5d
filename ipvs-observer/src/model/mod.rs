//! What IPVS is made of, as plain values with stable keys.
//!
//! Owns: the types between the kernel's edges and the outputs. Refuses to know: netlink, eBPF, line protocol.
//! Everything here is `Copy` or reuses its storage, so that a gather in steady state allocates nothing per row.

mod activity;
mod address;
mod before;
mod change;
mod connection;
mod counters;
mod decision;
mod destination;
mod destinations;
mod entries;
mod kinds;
mod name;
mod refusal;
mod service;
mod settings;
mod snapshot;
mod stats;

pub use activity::{
    Activity, DestinationActivity, Durations, Ends, KeyMap, Netns, ProbeTotals, ServiceActivity, Watched,
};
pub use address::{Address, Family, Protocol};
pub use before::{Before, Choice, Memory, Packet};
pub use change::{Change, Changed, Remaining, Value};
pub use connection::{Connection, Drop, End};
pub use counters::{DumpCounters, OutputCounters};
pub use decision::{Candidate, Candidates, Decision, DestinationState, Lost, Traced, Virtual};
pub use destination::{Destination, DestinationKey, Forward, Tunnel, TunnelKind};
pub use destinations::{DestinationName, Destinations};
pub use entries::{Entries, Entry, EntryCounts, EntryState, ServiceEntries};
pub use kinds::{Action, BegunBy, DropReason, How, Outcome, Setting};
pub use name::Name;
pub use refusal::Refusal;
pub use service::{SchedulerFlags, Service, ServiceFlags, ServiceKey};
pub use settings::{Forwarding, Settings};
pub use snapshot::{Daemon, DaemonRole, Info, Listing, Part, Snapshot, Timeouts, Totals, VirtualServer};
pub use stats::Stats;
