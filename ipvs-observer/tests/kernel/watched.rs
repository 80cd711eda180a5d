//! The program, running while something befalls it, and the gathers that it writes.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    observer,
    support::lines::{self, Line},
};

/// Attaching takes seconds where the processor is emulated.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A process that ends with the test, also where that fails: its probes would be in the way of the next.
pub struct Process(pub Child);

impl Process {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("it ends")
    }

    /// Processor time so far, of all threads.
    pub fn processor(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.0.id());
        let text = std::fs::read_to_string(path).expect("it runs");
        let words: Vec<_> = text
            .rsplit_once(')')
            .expect("a name")
            .1
            .split_whitespace()
            .collect();
        let ticks: u64 = words[11..13]
            .iter()
            .map(|word| word.parse::<u64>().expect("ticks"))
            .sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, running, and the lines that it has written.
pub struct Watched {
    pub process: Process,
    gathers: Arc<Mutex<Vec<Vec<Line>>>>,
    said: Option<thread::JoinHandle<String>>,
}

impl Watched {
    pub fn start(args: &[&str]) -> Self {
        Self::of(observer::command(&[&["collect"], args].concat()))
    }

    pub fn of(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ipvs-observer is in the lab's PATH");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = child.stderr.take().expect("piped");
        let gathers = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&gathers);
        thread::spawn(move || {
            let mut gather = Vec::new();
            for line in stdout.lines() {
                gather.extend(lines::parse(&(line.expect("text") + "\n")));
                if gather
                    .last()
                    .is_some_and(|line| line.measurement == "ipvs_observer")
                {
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(std::mem::take(&mut gather));
                }
            }
            // What is left is of a gather that the end gave up.
        });
        let said = thread::spawn(move || std::io::read_to_string(stderr).expect("text"));
        Self {
            process: Process(child),
            gathers,
            said: Some(said),
        }
    }

    pub fn all(&self) -> Vec<Vec<Line>> {
        self.gathers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn count(&self) -> usize {
        self.gathers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for a gather, begun from now on, that is as wanted, and says how long that took.
    pub fn until(&self, what: &str, wanted: impl Fn(&[Line]) -> bool) -> (Vec<Line>, Duration) {
        // One may be under way.
        self.from(self.count() + 1, what, wanted)
    }

    /// The same, where none is under way or the one that is cannot be as wanted.
    pub fn shown(&self, what: &str, wanted: impl Fn(&[Line]) -> bool) -> (Vec<Line>, Duration) {
        self.from(self.count(), what, wanted)
    }

    fn from(&self, from: usize, what: &str, wanted: impl Fn(&[Line]) -> bool) -> (Vec<Line>, Duration) {
        let begin = Instant::now();
        loop {
            let all = self.all();
            if let Some(gather) = all
                .get(from..)
                .and_then(|new| new.iter().find(|gather| wanted(gather)))
            {
                return (gather.clone(), begin.elapsed());
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: {:?}", all.last());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it well and returns what it said.
    pub fn end(mut self) -> String {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        let said = self.said.take().expect("one end").join().expect("a reader");
        assert!(status.success(), "{status}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }
}
