//! A long run: changes, traffic, readers that come and go, modules and namespaces that go and come, at random and the
//! same for the same seed. Nothing grows, and what was seen and what was lost is what was made.
//!
//! `cargo xtask soak` runs it, for as long as it is told to.

mod actions;
mod asking;
mod checks;
mod collected;
pub mod footprint;
mod random;
mod sender;
mod slots;
mod table;
mod traced;

use std::{
    collections::{BTreeSet, HashSet},
    env, thread,
    time::{Duration, Instant, SystemTime},
};

use actions::Removal;
use asking::Asking;
use collected::{Collected, Order};
use footprint::Memory;
use random::Random;
use rustix::process::Signal;
use sender::{Sender, Source};
use table::{LASTING, PASSING, Table};
use traced::Traced;

use crate::{
    abilities::telling, faults::in_the_kernel, ipvsadm, observer::only, scheduler, support::child::shell,
    watched::PATIENCE,
};

/// Resident memory in KiB beyond which either process is wrong, whatever was before.
const CEILING: u64 = 64 << 10;
/// A service of which only the probes' coming is seen.
const PROBED: &str = "10.9.0.1:7199";
/// When the kernel has summed up its counters, which it does every two seconds, and the trace has told what it lost.
const QUIET: Duration = Duration::from_millis(2500);

/// What happens at random, at least.
const LEAST: Duration = Duration::from_secs(40);

/// What is asked of the run.
struct Asked {
    time: Duration,
    seed: u64,
}

impl Asked {
    fn read() -> Self {
        let number = |name: &str| -> Option<u64> {
            let text = env::var(name).ok()?;
            Some(
                text.parse()
                    .unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")),
            )
        };
        Self {
            time: Duration::from_mins(number("IPVS_SOAK_MINUTES").unwrap_or(2)),
            seed: number("IPVS_SOAK_SEED").unwrap_or_else(|| {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                now.expect("after 1970").as_nanos() as u64 % 1_000_000_000
            }),
        }
    }
}

/// What came of it.
#[derive(Default, Debug)]
struct Sums {
    actions: u64,
    /// Connections made while the trace had its probes; those that it told of, and those that it told to be lost.
    made: u64,
    seen: u64,
    lost: u64,
    /// Changes made while either program had its probes, and those that either told to be lost.
    changes: u64,
    changes_lost: u64,
    /// Connections that the kernel had counted, and collect as many, at each rest anew.
    counted: u64,
    /// Entries of the kernel's table, which are those that began and did not end, at each rest anew.
    entries: u64,
    checks: u64,
    clearings: u64,
    reloads: u64,
    schedulers: u64,
    namespaces: u64,
    signals: u64,
    /// Slots that were ever given, of services and real servers, by either program's probes, at most.
    slots: [u32; 2],
    /// Until the table was gathered again after `ip_vs` came, and until all probes were attached, at worst.
    back: Duration,
    attached: Duration,
}

/// The service that tells when all probes are there.
fn probed() {
    ipvsadm::restore(&format!(
        "-A -u {PROBED} -s {LASTING}\n-a -u {PROBED} -r 10.8.0.1:7000 -m\n"
    ));
}

/// Changes that were made, and those that either program told and told to be lost.
#[derive(Default)]
struct Changes {
    made: u64,
    collected: (u64, u64),
    traced: (u64, u64),
}

/// The run.
struct Soak {
    random: Random,
    table: Table,
    sender: Sender,
    collected: Collected,
    traced: Traced,
    asked: [Asking; 2],
    /// Connections since the trace's account was last looked at, and what it had lost by then.
    made: HashSet<Source>,
    lost_before: u64,
    changes: Changes,
    others: BTreeSet<u64>,
    /// How often the trace has begun.
    begins: usize,
    descriptors: Option<[usize; 2]>,
    sums: Sums,
}

impl Soak {
    fn start(seed: u64) -> Self {
        shell("modprobe ip_vs");
        scheduler::real_servers();
        let others = footprint::maps();
        Self {
            random: Random::new(seed),
            table: Table::new(),
            sender: Sender::new(),
            collected: Collected::start(),
            traced: Traced::start(),
            asked: [Signal::USR1, Signal::HUP].map(Asking::start),
            made: HashSet::new(),
            lost_before: 0,
            changes: Changes::default(),
            others,
            begins: 0,
            descriptors: None,
            sums: Sums::default(),
        }
    }

    /// Waits for all probes, and begins with a table that they saw coming.
    fn begin(&mut self) {
        let begin = Instant::now();
        for module in PASSING.into_iter().chain([LASTING]) {
            assert!(
                scheduler::modprobe(&format!("ip_vs_{module}")),
                "{module} is in every kernel"
            );
        }
        // Short, so that a million connections do not stay.
        ipvsadm::run(&["--set", "900", "10", "4"]);
        self.collected.until("all probes", |gather| {
            let line = only(gather, "ipvs_observer");
            line.text("status") == "ok" && line.number("probes") > 0 && line.number("probes_missing") == 0
        });
        // What is scheduled meanwhile would leave something on its kernel stack, for the next packet there.
        self.begins += 1;
        while self.traced.attached() < self.begins {
            assert!(begin.elapsed() < PATIENCE, "the trace does not begin");
            thread::sleep(Duration::from_millis(50));
        }
        let timed = self.traced.told().timed;
        let mut unaccounted = HashSet::new();
        while self.traced.told().timed == timed {
            assert!(begin.elapsed() < PATIENCE, "nothing is traced");
            self.sender.datagrams(PROBED, 1, false, &mut unaccounted);
            thread::sleep(Duration::from_millis(200));
        }
        self.sums.attached = self.sums.attached.max(begin.elapsed());
        thread::sleep(QUIET);
        let mut told = self.traced.told();
        told.sources.clear();
        self.lost_before = told.untold();
        drop(told);
        self.made.clear();
        self.changes = self.changes_now();
        self.table.restore(&mut self.random);
    }

    /// Everything once, so that what is taken for good is taken.
    fn warm_up(&mut self) {
        probed();
        self.begin();
        self.check();
        self.collected.order(Order::Stall(Duration::from_secs(8)));
        self.flood();
        for _ in 0..5 {
            self.datagrams();
            self.connections();
            self.table.change(&mut self.random);
        }
        self.namespace();
        self.stop_for_a_while();
        self.ask();
        self.ask();
        self.check();
        self.clear();
        self.scheduler_goes();
        self.datagrams();
        self.reload(Removal::Unread);
        self.check();
    }
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn nothing_grows_and_nothing_is_lost_unaccounted_in_a_long_run_of_everything_at_random() {
    let Asked { time, seed } = Asked::read();
    println!("seed {seed}, {} minutes", time.as_secs() / 60);
    shell("modprobe ip_vs");
    assert!(
        telling(),
        "a long run is of all that there is, and this kernel tells nothing of modules: take one from 6.1 on"
    );
    let before = in_the_kernel();
    let begin = Instant::now();
    let mut soak = Soak::start(seed);
    soak.warm_up();
    let warm = begin.elapsed();
    let memory = [
        Memory::watch("collect", soak.collected.process.pid()),
        Memory::watch("trace", soak.traced.process.pid()),
    ];
    // At least as long as it takes to compare one part with another.
    let end = (begin + time).max(Instant::now() + LEAST);
    while Instant::now() < end {
        soak.act();
    }
    soak.check();
    soak.clear();
    for memory in memory {
        memory.judge(CEILING);
    }
    let Soak {
        collected,
        traced,
        asked,
        sums,
        ..
    } = soak;
    asked.into_iter().for_each(Asking::end);
    println!("trace: {}", traced.end());
    println!("collect: {}", collected.end());
    println!("warm after {warm:?}, {:?} in all: {sums:?}", begin.elapsed());
    assert_eq!(sums.seen + sums.lost, sums.made);
    assert!(
        sums.lost > 0,
        "nothing was ever lost, so that its account was not looked at"
    );
    let begin = Instant::now();
    while in_the_kernel() != before {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{:?} is left where there was {before:?}",
            in_the_kernel()
        );
        thread::sleep(Duration::from_millis(200));
    }
    ipvsadm::run(&["-C"]);
}
