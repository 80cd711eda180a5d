//! Where lines go: standard output and Unix sockets, several at once.
//!
//! Owns: getting whole lines out in order, keeping them while an output is away, and counting what is dropped.
//! Refuses to know: what the lines say.

mod backlog;
mod lane;
mod sink;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Notify;

pub use lane::{Counters, Left};
pub use sink::Target;

use lane::Lane;

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

    /// Hands whole lines to every output. Never waits.
    pub fn send(&self, lines: &Bytes) {
        for lane in &self.lanes {
            lane.send(lines.clone());
        }
    }

    /// Comes when the reader of standard output went away: nobody wants more lines, and that is a quiet end.
    pub fn gone(&self) -> impl Future<Output = ()> + use<> {
        let gone = Arc::clone(&self.gone);
        async move { gone.notified().await }
    }

    /// What all outputs together have done.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for lane in &self.lanes {
            sum.add(lane.counters());
        }
        sum
    }

    /// Waits until all lines are out, at most so long.
    ///
    /// # Errors
    /// Lines are left, and lost when the process ends.
    pub fn drain(&self, longest: Duration) -> Result<(), Left> {
        let until = Instant::now() + longest;
        self.lanes.iter().try_for_each(|lane| lane.drain(until))
    }
}
