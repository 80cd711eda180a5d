//! A change of the configuration, and what it leaves behind.

use crate::key::DestinationKey;

/// How every change begins.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// [`SERVICE_CHANGE`](super::SERVICE_CHANGE) or [`DESTINATION_CHANGE`](super::DESTINATION_CHANGE).
    pub kind: u32,
    /// One of the `ACTION_*`.
    pub action: u32,
    /// When, in ns of the monotonic clock.
    pub time: u64,
    /// The service, and the destination where the action is on one.
    pub key: DestinationKey,
    /// The process that made the change, in the initial namespace of pids.
    pub pid: u32,
    /// The process that started it.
    pub parent_pid: u32,
    /// The name of the process, to the first NUL.
    pub comm: [u8; 16],
    /// The name of the process that started it, to the first NUL.
    pub parent_comm: [u8; 16],
    /// [`BEFORE`] and the constants after it, and [`TOTAL_CONNECTIONS`](super::TOTAL_CONNECTIONS).
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// A service was added, edited or deleted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceChange {
    /// What every change has.
    pub change: Change,
    /// What was, with [`BEFORE`].
    pub before: ServiceSettings,
    /// What is, with [`AFTER`].
    pub after: ServiceSettings,
}

/// A destination was added, edited or deleted, or became overloaded or ceased to be.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestinationChange {
    /// What every change has.
    pub change: Change,
    /// The weight before, or -1 where there was none.
    pub weight_before: i32,
    /// The weight after, or -1 where there is none.
    pub weight_after: i32,
    /// What was, with [`BEFORE`].
    pub before: DestinationSettings,
    /// What is, with [`AFTER`].
    pub after: DestinationSettings,
    /// What the destination still has, with [`REMAINING`].
    pub remaining: Remaining,
    /// Zero.
    pub reserved: u32,
}

/// What a service is set to, as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceSettings {
    /// The scheduler's name, to the first NUL; empty if there is none.
    pub scheduler: [u8; 16],
    /// The persistence engine's name, likewise.
    pub engine: [u8; 16],
    /// The kernel's flags of it.
    pub flags: u32,
    /// How long a template lives, in ticks of the kernel.
    pub timeout: u32,
    /// The granularity of persistence: bytes of an IPv4 netmask, or an IPv6 prefix length.
    pub netmask: u32,
}

/// What a destination is set to beside its weight, as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestinationSettings {
    /// The flags that its connections begin with: how packets are forwarded.
    pub connection_flags: u32,
    /// Connections at which it is overloaded, 0: never.
    pub upper_threshold: u32,
    /// Connections below which it is so no longer, 0: the kernel's choice.
    pub lower_threshold: u32,
    /// The encapsulation.
    pub tunnel_kind: u16,
    /// Its UDP port in host order.
    pub tunnel_port: u16,
    /// Its flags.
    pub tunnel_flags: u16,
    /// Zero.
    pub reserved: u16,
}

/// The entries of the connection table that a destination has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Active connections.
    pub active: u32,
    /// Inactive connections, or all of them under [`TOTAL_CONNECTIONS`](super::TOTAL_CONNECTIONS).
    pub other: u32,
    /// Templates of persistence.
    pub templates: u32,
}

/// In [`Change::flags`]: what was is known.
pub const BEFORE: u32 = 1 << 1;
/// What is is known.
pub const AFTER: u32 = 1 << 2;
/// What the destination still has is known, and the settings that decide what becomes of it: the constants that follow.
pub const REMAINING: u32 = 1 << 3;
/// The destination goes because its service does.
pub const WITH_SERVICE: u32 = 1 << 4;
/// The service goes because its network namespace does.
pub const WITH_NAMESPACE: u32 = 1 << 5;
/// `expire_nodest_conn` is set.
pub const EXPIRE_NODEST_CONN: u32 = 1 << 6;
/// `expire_quiescent_template` is set.
pub const EXPIRE_QUIESCENT_TEMPLATE: u32 = 1 << 7;
/// `conn_reuse_mode` is not 0.
pub const CONN_REUSE: u32 = 1 << 8;
/// `conntrack` is set.
pub const CONNTRACK: u32 = 1 << 9;

/// A service was added.
pub const ACTION_ADD_SERVICE: u32 = 1;
/// A service was edited.
pub const ACTION_EDIT_SERVICE: u32 = 2;
/// A service was deleted, and its destinations with it.
pub const ACTION_DELETE_SERVICE: u32 = 3;
/// A destination was added.
pub const ACTION_ADD_DESTINATION: u32 = 4;
/// A destination was edited.
pub const ACTION_EDIT_DESTINATION: u32 = 5;
/// A destination was deleted.
pub const ACTION_DELETE_DESTINATION: u32 = 6;
/// A destination became overloaded.
pub const ACTION_OVERLOAD: u32 = 7;
/// A destination ceased to be overloaded.
pub const ACTION_RECOVER: u32 = 8;

crate::plain!(
    Change: 120,
    ServiceChange: 208,
    DestinationChange: 184,
);
