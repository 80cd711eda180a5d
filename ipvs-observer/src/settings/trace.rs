//! The settings of `trace`.

use std::time::Duration;

use clap::{Args, ValueEnum, builder::BoolishValueParser};

use super::{
    filter::Filter,
    shared::{Namespaces, Probing, Writing, named},
    values::{count, duration, size},
};
use crate::probe::Sizes;

/// What `trace` does.
#[derive(Args, Clone, Debug)]
pub struct Trace {
    /// How events look: for people, one JSON object a line, or line protocol
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = named::<TraceFormat>())]
    pub format: TraceFormat,

    /// Add what the scheduler had before it at each decision, with the cost that its own rule computes
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub explain: bool,

    /// Which events.
    #[command(flatten)]
    pub filter: Filter,

    /// Which network namespaces.
    #[command(flatten)]
    pub namespaces: Namespaces,

    /// End after so many decisions and changes
    #[arg(
        long, value_name = "N", value_parser = |text: &str| count(text, "nothing would be shown"),
        allow_hyphen_values = true
    )]
    pub count: Option<u64>,

    /// End after this time: 30s, 5m
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,

    /// Where events go.
    #[command(flatten)]
    pub writing: Writing,

    /// Kernel memory in which events wait to be read, rounded up to a power of two
    #[arg(
        long, value_name = "SIZE", default_value = "4MiB", value_parser = size,
        allow_hyphen_values = true
    )]
    ring: usize,

    /// How it is probed.
    #[command(flatten)]
    pub probing: Probing,
}

impl Trace {
    /// How large the probes' maps are.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            events: u32::try_from(self.ring).unwrap_or(1 << 30).clamp(4096, 1 << 30),
            ..self.probing.sizes()
        }
    }
}

/// How the events of `trace` look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// Line protocol.
    Line,
}
