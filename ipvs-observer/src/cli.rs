//! The command line: the verbs, and where their settings come from.

mod environment;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::{log, settings};
use environment::Environment;

/// Observes Linux Virtual Server (IPVS): its counters, and why its scheduler chose.
#[derive(Debug, Parser)]
#[command(
    name = "ipvs-observer",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The definition of the command line, with the variable of each flag.
pub fn definition() -> clap::Command {
    environment::with_variables(Cli::command())
}

/// Reads a command line and the environment, and warns of variables that are no settings.
///
/// # Errors
/// Wrong usage, or a question that clap answers: help and version.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let definition = definition();
    let args: Vec<OsString> = args.into_iter().collect();
    let environment = Environment::read(&definition);
    let mut settled = environment.settled(definition, &args);
    let mut matches = settled
        .try_get_matches_from_mut(&args)
        .map_err(|error| environment::blamed(error, &args))?;
    let verb = matches
        .subcommand_name()
        .and_then(|name| settled.find_subcommand(name));
    if let Some(verb) = verb.filter(|verb| !verb.is_hide_set()) {
        let unknown = environment.unknown();
        environment
            .refuse_invalid(verb.get_name())
            .map_err(|error| environment::blamed(error, &args))?;
        for message in unknown {
            log::write(log::Level::Warning, &message);
        }
    }
    let cli = Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut settled))?;
    match &cli.command {
        Command::Trace(trace) => trace.contradiction().map_or(Ok(cli), |contradiction| {
            Err(settled.error(ErrorKind::ArgumentConflict, contradiction))
        }),
        _ => Ok(cli),
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Gather, and write InfluxDB line protocol
    Collect(settings::Collect),
    /// Show every scheduling decision and configuration change as it happens
    Trace(settings::Trace),
    /// Say what this kernel and these privileges allow; exit status 1 if something is missing
    Check(settings::Check),
    /// Write down what the kernel says of IPVS, for a report or a test
    #[command(hide = true)]
    Record,
    /// Write the script that lets a shell complete this program's command line
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: ShellArg,
    },
    /// Write a manual page: the program's, or that of a verb
    #[command(hide = true)]
    Man {
        /// The verb
        page: Option<PageArg>,
    },
}

/// Shells that have completion here.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ShellArg {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Verbs that have a manual page of their own.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PageArg {
    /// `collect`
    Collect,
    /// `trace`
    Trace,
    /// `check`
    Check,
}

impl PageArg {
    /// The verb's name.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Trace => "trace",
            Self::Check => "check",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_defined_without_contradiction() {
        definition().debug_assert();
    }

    #[test]
    fn every_verb_that_is_not_hidden_has_a_manual_page() {
        for verb in definition().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let page = PageArg::from_str(verb.get_name(), false);
            assert_eq!(page.map(PageArg::verb), Ok(verb.get_name()));
        }
    }

    #[test]
    fn every_flag_of_a_verb_has_its_environment_variable() {
        for command in definition().get_subcommands() {
            for flag in command
                .get_arguments()
                .filter(|flag| flag.get_id() != "help" && flag.get_id() != "version" && !flag.is_positional())
            {
                let name = flag
                    .get_long()
                    .unwrap_or_default()
                    .replace('-', "_")
                    .to_uppercase();
                let expected = format!("IPVS_OBSERVER_{name}");
                assert_eq!(
                    flag.get_env().and_then(|name| name.to_str()),
                    Some(expected.as_str())
                );
            }
        }
    }
}
