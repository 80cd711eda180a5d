//! Parse, run, exit code.

use std::{
    env,
    error::Error,
    io::{self, IsTerminal},
    process::ExitCode,
};

use ipvs_observer::{cli, commands, leave, log, memory};

/// Something failed at run time.
const FAILED: u8 = 1;
/// The command line or the environment was wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    memory::give_back();
    let outcome = match cli::parse(env::args_os()) {
        Ok(cli) => commands::run(cli.command),
        Err(message) => return usage(&message),
    };
    match outcome {
        Ok(true) => leave::with(0),
        Ok(false) => leave::with(FAILED),
        // Whoever read standard output had enough, as in `ipvs-observer … | head`. C programs end at that by SIGPIPE,
        // without a word; Rust's ignore the signal and get an error. It is the same quiet end wherever it comes up.
        Err(error) if error.chain().any(is_broken_pipe) => leave::with(0),
        Err(error) => {
            log::write(log::Level::Error, &format!("{error:#}"));
            leave::with(FAILED)
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn usage(message: &clap::Error) -> ExitCode {
    if message.use_stderr() && !io::stderr().is_terminal() {
        // Telegraf reads stderr line by line and tells levels by their letters.
        let text = message.to_string();
        log::write(log::Level::Error, text.strip_prefix("error: ").unwrap_or(&text));
        return ExitCode::from(USAGE);
    }
    // Help into a closed pipe is no failure.
    let _ = message.print();
    if message.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
