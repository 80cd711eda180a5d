//! What the probes saw: counters as they stand, plain values beside the snapshot.

/// The probes' own account of themselves. Counters count up from the moment of attaching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeTotals {
    /// Times that a probe ran.
    pub runs: u64,
    /// Nanoseconds that they took, where the kernel keeps BPF statistics (`kernel.bpf_stats_enabled`).
    pub run_ns: Option<u64>,
    /// Calls of probed functions seen beginning.
    pub entries: u64,
    /// Calls of probed functions seen ending.
    pub returns: u64,
    /// Calls of which only the beginning or only the end was seen.
    pub unpaired: u64,
    /// Events that left the kernel.
    pub events: u64,
    /// Events that found no room in the ring buffer.
    pub events_lost: u64,
    /// Calls, services and destinations that found their map full.
    pub turned_away: u64,
}

/// What the probes saw, as of one reading. Filled in place, so that a steady state allocates nothing.
#[derive(Debug, Default)]
pub struct Activity {
    /// The probes' account of themselves.
    pub probes: ProbeTotals,
    /// What the programs said of their own troubles since the last reading, to be passed to stderr.
    pub diagnostics: Vec<String>,
}
