//! The policy of a dump: what is asked in which order, when it is asked again, when it counts as complete.

use std::{mem, time::Duration};

use super::{
    Failure, Kernel, Running,
    counters::ATTEMPTS,
    decode,
    lane::{self, Lane},
    procfs,
    routes::Routes,
    socket::Socket,
    wire::Command,
};
use crate::{
    model::{DumpCounters, KeyMap, Service, ServiceKey, Snapshot},
    module,
};

/// How long one reply may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Room that is made at most for a datagram of the kernel, whose own buffers are of some ten thousand bytes.
const MOST_ROOM: usize = 1 << 24;
/// Services for which another socket and its thread are worth their making: below a few ms.
const WORTH_A_SOCKET: usize = 128;

/// Reads one network namespace's IPVS, again and again.
pub struct Reader {
    kernel: Box<dyn Kernel>,
    /// The first is for all but destinations as well.
    sockets: Vec<Socket>,
    /// One for each socket, and what it remembers from one to the next.
    lanes: Vec<Lane>,
    routes: Routes,
    room: usize,
    counters: DumpCounters,
    services: KeyMap<ServiceKey, usize>,
    /// Those of the last listing that stood.
    known: KeyMap<ServiceKey, usize>,
    /// Whether that took more than a datagram.
    long: bool,
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
            sockets: Vec::new(),
            lanes: Vec::new(),
            routes: Routes::default(),
            room: 0,
            counters: DumpCounters::default(),
            services: KeyMap::default(),
            known: KeyMap::default(),
            long: false,
        }
    }

    /// What went wrong so far.
    pub fn counters(&self) -> DumpCounters {
        self.counters
    }

    /// Closes the sockets, which keep the namespace that they belong to; the next reading opens others.
    pub fn let_go(&mut self) {
        self.sockets.clear();
        self.routes.let_go();
    }

    /// Adds to what [`Reader::read`] found what decides beside the table: the settings, and whether the virtual
    /// addresses are this machine's. What cannot be had is left out.
    pub fn read_surroundings(&mut self, snapshot: &mut Snapshot) {
        let kernel = self.kernel.as_mut();
        snapshot.settings = Some(procfs::settings(kernel));
        if self.routes.locate(kernel, TIMEOUT, snapshot).is_err() {
            self.counters.errors += 1;
        }
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
            self.let_go();
            return Err(Failure::Absent(module::remedy()));
        }
        snapshot.totals = procfs::totals(self.kernel.as_mut()).ok();
        let outcome = self.tables(snapshot, wanted);
        if let Err(failure) = &outcome {
            if let Failure::Truncated { length, .. } = failure {
                self.room = self.room.max((*length).min(MOST_ROOM).next_power_of_two());
            }
            if !matches!(failure, Failure::Absent(_) | Failure::NotPermitted(_)) {
                self.counters.errors += 1;
            }
        }
        outcome
    }

    fn tables(&mut self, snapshot: &mut Snapshot, wanted: &dyn Fn(&Service) -> bool) -> Result<(), Failure> {
        let mut sockets = mem::take(&mut self.sockets);
        if sockets.is_empty() {
            sockets.push(self.open()?);
        }
        if let Some(socket) = sockets.first_mut() {
            self.all_but_destinations(socket, snapshot)?;
        }
        snapshot.services_in_namespace = Some(snapshot.virtual_servers().len());
        snapshot.retain_services(wanted);
        self.provide(&mut sockets, snapshot.virtual_servers().len());
        self.all_destinations(&mut sockets, snapshot)?;
        // Kept for the next gather. Whatever state they are in where this failed, that begins with new ones.
        self.sockets = sockets;
        Ok(())
    }

    fn open(&mut self) -> Result<Socket, Failure> {
        Socket::open(self.kernel.as_mut(), TIMEOUT, self.room)
    }

    fn all_but_destinations(&mut self, socket: &mut Socket, snapshot: &mut Snapshot) -> Result<(), Failure> {
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
        self.services(socket, snapshot)
    }

    /// The kernel fills one datagram after the other, and goes on by number: where services were deleted meanwhile, it
    /// leaves as many out, unmarked, be it all of the last datagram. So what was there before and is not listed is
    /// asked for by itself, and a first listing is followed by a second.
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
            if !self.counters.settled(replies) {
                continue;
            }
            let long = mem::replace(&mut self.long, replies.datagrams > 1) || self.long;
            let again = long && self.known.is_empty();
            if long && !again {
                self.add_skipped(socket, snapshot)?;
            }
            mem::swap(&mut self.known, &mut self.services);
            if !again {
                return Ok(());
            }
        }
        Err(Failure::Interrupted)
    }

    fn add_skipped(&mut self, socket: &mut Socket, snapshot: &mut Snapshot) -> Result<(), Failure> {
        for key in self.known.keys() {
            if self.services.contains_key(key) {
                continue;
            }
            let mut skipped = None;
            let there = lane::ask(socket, key, &mut |reply| {
                skipped = Some(decode::service(reply)?);
                Ok(())
            })?;
            if let Some(service) = skipped.filter(|_| there) {
                self.counters.skipped += 1;
                self.services.insert(*key, snapshot.push_service(service));
            }
        }
        Ok(())
    }

    /// As many sockets as so many services are worth, each of which knows the family. One that cannot be had is done
    /// without.
    fn provide(&mut self, sockets: &mut Vec<Socket>, services: usize) {
        let worth = services / WORTH_A_SOCKET;
        let wanted = if worth > 1 {
            worth.min(self.kernel.side_by_side()).max(1)
        } else {
            1
        };
        while sockets.len() < wanted
            && let Ok(socket) = self.open()
        {
            sockets.push(socket);
        }
        sockets.truncate(wanted);
        if let Some((first, others)) = sockets.split_first_mut() {
            for socket in others {
                socket.know(first);
            }
        }
    }

    /// What no socket got to, because they were all in doubt, stays marked as not listed.
    fn all_destinations(&mut self, sockets: &mut [Socket], snapshot: &mut Snapshot) -> Result<(), Failure> {
        if self.lanes.len() < sockets.len() {
            self.lanes.resize_with(sockets.len(), Lane::default);
        }
        let (servers, parts) = snapshot.to_list(sockets.len());
        lane::list(sockets, &mut self.lanes, parts, servers);
        let mut first_failure = None;
        let mut failures = 0;
        for lane in &mut self.lanes {
            lane.forget_all_but(&self.known);
            let found = mem::take(&mut lane.found);
            self.counters.errors += found.counters.errors;
            self.counters.repeats += found.counters.repeats;
            self.counters.duplicates += found.counters.duplicates;
            failures += found.failures;
            first_failure = first_failure.or(found.failure);
        }
        // The first is counted where it is reported.
        self.counters.errors += u64::saturating_sub(failures, 1);
        let vanished = snapshot.remove_gone();
        self.counters.vanished += vanished as u64;
        snapshot.services_in_namespace = snapshot.services_in_namespace.map(|count| count - vanished);
        first_failure.map_or(Ok(()), Err)
    }
}
