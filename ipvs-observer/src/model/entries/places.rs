//! Whose an entry is, by the services and real servers that there are.

use crate::model::{
    Address, DestinationKey, Entry, EntryState, Family, KeyMap, Protocol, ServiceKey, Snapshot,
};

/// The port on which FTP is controlled.
const FTP: u16 = 21;
/// The port from which an active FTP server opens its data connections.
const FTP_DATA: u16 = 20;
/// The first port of those that a passive FTP server gives out: `net.ipv4.ip_unprivileged_port_start`, which is hardly
/// ever anything else.
const UNPRIVILEGED: u16 = 1024;

/// Whose an entry is.
#[derive(Debug)]
pub(super) enum Place {
    /// This real server's.
    Destination(usize),
    /// This service's, which has no such real server.
    Orphaned(usize),
    /// This service's, or perhaps another's, or of one of several real servers.
    Unattributed(usize),
    /// One of these services'.
    Either([usize; 2]),
    /// One of several marks', which have the same real server.
    Shared(usize),
    /// A service's that was not asked for.
    NotAsked,
    /// No service's that there is.
    Nowhere,
}

/// Services and real servers, each with its place.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_key: KeyMap<ServiceKey, usize>,
    services: Vec<Service>,
    /// Those of one service after the other, by key in each.
    destinations: Vec<DestinationKey>,
    /// Real servers of marks.
    marked: KeyMap<(Family, DestinationKey), Owner>,
    shared: usize,
    /// Marks of either family.
    marks: [Marks; 2],
}

#[derive(Clone, Copy, Debug)]
struct Service {
    first: usize,
    length: usize,
    known: Known,
    /// Whether it is persistent and takes several ports: its connections go to the port that they asked for, whatever
    /// the real server's.
    keeps_port: bool,
}

/// What is known of a service's real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    All,
    /// Their listing failed.
    Some,
    /// The service was not asked for.
    None,
}

/// Which mark has a real server.
#[derive(Clone, Copy, Debug)]
enum Owner {
    One { service: usize, destination: usize },
    Several(usize),
}

/// Which marks have an entry's real server.
enum Marked {
    One { service: usize, destination: usize },
    Two([usize; 2]),
    Several(usize),
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    count: usize,
    /// The last one, for where it is the only one.
    last: usize,
    /// Whether the real servers of some are not known.
    partly: bool,
}

impl Service {
    /// Where connections to a real server go, with port 0 for the one that they asked for.
    fn goes_to(self, DestinationKey { address, port }: DestinationKey) -> DestinationKey {
        let port = if self.keeps_port { 0 } else { port };
        DestinationKey { address, port }
    }
}

impl Places {
    pub(super) fn fill(&mut self, snapshot: &Snapshot) {
        self.by_key.clear();
        self.services.clear();
        self.destinations.clear();
        self.marked.clear();
        self.shared = 0;
        self.marks = [Marks::default(); 2];
        for server in snapshot.virtual_servers() {
            let known = if server.listed { Known::All } else { Known::Some };
            let first = self.destinations.len();
            let keys = snapshot.destinations(server).iter();
            self.destinations.extend(keys.map(|destination| destination.key));
            self.destinations[first..].sort_unstable();
            self.add(
                server.service.key,
                first,
                known,
                server.service.flags.persistent(),
            );
        }
        for &key in snapshot.services_not_wanted() {
            self.add(key, self.destinations.len(), Known::None, false);
        }
    }

    fn add(&mut self, key: ServiceKey, first: usize, known: Known, persistent: bool) {
        let service = self.services.len();
        let length = self.destinations.len() - first;
        let several = matches!(
            key,
            ServiceKey::Fwmark { .. } | ServiceKey::Endpoint { port: 0, .. }
        );
        let added = Service {
            first,
            length,
            known,
            keeps_port: persistent && several,
        };
        self.services.push(added);
        self.by_key.insert(key, service);
        let ServiceKey::Fwmark { family, .. } = key else {
            return;
        };
        let marks = &mut self.marks[side(family)];
        marks.count += 1;
        marks.last = service;
        marks.partly |= known != Known::All;
        for destination in first..self.destinations.len() {
            let shared = &mut self.shared;
            let one = Owner::One { service, destination };
            let owner = self
                .marked
                .entry((family, added.goes_to(self.destinations[destination])));
            owner
                .and_modify(|owner| {
                    if let Owner::One { .. } = owner {
                        *owner = Owner::Several(*shared);
                        *shared += 1;
                    }
                })
                .or_insert(one);
        }
    }

    pub(super) fn services(&self) -> usize {
        self.services.len()
    }

    pub(super) fn destinations(&self) -> usize {
        self.destinations.len()
    }

    pub(super) fn shared(&self) -> usize {
        self.shared
    }

    pub(super) fn service(&self, key: &ServiceKey) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// The place of a real server of the service at a place.
    pub(super) fn destination(&self, service: usize, key: &DestinationKey) -> Option<usize> {
        let Service { first, length, .. } = *self.services.get(service)?;
        let keys = &self.destinations[first..first + length];
        keys.binary_search(key).ok().map(|place| first + place)
    }

    /// Each mark with each of its real servers that others have too.
    pub(super) fn sharing(&self) -> impl Iterator<Item = (usize, usize)> {
        self.by_key.iter().flat_map(move |(key, &service)| {
            let server = self.services[service];
            let family = match key {
                ServiceKey::Fwmark { family, .. } => Some(*family),
                ServiceKey::Endpoint { .. } => None,
            };
            let length = if family.is_some() { server.length } else { 0 };
            self.destinations[server.first..server.first + length]
                .iter()
                .filter_map(
                    move |&key| match self.marked.get(&(family?, server.goes_to(key))) {
                        Some(Owner::Several(place)) => Some((service, *place)),
                        _ => None,
                    },
                )
        })
    }

    pub(super) fn of(&self, entry: &Entry) -> Place {
        let family = entry.address.family();
        if entry.protocol == Protocol::IP {
            let [a, b, c, d, ..] = entry.address.bytes();
            let mark = u32::from_be_bytes([a, b, c, d]);
            let service = self.service(&ServiceKey::Fwmark { family, mark });
            return service.map_or(Place::Nowhere, |service| self.within(service, entry));
        }
        let (service, other) = self.addressed(entry);
        let Some(service) = service else {
            return self.by_mark(entry).unwrap_or(match self.marks[side(family)] {
                // Whichever packets it marks, they may be to any address. Or the entry's service was deleted.
                Marks { count: 1, last, .. } => self.unattributed(last),
                _ => Place::Nowhere,
            });
        };
        for service in [Some(service), other].into_iter().flatten() {
            if let Some(place) = self.found(service, entry) {
                return place;
            }
        }
        match self.services[service].known {
            Known::All => self.by_mark(entry).unwrap_or(Place::Orphaned(service)),
            Known::Some | Known::None => self.orphaned(service),
        }
    }

    /// The service that an entry's virtual address and port name, as the kernel looks for it; of FTP's templates, which
    /// are those of a service on every port, another.
    fn addressed(&self, entry: &Entry) -> (Option<usize>, Option<usize>) {
        let at = |port| {
            self.service(&ServiceKey::Endpoint {
                address: entry.address,
                protocol: entry.protocol,
                port,
            })
        };
        let ftp = |wanted: bool| {
            let wanted = wanted && entry.protocol == Protocol::TCP;
            wanted.then(|| at(FTP)).flatten()
        };
        if entry.state == EntryState::Template && entry.port == 0 {
            let (all, ftp) = (at(0), ftp(true));
            return (all.or(ftp), ftp.filter(|_| all.is_some()));
        }
        let data = entry.port == FTP_DATA || entry.port >= UNPRIVILEGED;
        (at(entry.port).or_else(|| ftp(data)).or_else(|| at(0)), None)
    }

    /// What an entry of this service is, if its real servers are known.
    fn within(&self, service: usize, entry: &Entry) -> Place {
        self.found(service, entry)
            .unwrap_or_else(|| self.orphaned(service))
    }

    /// The same where the service has no such real server.
    fn orphaned(&self, service: usize) -> Place {
        match self.services[service].known {
            Known::All => Place::Orphaned(service),
            Known::Some | Known::None => self.unattributed(service),
        }
    }

    /// The same of one that may be another's.
    fn unattributed(&self, service: usize) -> Place {
        match self.services[service].known {
            Known::All | Known::Some => Place::Unattributed(service),
            Known::None => Place::NotAsked,
        }
    }

    /// The real server of a service that an entry goes to.
    fn found(&self, service: usize, entry: &Entry) -> Option<Place> {
        let key = entry.destination;
        let exact = self.destination(service, &key);
        let every = || self.destination(service, &every_port(entry)?);
        if let Some(place) = exact.or_else(every) {
            return Some(Place::Destination(place));
        }
        // Templates of several ports have none for the real server. Data connections of FTP have ports of their own.
        let Service {
            first,
            length,
            keeps_port,
            ..
        } = self.services[service];
        let template = entry.state == EntryState::Template && key.port == 0;
        let kept = keeps_port && key.port == entry.port;
        let ftp = self.is_ftp(service, entry);
        if !template && !kept && !ftp {
            return None;
        }
        let keys = &self.destinations[first..first + length];
        let begin = keys.partition_point(|other| other.address < key.address);
        let with_address = |address: &Address| *address == key.address;
        let count = keys[begin..]
            .iter()
            .take_while(|other| with_address(&other.address))
            .count();
        match count {
            0 => None,
            // Whatever the port, a mark's packet looks like that.
            1 if ftp && !template => Some(match self.marked(entry) {
                None => Place::Destination(first + begin),
                Some(Marked::One { service: other, .. }) => Place::Either([service, other]),
                Some(_) => Place::Unattributed(service),
            }),
            1 => Some(Place::Destination(first + begin)),
            _ => Some(Place::Unattributed(service)),
        }
    }

    /// Whether the service is one for FTP, and an entry is none of those to its own port.
    fn is_ftp(&self, service: usize, entry: &Entry) -> bool {
        let control = ServiceKey::Endpoint {
            address: entry.address,
            protocol: entry.protocol,
            port: FTP,
        };
        entry.protocol == Protocol::TCP && entry.port != FTP && self.service(&control) == Some(service)
    }

    /// The mark that has an entry's real server.
    fn marked(&self, entry: &Entry) -> Option<Marked> {
        let family = entry.address.family();
        let owner = |key| self.marked.get(&(family, key)).copied();
        let exact = owner(entry.destination);
        let every = every_port(entry).and_then(owner);
        Some(match (exact, every) {
            (None, None) => return None,
            (Some(Owner::Several(place)), _) | (_, Some(Owner::Several(place))) => Marked::Several(place),
            (Some(Owner::One { service, .. }), Some(Owner::One { service: other, .. }))
                if service != other =>
            {
                Marked::Two([service, other])
            }
            (Some(Owner::One { service, destination }), _)
            | (None, Some(Owner::One { service, destination })) => Marked::One { service, destination },
        })
    }

    fn by_mark(&self, entry: &Entry) -> Option<Place> {
        // Of marks that were not asked for, the real servers are not known, and may be the same.
        let partly = self.marks[side(entry.address.family())].partly;
        Some(match self.marked(entry)? {
            Marked::One { service, .. } if partly => Place::Unattributed(service),
            Marked::One { destination, .. } => Place::Destination(destination),
            Marked::Two(services) => Place::Either(services),
            Marked::Several(place) => Place::Shared(place),
        })
    }
}

/// The real server of an entry by every port, where the entry keeps the port that the client asked for.
fn every_port(entry: &Entry) -> Option<DestinationKey> {
    let DestinationKey { address, port } = entry.destination;
    (port == entry.port).then_some(DestinationKey { address, port: 0 })
}

fn side(family: Family) -> usize {
    usize::from(family == Family::INET6)
}
