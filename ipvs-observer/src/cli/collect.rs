//! The flags of `collect`.

use std::time::Duration;

use clap::{Args, ValueEnum, builder::BoolishValueParser};

use super::ProbeArgs;
use crate::{
    output::Target,
    points::Schema,
    probe::ProbeMode,
    settings::{self, Precision, ServiceSpec},
    trigger::Start,
};

/// The flags of `collect`.
#[derive(Args, Debug)]
pub struct CollectArgs {
    /// Gather period, aligned to the clock: 10s, 500ms, 1m
    #[arg(
        long, value_name = "DURATION", default_value = "10s", value_parser = settings::interval,
        allow_hyphen_values = true
    )]
    interval: Duration,

    /// What starts a gather: the clock, a newline on stdin, or a signal (Telegraf's inputs.execd)
    #[arg(long, value_name = "TRIGGER", default_value = "interval")]
    trigger: TriggerArg,

    /// Gather once, at once, and exit
    #[arg(
        long, conflicts_with = "count", value_parser = BoolishValueParser::new()
    )]
    once: bool,

    /// Gather this many times and exit
    #[arg(
        long, value_name = "N", value_parser = |text: &str| settings::count(text, "no gather would be made"), allow_hyphen_values = true
    )]
    count: Option<u64>,

    /// Where lines go: stdout, unix:///PATH (stream) or unixgram:///PATH (datagrams); repeatable
    #[arg(
        long = "output",
        value_name = "OUTPUT",
        value_delimiter = ',',
        default_value = "stdout",
        allow_hyphen_values = true
    )]
    outputs: Vec<Target>,

    /// Lines kept while an output is away, the oldest dropped first: 16MiB, 512KiB
    #[arg(
        long, value_name = "SIZE", default_value = "16MiB", value_parser = settings::size,
        allow_hyphen_values = true
    )]
    backlog: usize,

    /// Which series: all, or exactly those of Telegraf's inputs.ipvs
    #[arg(long, value_name = "SCHEMA", default_value = "full")]
    schema: SchemaArg,

    /// Write unsigned fields as such (Telegraf's influx_uint_support), not as signed ones of at most 2^63-1
    #[arg(long, value_parser = BoolishValueParser::new())]
    unsigned: bool,

    /// Round timestamps down to it [default: s, or ms where the interval is under 1s]
    #[arg(long, value_name = "UNIT")]
    precision: Option<PrecisionArg>,

    /// eBPF probes: whatever this kernel allows (none with --once), all or fail, or none
    #[arg(long, value_name = "MODE", default_value = "auto")]
    probes: ProbesArg,

    /// Only this service: tcp://10.0.0.1:80, udp://[2001:db8::1]:53, fwmark:47 (both families),
    /// fwmark:47/inet6; repeatable
    #[arg(
        long = "service",
        value_name = "SPEC",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    services: Vec<ServiceSpec>,

    /// Another network namespace, by its name, a path to it or its inode number; repeatable. Lines then carry the tag
    /// netns
    #[arg(
        long = "netns",
        value_name = "NAME|PATH",
        value_delimiter = ',',
        value_parser = settings::netns
    )]
    namespaces: Vec<String>,

    /// Load the module ip_vs if it is absent
    #[arg(long, value_parser = BoolishValueParser::new())]
    load_module: bool,

    #[command(flatten)]
    probing: ProbeArgs,
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
