//! From the programs' keys to the model's.

use ipvs_observer_common::{
    event::{DestinationState as KernelState, OVERLOADED},
    key as kernel,
};

use crate::model::{Address, DestinationKey, DestinationState, Family, Netns, Protocol, ServiceKey};

/// A service with its namespace.
pub(super) fn service(key: &kernel::ServiceKey) -> (Netns, ServiceKey) {
    let family = Family(key.family);
    let service = if key.fwmark == 0 {
        ServiceKey::Endpoint {
            address: Address::new(family, key.address),
            protocol: Protocol(key.protocol),
            port: key.port,
        }
    } else {
        ServiceKey::Fwmark {
            family,
            mark: key.fwmark,
        }
    };
    (Netns(key.netns), service)
}

/// A destination, without its service.
pub(super) fn destination(family: u16, address: [u8; 16], port: u16) -> DestinationKey {
    DestinationKey {
        address: Address::new(Family(family), address),
        port,
    }
}

/// A destination as it was.
pub(super) fn state(state: &KernelState, total: bool) -> DestinationState {
    DestinationState {
        key: destination(state.family, state.address, state.port),
        weight: u32::try_from(state.weight).unwrap_or(0),
        active: state.active,
        inactive: inactive(state.active, state.other, total),
        overloaded: state.flags & OVERLOADED != 0,
    }
}

/// The inactive connections of a destination. Where the kernel counts all of them in the `other`, they are the rest.
pub(super) fn inactive(active: u32, other: u32, total: bool) -> u32 {
    if total {
        other.saturating_sub(active)
    } else {
        other
    }
}

#[cfg(test)]
mod tests {
    use ipvs_observer_common::key::ServiceKey as Kernel;

    use super::service;
    use crate::model::{Family, Netns, ServiceKey};

    #[test]
    fn a_service_by_mark_is_named_by_mark_and_family_alone() {
        let key = Kernel {
            netns: 7,
            fwmark: 47,
            family: 10,
            ..Kernel::default()
        };
        let mark = ServiceKey::Fwmark {
            family: Family::INET6,
            mark: 47,
        };
        assert_eq!(service(&key), (Netns(7), mark));
    }

    #[test]
    fn a_service_by_address_is_the_one_that_netlink_tells_of() {
        let key = Kernel {
            family: 2,
            protocol: 6,
            port: 80,
            address: [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ..Kernel::default()
        };
        assert_eq!(service(&key).1.to_string(), "tcp://10.0.0.1:80");
    }
}
