//! What of the events is asked for, told to the programs: what is not never leaves the kernel.

use std::time::Duration;

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{
        HashMap, MapError,
        lpm_trie::{Key, LpmTrie},
    },
};
use ipvs_observer_common::{
    control::Control,
    filter::{self, Endpoint, FAMILY_BITS},
    key,
};

use super::reason::Reason;
use crate::model::{Address, Outcome, ServiceKey};

/// Which events leave the kernel: of each list that has anything, one must match. A kind of event that lacks what is
/// asked for does not.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Of these services, in any namespace.
    pub services: Vec<ServiceKey>,
    /// Of these clients, each with its port.
    pub clients: Vec<(Address, u16)>,
    /// Of clients in these networks: an address, and how many of its bits.
    pub networks: Vec<(Address, u8)>,
    /// Of these destinations, each with its port or with all.
    pub destinations: Vec<(Address, Option<u16>)>,
    /// Decisions with these outcomes.
    pub outcomes: Vec<Outcome>,
    /// Decisions for which the scheduler took so long.
    pub slower_than: Option<Duration>,
}

impl Asked {
    /// Makes room for it.
    pub(super) fn size(&self, loader: &mut EbpfLoader<'_>) {
        for (map, values) in [
            ("ASKED_SERVICES", self.services.len()),
            ("ASKED_CLIENTS", self.clients.len()),
            ("ASKED_NETWORKS", self.networks.len()),
            ("ASKED_DESTINATIONS", self.destinations.len()),
        ] {
            loader.map_max_entries(map, u32::try_from(values).unwrap_or(u32::MAX).max(1));
        }
    }

    /// Fills the maps.
    pub(super) fn write(&self, ebpf: &mut Ebpf) -> Result<(), Reason> {
        fill(ebpf, "ASKED_SERVICES", self.services.iter().map(service))?;
        let clients = self
            .clients
            .iter()
            .map(|(address, port)| endpoint(address, Some(*port)));
        fill(ebpf, "ASKED_CLIENTS", clients)?;
        let destinations = self
            .destinations
            .iter()
            .map(|(address, port)| endpoint(address, *port));
        fill(ebpf, "ASKED_DESTINATIONS", destinations)?;
        let map = ebpf
            .map_mut("ASKED_NETWORKS")
            .ok_or_else(|| Reason::no_program("ASKED_NETWORKS"))?;
        let networks = LpmTrie::<_, [u8; 18], u32>::try_from(map);
        let mut networks = networks.map_err(|error| Reason::of_loading(&error))?;
        for (address, length) in &self.networks {
            let bytes = filter::network(address.family().0, &address.bytes());
            let key = Key::new(FAMILY_BITS + u32::from(*length), bytes);
            networks
                .insert(&key, 1, 0)
                .map_err(|error| Reason::of_loading(&error))?;
        }
        Ok(())
    }

    /// Orders it.
    pub(super) fn order(&self, control: &mut Control) {
        let clients = !self.clients.is_empty() || !self.networks.is_empty();
        control.filters = [
            (!self.services.is_empty(), filter::SERVICES),
            (clients, filter::CLIENTS),
            (!self.destinations.is_empty(), filter::DESTINATIONS),
            (!self.outcomes.is_empty(), filter::OUTCOMES),
            (self.slower_than.is_some(), filter::SLOWER),
        ]
        .into_iter()
        .fold(0, |all, (given, filter)| if given { all | filter } else { all });
        control.outcomes = self.outcomes.iter().fold(0, |all, one| all | outcome(*one));
        let longest = self.slower_than.unwrap_or_default().as_nanos();
        control.slower_than = u64::try_from(longest).unwrap_or(u64::MAX);
    }
}

fn fill<K: Pod>(ebpf: &mut Ebpf, name: &str, keys: impl Iterator<Item = K>) -> Result<(), Reason> {
    let map = ebpf.map_mut(name).ok_or_else(|| Reason::no_program(name))?;
    let put = || -> Result<(), MapError> {
        let mut map = HashMap::<_, K, u32>::try_from(map)?;
        keys.into_iter().try_for_each(|key| map.insert(key, 1, 0))
    };
    put().map_err(|error| Reason::of_loading(&error))
}

fn endpoint(address: &Address, port: Option<u16>) -> Endpoint {
    Endpoint {
        address: address.bytes(),
        family: address.family().0,
        port: port.unwrap_or(0),
        any_port: u32::from(port.is_none()),
    }
}

fn service(service: &ServiceKey) -> key::ServiceKey {
    match service {
        ServiceKey::Endpoint {
            address,
            protocol,
            port,
        } => key::ServiceKey {
            family: address.family().0,
            protocol: protocol.0,
            port: *port,
            address: address.bytes(),
            ..key::ServiceKey::default()
        },
        ServiceKey::Fwmark { family, mark } => key::ServiceKey {
            family: family.0,
            fwmark: *mark,
            ..key::ServiceKey::default()
        },
    }
}

fn outcome(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Scheduled => filter::SCHEDULED,
        Outcome::Template => filter::TEMPLATE,
        Outcome::None => filter::NONE,
        Outcome::Overloaded => filter::OVERLOADED,
        Outcome::Fatal => filter::FATAL,
        Outcome::Accepted => filter::ACCEPTED,
        Outcome::Bypassed => filter::BYPASSED,
        Outcome::Reused => filter::REUSED,
        Outcome::Elsewhere => filter::ELSEWHERE,
    }
}
