//! Flags as typed. Each is defined once, here; help and environment variables follow.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};

use crate::{
    output::Target,
    points::Schema,
    privilege::Privileges,
    probe::{ProbeMode, Sizes},
    settings::{self, CheckFormat, Precision, ServiceSpec, TraceFormat},
    trace::{ClientNet, DestinationSpec, Filter},
    trigger::Start,
};

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

/// The flags of `collect`.
#[derive(Args, Debug)]
pub struct CollectArgs {
    /// Gather period, aligned to the clock: 10s, 500ms, 1m
    #[arg(
        long, value_name = "DURATION", default_value = "10s", value_parser = settings::interval,
        allow_hyphen_values = true, env = "IPVS_OBSERVER_INTERVAL"
    )]
    interval: Duration,

    /// What starts a gather: the clock, a newline on stdin, or a signal (Telegraf's inputs.execd)
    #[arg(
        long,
        value_name = "TRIGGER",
        default_value = "interval",
        env = "IPVS_OBSERVER_TRIGGER"
    )]
    trigger: TriggerArg,

    /// Gather once, at once, and exit
    #[arg(
        long, conflicts_with = "count", env = "IPVS_OBSERVER_ONCE", value_parser = BoolishValueParser::new()
    )]
    once: bool,

    /// Gather this many times and exit
    #[arg(
        long, value_name = "N", value_parser = settings::count, allow_hyphen_values = true,
        env = "IPVS_OBSERVER_COUNT"
    )]
    count: Option<u64>,

    /// Where lines go: stdout, unix:///PATH (stream) or unixgram:///PATH (datagrams); repeatable
    #[arg(
        long = "output",
        value_name = "OUTPUT",
        value_delimiter = ',',
        default_value = "stdout",
        allow_hyphen_values = true,
        env = "IPVS_OBSERVER_OUTPUT"
    )]
    outputs: Vec<Target>,

    /// Lines kept while an output is away, the oldest dropped first: 16MiB, 512KiB
    #[arg(
        long, value_name = "SIZE", default_value = "16MiB", value_parser = settings::size,
        allow_hyphen_values = true, env = "IPVS_OBSERVER_BACKLOG"
    )]
    backlog: usize,

    /// Which series: all, or exactly those of Telegraf's inputs.ipvs
    #[arg(
        long,
        value_name = "SCHEMA",
        default_value = "full",
        env = "IPVS_OBSERVER_SCHEMA"
    )]
    schema: SchemaArg,

    /// Write unsigned fields as such (Telegraf's influx_uint_support), not as signed ones of at most 2^63-1
    #[arg(long, env = "IPVS_OBSERVER_UNSIGNED", value_parser = BoolishValueParser::new())]
    unsigned: bool,

    /// Round timestamps down to it [default: s, or ms where the interval is under 1s]
    #[arg(long, value_name = "UNIT", env = "IPVS_OBSERVER_PRECISION")]
    precision: Option<PrecisionArg>,

    /// eBPF probes: whatever this kernel allows (none with --once), all or fail, or none
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        env = "IPVS_OBSERVER_PROBES"
    )]
    probes: ProbesArg,

    /// Only this service: tcp://10.0.0.1:80, udp://[2001:db8::1]:53, fwmark:47; repeatable
    #[arg(
        long = "service",
        value_name = "SPEC",
        value_delimiter = ',',
        allow_hyphen_values = true,
        env = "IPVS_OBSERVER_SERVICE"
    )]
    services: Vec<ServiceSpec>,

    /// Another network namespace, by its name or a path to it; repeatable. Lines then carry the tag netns
    #[arg(
        long = "netns",
        value_name = "NAME|PATH",
        value_delimiter = ',',
        value_parser = settings::netns,
        env = "IPVS_OBSERVER_NETNS"
    )]
    namespaces: Vec<String>,

    /// Load the module ip_vs if it is absent
    #[arg(long, env = "IPVS_OBSERVER_LOAD_MODULE", value_parser = BoolishValueParser::new())]
    load_module: bool,

    #[command(flatten)]
    probing: ProbeArgs,
}

/// The flags of `trace`.
#[derive(Args, Debug)]
pub struct TraceArgs {
    /// How events look: for people, one JSON object a line, or line protocol
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        env = "IPVS_OBSERVER_FORMAT"
    )]
    format: TraceFormatArg,

    /// Add what the scheduler had before it at each decision, with the cost that its own rule computes
    #[arg(long, env = "IPVS_OBSERVER_EXPLAIN", value_parser = BoolishValueParser::new())]
    explain: bool,

    /// Only this service: tcp://10.0.0.1:80, udp://[2001:db8::1]:53, fwmark:47; repeatable
    #[arg(
        long = "service",
        value_name = "SPEC",
        value_delimiter = ',',
        allow_hyphen_values = true,
        env = "IPVS_OBSERVER_SERVICE"
    )]
    services: Vec<ServiceSpec>,

    /// Only clients of this network: 10.0.0.0/8, 2001:db8::/32; repeatable. Changes are then left out
    #[arg(
        long = "client",
        value_name = "CIDR",
        value_delimiter = ',',
        allow_hyphen_values = true,
        env = "IPVS_OBSERVER_CLIENT"
    )]
    clients: Vec<ClientNet>,

    /// Only this real server: 10.0.0.1, 10.0.0.1:8080, [2001:db8::1]:8080; repeatable
    #[arg(
        long = "destination",
        value_name = "ADDRESS",
        value_delimiter = ',',
        allow_hyphen_values = true,
        env = "IPVS_OBSERVER_DESTINATION"
    )]
    destinations: Vec<DestinationSpec>,

    /// Another network namespace, by its name or a path to it; repeatable. Lines then carry the tag netns
    #[arg(
        long = "netns",
        value_name = "NAME|PATH",
        value_delimiter = ',',
        value_parser = settings::netns,
        env = "IPVS_OBSERVER_NETNS"
    )]
    namespaces: Vec<String>,

    /// End after so many decisions
    #[arg(
        long, value_name = "N", value_parser = settings::count, allow_hyphen_values = true,
        env = "IPVS_OBSERVER_COUNT"
    )]
    count: Option<u64>,

    /// End after this time: 30s, 5m
    #[arg(
        long, value_name = "DURATION", value_parser = settings::duration, allow_hyphen_values = true,
        env = "IPVS_OBSERVER_DURATION"
    )]
    duration: Option<Duration>,

    /// Where events go: stdout, unix:///PATH (stream) or unixgram:///PATH (datagrams); repeatable
    #[arg(
        long = "output",
        value_name = "OUTPUT",
        value_delimiter = ',',
        default_value = "stdout",
        allow_hyphen_values = true,
        env = "IPVS_OBSERVER_OUTPUT"
    )]
    outputs: Vec<Target>,

    /// Events kept while an output is away or slow, the oldest dropped first: 16MiB, 512KiB
    #[arg(
        long, value_name = "SIZE", default_value = "16MiB", value_parser = settings::size,
        allow_hyphen_values = true, env = "IPVS_OBSERVER_BACKLOG"
    )]
    backlog: usize,

    /// Kernel memory in which events wait to be read, rounded up to a power of two
    #[arg(
        long, value_name = "SIZE", default_value = "4MiB", value_parser = settings::size,
        allow_hyphen_values = true, env = "IPVS_OBSERVER_RING"
    )]
    ring: usize,

    #[command(flatten)]
    probing: ProbeArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TraceFormatArg {
    Text,
    Json,
    Line,
}

impl From<TraceArgs> for settings::Trace {
    fn from(args: TraceArgs) -> Self {
        let events = u32::try_from(args.ring).unwrap_or(1 << 30).clamp(4096, 1 << 30);
        Self {
            format: match args.format {
                TraceFormatArg::Text => TraceFormat::Text,
                TraceFormatArg::Json => TraceFormat::Json,
                TraceFormatArg::Line => TraceFormat::Line,
            },
            explain: args.explain,
            namespaces: args.namespaces,
            filter: Filter {
                services: args.services,
                clients: args.clients,
                destinations: args.destinations,
            },
            count: args.count,
            duration: args.duration,
            outputs: args.outputs,
            backlog: args.backlog,
            sizes: Sizes {
                events,
                ..args.probing.sizes()
            },
            privileges: args.probing.privileges(),
            btf: args.probing.btf,
        }
    }
}

/// The flags of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// How the rows look
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        env = "IPVS_OBSERVER_FORMAT"
    )]
    format: CheckFormatArg,

    /// Read BTF from this folder, laid out as /sys/kernel/btf, and not from the running kernel
    #[arg(long, value_name = "DIR", env = "IPVS_OBSERVER_BTF")]
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
    #[arg(long, value_name = "DIR", env = "IPVS_OBSERVER_BTF")]
    btf: Option<PathBuf>,

    /// Services that the probes keep counters of; what finds no room is counted in events_lost
    #[arg(
        long, value_name = "N", default_value_t = Sizes::default().services, value_parser = settings::entries,
        allow_hyphen_values = true, env = "IPVS_OBSERVER_MAX_SERVICES"
    )]
    max_services: u32,

    /// Real servers that the probes keep counters of
    #[arg(
        long, value_name = "N", default_value_t = Sizes::default().destinations, value_parser = settings::entries,
        allow_hyphen_values = true, env = "IPVS_OBSERVER_MAX_DESTINATIONS"
    )]
    max_destinations: u32,

    /// What is given up at the start: all that gathering and attaching again does not need, once the probes are
    /// attached also what attaching needs, or nothing
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "reattach",
        env = "IPVS_OBSERVER_PRIVILEGES"
    )]
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TriggerArg {
    Interval,
    Stdin,
    Sighup,
    Sigusr1,
    Sigusr2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaArg {
    Full,
    Telegraf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionArg {
    Ns,
    Us,
    Ms,
    S,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProbesArg {
    Auto,
    On,
    Off,
}

impl From<CollectArgs> for settings::Collect {
    fn from(args: CollectArgs) -> Self {
        Self {
            trigger: match args.trigger {
                TriggerArg::Interval => Start::Interval,
                TriggerArg::Stdin => Start::Stdin,
                TriggerArg::Sighup => Start::Hangup,
                TriggerArg::Sigusr1 => Start::User1,
                TriggerArg::Sigusr2 => Start::User2,
            },
            interval: args.interval,
            count: if args.once { Some(1) } else { args.count },
            once: args.once,
            schema: match args.schema {
                SchemaArg::Full => Schema::Full,
                SchemaArg::Telegraf => Schema::Telegraf,
            },
            unsigned: args.unsigned,
            precision: args.precision.map_or_else(
                || Precision::fitting(args.interval),
                |precision| match precision {
                    PrecisionArg::Ns => Precision::Nanoseconds,
                    PrecisionArg::Us => Precision::Microseconds,
                    PrecisionArg::Ms => Precision::Milliseconds,
                    PrecisionArg::S => Precision::Seconds,
                },
            ),
            probes: match args.probes {
                ProbesArg::Auto => ProbeMode::Auto,
                ProbesArg::On => ProbeMode::On,
                ProbesArg::Off => ProbeMode::Off,
            },
            load_module: args.load_module,
            sizes: args.probing.sizes(),
            privileges: args.probing.privileges(),
            btf: args.probing.btf,
            services: args.services,
            namespaces: args.namespaces,
            outputs: args.outputs,
            backlog: args.backlog,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_is_defined_without_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_that_is_not_hidden_has_a_manual_page() {
        for verb in Cli::command()
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
        {
            let page = PageArg::from_str(verb.get_name(), false);
            assert_eq!(page.map(PageArg::verb), Ok(verb.get_name()));
        }
    }

    #[test]
    fn every_flag_of_a_verb_has_its_environment_variable() {
        for command in Cli::command().get_subcommands() {
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
