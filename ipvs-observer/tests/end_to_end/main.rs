//! What a run in the lab wrote to its socket goes into a real InfluxDB, as Telegraf would hand it on, and is read back
//! by query: the totals are `ipvsadm`'s, and each query of the dashboard finds what it asks for.
//!
//! `cargo xtask test` makes the run, by `cluster.rs`, and names its file in `IPVS_OBSERVER_LAB_RUN`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

#[path = "../kernel/ipvsadm.rs"]
#[allow(dead_code, reason = "the kernel tests use the rest")]
mod ipvsadm;
#[path = "../kernel/observer.rs"]
#[allow(dead_code, reason = "the kernel tests use the rest")]
mod observer;
mod panels;
#[path = "../support/mod.rs"]
mod support;
mod totals;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write,
    fs,
    sync::OnceLock,
};

use ipvsadm::Entry;
use support::{
    influx::Influx,
    lines::{self, Line},
};

/// The tag that Telegraf adds.
const HOST: &str = "director";

/// What the lab's run left.
struct Run {
    /// `ipvsadm -L -n --stats --exact`, at the end.
    stats: BTreeMap<ipvsadm::Name, Entry>,
    /// `ipvsadm -L -n`, at the end.
    table: BTreeMap<ipvsadm::Name, Entry>,
    /// Every byte that came out of the socket.
    text: String,
    lines: Vec<Line>,
    /// Of the first gather and of the last, in milliseconds.
    time: (u64, u64),
}

impl Run {
    fn read() -> &'static Self {
        static RUN: OnceLock<Run> = OnceLock::new();
        RUN.get_or_init(|| {
            let path = env::var_os("IPVS_OBSERVER_LAB_RUN").expect(
                "IPVS_OBSERVER_LAB_RUN names the file that a run in the lab left: `cargo xtask test` makes one",
            );
            let text = fs::read_to_string(path).expect("the file of the lab's run");
            let part = |name: &str| {
                let (_, rest) = text
                    .split_once(&format!("= {name}\n"))
                    .unwrap_or_else(|| panic!("the lab's run has no part {name:?}"));
                rest.split_once("\n= ").map_or(rest, |(part, _)| part).to_owned()
            };
            let lines = lines::parse(&part("lines"));
            Self {
                stats: ipvsadm::read(&part("stats")),
                table: ipvsadm::read(&part("table")),
                text: part("lines"),
                time: time(&lines),
                lines,
            }
        })
    }

    /// The lines with the tags that Telegraf would add, and with one more if it is given.
    fn tagged(&self, more: &str) -> String {
        let mut tagged = String::new();
        for line in self.text.lines() {
            let end = line.find([',', ' ']).expect("a measurement");
            let (measurement, rest) = line.split_at(end);
            writeln!(tagged, "{measurement},host={HOST}{more}{rest}").expect("a string grows");
        }
        tagged
    }
}

/// Of the first gather and of the last, in milliseconds.
fn time(lines: &[Line]) -> (u64, u64) {
    let of_itself = lines.iter().filter(|line| line.measurement == "ipvs_observer");
    let times: BTreeSet<_> = of_itself.map(|line| line.timestamp / 1_000_000).collect();
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        panic!("the lab's run has no gathers");
    };
    (*first, *last)
}

/// The run in a database of its own.
fn filled(more: &str) -> Influx {
    let influx = Influx::start();
    influx.write(&Run::read().tagged(more));
    influx
}
