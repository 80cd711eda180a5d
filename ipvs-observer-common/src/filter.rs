//! What of the events is asked for: of each kind of filter that is given, one of its values must match.

use crate::event::{self, Decision};

/// In [`Control::filters`](crate::control::Control::filters): services are named.
pub const SERVICES: u32 = 1;
/// Clients are.
pub const CLIENTS: u32 = 1 << 1;
/// Destinations are.
pub const DESTINATIONS: u32 = 1 << 2;
/// Outcomes are: a set of the constants of this module.
pub const OUTCOMES: u32 = 1 << 3;
/// Schedulers that took at least [`Control::slower_than`](crate::control::Control::slower_than).
pub const SLOWER: u32 = 1 << 4;

/// An address with a port, or with all of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address in network order, IPv4 in the first four bytes and zeros behind.
    pub address: [u8; 16],
    /// Address family.
    pub family: u16,
    /// Port in host order; 0 where all ports are meant.
    pub port: u16,
    /// 1: every port of the address.
    pub any_port: u32,
}

crate::plain!(Endpoint: 24);

/// Bits before the address in a [`network`].
pub const FAMILY_BITS: u32 = 16;

/// A family and an address, of which a network is a prefix.
#[inline]
pub fn network(family: u16, address: &[u8; 16]) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..2].copy_from_slice(&family.to_be_bytes());
    bytes[2..].copy_from_slice(address);
    bytes
}

/// The scheduler chose.
pub const SCHEDULED: u32 = 1;
/// A persistence template decided.
pub const TEMPLATE: u32 = 1 << 1;
/// There was no destination.
pub const NONE: u32 = 1 << 2;
/// There was none, because all that could take a connection are overloaded.
pub const OVERLOADED: u32 = 1 << 3;
/// Scheduling failed.
pub const FATAL: u32 = 1 << 4;
/// The packet was handed on to this host.
pub const ACCEPTED: u32 = 1 << 5;
/// The packet was sent on to where it was going.
pub const BYPASSED: u32 = 1 << 6;
/// It took an old entry.
pub const REUSED: u32 = 1 << 7;
/// It was begun by others than a client.
pub const ELSEWHERE: u32 = 1 << 8;

/// What a decision came to: one of the constants above.
#[inline]
pub fn outcome(decision: &Decision) -> u32 {
    if decision.flags & event::ACCEPTED != 0 {
        return ACCEPTED;
    }
    if decision.flags & event::BYPASSED != 0 {
        return BYPASSED;
    }
    match decision.outcome {
        event::OUTCOME_SCHEDULED => SCHEDULED,
        event::OUTCOME_TEMPLATE => TEMPLATE,
        event::OUTCOME_FATAL => FATAL,
        event::OUTCOME_NONE if decision.scheduler[0] != 0 && decision.summary.is_overload() => OVERLOADED,
        _ => NONE,
    }
}
