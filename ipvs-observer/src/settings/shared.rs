//! Flags that several verbs have.

use std::path::PathBuf;

use clap::{
    Args, ValueEnum,
    builder::{BoolishValueParser, PossibleValuesParser, Resettable, TypedValueParser},
};

use super::{service::ServiceSpec, values};
use crate::{
    output::Target,
    privilege::Privileges,
    probe::{Asked, Occasions, Sizes},
};

/// Reads a value by its name. Help then lists the names alone: what they mean stands in the flag's own sentence.
pub(super) fn named<T: ValueEnum + Send + Sync + 'static>() -> impl TypedValueParser<Value = T> {
    let values = T::value_variants().iter().filter_map(T::to_possible_value);
    PossibleValuesParser::new(values.map(|value| value.help(Resettable::Reset)))
        .try_map(|name| T::from_str(&name, false))
}

/// Which services.
#[derive(Args, Clone, Debug, Default)]
pub struct Services {
    /// Only this service: tcp://10.0.0.1:80, udp://[2001:db8::1]:53, fwmark:47 (both families),
    /// fwmark:47/inet6; repeatable
    #[arg(
        long = "service",
        value_name = "SPEC",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub specs: Vec<ServiceSpec>,
}

impl Services {
    /// What the programs are asked for.
    pub fn asked(&self) -> Asked {
        Asked {
            services: self.specs.iter().flat_map(ServiceSpec::keys).collect(),
            ..Asked::default()
        }
    }
}

/// Which network namespaces; none: this one.
#[derive(Args, Clone, Debug)]
pub struct Namespaces {
    /// Another network namespace, by its name, a path to it or its inode number; repeatable. Lines then carry the tag
    /// netns
    #[arg(long = "netns", value_name = "NAME|PATH", value_delimiter = ',', value_parser = values::netns)]
    pub names: Vec<String>,
}

/// Where what is written goes.
#[derive(Args, Clone, Debug)]
pub struct Writing {
    /// Where lines go: stdout, unix:///PATH (stream) or unixgram:///PATH (datagrams); repeatable
    #[arg(
        long = "output",
        value_name = "OUTPUT",
        value_delimiter = ',',
        default_value = "stdout",
        allow_hyphen_values = true
    )]
    pub outputs: Vec<Target>,

    /// Lines kept while an output is away or slow, the oldest dropped first: 16MiB, 512KiB
    #[arg(
        long, value_name = "SIZE", default_value = "16MiB", value_parser = values::size,
        allow_hyphen_values = true
    )]
    pub backlog: usize,
}

impl Writing {
    /// Whether any of it goes to a socket.
    pub fn to_sockets(&self) -> bool {
        self.outputs.iter().any(|output| *output != Target::Stdout)
    }
}

/// What is asked for beside what probes tell by default.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Packets {
    /// Also what only the path of each packet tells: SYNs that take an old entry, packets of removed real servers. Costs
    /// time at each packet
    #[arg(long, value_parser = BoolishValueParser::new())]
    packets: bool,
}

impl Packets {
    /// For what probes are attached beside what is so at the moment.
    pub fn occasions(self) -> Occasions {
        if self.packets {
            Occasions::PACKETS
        } else {
            Occasions::NONE
        }
    }
}

/// How it is probed.
#[derive(Args, Clone, Debug)]
pub struct Probing {
    /// Read BTF from this folder, laid out as /sys/kernel/btf, and not from the running kernel
    #[arg(long, value_name = "DIR")]
    pub btf: Option<PathBuf>,

    /// Services that the probes keep counters of; what finds no room is counted in events_lost
    #[arg(
        long, value_name = "N", default_value_t = Sizes::default().services, value_parser = values::entries,
        allow_hyphen_values = true
    )]
    max_services: u32,

    /// Real servers that the probes keep counters of
    #[arg(
        long, value_name = "N", default_value_t = Sizes::default().destinations, value_parser = values::entries,
        allow_hyphen_values = true
    )]
    max_destinations: u32,

    /// What is given up at the start: all that gathering and attaching again does not need, once the probes are
    /// attached also what attaching needs, or nothing
    #[arg(long, value_name = "WHAT", default_value = "reattach")]
    pub privileges: Privileges,
}

impl Probing {
    /// How large the probes' maps are.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            services: self.max_services,
            destinations: self.max_destinations,
            ..Sizes::default()
        }
    }
}
