//! The word to stop, and what may still be done after it.

use std::{
    future,
    io::{self, Stdin},
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    log,
    output::{Outputs, Pending},
};

/// How long work under way may go on after the word to stop, and then its lines take to be written.
pub(super) const GRACE: Duration = Duration::from_millis(400);
/// How often it is looked whether the last lines are out.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// What ends the program: signals, and where that is asked for, the end of the pipe on standard input.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    pipe: Option<AsyncFd<Stdin>>,
}

impl Stop {
    /// Watches for them from now on.
    pub(super) fn install() -> anyhow::Result<Self> {
        let install =
            |kind| signal(kind).context("cannot watch for signals, so nothing could end the program well");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            pipe: None,
        })
    }

    /// From now on the end of the pipe on standard input counts too, if there is a pipe and somebody has it open.
    ///
    /// Telegraf stops a child by closing that pipe, whatever the child's trigger is. Nothing is read from it: what is
    /// written there is not for this program. A file and `/dev/null` have no such end, and a socket or a terminal may
    /// be gone while the program is still wanted, as after `ssh -n` or `nohup`.
    pub(super) fn with_the_pipe_on_stdin(&mut self) -> io::Result<()> {
        let stdin = io::stdin();
        let is_pipe = FileType::from_raw_mode(fstat(&stdin)?.st_mode) == FileType::Fifo;
        if is_pipe && !is_closed(&stdin)? {
            // SAFETY: it is the process's own standard input, which nothing here closes.
            self.pipe = Some(unsafe { AsyncFd::register_with_interest(stdin, Interest::READABLE) }?);
        }
        Ok(())
    }

    /// Returns at the first of them.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = closed(self.pipe.as_ref()) => {}
        }
    }
}

/// Whether nobody has the other end of a pipe open.
fn is_closed(pipe: &Stdin) -> io::Result<bool> {
    let mut pipes = [PollFd::new(pipe, PollFlags::empty())];
    poll(&mut pipes, Some(&Timespec::default()))?;
    Ok(pipes[0].revents().contains(PollFlags::HUP))
}

/// Returns when nobody has the other end of a pipe open any more.
async fn closed(pipe: Option<&AsyncFd<Stdin>>) {
    while let Some(pipe) = pipe
        && let Ok(mut state) = pipe.ready(Interest::READABLE).await
    {
        if state.ready().is_read_closed() {
            return;
        }
        // Something was written, and stays there.
        state.clear_ready();
    }
    future::pending::<()>().await;
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
