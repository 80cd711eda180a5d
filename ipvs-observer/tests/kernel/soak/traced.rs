//! `trace`, and each decision that it tells of.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::{ChildStderr, ChildStdout, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use ipvs_observer::log::counted;
use rustix::process::Signal;
use serde_json::Value as Json;

use super::sender::Source;
use crate::{observer, watched::Process};

/// What was told so far.
#[derive(Default)]
pub struct Told {
    /// Of whose connection, since this was last emptied.
    pub sources: HashSet<Source>,
    /// All decisions.
    pub decisions: u64,
    /// Those with the time that their scheduler took.
    pub timed: u64,
    pub changes: u64,
    pub lost_decisions: u64,
    /// Decisions that no probe ran for.
    pub skipped: u64,
    pub lost_changes: u64,
}

impl Told {
    /// Decisions that were made and are not told.
    pub fn untold(&self) -> u64 {
        self.lost_decisions + self.skipped
    }
}

pub struct Traced {
    pub process: Process,
    told: Arc<Mutex<Told>>,
    reader: JoinHandle<()>,
    attached: Arc<AtomicUsize>,
    said: JoinHandle<String>,
}

impl Traced {
    /// With little room, so that something is lost.
    pub fn start() -> Self {
        let mut command = observer::command(&["trace", "--format", "json", "--ring", "32KiB"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ipvs-observer is in the lab's PATH");
        let stdout = child.stdout.take().expect("piped");
        let stderr: ChildStderr = child.stderr.take().expect("piped");
        let told = Arc::default();
        let found = Arc::clone(&told);
        let attached = Arc::<AtomicUsize>::default();
        let begun = Arc::clone(&attached);
        Self {
            process: Process(child),
            told,
            reader: thread::spawn(move || read(stdout, &found)),
            attached,
            said: thread::spawn(move || {
                let lines = BufReader::new(stderr).lines().map(|line| line.expect("text"));
                lines
                    .inspect(|line| {
                        let begins = line.contains("probes attached");
                        begun.fetch_add(usize::from(begins), Ordering::Relaxed);
                    })
                    .map(|line| line + "\n")
                    .collect()
            }),
        }
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        assert!(!self.reader.is_finished(), "the reader of the trace has ended");
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it has said that all that happens from then on is traced.
    pub fn attached(&self) -> usize {
        self.attached.load(Ordering::Relaxed)
    }

    /// Ends it well, and holds its last words against what it said before.
    pub fn end(mut self) -> String {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        let said = self.said.join().expect("a reader");
        assert!(status.success() && !said.contains("panicked"), "{status}: {said}");
        self.reader.join().expect("a reader");
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = format!(
            "{} and {} shown; lost: {}, {}, 0 lists of candidates, 0 lines",
            counted(told.decisions, "decision"),
            counted(told.changes, "change"),
            counted(told.lost_decisions, "decision"),
            counted(told.lost_changes, "change")
        );
        let last = said.lines().last().expect("a summary");
        assert!(last.contains(&expected), "{last}, where there were {expected}");
        expected
    }
}

fn read(stdout: ChildStdout, told: &Mutex<Told>) {
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("text");
        let object: Json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        match object["kind"].as_str() {
            Some("decision") => {
                told.decisions += 1;
                told.timed += u64::from(!object["ns"].is_null());
                let source = source(&object["client"]).unwrap_or_else(|| panic!("a client in {line}"));
                assert!(told.sources.insert(source), "twice: {line}");
            }
            Some("change") => told.changes += 1,
            Some("lost") => {
                told.lost_decisions += object["decisions"].as_u64().expect("a number");
                told.skipped += object["skipped"].as_u64().expect("a number");
                told.lost_changes += object["changes"].as_u64().expect("a number");
            }
            _ => panic!("another kind: {line}"),
        }
    }
}

fn source(client: &Json) -> Option<Source> {
    let address = client["address"].as_str()?.parse().ok()?;
    Some((address, client["port"].as_u64()?.try_into().ok()?))
}
