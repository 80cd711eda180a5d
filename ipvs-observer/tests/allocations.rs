//! What a gather takes from the allocator once it has its room: a few pieces, however large the table is.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

#[path = "support/table.rs"]
mod table;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io,
    time::Duration,
};

use ipvs_observer::{
    correlate::Correlator,
    line::Encoder,
    model::{Activity, DestinationActivity, Netns, ServiceActivity, Snapshot},
    netlink::{Channel, Kernel, Reader},
    points::{Points, Schema, Seen},
};
use table::Table;

const RECORDING: &str = include_str!("recordings/6.12.txt");
const NETNS: Netns = Netns(1);
/// Most that a gather may take here, where no file is read: the name of the family, and room for the NUL behind it.
const MOST: u64 = 2;

struct Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system's own; counting touches no memory but this thread's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.set(TAKEN.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often each of some gathers took from the allocator, the first ones left out.
fn taken(services: usize, destinations: usize, schema: Schema, probes: bool) -> Vec<u64> {
    let mut reader = Reader::new(Box::new(Table::new(RECORDING, services, destinations)));
    let mut snapshot = Snapshot::default();
    let mut points = Points::new(schema, None);
    let mut encoder = Encoder::handing_out(false, drop);
    let correlator = Correlator::new(NETNS);
    let mut activity = Activity::default();
    let mut all = Vec::with_capacity(8);
    for gather in 0..8 {
        let before = (TAKEN.get(), encoder.lines());
        reader.read(&mut snapshot, &|_| true).expect("a whole table");
        let seen = probes.then_some(Seen {
            activity: &activity,
            correlator: &correlator,
        });
        points.snapshot(
            &mut encoder,
            &snapshot,
            seen,
            None,
            false,
            1_700_000_000_000_000_000 + gather,
        );
        encoder.finish();
        all.push(TAKEN.get() - before.0);
        assert_eq!(
            encoder.lines() - before.1,
            (services * (destinations + 1) + usize::from(schema == Schema::Full)) as u64
        );
        let mut place = 0;
        for server in snapshot.virtual_servers() {
            let service = (NETNS, server.service.key);
            activity.services.insert(service, ServiceActivity::default());
            for destination in snapshot.destinations(server) {
                let counters = DestinationActivity {
                    picks: gather,
                    ..DestinationActivity::default()
                };
                let key = (NETNS, server.service.key, destination.key);
                activity.destinations.update(place, 1, counters, || Some(key));
                place += 1;
            }
        }
    }
    all.split_off(4)
}

#[test]
fn a_gather_in_its_stride_takes_the_same_few_pieces_of_memory_from_a_small_table_and_a_large_one() {
    for schema in [Schema::Full, Schema::Telegraf] {
        for probes in [false, true] {
            for (services, destinations) in [(10, 3), (200, 10), (4, 250)] {
                let taken = taken(services, destinations, schema, probes);
                println!("{services}x{destinations}, {schema:?}, probes {probes}: {taken:?}");
                assert!(
                    taken.iter().all(|&taken| taken <= MOST),
                    "{services}x{destinations}, {schema:?}, probes {probes}: {taken:?}"
                );
            }
        }
    }
}

/// Lets dumps be made side by side.
struct SideBySide(Table);

impl Kernel for SideBySide {
    fn exists(&mut self, path: &str) -> bool {
        self.0.exists(path)
    }

    fn read(&mut self, path: &str) -> io::Result<String> {
        self.0.read(path)
    }

    fn open(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        self.0.open(timeout)
    }

    fn side_by_side(&mut self) -> usize {
        2
    }
}

#[test]
fn a_second_socket_takes_what_its_thread_does_and_nothing_for_each_line() {
    let taken = |services| {
        let mut reader = Reader::new(Box::new(SideBySide(Table::new(RECORDING, services, 3))));
        let mut snapshot = Snapshot::default();
        let mut read = || {
            let before = TAKEN.get();
            reader.read(&mut snapshot, &|_| true).expect("a whole table");
            TAKEN.get() - before
        };
        // Whichever socket listed what last time, the next may need more room for it.
        (0..20).map(|_| read()).min().expect("some")
    };
    let (few, many) = (taken(300), taken(6000));
    println!("300 services: {few}, 6000: {many}");
    assert!(few == many && few <= 16, "{few} and {many}");
}
