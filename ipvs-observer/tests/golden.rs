//! Gathers from recordings of real kernels, in both schemas, against files that were looked at.
//!
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes them anew; read the difference before committing it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod support;

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use ipvs_observer::{
    line::Encoder,
    model::Snapshot,
    netlink::{Reader, Recording},
    points::{Points, Schema},
};
use support::lines;

const TIME: u64 = 1_700_000_000_000_000_000;
const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7"];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn recording(series: &str) -> Recording {
    let path = folder("recordings").join(format!("{series}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Recording::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn gather(series: &str, schema: Schema) -> String {
    let mut reader = Reader::new(Box::new(recording(series)));
    let mut snapshot = Snapshot::default();
    reader.read(&mut snapshot, &|_| true).expect("a whole recording");
    reader.read_surroundings(&mut snapshot);
    assert_eq!(
        reader.counters(),
        ipvs_observer::model::DumpCounters::default(),
        "nothing lost or repeated"
    );
    let mut encoder = Encoder::new(false);
    Points::new(schema, None).snapshot(&mut encoder, &snapshot, None, None, false, TIME);
    String::from_utf8(encoder.take().to_vec()).expect("text")
}

fn compare(series: &str, schema: Schema, name: &str) {
    let found = gather(series, schema);
    let path = folder("golden").join(format!("{series}.{name}.lp"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &found).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "{}", path.display());
    }
    assert_eq!(
        found.lines().count(),
        expected.lines().count(),
        "{}",
        path.display()
    );
}

#[test]
fn the_full_schema_of_every_kernel_is_as_looked_at() {
    for series in KERNELS {
        compare(series, Schema::Full, "full");
    }
}

#[test]
fn the_telegraf_schema_of_every_kernel_is_as_looked_at() {
    for series in KERNELS {
        compare(series, Schema::Telegraf, "telegraf");
    }
}

#[test]
fn a_table_with_a_synchronisation_daemon_is_as_looked_at() {
    compare("daemon", Schema::Full, "full");
}

#[test]
fn every_kernel_tells_the_same_series() {
    let series = |name| -> BTreeSet<String> {
        lines::parse(&gather(name, Schema::Full))
            .iter()
            .map(lines::Line::series)
            .collect()
    };
    let oldest = series(KERNELS[0]);
    for name in &KERNELS[1..] {
        assert_eq!(series(name), oldest, "{name}");
    }
}

#[test]
fn the_recordings_are_not_of_an_idle_table() {
    for series in KERNELS {
        let lines = lines::parse(&gather(series, Schema::Full));
        let connections: u64 = lines
            .iter()
            .filter(|line| line.measurement == "ipvs_virtual_server")
            .map(|line| line.number("connections"))
            .sum();
        assert!(connections >= 21, "{series}: {connections}");
    }
}
