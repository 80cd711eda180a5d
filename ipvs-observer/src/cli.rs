//! Flags as typed. Each is defined once, here; help and environment variables follow.

mod collect;
mod environment;
mod trace;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::{
    log,
    privilege::Privileges,
    probe::Sizes,
    settings::{self, CheckFormat},
};

pub use collect::CollectArgs;
pub use trace::TraceArgs;

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
    let mut settled = environment::settled(definition.clone(), &args);
    let mut matches = settled
        .try_get_matches_from_mut(&args)
        .map_err(|error| environment::blamed(error, &args))?;
    let visible = |name: &&str| {
        definition
            .find_subcommand(name)
            .is_some_and(|verb| !verb.is_hide_set())
    };
    if let Some(verb) = matches.subcommand_name().filter(visible) {
        environment::refuse_invalid(&definition, verb).map_err(|error| environment::blamed(error, &args))?;
        for message in environment::unknown(&definition) {
            log::write(log::Level::Warning, &message);
        }
    }
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut settled))
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Gather, and write InfluxDB line protocol
    Collect(CollectArgs),
    /// Show every scheduling decision and configuration change as it happens
    Trace(TraceArgs),
    /// Say what this kernel and these privileges allow; exit status 1 if something is missing
    Check(CheckArgs),
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

/// The flags of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// How the rows look
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: CheckFormatArg,

    /// Read BTF from this folder, laid out as /sys/kernel/btf, and not from the running kernel
    #[arg(long, value_name = "DIR")]
    btf: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CheckFormatArg {
    Text,
    Json,
}

impl From<CheckArgs> for settings::Check {
    fn from(args: CheckArgs) -> Self {
        let format = match args.format {
            CheckFormatArg::Text => CheckFormat::Text,
            CheckFormatArg::Json => CheckFormat::Json,
        };
        Self {
            format,
            btf: args.btf,
        }
    }
}

/// The flags of whatever probes.
#[derive(Args, Debug)]
struct ProbeArgs {
    /// Read BTF from this folder, laid out as /sys/kernel/btf, and not from the running kernel
    #[arg(long, value_name = "DIR")]
    btf: Option<PathBuf>,

    /// Services that the probes keep counters of; what finds no room is counted in events_lost
    #[arg(
        long, value_name = "N", default_value_t = Sizes::default().services, value_parser = settings::entries,
        allow_hyphen_values = true
    )]
    max_services: u32,

    /// Real servers that the probes keep counters of
    #[arg(
        long, value_name = "N", default_value_t = Sizes::default().destinations, value_parser = settings::entries,
        allow_hyphen_values = true
    )]
    max_destinations: u32,

    /// What is given up at the start: all that gathering and attaching again does not need, once the probes are
    /// attached also what attaching needs, or nothing
    #[arg(long, value_name = "WHAT", default_value = "reattach")]
    privileges: PrivilegesArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrivilegesArg {
    /// Give up at the start what neither gathering nor attaching again needs
    Reattach,
    /// And once the probes are attached what only attaching needs
    Attached,
    /// Give up nothing, and put up no fence
    Keep,
}

impl ProbeArgs {
    fn privileges(&self) -> Privileges {
        match self.privileges {
            PrivilegesArg::Reattach => Privileges::Reattach,
            PrivilegesArg::Attached => Privileges::Attached,
            PrivilegesArg::Keep => Privileges::Keep,
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            services: self.max_services,
            destinations: self.max_destinations,
            ..Sizes::default()
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
