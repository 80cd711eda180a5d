//! What tests have schedulers before them.

use std::net::IpAddr;

use super::Explainer;
use crate::model::{
    Address, Before, Candidates, Choice, DestinationKey, DestinationState, Memory, Name, Packet,
};

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

/// All destinations in sight, no memory, a kernel that keeps no totals, and a choice that is not known.
pub(super) fn before(scheduler: &str, list: &[DestinationState]) -> Before {
    let address = Address::from(IpAddr::from([10, 7, 0, 2]));
    Before {
        scheduler: Name::from_bytes(scheduler.as_bytes()),
        list: list.to_vec(),
        more: 0,
        total_connections: false,
        packet: Packet {
            client: address,
            client_port: Some(1234),
            target: address,
            service_flags: 0,
        },
        memory: Memory::Unread,
        choice: Choice::Unknown,
    }
}

pub(super) fn explain(before: &Before, choice: Choice) -> Candidates {
    Explainer::default().candidates(&Before {
        choice,
        ..before.clone()
    })
}

pub(super) fn winner(scheduler: &str, list: &[DestinationState], memory: Memory) -> Option<usize> {
    let before = Before {
        memory,
        ..before(scheduler, list)
    };
    explain(&before, Choice::Unknown).computed
}
