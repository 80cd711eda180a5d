//! `collect`: gather and write, until told to stop.

mod gather;

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    task,
};

use crate::{
    output::{self, Stdout},
    settings,
    trigger::Clock,
};
use gather::Gatherer;

/// How long a gather under way may go on after the word to stop.
const GRACE: Duration = Duration::from_millis(500);

/// Runs until the count is reached, a signal says to stop, or the reader of the output is gone.
///
/// # Errors
/// The probes are wanted and not to be had, or the output cannot be written.
pub fn run(settings: settings::Collect) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start: the system gives no event loop; look at its limits on descriptors")?;
    let outcome = runtime.block_on(pipeline(settings));
    // A gather or a write that is still under way was given up: nobody waits for it.
    runtime.shutdown_background();
    outcome
}

async fn pipeline(settings: settings::Collect) -> anyhow::Result<()> {
    // Before anything slow: until then the signals' default action would end the process.
    let mut stop = Stop::install()?;
    let mut clock = Clock::new(settings.interval);
    let (once, mut left) = (settings.once, settings.count);
    let mut work = Work {
        gatherer: Gatherer::new(&settings)?,
        stdout: Stdout::new(),
    };
    while left != Some(0) {
        if !once {
            tokio::select! {
                () = stop.asked() => return Ok(()),
                () = clock.tick() => {}
            }
        }
        let skipped = clock.skipped();
        let mut gathering = task::spawn_blocking(move || {
            let outcome = work.step(skipped);
            (work, outcome)
        });
        let finished = tokio::select! {
            finished = &mut gathering => finished,
            () = stop.asked() => match tokio::time::timeout(GRACE, gathering).await {
                Ok(finished) => {
                    left = Some(1);
                    finished
                }
                Err(_) => return Ok(()),
            },
        };
        let (back, outcome) = finished.context("a gather broke off, which is a mistake in this program")?;
        work = back;
        match outcome {
            // Whoever read has read enough: the same quiet end as `ipvs-observer … | head`.
            Err(output::Failure::Closed) => return Ok(()),
            outcome => outcome?,
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// What a gather needs, moved to a thread where it may block.
struct Work {
    gatherer: Gatherer,
    stdout: Stdout,
}

impl Work {
    fn step(&mut self, skipped: u64) -> Result<(), output::Failure> {
        let lines: Bytes = self.gatherer.gather(skipped);
        self.stdout.write(&lines)
    }
}

/// The signals that end the program.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn install() -> anyhow::Result<Self> {
        let install =
            |kind| signal(kind).context("cannot watch for signals, so nothing could end the program well");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
