//! One look at a namespace's IPVS: its tables and everything global.

use super::{Destination, Name, Service, ServiceKey, Settings, Stats};

/// A virtual server with the place of its destinations in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// The server itself.
    pub service: Service,
    /// Which part of the snapshot has its destinations, and where.
    part: u32,
    first: usize,
    length: usize,
    /// Whether the destinations are all there; false if their listing failed.
    pub listed: bool,
    /// Whether a route lookup for the virtual address gives this machine; none for a mark, or where it is not known.
    pub local: Option<bool>,
    /// Whether it was found to be there no longer.
    gone: bool,
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

/// Destinations that are listed one service after the other. There are several parts where services are listed side
/// by side.
#[derive(Debug, Default)]
pub struct Part {
    number: u32,
    destinations: Vec<Destination>,
}

/// The destinations of one service while they are being listed.
#[derive(Debug)]
pub struct Listing<'a> {
    server: &'a mut VirtualServer,
    destinations: &'a mut Vec<Destination>,
}

/// Everything that one gather learned over netlink and from `/proc`. Reused from one gather to the next.
#[derive(Debug, Default)]
pub struct Snapshot {
    virtual_servers: Vec<VirtualServer>,
    not_wanted: Vec<ServiceKey>,
    parts: Vec<Part>,
    /// Version and connection table.
    pub info: Option<Info>,
    /// Connection timeouts.
    pub timeouts: Option<Timeouts>,
    /// Synchronisation daemons: none, one, or one of each role.
    pub daemons: Vec<Daemon>,
    /// Totals.
    pub totals: Option<Totals>,
    /// What decides beside the table.
    pub settings: Option<Settings>,
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
        self.settings = None;
        self.services_in_namespace = None;
    }

    /// Forgets the services and their destinations, to read them again.
    pub fn clear_services(&mut self) {
        self.virtual_servers.clear();
        self.not_wanted.clear();
        for part in &mut self.parts {
            part.destinations.clear();
        }
    }

    /// Adds a service, without destinations so far, and returns its place.
    pub fn push_service(&mut self, service: Service) -> usize {
        self.virtual_servers.push(VirtualServer {
            service,
            part: 0,
            first: 0,
            length: 0,
            listed: true,
            local: None,
            gone: false,
        });
        self.virtual_servers.len() - 1
    }

    /// Replaces the service at `place`, which has no destinations yet, by a newer picture of it.
    pub fn replace_service(&mut self, place: usize, service: Service) {
        if let Some(entry) = self.virtual_servers.get_mut(place) {
            entry.service = service;
        }
    }

    /// Keeps the services for which `wanted` says yes, and of the others what names them. Only before destinations are
    /// added.
    pub fn retain_services(&mut self, mut wanted: impl FnMut(&Service) -> bool) {
        let not_wanted = &mut self.not_wanted;
        self.virtual_servers.retain(|server| {
            let wanted = wanted(&server.service);
            if !wanted {
                not_wanted.push(server.service.key);
            }
            wanted
        });
    }

    /// The services that there were and that are not kept.
    pub fn services_not_wanted(&self) -> &[ServiceKey] {
        &self.not_wanted
    }

    /// The services, none of them listed yet, and so many parts to list their destinations in.
    pub fn to_list(&mut self, parts: usize) -> (&mut [VirtualServer], &mut [Part]) {
        for number in self.parts.len()..parts {
            self.parts.push(Part {
                number: number as u32,
                destinations: Vec::new(),
            });
        }
        for part in &mut self.parts {
            part.destinations.clear();
        }
        for server in &mut self.virtual_servers {
            (server.first, server.length, server.listed) = (0, 0, false);
        }
        (&mut self.virtual_servers, &mut self.parts[..parts])
    }

    /// Takes out the services that were found to be gone, and returns how many these were.
    pub fn remove_gone(&mut self) -> usize {
        let before = self.virtual_servers.len();
        self.virtual_servers.retain(|server| !server.gone);
        before - self.virtual_servers.len()
    }

    /// The virtual servers, in the kernel's order.
    pub fn virtual_servers(&self) -> &[VirtualServer] {
        &self.virtual_servers
    }

    /// Says of each virtual server what `local` says: whether its address is this machine's.
    pub fn locate(&mut self, local: impl Fn(&ServiceKey) -> Option<bool>) {
        for server in &mut self.virtual_servers {
            server.local = local(&server.service.key);
        }
    }

    /// The destinations of one virtual server, in the kernel's order.
    pub fn destinations(&self, server: &VirtualServer) -> &[Destination] {
        self.parts
            .get(server.part as usize)
            .and_then(|part| part.destinations.get(server.first..server.first + server.length))
            .unwrap_or_default()
    }

    /// All destinations of all virtual servers.
    pub fn all_destinations(&self) -> usize {
        self.parts.iter().map(|part| part.destinations.len()).sum()
    }
}

impl VirtualServer {
    /// Marks it as gone: it was listed, and is there no longer.
    pub fn vanish(&mut self) {
        self.gone = true;
    }
}

impl<'a> Listing<'a> {
    /// Begins the destinations of `server`, behind those that `part` has.
    pub fn begin(server: &'a mut VirtualServer, part: &'a mut Part) -> Self {
        let destinations = &mut part.destinations;
        server.part = part.number;
        (server.first, server.length, server.listed) = (destinations.len(), 0, false);
        Self { server, destinations }
    }

    /// Adds one.
    pub fn push(&mut self, destination: Destination) {
        self.destinations.push(destination);
    }

    /// Those added so far.
    pub fn pending(&mut self) -> &mut [Destination] {
        &mut self.destinations[self.server.first..]
    }

    /// Keeps the first so many.
    pub fn keep(&mut self, count: usize) {
        self.destinations.truncate(self.server.first + count);
    }

    /// Ends the list as a whole one.
    pub fn finish(self) {
        self.server.length = self.destinations.len() - self.server.first;
        self.server.listed = true;
    }

    /// Throws it away, because half a list would be taken for the whole.
    pub fn abandon(&mut self) {
        self.destinations.truncate(self.server.first);
    }
}
