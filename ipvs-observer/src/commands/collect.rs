//! `collect`: gather and write, until told to stop.

mod connections;
mod gather;
mod namespace;
mod probing;
mod sought;

use std::{
    future, io,
    pin::pin,
    process::Child,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{runtime::Handle, sync::Notify};

use super::{
    stop::{LOOK, Stop, flush},
    worker::{self, End},
};
use crate::{
    log, module, netlink,
    output::{Outputs, Pending},
    privilege::{self, Capability, Work},
    probe::ProbeMode,
    settings,
    trigger::Trigger,
};
use gather::Gatherer;

/// How long an output that refuses the last lines is waited for.
const AWAY: Duration = Duration::from_secs(5);
/// How often what probes are attached for is looked for between gathers.
const FOLLOW: Duration = Duration::from_secs(1);
const NO_TRIGGER: &str =
    "cannot put the trigger in place, so no gather would start; look at the system's limits";

/// Runs until the count is reached, a signal says to stop, or the reader of the output is gone.
///
/// # Errors
/// The probes are wanted and not to be had, or the output cannot be written.
pub fn run(settings: settings::Collect) -> anyhow::Result<()> {
    worker::run(pipeline(settings))
}

async fn pipeline(settings: settings::Collect) -> anyhow::Result<()> {
    if settings.gathers().is_some() {
        netlink::require_namespaces(&settings.namespaces.names)?;
    }
    // Before anything slow: until then the signals' default action would end the process.
    let mut stop = Stop::install()?;
    let trigger = if settings.once {
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
        privileges: settings.probing.privileges,
        probes: settings.probes_wanted() != ProbeMode::Off,
        btf: settings.probing.btf.as_deref(),
        namespaces: &netlink::namespace_paths(&settings.namespaces.names),
        enters: true,
        sockets: settings.writing.to_sockets(),
    });
    trigger.begin().context(NO_TRIGGER)?;
    let outputs = worker::outputs(&settings.writing)?;
    let ending = Arc::new(Notify::new());
    let work = {
        let (outputs, ending, events) = (Arc::clone(&outputs), Arc::clone(&ending), Handle::current());
        move || events.block_on(gathers(&settings, loading, trigger, outputs, &ending))
    };
    match worker::watch(work, || ending.notify_one(), &mut stop, &outputs).await? {
        End::Done(Ok(())) => tokio::select! {
            outcome = last_lines(&outputs) => return outcome,
            () = stop.asked() => {}
            closed = outputs.gone() => return Err(closed.into()),
        },
        End::Done(failed) => {
            flush(&outputs).await;
            return failed;
        }
        End::Stopped(_) => {}
    }
    flush(&outputs).await;
    Ok(())
}

/// Gathers until the count is reached, no trigger can come any more, or the end is told.
async fn gathers(
    settings: &settings::Collect,
    loading: Option<io::Result<Child>>,
    mut trigger: Trigger,
    outputs: Arc<Outputs>,
    ending: &Notify,
) -> anyhow::Result<()> {
    if let Some(loading) = loading {
        loaded(loading);
    }
    let mut gatherer = Gatherer::new(settings, outputs)?;
    let mut left = settings.gathers();
    while left != Some(0) && triggered(&mut trigger, &mut gatherer, ending).await? {
        gatherer.gather(trigger.skipped());
        gatherer.require_probes(false)?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// Waits for the trigger, and has the probes look meanwhile for what they are attached for; false if there is no more to
/// wait for.
async fn triggered(trigger: &mut Trigger, gatherer: &mut Gatherer, ending: &Notify) -> anyhow::Result<bool> {
    let mut next = pin!(trigger.next());
    loop {
        tokio::select! {
            biased;
            () = ending.notified() => return Ok(false),
            triggered = &mut next => return Ok(triggered),
            () = tokio::time::sleep(FOLLOW), if gatherer.probes() => {}
            () = until(gatherer.reads_at()) => {}
        }
        gatherer.read_connections();
        gatherer.follow();
        gatherer.require_probes(false)?;
    }
}

/// Waits until a time; for ever if there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => future::pending().await,
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
