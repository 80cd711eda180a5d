//! The flags of `trace`.

use std::time::Duration;

use clap::{Args, ValueEnum, builder::BoolishValueParser};

use super::ProbeArgs;
use crate::{
    output::Target,
    probe::Sizes,
    settings::{self, ServiceSpec, TraceFormat},
    trace::{ClientNet, DestinationSpec, Filter},
};

/// The flags of `trace`.
#[derive(Args, Debug)]
pub struct TraceArgs {
    /// How events look: for people, one JSON object a line, or line protocol
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: TraceFormatArg,

    /// Add what the scheduler had before it at each decision, with the cost that its own rule computes
    #[arg(long, value_parser = BoolishValueParser::new())]
    explain: bool,

    /// Only this service: tcp://10.0.0.1:80, udp://[2001:db8::1]:53, fwmark:47 (both families),
    /// fwmark:47/inet6; repeatable
    #[arg(
        long = "service",
        value_name = "SPEC",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    services: Vec<ServiceSpec>,

    /// Only clients of this network: 10.0.0.0/8, 2001:db8::/32, 192.0.2.7:40000; repeatable. Changes are then left out
    #[arg(
        long = "client",
        value_name = "CIDR",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    clients: Vec<ClientNet>,

    /// Only this real server: 10.0.0.1, 10.0.0.1:8080, [2001:db8::1]:8080; repeatable
    #[arg(
        long = "destination",
        value_name = "ADDRESS",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    destinations: Vec<DestinationSpec>,

    /// Another network namespace, by its name, a path to it or its inode number; repeatable. Lines then carry the tag
    /// netns
    #[arg(
        long = "netns",
        value_name = "NAME|PATH",
        value_delimiter = ',',
        value_parser = settings::netns
    )]
    namespaces: Vec<String>,

    /// End after so many decisions and changes
    #[arg(
        long, value_name = "N", value_parser = |text: &str| settings::count(text, "nothing would be shown"), allow_hyphen_values = true
    )]
    count: Option<u64>,

    /// End after this time: 30s, 5m
    #[arg(
        long, value_name = "DURATION", value_parser = settings::duration, allow_hyphen_values = true
    )]
    duration: Option<Duration>,

    /// Where events go: stdout, unix:///PATH (stream) or unixgram:///PATH (datagrams); repeatable
    #[arg(
        long = "output",
        value_name = "OUTPUT",
        value_delimiter = ',',
        default_value = "stdout",
        allow_hyphen_values = true
    )]
    outputs: Vec<Target>,

    /// Events kept while an output is away or slow, the oldest dropped first: 16MiB, 512KiB
    #[arg(
        long, value_name = "SIZE", default_value = "16MiB", value_parser = settings::size,
        allow_hyphen_values = true
    )]
    backlog: usize,

    /// Kernel memory in which events wait to be read, rounded up to a power of two
    #[arg(
        long, value_name = "SIZE", default_value = "4MiB", value_parser = settings::size,
        allow_hyphen_values = true
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
