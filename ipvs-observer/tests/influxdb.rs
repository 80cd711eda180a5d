//! Every line that this program writes is taken by a real InfluxDB and read back unchanged.
//!
//! Debian's InfluxDB has no unsigned type: lines with `u` are judged by the strict reader in `support` alone.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod support;

use std::{collections::BTreeMap, fs, path::PathBuf};

use ipvs_observer::{
    line::Encoder,
    points::{Observer, Points, ProbeHealth, Schema, Status},
};
use support::{
    influx::{Influx, as_stored},
    lines::{self, Line},
};

/// Whether Telegraf's tags make one series of two: marks of both families with the same real server. The later one stands.
fn made_one(schema: &str, line: &Line) -> bool {
    schema.contains(".telegraf.") && line.tags.contains_key("virtual_fwmark")
}

fn assert_comes_back(influx: &Influx, name: &str, text: &str) {
    influx.write(text);
    let mut sent: BTreeMap<(String, u64), Line> = BTreeMap::new();
    for line in lines::parse(text) {
        let line = as_stored(line);
        let twice = sent.insert((line.series(), line.timestamp), line.clone());
        assert!(twice.is_none() || made_one(name, &line), "twice: {line:?}");
    }
    let measurements: std::collections::BTreeSet<_> =
        sent.values().map(|line| line.measurement.clone()).collect();
    let mut stored = BTreeMap::new();
    for measurement in measurements {
        for line in influx.stored(&measurement) {
            stored.insert((line.series(), line.timestamp), line);
        }
        influx.query(&format!("DROP MEASUREMENT \"{measurement}\""));
    }
    for (key, line) in &sent {
        assert_eq!(stored.get(key), Some(line), "sent and not stored so");
    }
    assert_eq!(stored.len(), sent.len());
}

fn golden() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("golden files")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(path).expect("text"),
            )
        })
        .collect()
}

fn observer_lines() -> String {
    let mut encoder = Encoder::new(false);
    let observer = Observer {
        status: Status::Degraded,
        reason: "a \"reason\" with \\ and, all that = is special\tin a line".to_owned(),
        gather_ns: u64::MAX,
        probes: Some(ProbeHealth::default()),
        ..Observer::default()
    };
    for (at, netns) in [
        None,
        Some("blue, green=red\\".to_owned()),
        Some("Zürich\nnorth".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        Points::new(Schema::Full, netns).observer(
            &mut encoder,
            &observer,
            1_700_000_000_000_000_000 + at as u64,
        );
    }
    String::from_utf8(encoder.take().to_vec()).expect("text")
}

/// Whatever some reader could stumble over, up to three of them together, as a tag and as a string.
fn stumbling_blocks() -> String {
    const LETTERS: [char; 9] = ['a', ',', '=', ' ', '\\', '"', '\n', '\0', 'ä'];
    let mut texts = vec![String::new()];
    for _ in 0..3 {
        let longer = |text: &String| LETTERS.map(|letter| format!("{text}{letter}"));
        let longest: Vec<_> = texts.iter().flat_map(longer).collect();
        texts.extend(longest);
    }
    texts.sort();
    texts.dedup();
    let mut encoder = Encoder::new(false);
    for (time, text) in (1_700_000_000_000_000_000..).zip(&texts) {
        let mut line = encoder.line("m");
        line.tag("k", text).tag("l", "x");
        line.string("s", text).unsigned("n", 1);
        line.end(time);
    }
    String::from_utf8(encoder.take().to_vec()).expect("text")
}

#[test]
fn every_line_is_stored_and_comes_back_unchanged() {
    let influx = Influx::start();
    let files = golden();
    assert!(
        files.len() >= 10,
        "golden files of both schemas for every kernel: {}",
        files.len()
    );
    for (name, text) in files {
        println!("{name}");
        assert_comes_back(&influx, &name, &text);
    }
    assert_comes_back(&influx, "the program itself", &observer_lines());
    assert_comes_back(&influx, "stumbling blocks", &stumbling_blocks());
}
