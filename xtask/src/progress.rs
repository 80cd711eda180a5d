//! What a task is doing, for whoever waits: a spinner on a terminal, one line per long step elsewhere.
//!
//! Everything goes to stderr. Off a terminal a step that is over at once says nothing, so that
//! `lab -- COMMAND` from a script adds nothing to the command's own stderr when all is cached.

use std::{
    io::{self, IsTerminal},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// A step shorter than this needs no line of its own.
const LONG: Duration = Duration::from_secs(2);

/// Does a step, and shows meanwhile that it is under way.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    if io::stderr().is_terminal() {
        let spinner = spinner(what);
        let result = work();
        spinner.finish_and_clear();
        if result.is_ok() && started.elapsed() >= LONG {
            say(&format!("{what} ({} s)", started.elapsed().as_secs()));
        }
        return result;
    }
    let (done, waiting) = mpsc::channel::<()>();
    let line = what.to_owned();
    let announcer = thread::spawn(move || {
        if waiting.recv_timeout(LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
            say(&line);
        }
    });
    let result = work();
    drop(done);
    // A panic in the announcer would only cost the line.
    let _ = announcer.join();
    result
}

/// One line of the task's own.
pub(crate) fn say(line: &str) {
    eprintln!("xtask: {line}");
}

/// A spinner with the time passed, cleared by its owner.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
