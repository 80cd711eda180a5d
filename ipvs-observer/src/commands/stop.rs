//! The word to stop, and what may still be done after it.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    log,
    output::{Outputs, Pending},
};

/// How long work under way may go on after the word to stop, and then its lines take to be written.
pub(super) const GRACE: Duration = Duration::from_millis(400);
/// How often it is looked whether the last lines are out.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// The signals that end the program.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Watches for them from now on.
    pub(super) fn install() -> anyhow::Result<Self> {
        let install =
            |kind| signal(kind).context("cannot watch for signals, so nothing could end the program well");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    /// Comes when one came.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The end: what can be written in a moment is, and it is said if something is left.
pub(super) async fn flush(outputs: &Outputs) {
    let until = Instant::now() + GRACE;
    while outputs.pending() != Pending::Nothing {
        if Instant::now() >= until {
            for left in outputs.left() {
                log::write(log::Level::Warning, &left.to_string());
            }
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}
