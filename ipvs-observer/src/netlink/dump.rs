//! The policy of a dump: what is asked in which order, when it is asked again, when it counts as complete.

use std::{collections::HashSet, io, time::Duration};

use super::{
    Failure, Kernel, Running, decode, procfs,
    socket::{Replies, Socket},
    wire::Command,
};
use crate::model::{DestinationKey, KeyMap, Service, ServiceKey, Snapshot};

/// How long one reply may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Room that is made at most for a datagram of the kernel, whose own buffers are of some ten thousand bytes.
const MOST_ROOM: usize = 1 << 24;
/// How often a listing that changed under the dump is read again before it is reported as such.
const ATTEMPTS: usize = 3;

/// What went wrong so far, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Listings that failed and records that could not be decoded.
    pub errors: u64,
    /// Listings read again because they were inconsistent or cut off.
    pub repeats: u64,
    /// Entries that came twice in one listing, because the table changed meanwhile; the newer is kept.
    pub duplicates: u64,
    /// Services that were listed and gone when their destinations were asked for.
    pub vanished: u64,
}

/// Reads one network namespace's IPVS, again and again.
pub struct Reader {
    kernel: Box<dyn Kernel>,
    socket: Option<Socket>,
    room: usize,
    counters: Counters,
    services: KeyMap<ServiceKey, usize>,
    destinations: HashSet<DestinationKey>,
    vanished: Vec<usize>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(Box::new(Running))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reader")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader of `kernel`.
    pub fn new(kernel: Box<dyn Kernel>) -> Self {
        Self {
            kernel,
            socket: None,
            room: 0,
            counters: Counters::default(),
            services: KeyMap::default(),
            destinations: HashSet::new(),
            vanished: Vec::new(),
        }
    }

    /// What went wrong so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Closes the socket, which keeps the namespace that it belongs to; the next reading opens another.
    pub fn let_go(&mut self) {
        self.socket = None;
    }

    /// Fills `snapshot` with what there is now, keeping services that are `wanted`. What could be had is there
    /// even where this fails.
    ///
    /// # Errors
    /// The first thing that kept the snapshot from being complete.
    pub fn read(
        &mut self,
        snapshot: &mut Snapshot,
        wanted: &dyn Fn(&Service) -> bool,
    ) -> Result<(), Failure> {
        snapshot.clear();
        if !procfs::present(self.kernel.as_mut()) {
            self.socket = None;
            return Err(Failure::Absent);
        }
        snapshot.totals = procfs::totals(self.kernel.as_mut()).ok();
        let outcome = self.tables(snapshot, wanted);
        if let Err(failure) = &outcome {
            // Whatever state the socket is in, the next gather begins with a new one.
            self.socket = None;
            if let Failure::Truncated { length, .. } = failure {
                self.room = self.room.max((*length).min(MOST_ROOM).next_power_of_two());
            }
            if !matches!(failure, Failure::Absent | Failure::NotPermitted) {
                self.counters.errors += 1;
            }
        }
        outcome
    }

    fn tables(&mut self, snapshot: &mut Snapshot, wanted: &dyn Fn(&Service) -> bool) -> Result<(), Failure> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::open(self.kernel.as_mut(), TIMEOUT, self.room)?,
        };
        socket.resolve()?;
        socket.ask(Command::Info, None, &mut |reply| {
            snapshot.info = Some(decode::info(reply)?);
            Ok(())
        })?;
        socket.ask(Command::Config, None, &mut |reply| {
            snapshot.timeouts = Some(decode::timeouts(reply)?);
            Ok(())
        })?;
        socket.dump(Command::Daemon, None, &mut |reply| {
            snapshot.daemons.push(decode::daemon(reply)?);
            Ok(())
        })?;
        self.services(&mut socket, snapshot)?;
        snapshot.services_in_namespace = Some(snapshot.virtual_servers().len());
        snapshot.retain_services(wanted);
        let outcome = self.all_destinations(&mut socket, snapshot);
        // Kept for the next gather; `read` drops it if this one failed.
        self.socket = Some(socket);
        outcome
    }

    fn services(&mut self, socket: &mut Socket, snapshot: &mut Snapshot) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            snapshot.clear_services();
            let Self {
                services, counters, ..
            } = self;
            services.clear();
            let replies = socket.dump(Command::Service, None, &mut |reply| {
                let service = decode::service(reply)?;
                match services.get(&service.key) {
                    Some(&place) => {
                        counters.duplicates += 1;
                        snapshot.replace_service(place, service);
                    }
                    None => {
                        services.insert(service.key, snapshot.push_service(service));
                    }
                }
                Ok(())
            })?;
            if self.settled(replies) {
                return Ok(());
            }
        }
        Err(Failure::Interrupted)
    }

    /// One failed listing leaves out that service's real servers and no other's, unless the socket itself is in
    /// doubt.
    fn all_destinations(&mut self, socket: &mut Socket, snapshot: &mut Snapshot) -> Result<(), Failure> {
        self.vanished.clear();
        let mut first_failure = None;
        for place in 0..snapshot.virtual_servers().len() {
            match self.destinations(socket, snapshot, place) {
                Ok(true) => {}
                Ok(false) => self.vanished.push(place),
                Err(failure @ (Failure::Refused(_) | Failure::Interrupted)) => {
                    // The first is counted where it is reported.
                    self.counters.errors += u64::from(first_failure.is_some());
                    first_failure.get_or_insert(failure);
                }
                Err(failure) => {
                    // The services read so far keep their real servers; the others are marked as not listed.
                    for rest in place..snapshot.virtual_servers().len() {
                        snapshot.begin_destinations(rest);
                        snapshot.finish_destinations(rest, false);
                    }
                    first_failure = Some(failure);
                    break;
                }
            }
        }
        if !self.vanished.is_empty() {
            self.counters.vanished += self.vanished.len() as u64;
            snapshot.remove_services(&self.vanished);
            snapshot.services_in_namespace = snapshot
                .services_in_namespace
                .map(|count| count - self.vanished.len());
        }
        first_failure.map_or(Ok(()), Err)
    }

    /// False if the service is no longer there.
    fn destinations(
        &mut self,
        socket: &mut Socket,
        snapshot: &mut Snapshot,
        place: usize,
    ) -> Result<bool, Failure> {
        let Some(key) = snapshot
            .virtual_servers()
            .get(place)
            .map(|server| server.service.key)
        else {
            return Ok(true);
        };
        for _ in 0..ATTEMPTS {
            snapshot.begin_destinations(place);
            let outcome = socket.dump(Command::Destination, Some(&key), &mut |reply| {
                snapshot.push_destination(decode::destination(reply, key.family())?);
                Ok(())
            });
            let replies = match outcome {
                Ok(replies) => replies,
                Err(failure) => {
                    snapshot.finish_destinations(place, false);
                    return Err(failure);
                }
            };
            if !self.settled(replies) {
                snapshot.finish_destinations(place, false);
                continue;
            }
            // The kernel walks a datagram's worth of the list at a time under its lock: only between two of
            // them can the list change and an entry come twice.
            if replies.datagrams > 1 {
                self.drop_duplicates(snapshot, place);
            }
            snapshot.finish_destinations(place, true);
            // The dump of a service that is gone is empty and successful, like that of one without real servers.
            if replies.records == 0 && replies.malformed == 0 && !exists(socket, &key)? {
                return Ok(false);
            }
            return Ok(true);
        }
        Err(Failure::Interrupted)
    }

    /// Whether a listing stands: not marked as inconsistent. Counts what it left out.
    fn settled(&mut self, replies: Replies) -> bool {
        self.counters.errors += replies.malformed as u64;
        self.counters.repeats += u64::from(replies.interrupted);
        !replies.interrupted
    }

    /// Of entries that came more than once, keeps the newest in the place of the first.
    fn drop_duplicates(&mut self, snapshot: &mut Snapshot, place: usize) {
        self.destinations.clear();
        let pending = snapshot.pending_destinations(place);
        let mut kept = 0;
        for index in 0..pending.len() {
            let destination = pending[index];
            if self.destinations.insert(destination.key) {
                pending[kept] = destination;
                kept += 1;
            } else if let Some(earlier) = pending[..kept]
                .iter_mut()
                .find(|earlier| earlier.key == destination.key)
            {
                *earlier = destination;
                self.counters.duplicates += 1;
            }
        }
        let surplus = pending.len() - kept;
        snapshot.drop_last_destinations(surplus);
    }
}

fn exists(socket: &mut Socket, key: &ServiceKey) -> Result<bool, Failure> {
    const ESRCH: i32 = 3;
    match socket.ask(Command::Service, Some(key), &mut |_| Ok(())) {
        Ok(_) => Ok(true),
        Err(Failure::Refused(error)) if error.raw_os_error() == Some(ESRCH) => Ok(false),
        Err(Failure::Refused(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}
