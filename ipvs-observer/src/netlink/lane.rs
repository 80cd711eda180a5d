//! Destinations, listed one service after the other, over several sockets side by side where that is worth it.

use std::{
    collections::HashSet,
    io,
    sync::{Mutex, PoisonError},
    thread,
};

use super::{
    Failure, Malformed, attributes::Attributes, counters::ATTEMPTS, decode, socket::Socket, wire::Command,
};
use crate::model::{DestinationKey, DumpCounters, KeyMap, Listing, Part, ServiceKey, VirtualServer};

/// Services that a socket takes at a time, where several share them.
const AT_ONCE: usize = 16;

/// Lists the destinations of all `servers`: whichever socket is free takes the next ones, each with a lane and a part.
pub(super) fn list(
    sockets: &mut [Socket],
    lanes: &mut [Lane],
    parts: &mut [Part],
    servers: &mut [VirtualServer],
) {
    let shares = Mutex::new(servers.chunks_mut(AT_ONCE));
    let next = || shares.lock().unwrap_or_else(PoisonError::into_inner).next();
    let mut each = sockets.iter_mut().zip(lanes).zip(parts);
    let Some(((socket, lane), part)) = each.next() else {
        return;
    };
    if each.len() == 0 {
        return lane.list(socket, part, &next);
    }
    thread::scope(|scope| {
        for ((socket, lane), part) in each {
            let listing = || lane.list(socket, part, &next);
            // If a thread cannot be spawned, the others take its share.
            drop(thread::Builder::new().spawn_scoped(scope, listing));
        }
        lane.list(socket, part, &next);
    });
}

/// What lists one service after the other over a socket.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) found: Found,
    seen: HashSet<DestinationKey>,
    /// What it found last of the services that take more than a datagram.
    known: KeyMap<ServiceKey, Vec<DestinationKey>>,
}

/// What went wrong, since it was last asked.
#[derive(Default)]
pub(super) struct Found {
    pub(super) counters: DumpCounters,
    /// Listings that failed.
    pub(super) failures: u64,
    /// Why the first of them did.
    pub(super) failure: Option<Failure>,
}

impl Lane {
    /// Forgets services that are gone.
    pub(super) fn forget_all_but<V>(&mut self, services: &KeyMap<ServiceKey, V>) {
        self.known.retain(|key, _| services.contains_key(key));
    }

    /// Lists the destinations of what `next` gives. One failed listing leaves out that service's and no other's,
    /// unless the socket itself is in doubt: then this is the end.
    fn list<'a>(
        &mut self,
        socket: &mut Socket,
        part: &mut Part,
        next: &dyn Fn() -> Option<&'a mut [VirtualServer]>,
    ) {
        while let Some(servers) = next() {
            for server in servers {
                match self.destinations(socket, server, part) {
                    Ok(true) => {}
                    Ok(false) => server.vanish(),
                    Err(failure) => {
                        let doubt = !matches!(failure, Failure::Refused(_) | Failure::Interrupted);
                        self.found.failures += 1;
                        self.found.failure.get_or_insert(failure);
                        if doubt {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// False if the service is no longer there.
    fn destinations(
        &mut self,
        socket: &mut Socket,
        server: &mut VirtualServer,
        part: &mut Part,
    ) -> Result<bool, Failure> {
        let key = server.service.key;
        for attempt in 1..=ATTEMPTS {
            let mut listing = Listing::begin(server, part);
            let outcome = socket.dump(Command::Destination, Some(&key), &mut |reply| {
                listing.push(decode::destination(reply, key.family())?);
                Ok(())
            });
            let replies = match outcome {
                Ok(replies) if self.found.counters.settled(replies) => replies,
                Ok(_) => {
                    listing.abandon();
                    continue;
                }
                Err(failure) => {
                    listing.abandon();
                    return Err(failure);
                }
            };
            // The kernel walks a datagram's worth of the list at a time and goes on by number: only between two of
            // them can the list change, and an entry come twice or be left out. All of the second may be.
            let known = self.known.contains_key(&key);
            if (known || replies.datagrams > 1) && !self.agrees(&key, &mut listing) {
                if attempt < ATTEMPTS {
                    // Of a first listing there is a second, to hold it against.
                    self.found.counters.repeats += u64::from(known);
                    listing.abandon();
                    continue;
                }
                // Nearly all of it is better than none, and it is not taken for the whole.
                listing.finish();
                return Err(Failure::Interrupted);
            }
            listing.finish();
            // The dump of a service that is gone is empty and successful, like that of one without real servers.
            let empty = replies.records == 0 && replies.malformed == 0;
            return Ok(!empty || ask(socket, &key, &mut |_| Ok(()))?);
        }
        Err(Failure::Interrupted)
    }

    /// Whether a listing has all that the one before had: what it lacks may be gone, or was left out, which the next
    /// one tells. Of entries that came more than once, keeps the newest in the place of the first.
    fn agrees(&mut self, key: &ServiceKey, listing: &mut Listing<'_>) -> bool {
        let before = self.known.get(key);
        let pending = listing.pending();
        let same = |before: &&Vec<DestinationKey>| {
            let now = pending.iter().map(|destination| &destination.key);
            before.len() == pending.len() && before.iter().eq(now)
        };
        if before.is_some_and(|before| same(&before)) {
            return true;
        }
        self.seen.clear();
        let mut kept = 0;
        for index in 0..pending.len() {
            let destination = pending[index];
            if self.seen.insert(destination.key) {
                pending[kept] = destination;
                kept += 1;
            } else if let Some(earlier) = pending[..kept]
                .iter_mut()
                .find(|earlier| earlier.key == destination.key)
            {
                *earlier = destination;
                self.found.counters.duplicates += 1;
            }
        }
        listing.keep(kept);
        let agrees = before.is_some_and(|before| before.iter().all(|key| self.seen.contains(key)));
        let now = self.known.entry(*key).or_default();
        now.clear();
        now.extend(listing.pending().iter().map(|destination| destination.key));
        agrees
    }
}

/// Asks for one service. False if it is not there.
pub(super) fn ask(
    socket: &mut Socket,
    key: &ServiceKey,
    each: &mut dyn FnMut(Attributes<'_>) -> Result<(), Malformed>,
) -> Result<bool, Failure> {
    const ESRCH: i32 = 3;
    match socket.ask(Command::Service, Some(key), each) {
        Ok(_) => Ok(true),
        Err(Failure::Refused(error)) if error.raw_os_error() == Some(ESRCH) => Ok(false),
        Err(Failure::Refused(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}
