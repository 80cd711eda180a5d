//! Moments of rest, at which everything is held against what it should be.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use super::{Changes, QUIET, Soak, footprint};
use crate::{
    ipvsadm,
    observer::{of, only, service},
    support::lines::Line,
    watched::PATIENCE,
};

/// What begins an entry, where nothing is bypassed, is of FTP or comes from another director.
const BEGUN: [&str; 4] = ["schedule_picks", "template_hits", "begun_by_server", "taken_over"];

/// Connections in the kernel's table by service.
fn entries() -> BTreeMap<String, u64> {
    let mut entries = BTreeMap::new();
    for row in ipvsadm::entries() {
        if !row.is_template() {
            let service = format!("{} {}", row.protocol, row.virtual_address);
            *entries.entry(service).or_default() += 1;
        }
    }
    entries
}

/// Runs of probes that the kernel left out, and said so: each may be one that is not counted.
fn missed(gather: &[Line]) -> u64 {
    only(gather, "ipvs_observer").number_if_any("probe_runs_missed")
}

impl Soak {
    /// What the trace told of, and what it told to be lost, is what was made.
    pub(super) fn account(&mut self) {
        let begin = Instant::now();
        let count = self.made.len() as u64;
        let sum = |soak: &Self| {
            let told = soak.traced.told();
            (told.sources.len() as u64, told.untold() - soak.lost_before)
        };
        while {
            let (seen, lost) = sum(self);
            seen + lost < count && begin.elapsed() < Duration::from_secs(15)
        } {
            thread::sleep(Duration::from_millis(50));
        }
        // And not more than that.
        thread::sleep(QUIET);
        let (seen, lost) = sum(self);
        assert_eq!(
            seen + lost,
            count,
            "{seen} seen, {lost} lost; the kernel left out {} runs of the trace's programs",
            footprint::runs_left_out(self.traced.process.pid())
        );
        let mut told = self.traced.told();
        let never: Vec<_> = told.sources.difference(&self.made).collect();
        assert!(never.is_empty(), "of nobody's connection: {never:?}");
        told.sources.clear();
        self.lost_before = told.untold();
        drop(told);
        self.made.clear();
        self.sums.made += count;
        self.sums.seen += seen;
        self.sums.lost += lost;
        self.account_for_changes();
    }

    /// And of the changes, either program: each is told, or told to be lost.
    fn account_for_changes(&mut self) {
        let begin = Instant::now();
        let made = self.table.changes - self.changes.made;
        let sum = |soak: &Self| {
            let ((collected, lost), traced) = (soak.collected.changes(), soak.traced.told());
            let since = &soak.changes;
            [
                (collected - since.collected.0, lost - since.collected.1),
                (
                    traced.changes - since.traced.0,
                    traced.lost_changes - since.traced.1,
                ),
            ]
        };
        while sum(self).iter().any(|(seen, lost)| seen + lost != made) {
            assert!(
                begin.elapsed() < Duration::from_secs(15),
                "{made} changes were made; shown and lost of them by collect and trace: {:?}",
                sum(self)
            );
            thread::sleep(Duration::from_millis(50));
        }
        self.sums.changes += made;
        self.sums.changes_lost += sum(self).iter().map(|(_, lost)| lost).sum::<u64>();
        self.changes = self.changes_now();
    }

    /// What was made, and told, up to now.
    pub(super) fn changes_now(&self) -> Changes {
        let traced = self.traced.told();
        Changes {
            made: self.table.changes,
            collected: self.collected.changes(),
            traced: (traced.changes, traced.lost_changes),
        }
    }

    /// A moment of rest, at which everything is held against what it should be.
    pub(super) fn check(&mut self) {
        self.sums.checks += 1;
        self.sender.let_go();
        self.account();
        let table = ipvsadm::list(&["--stats", "--exact"]);
        self.sums.counted += self.within(Duration::from_secs(6), |soak, gather, _| {
            soak.counters(gather, &table)
        });
        // What began a moment ago and ends by its timeout ends first.
        self.sums.entries += self.within(Duration::from_secs(15), Self::balance);
        self.descriptors();
    }

    /// What a look at a gather says, with the entries before it, once it finds nothing wrong.
    fn within(
        &self,
        longest: Duration,
        look: impl Fn(&Self, &[Line], &BTreeMap<String, u64>) -> Result<u64, String>,
    ) -> u64 {
        let begin = Instant::now();
        loop {
            let before = entries();
            let gather = self.collected.until("all probes", |gather| {
                only(gather, "ipvs_observer").text("status") == "ok"
            });
            match look(self, &gather, &before) {
                Ok(sum) => return sum,
                Err(error) => assert!(
                    begin.elapsed() < longest,
                    "{error}; the kernel left out {} runs of collect's programs",
                    footprint::runs_left_out(self.collected.process.pid())
                ),
            }
        }
    }

    /// Holds what began and did not end against the entries of the kernel's table, which are returned.
    fn balance(&self, gather: &[Line], before: &BTreeMap<String, u64>) -> Result<u64, String> {
        let after = entries();
        let mut sum = 0;
        for server in &self.table.services {
            let name = server.name();
            let [before, after] = [before, &after].map(|entries| entries.get(&name).copied().unwrap_or(0));
            if before != after {
                return Err(format!("entries of {name} end: {before}, and then {after}"));
            }
            let line = of(gather, "ipvs_virtual_server").find(|line| service(line, "") == name);
            let line = line.ok_or_else(|| format!("{name} is not in the gather"))?;
            let begun: u64 = BEGUN.map(|field| line.number(field)).iter().sum();
            let counted = begun - line.number("ended");
            if counted.abs_diff(after) > missed(gather) {
                return Err(format!(
                    "{name} has {after} entries, and counts {counted} of {begun}: {line:?}"
                ));
            }
            sum += after;
        }
        Ok(sum)
    }

    /// Holds a gather against the kernel's own counters.
    fn counters(&self, gather: &[Line], table: &BTreeMap<String, ipvsadm::Entry>) -> Result<u64, String> {
        let mut counted = 0;
        let missed = missed(gather);
        for server in &self.table.services {
            let name = server.name();
            let entry = table
                .get(&name)
                .ok_or_else(|| format!("{name} is not in the table"))?;
            let connections = entry.numbers()[0];
            let line = of(gather, "ipvs_virtual_server")
                .find(|line| service(line, "") == name)
                .ok_or_else(|| format!("{name} is not in the gather"))?;
            let told: u64 = BEGUN.map(|field| line.number(field)).iter().sum();
            if !(told..=told + missed).contains(&connections) {
                return Err(format!(
                    "{name} has {connections} connections, and counts {told}: {line:?}"
                ));
            }
            counted += connections;
            if !server.picks_alone() {
                continue;
            }
            for real in of(gather, "ipvs_real_server").filter(|line| service(line, "virtual_") == name) {
                let to = format!("{}:{}", real.tag("address"), real.tag("port"));
                let kernel = ipvsadm::numbers(&entry.destinations[&to])[0];
                let picks = real.number("picks");
                if !(picks..=picks + missed).contains(&kernel) {
                    return Err(format!(
                        "{name} -> {to} has {kernel} connections, and {picks} picks"
                    ));
                }
            }
        }
        Ok(counted)
    }

    /// As many descriptors are open as ever when everything is there.
    fn descriptors(&mut self) {
        let count = |soak: &Self| {
            [soak.collected.process.pid(), soak.traced.process.pid()].map(footprint::descriptors)
        };
        let begin = Instant::now();
        let Some(usual) = self.descriptors else {
            self.descriptors = Some(count(self));
            return;
        };
        while count(self) != usual {
            assert!(
                begin.elapsed() < PATIENCE,
                "{:?} descriptors where there were {usual:?}",
                count(self)
            );
            thread::sleep(Duration::from_millis(200));
        }
    }
}
