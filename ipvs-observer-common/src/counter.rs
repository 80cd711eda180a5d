//! Counter blocks: one of each CPU for what happens at every connection's beginning, and one that all CPUs share for the
//! rest.

/// What the probes say of themselves, per CPU. All counters count up from the moment of loading.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Times that a probe ran.
    pub runs: u64,
    /// Calls seen beginning.
    pub entries: u64,
    /// Calls seen ending.
    pub returns: u64,
    /// Returns whose beginning was not seen: the call was under way when the probe was attached, or the kernel
    /// skipped the entry probe.
    pub orphans: u64,
    /// Those of them that were the end of a decision: nothing else tells of it.
    pub decisions_orphaned: u64,
    /// Calls whose end was not seen: all return slots of the kernel were taken.
    pub abandoned: u64,
    /// Calls of schedulers whose duration was lost: the packet went on on another CPU, or another was scheduled on
    /// its CPU before anybody heard.
    pub durations_lost: u64,
    /// Calls that found no room among those under way.
    pub calls_full: u64,
    /// Counts that found no room for their service.
    pub services_full: u64,
    /// Counts that found no room for their destination.
    pub destinations_full: u64,
    /// Kernel memory that could not be read.
    pub unreadable: u64,
    /// Decisions that left through the ring buffer.
    pub decisions: u64,
    /// Decisions that found no room in the ring buffer.
    pub decisions_lost: u64,
    /// Configuration changes and overload transitions that left through the ring buffer.
    pub changes: u64,
    /// Those that found no room in it.
    pub changes_lost: u64,
    /// Drops that left through the ring buffer.
    pub drops: u64,
    /// Those that found no room in it.
    pub drops_lost: u64,
    /// Of the program at the tracepoint of dropped packets, which runs also where another program was interrupted, and
    /// so counts beside the others: packets that IPVS could not send.
    pub unsent: u64,
    /// Drops among those that left through the ring buffer.
    pub unsent_told: u64,
    /// Those that found no room in it.
    pub unsent_lost: u64,
    /// Ends of connections that left through the ring buffer.
    pub ends: u64,
    /// Those that found no room in it.
    pub ends_lost: u64,
    /// Lists of candidates that left through the ring buffer.
    pub candidates: u64,
    /// Those that found no room in it.
    pub candidates_lost: u64,
    /// Below which slots of services were ever given by this CPU.
    pub services_given: u32,
    /// Likewise, of destinations.
    pub destinations_given: u32,
    /// When something was last seen to be so, in ns of the monotonic clock: by the constants `SEEN_*`.
    pub seen: [u64; 3],
}

/// In [`Health::seen`]: an observed namespace may drop new connections to defend itself (`drop_packet` is not 0).
pub const SEEN_DROP_PACKET: usize = 0;
/// In [`Health::seen`]: an observed namespace may kill entries to defend itself (`drop_entry` is not 0).
pub const SEEN_DROP_ENTRY: usize = 1;
/// In [`Health::seen`]: an observed namespace learns connections of another director.
pub const SEEN_BACKUP: usize = 2;

/// What the scheduler did for a service, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounters {
    /// The slot's generation that this is of.
    pub generation: u64,
    /// The scheduler was asked.
    pub calls: u64,
    /// It gave a destination, and a connection was made of it.
    pub picks: u64,
    /// It gave none.
    pub none: u64,
    /// A persistence template decided and the scheduler was not asked.
    pub template_hits: u64,
    /// A packet was turned away for want of a destination.
    pub refused: u64,
    /// A packet without a destination was handed on to this host.
    pub accepted: u64,
    /// A packet without a destination was sent on to where it was going (`net.ipv4.vs.cache_bypass`).
    pub bypassed: u64,
    /// A real server began a connection.
    pub begun_by_server: u64,
    /// Scheduling failed for another reason and the packet was dropped.
    pub fatal: u64,
    /// Nanoseconds spent in the scheduler.
    pub ns_sum: u64,
    /// The longest call of an interval in ns, for the even and the odd interval.
    pub ns_max: [u64; 2],
    /// The intervals that `ns_max` belongs to.
    pub interval: [u32; 2],
}

/// What befell a destination, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestinationCounters {
    /// The slot's generation that this is of.
    pub generation: u64,
    /// The scheduler chose it.
    pub picks: u64,
    /// It became overloaded.
    pub overloads: u64,
    /// When its overload was last seen to change, in ns of the monotonic clock; the lowest bit is the state.
    pub overload_seen: u64,
}

/// How the connections of a destination ended, by the numbers of the events' `HOW_*`. All CPUs count in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Counters.
    pub how: [u64; 8],
}

/// What befell the connections of a service beside the scheduler, by the constants that follow. All CPUs count in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Counters.
    pub what: [u64; 12],
}

/// In [`Beside::what`]: connections that ended.
pub const ENDED: usize = 0;
/// In [`Beside::what`]: those of them whose server was removed.
pub const ENDED_SERVER_REMOVED: usize = 1;
/// In [`Beside::what`]: data connections of FTP that began.
pub const BEGUN_BY_FTP: usize = 2;
/// In [`Beside::what`]: SYNs dropped because connection tracking holds an earlier connection.
pub const DROPS_OLD_CONNTRACK: usize = 3;
/// In [`Beside::what`]: packets dropped because their server was removed.
pub const DROPS_SERVER_REMOVED: usize = 4;
/// In [`Beside::what`]: packets dropped because there is no route to their real server.
pub const DROPS_NO_ROUTE: usize = 5;
/// In [`Beside::what`]: packets dropped because they are too large for the path to it.
pub const DROPS_TOO_LARGE: usize = 6;
/// In [`Beside::what`]: packets that could not be sent for another reason.
pub const DROPS_TRANSMIT: usize = 7;
/// In [`Beside::what`]: new connections that a defence dropped.
pub const DROPS_DEFENCE: usize = 8;
/// In [`Beside::what`]: SYNs that took the entry of an earlier connection.
pub const REUSED: usize = 9;
/// In [`Beside::what`]: connections learnt from another director.
pub const BEGUN_BY_SYNC: usize = 10;
/// In [`Beside::what`]: connections of real servers that the service took over from one that was deleted.
pub const TAKEN_OVER: usize = 11;

macro_rules! sum {
    ($into:ident += $other:ident: $($field:ident),+) => {
        $($into.$field = $into.$field.wrapping_add($other.$field);)+
    };
}

impl Health {
    /// Adds another CPU's block.
    pub fn add(&mut self, other: &Self) {
        sum!(self += other: runs, entries, returns, orphans, decisions_orphaned, abandoned, durations_lost);
        sum!(self += other: calls_full, services_full, destinations_full, unreadable);
        sum!(self += other: decisions, decisions_lost, changes, changes_lost, candidates, candidates_lost);
        sum!(self += other: drops, drops_lost, ends, ends_lost, unsent, unsent_told, unsent_lost);
        self.services_given = self.services_given.max(other.services_given);
        self.destinations_given = self.destinations_given.max(other.destinations_given);
        for (last, seen) in self.seen.iter_mut().zip(other.seen) {
            *last = seen.max(*last);
        }
    }
}

impl ServiceCounters {
    /// Adds another CPU's block. Of the longest calls only those of `interval` count.
    pub fn add(&mut self, other: &Self, interval: u32) {
        sum!(self += other: calls, picks, none, template_hits, refused, accepted, bypassed);
        sum!(self += other: begun_by_server, fatal, ns_sum);
        let parity = (interval & 1) as usize;
        if other.interval[parity] == interval {
            self.interval[parity] = interval;
            self.ns_max[parity] = self.ns_max[parity].max(other.ns_max[parity]);
        }
    }
}

impl DestinationCounters {
    /// Adds another CPU's block. The latest sight of an overload stands.
    pub fn add(&mut self, other: &Self) {
        sum!(self += other: picks, overloads);
        self.overload_seen = self.overload_seen.max(other.overload_seen);
    }

    /// Whether it was overloaded when that was last seen to change.
    pub fn overloaded(&self) -> Option<bool> {
        (self.overload_seen != 0).then_some(self.overload_seen & 1 == 1)
    }
}

crate::plain!(Health: 224, ServiceCounters: 112, DestinationCounters: 32, Ends: 64, Beside: 96);

#[cfg(test)]
mod tests {
    use super::{DestinationCounters, ServiceCounters};

    #[test]
    fn the_longest_call_of_another_interval_does_not_count() {
        let mut sum = ServiceCounters::default();
        let cpu = |interval, ns| ServiceCounters {
            ns_max: [ns, 0],
            interval: [interval, 0],
            picks: 1,
            ..ServiceCounters::default()
        };
        sum.add(&cpu(4, 900), 4);
        sum.add(&cpu(2, 5000), 4);
        sum.add(&cpu(4, 1000), 4);
        assert_eq!((sum.picks, sum.ns_max[0]), (3, 1000));
    }

    #[test]
    fn the_latest_sight_of_an_overload_stands_whichever_cpu_had_it() {
        let seen = |overload_seen| DestinationCounters {
            overload_seen,
            ..DestinationCounters::default()
        };
        let mut sum = seen(1001);
        sum.add(&seen(2000));
        assert_eq!(sum.overloaded(), Some(false));
        assert_eq!(seen(0).overloaded(), None);
    }
}
