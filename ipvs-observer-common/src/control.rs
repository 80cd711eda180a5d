//! What userspace tells the programs while they run.

/// Namespaces that can be asked for at one time.
pub const NAMESPACES: usize = 30;

/// The programs' orders: one block, changed from userspace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Which events leave the kernel: a set of the constants of this module.
    pub events: u32,
    /// The number of the current interval, for what is the longest of an interval.
    pub interval: u32,
    /// How many of `netns` are valid; 0: every namespace is observed.
    pub namespaces: u32,
    /// What the probes that hold make possible, or necessary: a set of the constants of this module.
    pub ways: u32,
    /// How many refusals and drops of a namespace and interval leave the kernel where `events` does not ask for all:
    /// so many firsts of a service and reason, and so many others. 0: none.
    pub refusals: u32,
    /// Which filters of events are given: a set of the constants of [`filter`](crate::filter).
    pub filters: u32,
    /// Inode numbers of the namespaces observed.
    pub netns: [u32; NAMESPACES],
    /// Only decisions for which the scheduler took at least so many ns, if [`SLOWER`](crate::filter::SLOWER) is given.
    pub slower_than: u64,
    /// Which outcomes, if [`OUTCOMES`](crate::filter::OUTCOMES) is given.
    pub outcomes: u32,
    /// Zero.
    pub reserved: u32,
}

/// Scheduling decisions leave the kernel.
pub const DECISIONS: u32 = 1;
/// Configuration changes and overload transitions leave the kernel.
pub const CHANGES: u32 = 1 << 1;
/// The candidates of each decision leave the kernel before it.
pub const CANDIDATES: u32 = 1 << 2;

/// Packets dropped before and after the scheduler leave the kernel.
pub const DROPS: u32 = 1 << 3;
/// Ends of connections leave the kernel.
pub const ENDS: u32 = 1 << 4;

/// In [`Control::ways`]: the kernel has no function of its own for a destination that becomes overloaded, so its flags
/// are looked at on scheduling.
pub const LOOK_FOR_OVERLOAD: u32 = 1;
/// In [`Control::ways`]: what becomes of a packet without a destination is seen at the return of `ip_vs_leave`, and
/// told there.
pub const TELL_AFTER_LEAVE: u32 = 1 << 1;
/// In [`Control::ways`]: it is seen when the kernel lets go of a removed destination, whose counters stay until then.
pub const KEEP_REMOVED: u32 = 1 << 2;
/// In [`Control::ways`]: what a defence drops is looked for between the service's being found and the scheduler.
pub const LOOK_FOR_DEFENCE: u32 = 1 << 3;
/// In [`Control::ways`]: what becomes of a packet that meets an entry is looked for from there to the packet's end.
pub const LOOK_AT_PACKETS: u32 = 1 << 4;

crate::plain!(Control: 160);
