//! The connection table, counted by real server and state, and whose an entry is.
//!
//! An entry names the packet's virtual address and port, not the service that it was scheduled by, so that follows
//! from the services and real servers that there are. Nothing of an entry is kept but its count.

mod places;

use super::{Address, DestinationKey, Protocol, ServiceKey, Snapshot};
use places::{Place, Places};

/// An entry of the connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The protocol; [`Protocol::IP`] for the template of a firewall mark.
    pub protocol: Protocol,
    /// The virtual address; of a mark's template the mark, in its first four bytes.
    pub address: Address,
    /// The virtual port; 0 for templates of services that take several.
    pub port: u16,
    /// Where its packets go.
    pub destination: DestinationKey,
    /// Its state.
    pub state: EntryState,
}

/// The state of an entry, as far as it is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// TCP or SCTP: both sides have agreed.
    Established,
    /// TCP: a SYN has come, and nothing that completes the handshake.
    SynReceived,
    /// TCP: closed, and kept for a while.
    TimeWait,
    /// Any other of a connection, and every one of UDP.
    Other,
    /// No connection, but where the next one of a client goes.
    Template,
}

/// Entries of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryCounts {
    /// [`EntryState::Established`].
    pub established: u32,
    /// [`EntryState::SynReceived`].
    pub syn_received: u32,
    /// [`EntryState::TimeWait`].
    pub time_wait: u32,
    /// [`EntryState::Other`].
    pub other: u32,
    /// [`EntryState::Template`].
    pub templates: u32,
}

impl EntryCounts {
    fn add(&mut self, state: EntryState) {
        let count = match state {
            EntryState::Established => &mut self.established,
            EntryState::SynReceived => &mut self.syn_received,
            EntryState::TimeWait => &mut self.time_wait,
            EntryState::Other => &mut self.other,
            EntryState::Template => &mut self.templates,
        };
        *count += 1;
    }
}

/// Entries of a service that are no real server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceEntries {
    /// The service has no such real server: it was removed, or `cache_bypass` did without one.
    pub orphaned: u64,
    /// They are this service's or another's, or of one of several of its real servers. Each service that may have an
    /// entry counts it.
    pub unattributed: u64,
}

/// The entries of a namespace, counted by the services and real servers that it had when the reading began.
#[derive(Debug, Default)]
pub struct Entries {
    places: Places,
    services: Vec<ServiceEntries>,
    destinations: Vec<EntryCounts>,
    /// Of real servers that several marks have.
    shared: Vec<u32>,
    /// No service has their virtual address and port, and no mark their real server.
    unattributed: u64,
}

impl Entries {
    /// Begins anew for the services and real servers of a snapshot. False if it does not know all services: then
    /// nothing could be attributed.
    pub fn begin(&mut self, snapshot: &Snapshot) -> bool {
        self.places.fill(snapshot);
        self.services.clear();
        self.services
            .resize(self.places.services(), ServiceEntries::default());
        self.destinations.clear();
        self.destinations
            .resize(self.places.destinations(), EntryCounts::default());
        self.shared.clear();
        self.shared.resize(self.places.shared(), 0);
        self.unattributed = 0;
        snapshot.services_in_namespace.is_some()
    }

    /// Counts an entry.
    pub fn count(&mut self, entry: &Entry) {
        match self.places.of(entry) {
            Place::Destination(place) => self.destinations[place].add(entry.state),
            Place::Orphaned(service) => self.services[service].orphaned += 1,
            Place::Unattributed(service) => self.services[service].unattributed += 1,
            Place::Either(services) => {
                for service in services {
                    self.services[service].unattributed += 1;
                }
            }
            Place::Shared(place) => self.shared[place] += 1,
            Place::NotAsked => {}
            Place::Nowhere => self.unattributed += 1,
        }
    }

    /// Ends the reading: gives what several marks share to each of them.
    pub fn finish(&mut self) {
        for (service, place) in self.places.sharing() {
            self.services[service].unattributed += u64::from(self.shared[place]);
        }
    }

    /// What a service has that is no real server's; none if it was not there when the reading began.
    pub fn service(&self, key: &ServiceKey) -> Option<&ServiceEntries> {
        self.services.get(self.places.service(key)?)
    }

    /// What a real server has; none if it was not there when the reading began.
    pub fn destination(&self, service: &ServiceKey, key: &DestinationKey) -> Option<&EntryCounts> {
        let service = self.places.service(service)?;
        self.destinations.get(self.places.destination(service, key)?)
    }

    /// Entries of no service that there is.
    pub fn unattributed(&self) -> u64 {
        self.unattributed
    }
}
