//! What the probes saw: counters as they stand and changes as they came, plain values beside the snapshot.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::{Change, DestinationKey, Destinations, Lost, Refusal, ServiceKey};

/// The inode number of a network namespace, which is what names it: `stat -Lc %i /proc/self/ns/net`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Netns(pub u32);

/// The probes' own account of themselves. Counters count up from the moment of attaching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeTotals {
    /// Kernel memory of the maps in bytes, where the kernel says it.
    pub map_bytes: Option<u64>,
    /// Times that a probe ran.
    pub runs: u64,
    /// Nanoseconds that they took, where the kernel keeps BPF statistics (`kernel.bpf_stats_enabled`).
    pub run_ns: Option<u64>,
    /// Times that a probe was due and the kernel did not run it, where the kernel counts that.
    pub missed: Option<u64>,
    /// Calls of probed functions seen beginning, of those whose end is awaited: a decision is several, a configuration
    /// change one or none.
    pub entries: u64,
    /// Calls of probed functions seen ending.
    pub returns: u64,
    /// Calls of which only the beginning or only the end was seen.
    pub unpaired: u64,
    /// Calls of schedulers whose duration was lost. They are counted all the same.
    pub durations_lost: u64,
    /// Events that left the kernel.
    pub events: u64,
    /// Events that found no room in the ring buffer.
    pub events_lost: u64,
    /// The same by what they were.
    pub lost: Lost,
    /// Calls, services and destinations that found their map full.
    pub turned_away: u64,
    /// Kernel memory that could not be read: a count is missing or stands under zeros.
    pub unreadable: u64,
}

/// What the scheduler did for a service, since the service came to be or the probes were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceActivity {
    /// The scheduler was asked.
    pub calls: u64,
    /// It gave a destination, and a connection was made of it.
    pub picks: u64,
    /// It gave none.
    pub none: u64,
    /// Persistence decided, and the scheduler was not asked.
    pub template_hits: u64,
    /// A packet was turned away for want of a destination.
    pub refused: u64,
    /// A packet without a destination was handed on to this host.
    pub accepted: u64,
    /// A packet without a destination was sent on to where it was going.
    pub bypassed: u64,
    /// A real server began a connection.
    pub begun_by_server: u64,
    /// A data connection of FTP began.
    pub begun_by_ftp: u64,
    /// A connection was learnt from another director.
    pub begun_by_sync: u64,
    /// A connection came with a real server that the service took over from one that was deleted.
    pub taken_over: u64,
    /// A SYN took the entry of an earlier connection, and was not scheduled.
    pub reused: u64,
    /// A connection ended, of any of its destinations.
    pub ended: u64,
    /// Of these, those whose destination was removed while they were open.
    pub ended_server_removed: u64,
    /// A SYN was dropped because connection tracking still held an earlier connection from its port.
    pub drops_old_conntrack: u64,
    /// A packet was dropped because there is no route to its destination.
    pub drops_no_route: u64,
    /// A packet was dropped because it is larger than the path to its destination.
    pub drops_too_large: u64,
    /// A packet could not be sent to its destination for another reason.
    pub drops_transmit: u64,
    /// A new connection was dropped by a defence.
    pub drops_defence: u64,
    /// A packet was dropped because its real server was removed.
    pub drops_server_removed: u64,
    /// Scheduling failed for another reason, and the packet was dropped.
    pub fatal: u64,
    /// Nanoseconds spent in the scheduler.
    pub ns_sum: u64,
    /// How long the scheduler took, over the time since the last reading; none if it was not asked in it.
    pub durations: Option<Durations>,
}

/// How long the scheduler took, in ns. The percentiles are within 3.2 %, the longest is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Half of the calls took no longer.
    pub p50: u64,
    /// Nine tenths of the calls took no longer.
    pub p90: u64,
    /// All but a hundredth of the calls took no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// What befell a destination, since it came to be or the probes were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestinationActivity {
    /// The scheduler chose it.
    pub picks: u64,
    /// The same since the reading before.
    pub picks_since: u64,
    /// It became overloaded.
    pub overloads: u64,
    /// Whether it is overloaded, if the kernel was seen to say so.
    pub overloaded: Option<bool>,
    /// How its connections ended.
    pub ends: Ends,
}

/// How the connections of a destination ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Closed by both sides.
    pub closed: u64,
    /// Reset by either side.
    pub reset: u64,
    /// The handshake was not completed.
    pub half_open: u64,
    /// Established, and without a packet for the timeout.
    pub idle: u64,
    /// The timeout of a protocol without connections.
    pub expired: u64,
    /// Killed by a defence, replaced by a new connection, or the destination was removed.
    pub other: u64,
}

/// What befalls connections beside the scheduler, as far as this kernel shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each probe holds or does not, whatever the others do"
)]
pub struct Watched {
    /// How they end.
    pub ends: bool,
    /// SYNs that meet the entry of an earlier connection.
    pub reused_ports: bool,
    /// Data connections of FTP.
    pub ftp: bool,
    /// Packets that could not be sent to a destination.
    pub unsent: bool,
    /// New connections that a defence drops.
    pub defence: bool,
    /// Connections learnt from another director.
    pub sync: bool,
    /// Packets that meet an entry.
    pub packets: bool,
}

/// By keys of the kernel's configuration, which root chooses: nobody gains by making them collide, and hashing them
/// against that took a third of a gather with probes.
pub type KeyMap<K, V> = HashMap<K, V, FxBuildHasher>;

/// What the probes saw, as of one reading. Filled in place, so that a steady state allocates nothing.
#[derive(Debug, Default)]
pub struct Activity {
    /// The probes' account of themselves.
    pub probes: ProbeTotals,
    /// Whether overloads are seen by scheduling alone, so that nobody saw where one ended since.
    pub overload_by_scheduling: bool,
    /// What befalls connections beside the scheduler and is counted.
    pub watched: Watched,
    /// What each service's scheduler did. A service that nothing was asked of is not there.
    pub services: KeyMap<(Netns, ServiceKey), ServiceActivity>,
    /// What befell each destination. One that nothing befell is not there.
    pub destinations: Destinations,
    /// Changes since the last reading, in order.
    pub changes: Vec<Change>,
    /// Packets refused and dropped since the last reading, as many as were asked for, in order.
    pub refusals: Vec<Refusal>,
    /// What the programs said of their own troubles since the last reading, to be passed to stderr.
    pub diagnostics: Vec<String>,
}

impl Activity {
    /// What a service's scheduler did: zeros if nothing was asked of it.
    pub fn service(&self, netns: Netns, service: &ServiceKey) -> ServiceActivity {
        self.services.get(&(netns, *service)).copied().unwrap_or_default()
    }

    /// What befell a destination: zeros if nothing did.
    pub fn destination(
        &self,
        netns: Netns,
        service: &ServiceKey,
        destination: &DestinationKey,
    ) -> DestinationActivity {
        self.destinations
            .get(&(netns, *service, *destination))
            .unwrap_or_default()
    }

    /// Forgets what only the last reading found, for the next. Destinations stay: that finds what is new of them.
    pub(crate) fn begin(&mut self) {
        self.services.clear();
        self.changes.clear();
        self.refusals.clear();
        self.diagnostics.clear();
    }

    /// Forgets all of the last reading but the space that it took.
    pub(crate) fn clear(&mut self) {
        self.begin();
        self.destinations.clear();
    }
}
