//! The netlink edge: IPVS's tables as the kernel tells them.
//!
//! Owns: the sockets, dumps and their completeness, bytes to model, whose an address is, and what `/proc` adds. Refuses to know: what
//! becomes of a snapshot. With `probe`, the only code that talks to the kernel.

pub mod attributes;
pub mod connections;
mod counters;
pub mod decode;
mod dump;
mod kernel;
mod lane;
mod link;
mod namespace;
mod procfs;
mod recording;
mod routes;
mod socket;
mod wire;

use std::{io, time::Duration};

pub use dump::Reader;
pub use kernel::{Channel, Kernel, Running};
pub use link::Replies;
pub use namespace::{
    enter, namespace, namespace_of, paths as namespace_paths, require as require_namespaces,
};
pub use recording::{Recorder, Recording};

use crate::{log, model::Forwarding};

/// Whether IPVS is loaded, or built in, as the calling thread's network namespace sees it.
pub fn present() -> bool {
    procfs::present(&mut Running)
}

/// Whether the calling thread's network namespace forwards packets that are not for it.
pub fn forwarding() -> Forwarding {
    procfs::forwarding(&mut Running)
}

/// A reply that does not hold what its type needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("netlink attribute {kind} holds {} and needs {wanted}", log::counted(*.length as u64, "byte"))]
pub struct Malformed {
    /// The attribute's type.
    pub kind: u16,
    /// The bytes it has.
    pub length: usize,
    /// The bytes it needs.
    pub wanted: usize,
}

/// Why the table could not be read. The caller decides by it: some are states that last, some pass. What explains it is
/// read where it happens, by the thread that it happens to, and kept.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// IPVS is not loaded; what gets it loaded.
    #[error("IPVS is not loaded, so there is nothing to gather; {0}")]
    Absent(&'static str),
    /// The kernel refuses: it wants `CAP_NET_ADMIN` in the initial user namespace. Why that is of no use.
    #[error("not permitted to read the IPVS table, so only totals are gathered; {0}")]
    NotPermitted(String),
    /// The network namespace that was asked for is not there.
    #[error(
        "there is no such network namespace, so nothing is gathered in it until it comes; `ip netns` lists those \
         with names"
    )]
    NoNamespace,
    /// Entering another network namespace wants `CAP_SYS_ADMIN`. Why that is of no use.
    #[error("not permitted to enter the network namespace, so nothing is gathered in it; {0}")]
    NamespaceNotPermitted(String),
    /// The network namespace cannot be entered.
    #[error(
        "cannot enter the network namespace ({0}), so nothing is gathered in it; the next gather tries again"
    )]
    Namespace(io::Error),
    /// The system gives no thread to enter it with.
    #[error(
        "there is no thread to read the network namespace with ({0}), so nothing is gathered in it; the next gather \
         tries again, and the system's limit on threads may be too low"
    )]
    NoThread(io::Error),
    /// No reply came.
    #[error("the kernel did not answer within {0:?}, so this gather is incomplete; the next one asks again")]
    Timeout(Duration),
    /// A datagram was larger than the buffer, and its end is lost.
    #[error(
        "a netlink reply of {} did not fit {capacity}, so records were lost; reading again with more room",
        log::counted(*.length as u64, "byte")
    )]
    Truncated {
        /// Bytes that the kernel had.
        length: usize,
        /// Bytes that there was room for.
        capacity: usize,
    },
    /// A change of the table under a dump made it inconsistent, as often as it was tried.
    #[error(
        "the IPVS table kept changing while it was read, so this gather may be incomplete; the next one reads again"
    )]
    Interrupted,
    /// The kernel answered with an error.
    #[error(
        "the kernel refused the IPVS request ({0}), so this gather is incomplete; the next one asks again"
    )]
    Refused(io::Error),
    /// The kernel answered in a way that is none.
    #[error(
        "the kernel's netlink answer makes no sense ({0}), so this gather is incomplete; the next one asks again"
    )]
    Nonsense(&'static str),
    /// The socket itself.
    #[error("the netlink socket failed ({0}), so this gather is incomplete; the next one opens a new one")]
    Socket(io::Error),
}

impl Failure {
    /// A few words that stay the same while the state lasts: the field `reason` of `ipvs_observer`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Absent(_) => "ip_vs not loaded",
            Self::NotPermitted(_) => "not permitted (CAP_NET_ADMIN)",
            Self::NoNamespace => "no such network namespace",
            Self::NamespaceNotPermitted(_) => "not permitted to enter the network namespace (CAP_SYS_ADMIN)",
            Self::Namespace(_) => "network namespace cannot be entered",
            Self::NoThread(_) => "no thread to read the network namespace with",
            Self::Timeout(_) => "netlink timeout",
            Self::Truncated { .. } => "netlink reply truncated",
            Self::Interrupted => "table changed while it was read",
            Self::Refused(_) => "netlink request refused",
            Self::Nonsense(_) => "netlink answer not understood",
            Self::Socket(_) => "netlink socket failed",
        }
    }
}
