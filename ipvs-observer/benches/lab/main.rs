//! `cargo xtask bench`, the part in the lab: a gather beside the raw dump and beside what others do with the same
//! table, in turn. Prints a line of JSON for each way and table.
//!
//! Arguments: `--rounds N`, `--exporter PATH`, and tables as `1000x10`. As `serve ADDRESS` and `connect ADDRESS N`
//! it is both ends of the connections that `tests/cost/measure.sh` measures.
#![allow(missing_docs, reason = "a program")]

mod counter;
#[path = "../../tests/support/floor.rs"]
#[allow(dead_code, reason = "the kernel tests use the rest")]
mod floor;
mod row;
mod table;
mod traffic;
mod way;
mod worker;

use std::{env, io, process::ExitCode, time::Instant};

use ipvs_observer::netlink::{Kernel, Running};
use row::{Round, Row};
use table::Table;
use way::{Exporter, Way, Worker};

/// Our own, each in a process of its own.
const WORKERS: [(&str, &[&str]); 5] = [
    ("raw dump", &["floor"]),
    ("gather, full", &["gather"]),
    ("gather, telegraf", &["gather", "telegraf"]),
    ("gather, full, probes", &["gather", "probes"]),
    ("gather, telegraf, probes", &["gather", "telegraf", "probes"]),
];
/// Where the kernel lets dumps run side by side, what a gather is without.
const ONE_SOCKET: [(&str, &[&str]); 1] = [("gather, full, one socket", &["gather", "one-socket"])];
const PROGRAMS: [(&str, &[&str]); 3] = [
    (
        "ipvs-observer collect --once --probes off",
        &["ipvs-observer", "collect", "--once", "--probes", "off"],
    ),
    ("ipvsadm -ln --stats", &["ipvsadm", "-ln", "--stats"]),
    ("ipvsadm -ln", &["ipvsadm", "-ln"]),
];
const EXPORTER: &str = "node exporter, one scrape";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let named: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match named[..] {
        ["worker", ..] => worker::run(&words[1..]),
        ["serve", address] => traffic::serve(address),
        ["connect", address, connections] => connections
            .parse()
            .map_err(io::Error::other)
            .and_then(|connections| traffic::connect(address, connections)),
        _ => bench(&words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(words: &[String]) -> io::Result<()> {
    let (mut rounds, mut exporter, mut tables) = (5, None, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = words.next().and_then(|word| word.parse().ok()).unwrap_or(rounds),
            "--exporter" => exporter = words.next(),
            // Cargo's own, for every benchmark.
            "--bench" => {}
            text => {
                let table = Table::parse(text)
                    .ok_or_else(|| io::Error::other(format!("{text} is no table; one is 1000x10")))?;
                tables.push((text, table));
            }
        }
    }
    table::network()?;
    for (name, table) in tables {
        table::clear()?;
        let began = Instant::now();
        table.fill()?;
        eprintln!("{name}: filled in {:.1} s", began.elapsed().as_secs_f64());
        measure(name, table, rounds, exporter.map(String::as_str))?;
        table::without_probes()?;
        eprintln!("{name}: done after {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

fn measure(name: &str, table: Table, rounds: usize, exporter: Option<&str>) -> io::Result<()> {
    let mut ways = Vec::new();
    let side_by_side = Running.side_by_side() > 1;
    let one_socket = ONE_SOCKET.iter().filter(|_| side_by_side);
    for (way, words) in WORKERS.iter().chain(one_socket).copied() {
        ways.push((way, Way::Worker(Worker::start(words, name)?), Vec::new()));
    }
    for (way, words) in PROGRAMS {
        ways.push((way, Way::Program(words), Vec::new()));
    }
    if let Some(path) = exporter {
        ways.push((EXPORTER, Way::Exporter(Exporter::start(path)?), Vec::new()));
    }
    // Now every real server has its counters.
    table.send(table.destinations)?;
    // The first gather that finds them makes room for them, and is told of by itself: rounds measure the stride.
    let mut first = Vec::new();
    for (way, work, _) in &mut ways {
        if let Way::Worker(worker) = work {
            first.push((*way, worker.round()?));
        }
    }
    for _ in 0..rounds {
        // And every service was asked since the last gather.
        table.send(1)?;
        for (_, way, costs) in &mut ways {
            costs.push(way.round()?);
        }
    }
    for (way, _, costs) in &ways {
        if let Some(median) = Round::median(costs) {
            tell(name, way, median, costs.len())?;
        }
    }
    for (way, round) in first.into_iter().filter(|(way, _)| way.ends_with("probes")) {
        tell(name, &format!("{way}, all counters new"), round, 1)?;
    }
    Ok(())
}

fn tell(table: &str, way: &str, median: Round, rounds: usize) -> io::Result<()> {
    let row = Row {
        table,
        way,
        median,
        rounds,
    };
    println!("{}", serde_json::to_string(&row)?);
    Ok(())
}
