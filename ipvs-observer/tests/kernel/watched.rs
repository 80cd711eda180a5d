//! The program, running while something befalls it, and the gathers that it writes.

use std::{
    io::{self, BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    observer,
    support::{
        child,
        lines::{self, Line},
    },
};

/// Attaching takes seconds where the processor is emulated.
pub const PATIENCE: Duration = Duration::from_secs(90);

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
        let said = thread::spawn(move || io::read_to_string(stderr).expect("text"));
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

/// The program, running, and what it says on stderr.
pub struct Speaking {
    pub process: Process,
    messages: Receiver<String>,
    said: Vec<String>,
}

impl Speaking {
    pub fn start(command: Command) -> Self {
        Self::writing_to(Stdio::piped(), command)
    }

    pub fn writing_to(output: Stdio, mut command: Command) -> Self {
        let mut child = command
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let messages = child::lines(child.stderr.take().expect("piped"));
        Self {
            process: Process(child),
            messages,
            said: Vec::new(),
        }
    }

    /// Waits for a message.
    pub fn until(&mut self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self
                .messages
                .recv_timeout(left)
                .unwrap_or_else(|error| panic!("{words}: {error} after {:?}", self.said));
            self.said.push(message.clone());
            if message.contains(words) {
                return message;
            }
        }
    }

    /// Its exit status once it has ended by itself, and all its messages.
    pub fn ends(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + PATIENCE;
        while self.process.0.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < until, "it goes on: {:?}", self.said);
            thread::sleep(Duration::from_millis(20));
        }
        self.said.extend(self.messages.iter());
        (self.process.wait().code(), self.said.join("\n"))
    }

    /// Tells it to end, and returns what it wrote.
    pub fn stop(mut self) -> String {
        self.process.signal(Signal::TERM);
        let stdout = self.process.0.stdout.take().expect("piped");
        let output = io::read_to_string(stdout).expect("text");
        assert!(self.process.wait().success());
        output
    }
}
