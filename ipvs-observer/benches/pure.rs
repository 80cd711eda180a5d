//! The parts of a gather that no kernel is needed for, on a table told as a recorded kernel tells it.
//!
//! `cargo bench --bench pure`; where the machine has other work, callgrind counts the instructions of the same:
//! `valgrind --tool=callgrind target/release/deps/pure-… --bench --profile-time 1 encode`.
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot go on ends"
)]

#[path = "../tests/support/table.rs"]
mod table;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ipvs_observer::{
    correlate::Correlator,
    line::Encoder,
    model::{Activity, DestinationActivity, Netns, ServiceActivity, Snapshot},
    netlink::Reader,
    points::{Points, Schema, Seen},
};
use table::Table;

const RECORDINGS: [(&str, &str); 2] = [
    ("6.12", include_str!("../tests/recordings/6.12.txt")),
    ("7", include_str!("../tests/recordings/7.txt")),
];
const SERVICES: usize = 100;
const DESTINATIONS: usize = 10;
const NETNS: Netns = Netns(1);
const TIME: u64 = 1_700_000_000_000_000_000;

/// Every service was asked and every destination chosen.
fn activity(snapshot: &Snapshot, picks: u64) -> Activity {
    let mut activity = Activity::default();
    for server in snapshot.virtual_servers() {
        let service = (NETNS, server.service.key);
        activity.services.insert(service, ServiceActivity::default());
        for destination in snapshot.destinations(server) {
            let counters = DestinationActivity {
                picks,
                ..DestinationActivity::default()
            };
            let key = (NETNS, server.service.key, destination.key);
            let place = activity.destinations.len() as u32;
            activity.destinations.update(place, 1, counters, || Some(key));
        }
    }
    activity
}

fn parts(criterion: &mut Criterion) {
    for (kernel, recording) in RECORDINGS {
        let mut reader = Reader::new(Box::new(Table::new(recording, SERVICES, DESTINATIONS)));
        let mut snapshot = Snapshot::default();
        let mut group = criterion.benchmark_group(kernel);
        group.throughput(Throughput::Elements((SERVICES * (DESTINATIONS + 1)) as u64));
        group.bench_function("decode", |bencher| {
            bencher.iter(|| reader.read(&mut snapshot, &|_| true).expect("a whole table"));
        });
        reader.read(&mut snapshot, &|_| true).expect("a whole table");
        let activity = activity(&snapshot, 1);
        let correlator = Correlator::new(NETNS);
        let mut observed = Vec::new();
        group.bench_function("correlate", |bencher| {
            bencher.iter(|| {
                for server in snapshot.virtual_servers() {
                    let destinations = snapshot.destinations(server);
                    correlator.observe(&activity, &server.service.key, destinations, &mut observed);
                }
            });
        });
        let seen = Seen {
            activity: &activity,
            correlator: &correlator,
        };
        for (name, schema, seen) in [
            ("encode, full", Schema::Full, None),
            ("encode, telegraf", Schema::Telegraf, None),
            ("encode, full, probes", Schema::Full, Some(seen)),
        ] {
            let (mut points, mut encoder) = (Points::new(schema, None), Encoder::handing_out(false, drop));
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    points.snapshot(&mut encoder, &snapshot, seen, None, false, TIME);
                    encoder.finish();
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, parts);
criterion_main!(benches);
