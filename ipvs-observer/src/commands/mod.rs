//! The verbs, one a file. Each reads as its pipeline.

pub mod check;
pub mod collect;
pub mod completions;
pub mod man;
pub mod record;
mod stop;
pub mod trace;
mod worker;

use std::io::{self, Write};

use anyhow::Context;

use crate::cli::Command;

/// Runs a verb; false where it did its work and the answer is no.
///
/// # Errors
/// It failed at run time.
pub fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Check(settings) => return check::run(&settings),
        Command::Collect(settings) => collect::run(settings),
        Command::Trace(settings) => trace::run(settings),
        Command::Record => record::run(),
        Command::Completions { shell } => completions::run(shell),
        Command::Man { page } => man::run(page),
    }
    .map(|()| true)
}

/// Writes to standard output.
fn print(text: &[u8]) -> anyhow::Result<()> {
    io::stdout()
        .write_all(text)
        .context("standard output cannot be written")
}
