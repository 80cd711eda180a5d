//! The one thread that works, and the event loop that meanwhile hears the word to stop.
//!
//! Network namespaces are entered and capabilities held by that thread alone, and by those that it makes for a moment.

use std::{sync::Arc, thread};

use anyhow::Context;
use tokio::{runtime, sync::oneshot, time::timeout};

use super::stop::{GRACE, Stop};
use crate::{output::Outputs, privilege, settings::Writing};

/// How the work ended.
pub(super) enum End<T> {
    /// By itself.
    Done(T),
    /// By the word to stop, with what it came to if it ended in good time.
    Stopped(Option<T>),
}

/// Runs a verb's pipeline.
///
/// # Errors
/// Those of the pipeline, and what keeps it from being run.
pub(super) fn run<T>(pipeline: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start: the system gives no event loop; look at its limits on descriptors")?;
    runtime.block_on(pipeline)
}

/// Starts what writes the lines.
///
/// # Errors
/// There is no thread for it.
pub(super) fn outputs(writing: &Writing) -> anyhow::Result<Arc<Outputs>> {
    Outputs::start(&writing.outputs, writing.backlog)
        .map(Arc::new)
        .context(
            "cannot start the outputs, so nothing could be written; look at the system's limit on threads",
        )
}

/// Has `work` done in the thread that works, until it is done or the word to stop comes, which `tell` passes on.
///
/// # Errors
/// There is no such thread, it broke off, or the reader of standard output went away.
pub(super) async fn watch<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    tell: impl FnOnce(),
    stop: &mut Stop,
    outputs: &Outputs,
) -> anyhow::Result<End<T>> {
    const BROKE_OFF: &str = "the work broke off, which is a mistake in this program";
    let (sender, mut finished) = oneshot::channel();
    let working = move || {
        privilege::only_observe();
        // It is nobody's any more where it took too long.
        let _ = sender.send(work());
    };
    thread::Builder::new()
        .name("work".to_owned())
        .spawn(working)
        .context("cannot start: the system gives no thread to work in; look at its limit on threads")?;
    // That thread was made with all that it needs.
    privilege::only_wait();
    let ended = tokio::select! {
        finished = &mut finished => return finished.map(End::Done).context(BROKE_OFF),
        () = stop.asked() => Ok(()),
        closed = outputs.gone() => Err(closed),
    };
    tell();
    ended?;
    // Attaching probes may be under way, and nobody waits for that.
    let in_time = timeout(GRACE, finished).await.ok();
    Ok(End::Stopped(in_time.transpose().context(BROKE_OFF)?))
}
