//! The states of connections, and how one ends in each.

use ipvs_observer_common::event;

use crate::{
    key::is_removed,
    read::{layout, number},
};

/// Whether a connection's handshake is not completed.
#[inline(always)]
pub fn is_half_open(connection: u64) -> bool {
    let states = States::of(number(connection, layout!(connection.protocol)));
    state(connection) & states.half_open != 0
}

/// A connection's state, as a set of it alone.
#[inline(always)]
fn state(connection: u64) -> u32 {
    1 << (number(connection, layout!(connection.state)) & 31)
}

/// How a connection ended that nothing ended before its time: one of the `HOW_*`, the first that fits.
#[inline(always)]
pub fn how(connection: u64, destination: u64) -> u32 {
    let state = state(connection);
    let protocol = number(connection, layout!(connection.protocol));
    let states = States::of(protocol);
    if is_removed(destination) && state & states.closing == 0 {
        event::HOW_SERVER_REMOVED
    } else if state & states.half_open != 0 {
        event::HOW_HALF_OPEN
    } else if state & states.reset != 0 {
        event::HOW_RESET
    } else if state & states.established != 0 {
        event::HOW_IDLE
    } else if protocol == TCP || protocol == SCTP {
        event::HOW_CLOSED
    } else {
        event::HOW_EXPIRED
    }
}

/// The states of a protocol that a connection can end in, each a set of bits.
struct States {
    half_open: u32,
    established: u32,
    reset: u32,
    /// It is over, or will be: a reset among them.
    closing: u32,
}

const TCP: u64 = 6;
const SCTP: u64 = 132;

impl States {
    /// Those of a protocol.
    #[inline(always)]
    fn of(protocol: u64) -> &'static Self {
        match protocol {
            TCP => &Self::TCP,
            SCTP => &Self::SCTP,
            _ => &Self::NONE,
        }
    }

    const NONE: Self = Self {
        half_open: 0,
        established: 0,
        reset: 0,
        closing: 0,
    };
    /// `IP_VS_TCP_S_*`: NONE, SYN_SENT, SYN_RECV and SYNACK; ESTABLISHED; CLOSE; FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT
    /// and LAST_ACK.
    const TCP: Self = Self {
        half_open: 1 | 1 << 2 | 1 << 3 | 1 << 10,
        established: 1 << 1,
        reset: 1 << 6,
        closing: 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8,
    };
    /// `IP_VS_SCTP_S_*`: all up to COOKIE_ECHOED; ESTABLISHED; REJECTED; what comes after ESTABLISHED.
    const SCTP: Self = Self {
        half_open: (1 << 8) - 1,
        established: 1 << 8,
        reset: 1 << 12,
        closing: 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13,
    };
}
