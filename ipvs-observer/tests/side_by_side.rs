//! A table that is read over several sockets side by side is the one that a single socket reads.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

#[path = "support/table.rs"]
mod table;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use ipvs_observer::{
    model::{DestinationKey, ServiceKey, Snapshot},
    netlink::{Channel, Failure, Kernel, Reader},
};
use table::Table;

const RECORDING: &str = include_str!("recordings/7.txt");
const SERVICES: usize = 3000;
const DESTINATIONS: usize = 7;
/// Services that a socket takes at a time.
const AT_ONCE: usize = 16;

fn table() -> Table {
    Table::new(RECORDING, SERVICES, DESTINATIONS)
}

/// Services with their destinations, and whether they were listed.
fn found(snapshot: &Snapshot) -> Vec<(ServiceKey, Vec<DestinationKey>, bool)> {
    let servers = snapshot.virtual_servers().iter();
    servers
        .map(|server| {
            let destinations = snapshot.destinations(server).iter();
            let keys = destinations.map(|destination| destination.key).collect();
            (server.service.key, keys, server.listed)
        })
        .collect()
}

fn over_one_socket() -> Vec<(ServiceKey, Vec<DestinationKey>, bool)> {
    let mut snapshot = Snapshot::default();
    let read = Reader::new(Box::new(table())).read(&mut snapshot, &|_| true);
    read.expect("a whole table");
    found(&snapshot)
}

/// A table whose channels are counted, of which only so many are to be had, and whose second may fail.
struct Sockets {
    table: Table,
    opened: Arc<AtomicUsize>,
    most: usize,
    second: Second,
    second_asked: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq)]
enum Second {
    Answers,
    IsSilent,
}

impl Sockets {
    fn new(most: usize, second: Second) -> Self {
        Self {
            table: table(),
            opened: Arc::default(),
            most,
            second,
            second_asked: Arc::default(),
        }
    }
}

impl Kernel for Sockets {
    fn exists(&mut self, path: &str) -> bool {
        self.table.exists(path)
    }

    fn read(&mut self, path: &str) -> io::Result<String> {
        self.table.read(path)
    }

    fn open(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        if number >= self.most {
            return Err(io::Error::other("no more"));
        }
        Ok(Box::new(Watched {
            channel: self.table.open(timeout)?,
            number,
            waits: self.most > 1,
            silent: number == 1 && self.second == Second::IsSilent,
            second_asked: Arc::clone(&self.second_asked),
        }))
    }

    fn side_by_side(&mut self) -> usize {
        2
    }
}

struct Watched {
    channel: Box<dyn Channel>,
    number: usize,
    waits: bool,
    silent: bool,
    second_asked: Arc<AtomicBool>,
}

const GET_DESTINATION: u8 = 8;

impl Channel for Watched {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        if self.number == 1 {
            self.second_asked.store(true, Ordering::Release);
        } else if request[16] == GET_DESTINATION {
            // Only where both are at work do they share it.
            while self.waits && !self.second_asked.load(Ordering::Acquire) {
                thread::yield_now();
            }
        }
        self.channel.send(request)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.silent {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.channel.receive(buffer)
    }
}

#[test]
fn two_sockets_find_what_one_finds_in_the_same_order() {
    let sockets = Sockets::new(2, Second::Answers);
    let (opened, asked) = (Arc::clone(&sockets.opened), Arc::clone(&sockets.second_asked));
    let mut reader = Reader::new(Box::new(sockets));
    let mut snapshot = Snapshot::default();
    for _ in 0..3 {
        asked.store(false, Ordering::Release);
        reader.read(&mut snapshot, &|_| true).expect("a whole table");
        assert_eq!(found(&snapshot), over_one_socket());
        assert_eq!(snapshot.all_destinations(), SERVICES * DESTINATIONS);
    }
    assert_eq!(opened.load(Ordering::Relaxed), 2, "both are kept");
    // With few services one of them is enough.
    let few =
        |key: &ServiceKey| matches!(key, ServiceKey::Endpoint { address, .. } if address.bytes()[2] == 0);
    asked.store(true, Ordering::Release);
    reader
        .read(&mut snapshot, &|service| few(&service.key))
        .expect("a part of the table");
    assert_eq!(snapshot.all_destinations(), 256 * DESTINATIONS);
}

#[test]
fn what_a_silent_socket_had_begun_is_left_out_and_the_other_lists_the_rest() {
    let mut reader = Reader::new(Box::new(Sockets::new(2, Second::IsSilent)));
    let mut snapshot = Snapshot::default();
    let read = reader.read(&mut snapshot, &|_| true);
    assert!(matches!(read, Err(Failure::Timeout(_))), "{read:?}");
    assert_eq!(reader.counters().errors, 1);
    let (found, whole) = (found(&snapshot), over_one_socket());
    assert_eq!(found.len(), SERVICES);
    let missing = found.iter().filter(|(.., listed)| !listed).count();
    assert_eq!(missing, AT_ONCE);
    for (found, whole) in found.iter().zip(&whole).filter(|((.., listed), _)| *listed) {
        assert_eq!(found, whole);
    }
    assert_eq!(snapshot.all_destinations(), (SERVICES - AT_ONCE) * DESTINATIONS);
    assert_eq!(snapshot.services_in_namespace, Some(SERVICES));
}

#[test]
fn a_socket_that_cannot_be_had_is_done_without() {
    let mut reader = Reader::new(Box::new(Sockets::new(1, Second::Answers)));
    let mut snapshot = Snapshot::default();
    reader.read(&mut snapshot, &|_| true).expect("a whole table");
    assert_eq!(found(&snapshot), over_one_socket());
}
