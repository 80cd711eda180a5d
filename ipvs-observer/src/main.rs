//! Parse, run, exit code.

use std::{
    env,
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
        Err(error) => {
            log::write(log::Level::Error, &format!("{error:#}"));
            leave::with(FAILED)
        }
    }
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
