//! What is in the database at the end is what `ipvsadm` said at the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    HOST, Run, filled,
    observer::{endpoint, service},
    support::{
        influx::{Influx, as_stored},
        lines::Line,
    },
};

/// Fields in the order of `ipvsadm --stats`.
const STATS: [&str; 5] = ["connections", "pkts_in", "pkts_out", "bytes_in", "bytes_out"];
/// The service whose counters were set to 0 on the way.
const ZEROED: &str = "UDP 10.9.0.1:123";
/// The service without real servers.
const EMPTY: &str = "UDP 10.9.0.1:9";
/// The service with persistence.
const PERSISTENT: &str = "TCP 10.9.0.1:443";
/// The service that was full for a while.
const FULL: &str = "TCP 10.9.0.1:8080";

/// What the last gather said, read back out of the database.
fn newest(influx: &Influx, measurement: &str) -> Vec<Line> {
    let mut lines = influx.stored(measurement);
    let last = lines.iter().map(|line| line.timestamp).max();
    lines.retain(|line| Some(line.timestamp) == last);
    assert!(!lines.is_empty(), "no {measurement} in the database");
    assert!(lines.iter().all(|line| line.tag("host") == HOST));
    lines
}

fn virtual_servers(influx: &Influx) -> BTreeMap<String, Line> {
    let lines = newest(influx, "ipvs_virtual_server");
    lines.into_iter().map(|line| (service(&line, ""), line)).collect()
}

/// By virtual server and real server.
fn real_servers(influx: &Influx) -> BTreeMap<(String, String), Line> {
    let lines = newest(influx, "ipvs_real_server").into_iter();
    lines
        .map(|line| {
            let name = endpoint(line.tag("address"), line.tag("port"));
            ((service(&line, "virtual_"), name), line)
        })
        .collect()
}

fn stats(line: &Line) -> Vec<u64> {
    STATS.iter().map(|field| line.number(field)).collect()
}

#[test]
#[ignore = "judges a run in the lab: `cargo xtask end-to-end` makes one"]
fn every_line_of_the_socket_is_in_the_database_unchanged() {
    let influx = filled("");
    let mut sent = BTreeMap::new();
    for mut line in Run::read().lines.clone() {
        line.tags.insert("host".to_owned(), HOST.to_owned());
        sent.insert((line.series(), line.timestamp), as_stored(line));
    }
    assert_eq!(sent.len(), Run::read().text.lines().count(), "a point twice");
    let measurements: BTreeSet<_> = sent.values().map(|line| line.measurement.clone()).collect();
    for measurement in measurements {
        for line in influx.stored(&measurement) {
            let sent = sent.remove(&(line.series(), line.timestamp));
            assert_eq!(sent, Some(line));
        }
    }
    assert!(sent.is_empty(), "sent and not stored: {sent:?}");
}

#[test]
#[ignore = "judges a run in the lab: `cargo xtask end-to-end` makes one"]
fn totals_and_weights_of_every_server_are_those_of_ipvsadm() {
    let run = Run::read();
    let influx = filled("");
    let virtual_servers = virtual_servers(&influx);
    let real_servers = real_servers(&influx);
    assert_eq!(
        virtual_servers.keys().collect::<Vec<_>>(),
        run.stats.keys().collect::<Vec<_>>()
    );
    let mut compared = 0;
    for (name, entry) in &run.stats {
        assert_eq!(
            stats(&virtual_servers[name]),
            entry.numbers(),
            "{name}: {STATS:?}"
        );
        for (real_server, words) in &entry.destinations {
            let line = &real_servers[&(name.clone(), real_server.clone())];
            assert_eq!(
                stats(line),
                crate::ipvsadm::numbers(words),
                "{name} -> {real_server}: {STATS:?}"
            );
            let weight = &run.table[name].destinations[real_server][1];
            assert_eq!(
                &line.number("weight").to_string(),
                weight,
                "{name} -> {real_server}"
            );
            compared += 1;
        }
    }
    assert_eq!(
        real_servers.len(),
        compared,
        "real servers that ipvsadm does not list"
    );
    assert!(
        compared >= 12 && run.stats.len() >= 8,
        "too small a table: {:?}",
        run.stats
    );
}

#[test]
#[ignore = "judges a run in the lab: `cargo xtask end-to-end` makes one"]
fn picks_and_template_hits_are_the_connections_that_ipvsadm_counted() {
    let run = Run::read();
    let influx = filled("");
    let real_servers = real_servers(&influx);
    for (name, line) in virtual_servers(&influx) {
        let connections = run.stats[&name].numbers()[0];
        let [picks, hits] = ["schedule_picks", "template_hits"].map(|field| line.number(field));
        if name == ZEROED {
            assert!(
                connections > 0 && picks > connections,
                "{name}: IPVS began anew, the probes did not"
            );
            continue;
        }
        assert_eq!(picks + hits, connections, "{name}");
        assert_eq!(hits > 0, name == PERSISTENT, "{name}");
        assert_eq!(
            line.number("refused") > 0,
            [EMPTY, FULL].contains(&name.as_str()),
            "{name}"
        );
        assert_eq!(picks > 0, name != EMPTY, "{name}");
        if name == PERSISTENT {
            continue;
        }
        for (real_server, words) in &run.stats[&name].destinations {
            let line = &real_servers[&(name.clone(), real_server.clone())];
            assert_eq!(
                line.number("picks").to_string(),
                words[0],
                "{name} -> {real_server}"
            );
        }
    }
}
