//! `collect`: gather and write, until told to stop.

mod gather;
mod namespace;

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::{runtime, task};

use super::stop::Stop;
use crate::{log, netlink, output::Outputs, settings, system, trigger::Trigger};
use gather::Gatherer;

/// How long a gather under way may go on after the word to stop, and then its lines take to be written.
const GRACE: Duration = Duration::from_millis(400);
/// How often it is looked whether the last lines are out.
const DRAIN: Duration = Duration::from_millis(10);
/// How long an output that refuses the last lines is waited for.
const AWAY: Duration = Duration::from_secs(5);
const BROKE_OFF: &str = "a gather broke off, which is a mistake in this program";

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
    load_module(&settings);
    // Before anything slow: until then the signals' default action would end the process.
    let mut stop = Stop::install()?;
    let mut trigger = if settings.once {
        Trigger::Always
    } else {
        Trigger::install(settings.trigger, settings.interval).context(
            "cannot put the trigger in place, so no gather would start; look at the system's limits",
        )?
    };
    let outputs = Outputs::start(&settings.outputs, settings.backlog).context(
        "cannot start the outputs, so nothing could be written; look at the system's limit on threads",
    )?;
    let gone = outputs.gone();
    tokio::pin!(gone);
    let mut left = settings.count;
    // Attaching probes takes its time, and the word to stop is heard meanwhile.
    let mut preparing = task::spawn_blocking(move || Gatherer::new(&settings));
    let mut gatherer = tokio::select! {
        prepared = &mut preparing => prepared.context(BROKE_OFF)??,
        () = stop.asked() => return Ok(()),
    };
    while left != Some(0) {
        let triggered = tokio::select! {
            biased;
            () = stop.asked() => return flush(&outputs).await,
            // Whoever read has read enough: the same quiet end as `ipvs-observer … | head`.
            () = &mut gone => return Ok(()),
            triggered = trigger.next() => triggered,
        };
        if !triggered {
            break;
        }
        let (skipped, counters) = (trigger.skipped(), outputs.counters());
        let mut gathering = task::spawn_blocking(move || {
            let lines = gatherer.gather(skipped, counters);
            (gatherer, lines)
        });
        let finished = tokio::select! {
            finished = &mut gathering => finished,
            () = stop.asked() => match tokio::time::timeout(GRACE, gathering).await {
                Ok(finished) => {
                    outputs.send(&finished.context(BROKE_OFF)?.1);
                    return flush(&outputs).await;
                }
                Err(_) => return flush(&outputs).await,
            },
        };
        let (back, lines) = finished.context(BROKE_OFF)?;
        gatherer = back;
        outputs.send(&lines);
        left = left.map(|left| left - 1);
    }
    // The last lines: a reader that is slow is waited for, an output that refuses them is not for long.
    let mut refused = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.asked() => return flush(&outputs).await,
            () = &mut gone => return Ok(()),
            () = tokio::time::sleep(DRAIN) => {}
        }
        match outputs.drain(Duration::ZERO) {
            Ok(()) => return Ok(()),
            Err(left) if left.away && refused >= AWAY => return Err(left.into()),
            Err(left) => refused += if left.away { DRAIN } else { Duration::ZERO },
        }
    }
}

/// Loads the module where that is asked for. Where it fails, its absence is a state like any other.
fn load_module(settings: &settings::Collect) {
    if settings.load_module
        && !netlink::present()
        && let Err(error) = system::load_ipvs()
    {
        log::write(
            log::Level::Error,
            &format!(
                "cannot load the module ip_vs ({error}), so nothing is gathered until it comes; load it by hand"
            ),
        );
    }
}

/// The end by a signal: what can be written in a moment is, and it is said if something is left.
async fn flush(outputs: &Outputs) -> anyhow::Result<()> {
    let until = Instant::now() + GRACE;
    while let Err(left) = outputs.drain(Duration::ZERO) {
        if Instant::now() >= until {
            log::write(log::Level::Warning, &left.to_string());
            break;
        }
        tokio::time::sleep(DRAIN).await;
    }
    Ok(())
}
