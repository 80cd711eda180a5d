//! Where lines go: standard output and Unix sockets, several at once.
//!
//! Owns: getting whole lines out in order, keeping them while an output is away, and counting what is dropped.
//! Refuses to know: what the lines say.

mod backlog;
mod lane;
mod piece;
mod sink;

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::sync::Notify;

pub use lane::{Left, Pending};
pub use sink::Target;

use lane::Lane;

use crate::model::OutputCounters;

/// All outputs of a run.
#[derive(Debug)]
pub struct Outputs {
    lanes: Vec<Lane>,
    gone: Arc<Notify>,
}

impl Outputs {
    /// Starts the outputs, each with a backlog of `limit` bytes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(targets: &[Target], limit: usize) -> io::Result<Self> {
        let gone = Arc::new(Notify::new());
        let start = |target: &Target| Lane::start(target.clone(), limit, Arc::clone(&gone));
        let lanes = targets.iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { lanes, gone })
    }

    /// Begins a batch of lines. The newest is kept whole, however long it is, for an output that is away.
    pub fn begin(&self) {
        for lane in &self.lanes {
            lane.begin();
        }
    }

    /// Hands whole lines of the batch to every output. Never waits.
    pub fn add(&self, lines: &Bytes) {
        for lane in &self.lanes {
            lane.add(lines.clone());
        }
    }

    /// Hands whole lines that are a batch to every output. Never waits.
    pub fn send(&self, lines: &Bytes) {
        self.begin();
        self.add(lines);
    }

    /// Returns when the reader of standard output went away: nobody wants more lines.
    pub async fn gone(&self) -> io::Error {
        self.gone.notified().await;
        io::ErrorKind::BrokenPipe.into()
    }

    /// What all outputs together have done.
    pub fn counters(&self) -> OutputCounters {
        let mut sum = OutputCounters::default();
        for lane in &self.lanes {
            sum.add(lane.counters());
        }
        sum
    }

    /// Whether lines wait to be written; where some go out and others do not, that some go out.
    pub fn pending(&self) -> Pending {
        let lanes = self.lanes.iter().map(Lane::pending);
        lanes.max().unwrap_or(Pending::Nothing)
    }

    /// The lines that are not out, by output: lost when the process ends.
    pub fn left(&self) -> Vec<Left> {
        self.lanes.iter().filter_map(Lane::left).collect()
    }
}
