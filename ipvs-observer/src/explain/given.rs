//! What tests have schedulers before them.

use std::net::IpAddr;

use super::{Before, Choice, Memory, explain};
use crate::model::{Address, DestinationKey, DestinationState};

pub(super) fn state(weight: u32, active: u32, inactive: u32) -> DestinationState {
    let key = DestinationKey {
        address: Address::from(IpAddr::from([10, 0, 0, 1])),
        port: 80,
    };
    DestinationState {
        key,
        weight,
        active,
        inactive,
        overloaded: false,
    }
}

pub(super) fn overloaded(state: DestinationState) -> DestinationState {
    DestinationState {
        overloaded: true,
        ..state
    }
}

/// All destinations in sight, no memory, and a kernel that keeps no totals.
pub(super) fn before<'a>(scheduler: &'a str, list: &'a [DestinationState]) -> Before<'a> {
    Before {
        scheduler,
        list,
        more: 0,
        total_connections: false,
        memory: Memory::Unread,
    }
}

pub(super) fn winner(scheduler: &str, list: &[DestinationState], memory: Memory) -> Option<usize> {
    let before = Before {
        memory,
        ..before(scheduler, list)
    };
    explain(&before, Choice::Unknown).computed
}
