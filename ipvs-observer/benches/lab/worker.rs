//! What is measured of our own, each in a process of its own: a line on its standard input is a round, of which it
//! says what it cost. So memory is its own, and rounds of different workers can be made in turn.

use std::{
    io::{self, BufRead, Write},
    time::{Duration, Instant},
};

use ipvs_observer::{
    correlate::Correlator,
    line::Encoder,
    memory,
    model::{Activity, Snapshot},
    netlink::{self, Channel, Kernel, Reader, Running},
    points::{Points, Schema, Seen},
    probe::{ProbeMode, ProbeSettings, Probes, Sizes},
};

use crate::{
    counter::{Costs, From, peak_memory},
    floor::Floor,
    row::Round,
    table::Table,
};

/// One round of whatever is measured.
trait Work {
    fn round(&mut self) -> io::Result<()>;
}

/// Works as the words say: `floor`, or `gather` with `telegraf`, `probes` or `one-socket` behind it. The last is the table.
pub fn run(words: &[String]) -> io::Result<()> {
    memory::give_back();
    let has = |word: &str| words.iter().any(|other| other == word);
    let mut costs = Costs::of(0, From::Now)?;
    let table = words.last().and_then(|word| Table::parse(word));
    let table = table.ok_or_else(|| io::Error::other("a worker without a table"))?;
    let mut work: Box<dyn Work> = if has("floor") {
        Box::new(Floor::new()?)
    } else {
        let kernel: Box<dyn Kernel> = if has("one-socket") {
            Box::new(OneSocket)
        } else {
            Box::new(Running)
        };
        Box::new(Gather::new(kernel, has("telegraf"), has("probes"), table)?)
    };
    // What is measured is the steady state, in which everything has its room.
    work.round()?;
    work.round()?;
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        line?;
        let (before, began) = (costs.read()?, Instant::now());
        work.round()?;
        let wall = began.elapsed();
        let cost = costs.read()?.since(before);
        let round = Round {
            wall_ns: wall.as_nanos() as u64,
            cpu_ns: cost.cpu_ns,
            // Reading the counters takes two calls, of which one comes after the first reading and one before the
            // second.
            syscalls: cost.syscalls.saturating_sub(2),
            peak_bytes: peak_memory(std::process::id())?,
        };
        writeln!(out, "{}", serde_json::to_string(&round)?)?;
        out.flush()?;
    }
    Ok(())
}

impl Work for Floor {
    fn round(&mut self) -> io::Result<()> {
        self.dump()
    }
}

/// The running kernel, over one socket.
struct OneSocket;

impl Kernel for OneSocket {
    fn exists(&mut self, path: &str) -> bool {
        Running.exists(path)
    }

    fn read(&mut self, path: &str) -> io::Result<String> {
        Running.read(path)
    }

    fn open(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Running.open(timeout)
    }

    fn open_routes(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Running.open_routes(timeout)
    }
}

/// What `collect` does for each gather, up to the lines.
struct Gather {
    /// Whether it is of the full schema.
    full: bool,
    reader: Reader,
    snapshot: Snapshot,
    probes: Option<Probes>,
    activity: Activity,
    correlator: Correlator,
    points: Points,
    encoder: Encoder,
}

impl Gather {
    fn new(kernel: Box<dyn Kernel>, telegraf: bool, probes: bool, table: Table) -> io::Result<Self> {
        let (usual, all) = (Sizes::default(), table.services * table.destinations);
        let netns = netlink::namespace()?;
        let probes = probes.then(|| {
            Probes::attach(&ProbeSettings {
                mode: ProbeMode::On,
                sizes: Sizes {
                    services: usual.services.max(table.services as u32),
                    destinations: usual.destinations.max(all as u32),
                    ..usual
                },
                namespaces: vec![netns],
                ..ProbeSettings::default()
            })
        });
        if probes
            .as_ref()
            .is_some_and(|probes| !probes.availability().complete())
        {
            return Err(io::Error::other("not all probes can be attached"));
        }
        Ok(Self {
            full: !telegraf,
            reader: Reader::new(kernel),
            snapshot: Snapshot::default(),
            probes,
            activity: Activity::default(),
            correlator: Correlator::new(netns),
            points: Points::new(if telegraf { Schema::Telegraf } else { Schema::Full }, None),
            // A reader that keeps up.
            encoder: Encoder::handing_out(false, drop),
        })
    }
}

impl Work for Gather {
    fn round(&mut self) -> io::Result<()> {
        const SOME_TIME: u64 = 1_700_000_000_000_000_000;
        self.reader
            .read(&mut self.snapshot, &|_| true)
            .map_err(io::Error::other)?;
        if self.full {
            self.reader.read_surroundings(&mut self.snapshot);
        }
        if let Some(probes) = &mut self.probes {
            probes.refresh();
            probes.read(&mut self.activity);
        }
        let seen = self.probes.is_some().then_some(Seen {
            activity: &self.activity,
            correlator: &self.correlator,
        });
        self.points
            .snapshot(&mut self.encoder, &self.snapshot, seen, None, false, SOME_TIME);
        self.encoder.finish();
        Ok(())
    }
}
