//! `trace`: every decision and change as it happens, until told to stop.

mod namespaces;
mod shape;
mod summary;
mod tracer;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    stop::{Stop, flush},
    worker::{self, End},
};
use crate::{
    module, netlink,
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
    worker::run(pipeline(settings))
}

async fn pipeline(settings: settings::Trace) -> anyhow::Result<()> {
    module::remedy();
    // From files that the sandbox forbids to read.
    let clock = LocalClock::of_system();
    privilege::begin(&Work {
        privileges: settings.probing.privileges,
        probes: true,
        btf: settings.probing.btf.as_deref(),
        namespaces: &netlink::namespace_paths(&settings.namespaces.names),
        enters: false,
        sockets: settings.writing.to_sockets(),
    });
    let mut stop = Stop::install()?;
    let outputs = worker::outputs(&settings.writing)?;
    let going = Arc::new(AtomicBool::new(true));
    let work = {
        let (outputs, going) = (Arc::clone(&outputs), Arc::clone(&going));
        move || {
            let mut tracer = Tracer::start(&settings, clock, &outputs)?;
            anyhow::Ok(tracer.run(&outputs, &going))
        }
    };
    let tell = || going.store(false, Ordering::Relaxed);
    let (End::Done(finished) | End::Stopped(Some(finished))) =
        worker::watch(work, tell, &mut stop, &outputs).await?
    else {
        return Ok(());
    };
    let (summary, outcome) = finished?;
    flush(&outputs).await;
    summary.tell(outputs.counters().dropped);
    outcome
}
