//! The ten statistics that IPVS keeps for a service, a destination and a namespace.

/// Statistics of a virtual or real server. Counters are since it was made or last zeroed (`ipvsadm -Z`), rates
/// are the kernel's own averages, made anew every two seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Incoming packets.
    pub pkts_in: u64,
    /// Outgoing packets.
    pub pkts_out: u64,
    /// Incoming bytes.
    pub bytes_in: u64,
    /// Outgoing bytes.
    pub bytes_out: u64,
    /// Connections per second.
    pub cps: u64,
    /// Incoming packets per second.
    pub pps_in: u64,
    /// Outgoing packets per second.
    pub pps_out: u64,
    /// Incoming bytes (not bits) per second.
    pub bps_in: u64,
    /// Outgoing bytes (not bits) per second.
    pub bps_out: u64,
}
