//! What a process holds of memory and descriptors, and what there is of it in the kernel's maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::Pid;
use serde_json::Value as Json;

/// Memory that a third of a run may have more than another, in KiB: what an allocator keeps back.
const SLACK: u64 = 1024;

/// Open descriptors.
pub fn descriptors(pid: Pid) -> usize {
    let path = format!("/proc/{}/fd", pid.as_raw_nonzero());
    fs::read_dir(path).expect("it runs").count()
}

/// Runs of programs that the kernel left out, where it counts them for kprobes: a help with a sum that is not even.
pub fn runs_left_out(pid: Pid) -> u64 {
    let folder = format!("/proc/{}/fdinfo", pid.as_raw_nonzero());
    let entries = fs::read_dir(folder).expect("it runs").flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("recursion_misses:"))?;
            line.trim().parse::<u64>().ok()
        })
        .sum()
}

fn resident(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Resident memory of a process in KiB, once a second.
pub struct Memory {
    name: &'static str,
    going: Arc<AtomicBool>,
    samples: JoinHandle<Vec<u64>>,
}

impl Memory {
    pub fn watch(name: &'static str, pid: Pid) -> Self {
        let going = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&going);
        let samples = thread::spawn(move || {
            let mut samples = Vec::new();
            while on.load(Ordering::Relaxed) {
                samples.extend(resident(pid));
                thread::sleep(Duration::from_secs(1));
            }
            samples
        });
        Self { name, going, samples }
    }

    /// The last third of the time takes no more than the first, and at no time was it more than `ceiling`.
    pub fn judge(self, ceiling: u64) {
        self.going.store(false, Ordering::Relaxed);
        let samples = self.samples.join().expect("a reader");
        assert!(samples.len() > 9, "{} samples", samples.len());
        let third = samples.len() / 3;
        let (first, last) = (
            median(&samples[..third]),
            median(&samples[samples.len() - third..]),
        );
        let most = samples.iter().max().copied().unwrap_or_default();
        println!(
            "{}: resident {first} KiB in the first third, {last} KiB in the last, {most} KiB at most",
            self.name
        );
        assert!(last <= first + SLACK, "{} grows: {samples:?}", self.name);
        assert!(most <= ceiling, "{} takes {most} KiB", self.name);
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn bpftool(arguments: &[&str]) -> Json {
    let output = Command::new("bpftool").arg("-j").args(arguments).output();
    let output = output.expect("bpftool is in the lab");
    serde_json::from_slice(&output.stdout).unwrap_or(Json::Null)
}

/// A map of the kernel.
pub struct Listed {
    pub id: u64,
    pub name: String,
    pub kind: String,
    /// The most entries that it can have.
    pub size: u32,
}

/// All maps of the kernel.
pub fn listed() -> Vec<Listed> {
    let listed = bpftool(&["map", "show"]);
    let text = |map: &Json, field: &str| map[field].as_str().unwrap_or_default().to_owned();
    let maps = listed.as_array().expect("a list").iter();
    maps.map(|map| Listed {
        id: map["id"].as_u64().expect("a number"),
        name: text(map, "name"),
        kind: text(map, "type"),
        size: map["max_entries"].as_u64().unwrap_or_default() as u32,
    })
    .collect()
}

/// Their numbers.
pub fn maps() -> BTreeSet<u64> {
    listed().iter().map(|map| map.id).collect()
}

/// Entries of the maps whose entries come and go, by name and number, but for `others`. To be asked while nothing is
/// scheduled: beside a reader of maps the kernel leaves programs out.
pub fn entries(others: &BTreeSet<u64>) -> BTreeMap<String, usize> {
    let mut entries = BTreeMap::new();
    for map in listed() {
        if others.contains(&map.id) || !map.kind.ends_with("hash") {
            continue;
        }
        // One that went meanwhile has none.
        let there = bpftool(&["map", "dump", "id", &map.id.to_string()]);
        let count = there.as_array().map_or(0, Vec::len);
        entries.insert(format!("{}[{}]", map.name, map.id), count);
    }
    entries
}
