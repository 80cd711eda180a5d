//! What events are called: a table for each set of names.
//!
//! A row is a member, its name in JSON, in tags and in `docs/metrics.md`, and its words for people where these differ.
//! Text, JSON and line protocol ask the table, and `tests/metrics_page.rs` holds the page against it: a new member is
//! a new row here.

/// The words of a row: its name where it has no others.
macro_rules! words {
    ($name:literal) => {
        $name
    };
    ($name:literal, $words:literal) => {
        $words
    };
}

macro_rules! table {
    (
        $(#[$about:meta])* $Table:ident;
        $($(#[$meaning:meta])* $Row:ident = $name:literal $(, $words:literal)?;)+
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $Table {
            $($(#[$meaning])* $Row,)+
        }

        impl $Table {
            /// Every member, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$Row),+];

            /// Its name for programs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$Row => $name,)+
                }
            }

            /// Its words for people.
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$Row => words!($name $(, $words)?),)+
                }
            }
        }
    };
}

table! {
    /// What became of the first packet of a connection.
    Outcome;
    /// The scheduler chose.
    Scheduled = "scheduled";
    /// A persistence template decided, and the scheduler was not asked.
    Template = "template", "persistence template";
    /// There was no destination to be had.
    None = "none", "no destination";
    /// There was none, because all that have a weight are overloaded.
    Overloaded = "overloaded", "no destination";
    /// Scheduling failed: no memory, a persistence engine's refusal, too many connections.
    Fatal = "fatal";
    /// There was none, and the packet was handed on to this host.
    Accepted = "accepted", "handed on to this host";
    /// There was none, and the packet was sent on to where it was going.
    Bypassed = "bypassed";
    /// A SYN took the entry of an earlier connection from its port.
    Reused = "reused", "not scheduled: it took the entry of an earlier connection from its port";
    /// The connection began without the scheduler.
    Elsewhere = "elsewhere", "not scheduled";
}

table! {
    /// What kind of packet began a connection, where that matters.
    BegunBy;
    /// A SYN of TCP, or an INIT of SCTP.
    Syn = "syn", "a SYN";
    /// Another packet of these.
    Data = "data", "a packet that is no SYN (sloppy_tcp or sloppy_sctp)";
    /// A packet within an ICMP message.
    Icmp = "icmp", "a packet within an ICMP message (schedule_icmp)";
    /// A packet of a real server, of a protocol where it may begin.
    Server = "server", "its real server";
    /// Another director, from which it was learnt.
    Sync = "sync", "another director (synchronisation)";
    /// A command of FTP, whose data connection it is.
    Ftp = "ftp", "a command of FTP";
}

table! {
    /// Why a packet was dropped before or after the scheduler.
    DropReason;
    /// A SYN came from a port of which connection tracking still holds an earlier connection.
    OldConntrack = "old_conntrack", "connection tracking holds an earlier connection from this port";
    /// A defence drops some of the packets that would begin a connection.
    Defence = "defence", "a defence drops some new connections (drop_packet)";
    /// The connection's destination was removed.
    ServerRemoved = "server_removed", "its real server was removed";
    /// There is no route to the destination.
    NoRoute = "no_route", "no route to the real server";
    /// It is larger than the path to the destination, and must not be fragmented.
    TooLarge = "too_large", "larger than the path to the real server";
    /// It could not be sent to the destination for another reason.
    Transmit = "transmit", "could not be sent to the real server";
}

table! {
    /// How a connection ended, the first that fits.
    How;
    /// Killed by `drop_entry`.
    Defence = "defence", "killed by drop_entry";
    /// A new SYN took its place.
    Replaced = "replaced", "replaced by a new connection from the same port";
    /// Its destination was removed while it was open.
    ServerRemoved = "server_removed", "its real server was removed";
    /// The handshake was not completed: the server did not answer, or the client did not go on.
    HalfOpen = "half_open", "half-open: no answer of the server, or none of the client";
    /// By a reset of either side, a refused connection included.
    Reset = "reset", "reset by either side";
    /// Established, and without a packet for its timeout.
    Idle = "idle", "idle: no packet for its timeout";
    /// Any other end of TCP and SCTP.
    Closed = "closed";
    /// The timeout of a protocol without connections.
    Expired = "expired";
}

table! {
    /// What was done to the configuration.
    Action;
    /// A service was added.
    AddService = "add_service", "add service";
    /// A service was edited.
    EditService = "edit_service", "edit service";
    /// A service was deleted, and its destinations with it.
    DeleteService = "delete_service", "delete service";
    /// A destination was added.
    AddDestination = "add_destination", "add destination";
    /// A destination was edited.
    EditDestination = "edit_destination", "edit destination";
    /// A destination was deleted.
    DeleteDestination = "delete_destination", "delete destination";
    /// A destination became overloaded: no process did that.
    Overload = "overload";
    /// A destination ceased to be overloaded: no process did that.
    Recover = "recover";
}

table! {
    /// What of a service or a destination can be set.
    Setting;
    /// The scheduler of a service.
    Scheduler = "scheduler";
    /// Flags of a service: those of its scheduler, and one-packet scheduling.
    Flags = "flags";
    /// Seconds that a persistence template lives, 0: the service is not persistent.
    PersistenceTimeout = "persistence_timeout", "persistence timeout";
    /// The prefix length of the persistence granularity.
    Netmask = "netmask";
    /// The persistence engine of a service.
    PersistenceEngine = "persistence_engine", "persistence engine";
    /// The weight of a destination.
    Weight = "weight";
    /// Connections at which a destination is overloaded, 0: never.
    UpperThreshold = "upper_threshold", "upper threshold";
    /// Connections below which it is so no longer, 0: the kernel's choice.
    LowerThreshold = "lower_threshold", "lower threshold";
    /// How packets reach a destination.
    Forward = "forward";
    /// The encapsulation of a tunnelled destination.
    Tunnel = "tunnel";
}
