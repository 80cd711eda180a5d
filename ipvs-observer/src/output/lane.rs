//! One output with its backlog and a thread of its own: one that is away or slow delays nobody else.

use std::{
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use tokio::sync::Notify;

use super::{
    backlog::Backlog,
    piece::lines,
    sink::{Sink, Target},
};
use crate::{log, model::OutputCounters, privilege};

/// The waits between attempts to get an output back: each twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

impl OutputCounters {
    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        self.reconnects += other.reconnects;
    }
}

/// What the lane's thread and the others share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    backlog: Backlog,
    counters: OutputCounters,
    /// Lines taken from the backlog and not written yet.
    in_flight: u64,
    /// Nobody reads any more, and nobody will.
    closed: bool,
    /// Why nothing goes out just now.
    away: Option<String>,
    stopping: bool,
}

impl State {
    /// Everything is out, or nobody wants it.
    fn is_done(&self) -> bool {
        self.closed || (self.backlog.is_empty() && self.in_flight == 0)
    }
}

/// Whether lines wait to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pending {
    /// None.
    Nothing,
    /// Some, and their output refuses them.
    Away,
    /// Some, and they go out.
    Slow,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An output and its thread.
#[derive(Debug)]
pub(super) struct Lane {
    target: Target,
    shared: Arc<Shared>,
}

impl Lane {
    /// Starts it. It opens its output when there is something to write.
    pub(super) fn start(target: Target, limit: usize, gone: Arc<Notify>) -> io::Result<Self> {
        let state = State {
            backlog: Backlog::new(limit),
            counters: OutputCounters::default(),
            in_flight: 0,
            closed: false,
            away: None,
            stopping: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let worker = Worker {
            target: target.clone(),
            shared: Arc::clone(&shared),
            gone,
            sink: None,
            chunk: Bytes::new(),
            line: Bytes::new(),
            wait: FIRST_WAIT,
            told: false,
        };
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            privilege::only_write();
            worker.run();
        })?;
        Ok(Self { target, shared })
    }

    /// Begins a batch.
    pub(super) fn begin(&self) {
        self.shared.lock().backlog.begin();
    }

    /// Hands over whole lines of the batch.
    pub(super) fn add(&self, lines: Bytes) {
        self.shared.lock().backlog.push(lines);
        self.shared.changed.notify_all();
    }

    /// What it has done.
    pub(super) fn counters(&self) -> OutputCounters {
        let state = self.shared.lock();
        OutputCounters {
            dropped: state.backlog.dropped(),
            ..state.counters
        }
    }

    /// Whether lines wait to be written, and if they do, why.
    pub(super) fn pending(&self) -> Pending {
        let state = self.shared.lock();
        match (state.is_done(), state.away.is_some()) {
            (true, _) => Pending::Nothing,
            (false, true) => Pending::Away,
            (false, false) => Pending::Slow,
        }
    }

    /// The lines that are not out. Counts them, which takes its time where they are many.
    pub(super) fn left(&self) -> Option<Left> {
        let state = self.shared.lock();
        if state.is_done() {
            return None;
        }
        Some(Left {
            output: self.target.to_string(),
            lines: state.backlog.waiting() + state.in_flight,
            reason: state
                .away
                .clone()
                .unwrap_or_else(|| "its reader does not read".to_owned()),
        })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
    }
}

/// Lines that did not go out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} could not be written to {output} and {} lost: {reason}",
    log::counted(*.lines, "line"),
    if *.lines == 1 { "is" } else { "are" }
)]
pub struct Left {
    output: String,
    lines: u64,
    reason: String,
}

struct Worker {
    target: Target,
    shared: Arc<Shared>,
    gone: Arc<Notify>,
    sink: Option<Sink>,
    /// What is being written.
    chunk: Bytes,
    /// The same from the beginning of the line under way, for a new connection.
    line: Bytes,
    wait: Duration,
    told: bool,
}

impl Worker {
    fn run(mut self) {
        while self.fill() {
            match self.step() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.target == Target::Stdout => {
                    self.shared.lock().closed = true;
                    self.gone.notify_one();
                    return;
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    /// Waits for something to write; false when there is nothing more to do.
    fn fill(&mut self) -> bool {
        let limit = self.sink.as_ref().map_or(1, Sink::chunk);
        let mut state = self.shared.lock();
        loop {
            if state.stopping {
                return false;
            }
            if !self.chunk.is_empty() {
                return true;
            }
            // Not open yet: whatever is first, and once it is open as much as it takes.
            if let Some(chunk) = state.backlog.take(limit) {
                state.in_flight = lines(&chunk);
                self.line = chunk.clone();
                self.chunk = chunk;
                return true;
            }
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn step(&mut self) -> io::Result<()> {
        if self.sink.is_none() {
            self.sink = Some(Sink::open(&self.target)?);
            self.chunk = self.line.clone();
        }
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let written = sink.write(&self.chunk)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.back();
        self.wait = FIRST_WAIT;
        self.chunk.advance(written);
        // A datagram goes whole; of a stream, the line under way begins behind the last newline written.
        let done = self.line.len() - self.chunk.len();
        let begun = self.line[..done]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        self.line.advance(begun);
        let mut state = self.shared.lock();
        state.counters.bytes += written as u64;
        state.in_flight = lines(&self.line);
        if self.chunk.is_empty() {
            self.line = Bytes::new();
            state.in_flight = 0;
        }
        Ok(())
    }

    /// Takes note that the output works, and tells of it if it did not.
    fn back(&mut self) {
        if !mem::take(&mut self.told) {
            return;
        }
        let mut state = self.shared.lock();
        state.away = None;
        state.counters.reconnects += 1;
        drop(state);
        log::write(log::Level::Info, &format!("{} takes lines again", self.target));
    }

    /// Takes note of a failure, tells of the first in a row, and waits before the next attempt.
    fn failed(&mut self, error: &io::Error) {
        let keeps = self.sink.as_ref().is_some_and(Sink::keeps_partial_lines);
        if !keeps {
            self.sink = None;
        }
        let mut state = self.shared.lock();
        state.away = Some(error.to_string());
        if !mem::replace(&mut self.told, true) {
            log::write(
                log::Level::Warning,
                &format!(
                    "{} does not take lines ({error}): they are kept, the oldest dropped when --backlog is full, \
                     and it is tried again",
                    self.target
                ),
            );
        }
        let deadline = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        while !state.stopping {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
