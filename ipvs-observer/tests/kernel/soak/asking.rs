//! `collect` that gathers when it is asked by a signal.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    observer::only,
    watched::{PATIENCE, Watched},
};

pub struct Asking {
    watched: Watched,
    signal: Signal,
    gathers: usize,
}

impl Asking {
    /// Without probes: what is asked for is a gather.
    pub fn start(signal: Signal) -> Self {
        let name = if signal == Signal::HUP {
            "sighup"
        } else {
            "sigusr1"
        };
        let watched = Watched::start(&["--trigger", name, "--probes", "off"]);
        // Until it listens, the signal would end it.
        let begin = Instant::now();
        while !listens(&watched, signal) {
            assert!(begin.elapsed() < PATIENCE, "it never listens to {name}");
            thread::sleep(Duration::from_millis(20));
        }
        Self {
            watched,
            signal,
            gathers: 0,
        }
    }

    /// A signal is one gather, whole, and there is none without.
    pub fn ask(&mut self) {
        assert_eq!(
            self.watched.count(),
            self.gathers,
            "a gather that nobody asked for"
        );
        self.watched.process.signal(self.signal);
        let (gather, _) = self.watched.shown("what was asked for", |_| true);
        self.gathers += 1;
        assert_eq!(
            only(&gather, "ipvs_observer").number("dump_errors"),
            0,
            "{gather:?}"
        );
    }

    pub fn end(self) {
        assert_eq!(
            self.watched.count(),
            self.gathers,
            "a gather that nobody asked for"
        );
        let said = self.watched.end();
        assert!(!said.contains("E! "), "{said}");
    }
}

fn listens(watched: &Watched, signal: Signal) -> bool {
    let path = format!("/proc/{}/status", watched.process.0.id());
    let status = fs::read_to_string(path).expect("it runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.expect("a set").trim(), 16).expect("a set");
    caught >> (signal.as_raw() - 1) & 1 == 1
}
