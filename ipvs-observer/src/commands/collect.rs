//! `collect`: gather and write, until told to stop.

mod gather;
mod namespace;
mod probing;
mod sought;

use std::{io, pin::pin, process::Child, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{runtime, task};

use super::stop::{GRACE, LOOK, Stop, flush};
use crate::{
    log, module, netlink,
    output::{Outputs, Pending, Target},
    privilege::{self, Capability, Work},
    probe::ProbeMode,
    settings,
    trigger::Trigger,
};
use gather::Gatherer;

/// How long an output that refuses the last lines is waited for.
const AWAY: Duration = Duration::from_secs(5);
/// How often `ip_vs` is looked for between gathers, where probes wait for it.
const FOLLOW: Duration = Duration::from_secs(1);
const NO_TRIGGER: &str =
    "cannot put the trigger in place, so no gather would start; look at the system's limits";
const BROKE_OFF: &str = "a gather broke off, which is a mistake in this program";

/// Runs until the count is reached, a signal says to stop, or the reader of the output is gone.
///
/// # Errors
/// The probes are wanted and not to be had, or the output cannot be written.
pub fn run(settings: settings::Collect) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        // One gather after the other: a second thread would be left over, with privileges that were given up since.
        .max_blocking_threads(1)
        .build()
        .context("cannot start: the system gives no event loop; look at its limits on descriptors")?;
    let outcome = runtime.block_on(pipeline(settings));
    // A gather or a write that is still under way was given up: nobody waits for it.
    runtime.shutdown_background();
    outcome
}

async fn pipeline(settings: settings::Collect) -> anyhow::Result<()> {
    if settings.count.is_some() {
        netlink::require_namespaces(&settings.namespaces)?;
    }
    // Before anything slow: until then the signals' default action would end the process.
    let mut stop = Stop::install()?;
    let mut trigger = if settings.once {
        Trigger::Always
    } else {
        Trigger::install(settings.trigger, settings.interval).context(NO_TRIGGER)?
    };
    module::remedy();
    if let Trigger::Signal(_) = trigger {
        stop.with_the_pipe_on_stdin().context(NO_TRIGGER)?;
    }
    // Nothing is run, and no module loaded, from here on.
    let loading = load_module(&settings);
    privilege::begin(&Work {
        privileges: settings.privileges,
        probes: settings.probes_wanted() != ProbeMode::Off,
        btf: settings.btf.as_deref(),
        namespaces: &netlink::namespace_paths(&settings.namespaces),
        enters: true,
        sockets: settings.outputs.iter().any(|output| *output != Target::Stdout),
    });
    trigger.begin().context(NO_TRIGGER)?;
    let outputs = Outputs::start(&settings.outputs, settings.backlog).context(
        "cannot start the outputs, so nothing could be written; look at the system's limit on threads",
    )?;
    let outputs = Arc::new(outputs);
    privilege::settle();
    let gone = outputs.gone();
    tokio::pin!(gone);
    let end = tokio::select! {
        end = gathers(settings, loading, &mut stop, &mut trigger, &outputs) => end,
        // Whoever read has read enough: the same quiet end as `ipvs-observer … | head`.
        () = &mut gone => return Ok(()),
    };
    if !matches!(end, Ok(End::Done)) {
        flush(&outputs).await;
        return end.map(drop);
    }
    tokio::select! {
        outcome = last_lines(&outputs) => outcome,
        () = stop.asked() => {
            flush(&outputs).await;
            Ok(())
        }
        () = &mut gone => Ok(()),
    }
}

/// Why no more is gathered.
enum End {
    /// All was gathered that was asked for.
    Done,
    /// By a signal, or by the end of the pipe on standard input where that stops.
    Stopped,
}

async fn gathers(
    settings: settings::Collect,
    loading: Option<io::Result<Child>>,
    stop: &mut Stop,
    trigger: &mut Trigger,
    outputs: &Arc<Outputs>,
) -> anyhow::Result<End> {
    let mut left = settings.count;
    let outputs = Arc::clone(outputs);
    // Loading a module and attaching probes take their time, and the word to stop is heard meanwhile.
    let mut preparing = task::spawn_blocking(move || {
        if let Some(loading) = loading {
            loaded(loading);
        }
        Gatherer::new(&settings, outputs)
    });
    let mut gatherer = tokio::select! {
        prepared = &mut preparing => prepared.context(BROKE_OFF)??,
        () = stop.asked() => return Ok(End::Stopped),
    };
    privilege::settle();
    while left != Some(0) {
        let triggered = {
            let mut next = pin!(trigger.next());
            loop {
                tokio::select! {
                    biased;
                    () = stop.asked() => return Ok(End::Stopped),
                    triggered = &mut next => break triggered,
                    () = tokio::time::sleep(FOLLOW), if gatherer.waits() => {}
                }
                let Some(following) = aside(gatherer, stop, Gatherer::follow).await? else {
                    return Ok(End::Stopped);
                };
                gatherer = following;
                gatherer.require_probes(false)?;
            }
        };
        if !triggered {
            break;
        }
        let skipped = trigger.skipped();
        let Some(gathered) = aside(gatherer, stop, move |gatherer| gatherer.gather(skipped)).await? else {
            return Ok(End::Stopped);
        };
        gatherer = gathered;
        gatherer.require_probes(false)?;
        privilege::settle();
        left = left.map(|left| left - 1);
    }
    Ok(End::Done)
}

/// Lets the gatherer work in its own thread; none if the word to stop came meanwhile.
async fn aside(
    mut gatherer: Gatherer,
    stop: &mut Stop,
    work: impl FnOnce(&mut Gatherer) + Send + 'static,
) -> anyhow::Result<Option<Gatherer>> {
    let mut working = task::spawn_blocking(move || {
        work(&mut gatherer);
        gatherer
    });
    tokio::select! {
        finished = &mut working => Ok(Some(finished.context(BROKE_OFF)?)),
        () = stop.asked() => {
            if let Ok(finished) = tokio::time::timeout(GRACE, working).await {
                finished.context(BROKE_OFF)?;
            }
            Ok(None)
        }
    }
}

/// Waits for the last lines: for a reader that is slow as long as it takes, for an output that refuses them not long.
async fn last_lines(outputs: &Outputs) -> anyhow::Result<()> {
    let mut refused = Duration::ZERO;
    loop {
        match outputs.pending() {
            Pending::Nothing => return Ok(()),
            Pending::Slow => {}
            Pending::Away if refused < AWAY => refused += LOOK,
            Pending::Away => {
                let left: Vec<_> = outputs.left().iter().map(ToString::to_string).collect();
                anyhow::bail!("{}", left.join("; "));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Begins to load the module where that is asked for and it is not there.
fn load_module(settings: &settings::Collect) -> Option<io::Result<Child>> {
    let wanted = settings.load_module && !netlink::present();
    wanted.then(|| privilege::lending(Capability::SysModule, module::load))
}

/// Waits until the module is loaded. Where that fails, its absence is a state like any other.
fn loaded(loading: io::Result<Child>) {
    let Err(error) = loading.and_then(module::loaded) else {
        return;
    };
    let remedy = privilege::wanted_at_start(Capability::SysModule)
        .map(|want| format!(", or let this program ({}; {})", want.text, want.remedy))
        .unwrap_or_default();
    log::write(
        log::Level::Error,
        &format!(
            "cannot load the module ip_vs ({error}), so nothing is gathered until it comes; load it by hand{remedy}"
        ),
    );
}
