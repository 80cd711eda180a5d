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
    /// 1 where the kernel has no function of its own for a destination that becomes overloaded: then its flags
    /// are looked at on scheduling.
    pub look_for_overload: u32,
    /// Inode numbers of the namespaces observed.
    pub netns: [u32; NAMESPACES],
}

/// Scheduling decisions leave the kernel.
pub const DECISIONS: u32 = 1;
/// Configuration changes and overload transitions leave the kernel.
pub const CHANGES: u32 = 1 << 1;
/// The candidates of each decision leave the kernel before it.
pub const CANDIDATES: u32 = 1 << 2;

crate::plain!(Control: 136);
