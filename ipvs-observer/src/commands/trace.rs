//! `trace`: every decision and change as it happens, until told to stop.

mod namespaces;
mod shape;
mod summary;
mod tracer;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use tokio::{runtime, task};

use super::stop::{GRACE, Stop, flush};
use crate::{
    module, netlink,
    output::{Outputs, Target},
    privilege::{self, Work},
    settings,
    trace::LocalClock,
};
use tracer::Tracer;

/// Runs until the count or the time is reached, a signal says to stop, or the reader of the output is gone.
///
/// # Errors
/// This kernel or these privileges allow no trace.
pub fn run(settings: settings::Trace) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start: the system gives no event loop; look at its limits on descriptors")?;
    let outcome = runtime.block_on(pipeline(settings));
    runtime.shutdown_background();
    outcome
}

async fn pipeline(settings: settings::Trace) -> anyhow::Result<()> {
    module::remedy();
    // From files that the sandbox forbids to read.
    let clock = LocalClock::of_system();
    privilege::begin(&Work {
        privileges: settings.privileges,
        probes: true,
        btf: settings.btf.as_deref(),
        namespaces: &netlink::namespace_paths(&settings.namespaces),
        enters: false,
        sockets: settings.outputs.iter().any(|output| *output != Target::Stdout),
    });
    let mut stop = Stop::install()?;
    let outputs = Outputs::start(&settings.outputs, settings.backlog).context(
        "cannot start the outputs, so nothing could be written; look at the system's limit on threads",
    )?;
    let gone = outputs.gone();
    let outputs = Arc::new(outputs);
    let going = Arc::new(AtomicBool::new(true));
    let mut tracing = task::spawn_blocking({
        let (outputs, going) = (Arc::clone(&outputs), Arc::clone(&going));
        move || Tracer::start(&settings, clock).map(|mut tracer| tracer.run(&outputs, &going))
    });
    // The one thread that traces was made with all that it needs.
    privilege::only_wait();
    let summary = tokio::select! {
        finished = &mut tracing => Some(finished),
        () = stop.asked() => {
            going.store(false, Ordering::Relaxed);
            // Attaching probes may be under way, and nobody waits for that.
            tokio::time::timeout(GRACE, tracing).await.ok()
        }
        // Whoever read has read enough.
        () = gone => return Ok(()),
    };
    let Some(finished) = summary else { return Ok(()) };
    let (summary, outcome) =
        finished.context("the trace broke off, which is a mistake in this program")??;
    flush(&outputs).await;
    summary.tell(outputs.counters().dropped);
    outcome
}
