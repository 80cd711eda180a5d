//! The numbers of IPVS's generic netlink family, from the kernel's `include/uapi/linux/ip_vs.h`.

/// The family's name.
pub const FAMILY: &str = "IPVS";
/// The family's version.
pub const VERSION: u8 = 1;

/// What can be asked for: the `GET` commands. There is none here that writes: this program never changes a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// One service, or all of them.
    Service = 4,
    /// The destinations of a service; only as a dump.
    Destination = 8,
    /// The synchronisation daemons; only as a dump.
    Daemon = 11,
    /// The timeouts.
    Config = 13,
    /// Version and connection table.
    Info = 15,
}

/// Top-level attributes.
pub mod top {
    /// A service, nested.
    pub const SERVICE: u16 = 1;
    /// A destination, nested.
    pub const DESTINATION: u16 = 2;
    /// A daemon, nested.
    pub const DAEMON: u16 = 3;
    /// u32, seconds.
    pub const TIMEOUT_TCP: u16 = 4;
    /// u32, seconds.
    pub const TIMEOUT_TCP_FIN: u16 = 5;
    /// u32, seconds.
    pub const TIMEOUT_UDP: u16 = 6;
}

/// Attributes of a reply to `Info`, which uses the top level's numbers again.
pub mod info {
    /// u32, a byte for each part.
    pub const VERSION: u16 = 1;
    /// u32, buckets.
    pub const CONNECTION_TABLE_SIZE: u16 = 2;
}

/// Attributes of a service.
pub mod service {
    /// u16.
    pub const FAMILY: u16 = 1;
    /// u16.
    pub const PROTOCOL: u16 = 2;
    /// 16 bytes.
    pub const ADDRESS: u16 = 3;
    /// be16.
    pub const PORT: u16 = 4;
    /// u32; 2, 3 and 4 are then absent.
    pub const FWMARK: u16 = 5;
    /// String.
    pub const SCHEDULER: u16 = 6;
    /// Two u32: flags and mask.
    pub const FLAGS: u16 = 7;
    /// u32, seconds.
    pub const TIMEOUT: u16 = 8;
    /// be32, or an IPv6 prefix length in host order.
    pub const NETMASK: u16 = 9;
    /// Nested, with 32-bit counters that wrap.
    pub const STATS: u16 = 10;
    /// String.
    pub const PERSISTENCE_ENGINE: u16 = 11;
    /// Nested, all 64-bit. Linux 4.1.
    pub const STATS64: u16 = 12;
}

/// Attributes of a destination.
pub mod destination {
    /// 16 bytes.
    pub const ADDRESS: u16 = 1;
    /// be16.
    pub const PORT: u16 = 2;
    /// u32, the low three bits.
    pub const FORWARD: u16 = 3;
    /// u32.
    pub const WEIGHT: u16 = 4;
    /// u32.
    pub const UPPER_THRESHOLD: u16 = 5;
    /// u32.
    pub const LOWER_THRESHOLD: u16 = 6;
    /// u32.
    pub const ACTIVE: u16 = 7;
    /// u32.
    pub const INACTIVE: u16 = 8;
    /// u32.
    pub const PERSISTENT: u16 = 9;
    /// Nested.
    pub const STATS: u16 = 10;
    /// u16; absent before Linux 3.18, where it is the service's.
    pub const FAMILY: u16 = 11;
    /// Nested.
    pub const STATS64: u16 = 12;
    /// u8. Linux 5.2.
    pub const TUNNEL_KIND: u16 = 13;
    /// be16.
    pub const TUNNEL_PORT: u16 = 14;
    /// u16. Linux 5.3.
    pub const TUNNEL_FLAGS: u16 = 15;
}

/// Attributes of a daemon.
pub mod daemon {
    /// u32: 1 master, 2 backup.
    pub const STATE: u16 = 1;
    /// String.
    pub const INTERFACE: u16 = 2;
    /// u32.
    pub const SYNC_ID: u16 = 3;
}
