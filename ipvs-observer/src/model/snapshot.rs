//! One look at a namespace's IPVS: its tables and everything global.

use super::{Destination, Name, Service, Stats};

/// A virtual server with the place of its destinations in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// The server itself.
    pub service: Service,
    first: usize,
    length: usize,
    /// Whether the destinations are all there; false if their listing failed.
    pub listed: bool,
}

/// What the kernel says of its IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The version, a byte for each part: 0x010201 is 1.2.1.
    pub version: u32,
    /// Buckets of the connection table. From Linux 7.1 this namespace's, and 0 while it has none.
    pub connection_table_size: u32,
}

/// Seconds after which an idle connection is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// An established TCP connection.
    pub tcp: u32,
    /// TCP after a FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// What a connection synchronisation daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonRole {
    /// Sends connections.
    Master,
    /// Receives them.
    Backup,
    /// A role that this program does not know.
    Other(u32),
}

/// A connection synchronisation daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// What it does.
    pub role: DaemonRole,
    /// The interface of its multicast.
    pub interface: Name,
    /// Its instance number.
    pub sync_id: u32,
}

/// Totals of the namespace, from `/proc/net/ip_vs_stats`: readable without any privilege.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Counters and rates of all services.
    pub stats: Stats,
    /// Whether the counters move: false while `run_estimation` is off or no CPU may estimate.
    pub estimation: bool,
}

/// Everything that one gather learned over netlink and from `/proc`. Reused from one gather to the next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    virtual_servers: Vec<VirtualServer>,
    destinations: Vec<Destination>,
    /// Version and connection table.
    pub info: Option<Info>,
    /// Connection timeouts.
    pub timeouts: Option<Timeouts>,
    /// Synchronisation daemons: none, one, or one of each role.
    pub daemons: Vec<Daemon>,
    /// Totals.
    pub totals: Option<Totals>,
    /// How many services the namespace has, wanted or not; none if their table was not read to its end.
    pub services_in_namespace: Option<usize>,
}

impl Snapshot {
    /// Empties it and keeps its storage.
    pub fn clear(&mut self) {
        self.clear_services();
        self.daemons.clear();
        self.info = None;
        self.timeouts = None;
        self.totals = None;
        self.services_in_namespace = None;
    }

    /// Forgets the services and their destinations, to read them again.
    pub fn clear_services(&mut self) {
        self.virtual_servers.clear();
        self.destinations.clear();
    }

    /// Adds a service, without destinations so far, and returns its place.
    pub fn push_service(&mut self, service: Service) -> usize {
        let first = self.destinations.len();
        self.virtual_servers.push(VirtualServer {
            service,
            first,
            length: 0,
            listed: true,
        });
        self.virtual_servers.len() - 1
    }

    /// Replaces the service at `place`, which has no destinations yet, by a newer picture of it.
    pub fn replace_service(&mut self, place: usize, service: Service) {
        if let Some(entry) = self.virtual_servers.get_mut(place) {
            entry.service = service;
        }
    }

    /// Keeps the services for which `wanted` says yes. Only before destinations are added.
    pub fn retain_services(&mut self, mut wanted: impl FnMut(&Service) -> bool) {
        self.virtual_servers.retain(|server| wanted(&server.service));
    }

    /// Begins the destinations of the service at `place`. They must follow each other: begin, push, finish.
    pub fn begin_destinations(&mut self, place: usize) {
        let first = self.destinations.len();
        if let Some(entry) = self.virtual_servers.get_mut(place) {
            entry.first = first;
            entry.length = 0;
            entry.listed = false;
        }
    }

    /// Adds a destination to the service begun last.
    pub fn push_destination(&mut self, destination: Destination) {
        self.destinations.push(destination);
    }

    /// The destinations added since `place` was begun.
    pub fn pending_destinations(&mut self, place: usize) -> &mut [Destination] {
        let first = self
            .virtual_servers
            .get(place)
            .map_or(self.destinations.len(), |entry| entry.first);
        &mut self.destinations[first..]
    }

    /// Drops the destinations that were added last.
    pub fn drop_last_destinations(&mut self, count: usize) {
        self.destinations
            .truncate(self.destinations.len().saturating_sub(count));
    }

    /// Ends the destinations of the service at `place`; without `listed` they are thrown away, because half a
    /// list would be taken for the whole.
    pub fn finish_destinations(&mut self, place: usize, listed: bool) {
        let Some(entry) = self.virtual_servers.get_mut(place) else {
            return;
        };
        if !listed {
            self.destinations.truncate(entry.first);
        }
        entry.length = self.destinations.len() - entry.first;
        entry.listed = listed;
    }

    /// Takes out the services at the places marked, which vanished under the dump.
    pub fn remove_services(&mut self, vanished: &[usize]) {
        let mut place = 0;
        self.virtual_servers.retain(|_| {
            let keep = vanished.binary_search(&place).is_err();
            place += 1;
            keep
        });
    }

    /// The virtual servers, in the kernel's order.
    pub fn virtual_servers(&self) -> &[VirtualServer] {
        &self.virtual_servers
    }

    /// The destinations of one virtual server, in the kernel's order.
    pub fn destinations(&self, server: &VirtualServer) -> &[Destination] {
        self.destinations
            .get(server.first..server.first + server.length)
            .unwrap_or_default()
    }

    /// All destinations of all virtual servers.
    pub fn all_destinations(&self) -> usize {
        self.destinations.len()
    }
}
