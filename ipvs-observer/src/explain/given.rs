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

pub(super) fn server(n: u8, weight: u32) -> DestinationState {
    let mut server = state(weight, 0, 0);
    server.key.address = Address::from(IpAddr::from([10, 8, 0, n]));
    server
}

pub(super) fn from(client: [u8; 4]) -> Packet {
    Packet {
        client: Address::from(IpAddr::from(client)),
        client_port: Some(1234),
        target: Address::from(IpAddr::from([10, 9, 0, 1])),
        service_flags: 0,
    }
}

/// All destinations in sight, no memory, a kernel that keeps no totals, and a choice that is not known.
pub(super) fn before(scheduler: &str, list: &[DestinationState]) -> Before {
    Before {
        scheduler: Name::from_bytes(scheduler.as_bytes()),
        list: list.to_vec(),
        more: 0,
        total_connections: false,
        packet: from([10, 7, 0, 2]),
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
