//! Events, as they leave through the ring buffer. Each begins with its kind.

mod change;

pub use change::*;

use crate::key::ServiceKey;

/// A [`Decision`].
pub const DECISION: u32 = 1;
/// [`Candidates`].
pub const CANDIDATES: u32 = 2;
/// A [`ServiceChange`].
pub const SERVICE_CHANGE: u32 = 3;
/// A [`DestinationChange`].
pub const DESTINATION_CHANGE: u32 = 7;
/// A [`ConnectionEvent`]: a packet was dropped before or after the scheduler.
pub const DROP: u32 = 4;
/// A [`ConnectionEvent`]: a connection ended.
pub const END: u32 = 5;
/// A [`ConnectionEvent`]: a connection began without the scheduler.
pub const ELSEWHERE: u32 = 6;
/// A [`ConnectionEvent`]: a SYN took the entry of an earlier connection.
pub const REUSED: u32 = 8;

/// A destination as it was at a moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestinationState {
    /// Where the kernel keeps it: tells one from another within an event, means nothing beyond.
    pub pointer: u64,
    /// Address in network order; behind the four bytes of IPv4 is whatever the kernel has there.
    pub address: [u8; 16],
    /// Address family.
    pub family: u16,
    /// Port in host order.
    pub port: u16,
    /// Weight; 0 is drained.
    pub weight: i32,
    /// The last weight that was not 0.
    pub last_weight: i32,
    /// Active connections.
    pub active: u32,
    /// Inactive connections, or all of them under [`TOTAL_CONNECTIONS`].
    pub other: u32,
    /// The kernel's flags of it.
    pub flags: u32,
}

/// In [`DestinationState::flags`]: the destination takes no more connections.
pub const OVERLOADED: u32 = 2;

/// What the destinations of a service were like when none of them was taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Destinations looked at.
    pub looked_at: u32,
    /// Of these, with weight 0.
    pub drained: u32,
    /// Of these, with a weight but overloaded.
    pub overloaded: u32,
    /// Destinations that the service has.
    pub all: u32,
}

impl Summary {
    /// Whether all destinations were looked at, none can take a connection, and not by their weights alone.
    #[inline]
    pub fn is_overload(&self) -> bool {
        self.all != 0
            && self.looked_at >= self.all
            && self.drained != self.looked_at
            && self.drained.saturating_add(self.overloaded) == self.looked_at
    }
}

/// What became of the first packet of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// [`DECISION`].
    pub kind: u32,
    /// One of the `OUTCOME_*`.
    pub outcome: u32,
    /// When, in ns of the monotonic clock.
    pub time: u64,
    /// Names the call, so that its candidates are found again.
    pub call: u64,
    /// How long the scheduler took; 0 where it was not asked.
    pub ns: u64,
    /// The service.
    pub service: ServiceKey,
    /// The scheduler's name, to the first NUL.
    pub scheduler: [u8; 16],
    /// The client's address, of the service's family.
    pub client: [u8; 16],
    /// The address that the packet asked for, likewise.
    pub virtual_address: [u8; 16],
    /// The client's port in host order.
    pub client_port: u16,
    /// The port that the packet asked for in host order.
    pub virtual_port: u16,
    /// [`TOTAL_CONNECTIONS`] and the constants after it.
    pub flags: u32,
    /// The packet's protocol.
    pub protocol: u32,
    /// One of the `BEGUN_BY_*`; 0 where a protocol has nothing that begins a connection, or it could not be read.
    pub begun_by: u32,
    /// The destination taken, as it was before this connection; all zero if none was.
    pub destination: DestinationState,
    /// Why none was, where none was.
    pub summary: Summary,
    /// The scheduler's own words where it gave none, to the first NUL.
    pub message: [u8; MESSAGE],
}

/// Bytes kept of what a scheduler says.
pub const MESSAGE: usize = 64;

/// The scheduler chose.
pub const OUTCOME_SCHEDULED: u32 = 1;
/// A persistence template decided.
pub const OUTCOME_TEMPLATE: u32 = 2;
/// The scheduler gave no destination.
pub const OUTCOME_NONE: u32 = 3;
/// No destination, and the scheduler was not asked: the packet is not for a port of the service, or the
/// service has no scheduler.
pub const OUTCOME_UNASKED: u32 = 4;
/// Scheduling failed: no memory, a persistence engine's refusal, too many connections.
pub const OUTCOME_FATAL: u32 = 5;

/// [`DestinationState::other`] counts all connections.
pub const TOTAL_CONNECTIONS: u32 = 1;
/// [`Candidates`] were sent, or tried, for this call.
pub const HAS_CANDIDATES: u32 = 1 << 1;

/// The packet's ports could not be read, because they are not where its first bytes are kept: those told are 0 and mean
/// nothing.
pub const PORTS_UNKNOWN: u32 = 1 << 2;
/// The packet was handed on to this host.
pub const ACCEPTED: u32 = 1 << 3;
/// The packet was sent on to where it was going.
pub const BYPASSED: u32 = 1 << 4;
/// Scheduling failed because the persistence engine found nothing in the packet to go by.
pub const FAILED_BY_ENGINE: u32 = 1 << 5;
/// Scheduling failed because the namespace has as many connections as it may have.
pub const FAILED_BY_LIMIT: u32 = 1 << 6;
/// The client had a template, which was given up because its server was removed.
pub const TEMPLATE_REMOVED: u32 = 1 << 7;
/// The client had a template, which was given up because its server has weight 0.
pub const TEMPLATE_DRAINED: u32 = 1 << 8;

/// The packet was a SYN, or an INIT of SCTP.
pub const BEGUN_BY_SYN: u32 = 1;
/// It was another: `sloppy_tcp` or `sloppy_sctp` let it begin a connection.
pub const BEGUN_BY_DATA: u32 = 2;
/// It was within an ICMP message, which `schedule_icmp` let begin a connection.
pub const BEGUN_BY_ICMP: u32 = 3;
/// A real server began the connection.
pub const BEGUN_BY_SERVER: u32 = 4;
/// It is a data connection of FTP.
pub const BEGUN_BY_FTP: u32 = 5;
/// It was learnt from another director.
pub const BEGUN_BY_SYNC: u32 = 6;

/// Most candidates that one event tells of.
pub const MOST_CANDIDATES: usize = 128;
/// Bytes kept of a scheduler's own state.
pub const SCHEDULER_STATE: usize = 64;

/// What the scheduler had before it. Only `count` of `candidates` leave the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Candidates {
    /// What is before the list.
    pub header: CandidatesHeader,
    /// The destinations in the service's order.
    pub candidates: [DestinationState; MOST_CANDIDATES],
}

/// What is before the list of candidates.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandidatesHeader {
    /// [`CANDIDATES`].
    pub kind: u32,
    /// How many candidates follow.
    pub count: u32,
    /// The call that they were for.
    pub call: u64,
    /// How many destinations the service has.
    pub all: u32,
    /// The service's flags.
    pub service_flags: u32,
    /// Where the service's list of destinations begins.
    pub list: u64,
    /// The service's `sched_data`.
    pub scheduler_data: u64,
    /// What that points to.
    pub scheduler_state: [u8; SCHEDULER_STATE],
    /// The packet's destination address, which some schedulers go by.
    pub target: [u8; 16],
    /// Bytes from a destination's beginning to its place in the list.
    pub list_offset: u32,
    /// Zero.
    pub reserved: u32,
}

/// What befell a connection beside the scheduler.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionEvent {
    /// [`DROP`], [`END`], [`ELSEWHERE`] or [`REUSED`].
    pub kind: u32,
    /// One of the `DROPPED_*`, the `HOW_*` or the `BEGUN_BY_*`.
    pub what: u32,
    /// When, in ns of the monotonic clock.
    pub time: u64,
    /// The service.
    pub service: ServiceKey,
    /// The client's address, of the service's family.
    pub client: [u8; 16],
    /// The address that the client asked for, likewise.
    pub virtual_address: [u8; 16],
    /// The client's port in host order.
    pub client_port: u16,
    /// The port that the client asked for in host order.
    pub virtual_port: u16,
    /// The protocol.
    pub protocol: u16,
    /// The connection's state, a number of its protocol.
    pub state: u16,
    /// [`TOTAL_CONNECTIONS`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// The destination as it is now; all zero if there is none.
    pub destination: DestinationState,
}

/// Connection tracking still holds the entry of an earlier connection from the same port, and its SYN is dropped.
pub const DROPPED_OLD_CONNTRACK: u32 = 1;
/// The connection's server was removed.
pub const DROPPED_SERVER_REMOVED: u32 = 2;
/// There is no route to the real server.
pub const DROPPED_NO_ROUTE: u32 = 3;
/// The packet is larger than the path to the real server, and must not be fragmented.
pub const DROPPED_TOO_LARGE: u32 = 4;
/// It could not be sent to the real server for another reason.
pub const DROPPED_TRANSMIT: u32 = 5;
/// A defence drops some of the packets that would begin a connection.
pub const DROPPED_DEFENCE: u32 = 6;

/// Any other end of TCP and SCTP.
pub const HOW_CLOSED: u32 = 0;
/// By a reset of either side.
pub const HOW_RESET: u32 = 1;
/// The handshake was not completed.
pub const HOW_HALF_OPEN: u32 = 2;
/// Established, and without a packet for its timeout.
pub const HOW_IDLE: u32 = 3;
/// The timeout of a protocol without connections.
pub const HOW_EXPIRED: u32 = 4;
/// Killed by `drop_entry`.
pub const HOW_DEFENCE: u32 = 5;
/// A new SYN took its place.
pub const HOW_REPLACED: u32 = 6;
/// Its server was removed while it was open.
pub const HOW_SERVER_REMOVED: u32 = 7;

crate::plain!(
    DestinationState: 48,
    Summary: 16,
    Decision: 256,
    CandidatesHeader: 128,
    Candidates: 6272,
    ConnectionEvent: 144,
);
