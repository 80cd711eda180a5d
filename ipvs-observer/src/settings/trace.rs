//! The settings of `trace`.

use std::{ops::BitOr, time::Duration};

use clap::{Args, ValueEnum, builder::BoolishValueParser};

use super::{
    filter::Filter,
    shared::{Namespaces, Packets, Probing, Writing, named},
    values::{count, duration, size},
};
use crate::probe::{Sizes, Tell};

/// What `trace` does.
#[derive(Args, Clone, Debug)]
pub struct Trace {
    /// How events look: for people, one JSON object a line, or line protocol
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = named::<TraceFormat>())]
    pub format: TraceFormat,

    /// Which kinds of events: decisions, changes, drops and ends of connections; repeatable
    #[arg(
        long, value_name = "KIND", value_delimiter = ',', default_value = "decisions,changes,drops",
        value_parser = named::<Kind>()
    )]
    only: Vec<Kind>,

    /// Add what the scheduler had before it at each decision, with the cost that its own rule computes
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub explain: bool,

    /// Whether each packet is looked at.
    #[command(flatten)]
    pub packets: Packets,

    /// Which events.
    #[command(flatten)]
    pub filter: Filter,

    /// Which network namespaces.
    #[command(flatten)]
    pub namespaces: Namespaces,

    /// End after so many events
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
    /// What is to leave the kernel.
    pub fn tell(&self) -> Tell {
        let of_decisions = self.filter.is_of_decisions();
        let kinds = self.only.iter().map(|kind| match kind {
            Kind::Decisions => Tell::DECISIONS,
            // What lacks something that is asked for.
            Kind::Changes if !self.filter.clients.is_empty() => Tell::NOTHING,
            _ if of_decisions => Tell::NOTHING,
            Kind::Changes => Tell::CHANGES,
            Kind::Drops => Tell::DROPS,
            Kind::Ends => Tell::ENDS,
        });
        let candidates = self.explain.then_some(Tell::CANDIDATES);
        kinds.chain(candidates).fold(Tell::NOTHING, BitOr::bitor)
    }

    /// Why nothing could ever match, if nothing could.
    pub fn contradiction(&self) -> Option<&'static str> {
        let has = |kind| self.only.contains(&kind);
        if self.explain && !has(Kind::Decisions) {
            return Some(
                "--explain shows the candidates of decisions, and --only leaves decisions out; add decisions to --only, \
                 or leave --explain away",
            );
        }
        if self.filter.is_of_decisions() && !has(Kind::Decisions) {
            return Some(
                "--outcome and --slower-than match decisions, and --only leaves them out, so nothing would be shown; add \
                 decisions to --only, or leave one of them away",
            );
        }
        if !self.filter.clients.is_empty() && self.only.iter().all(|kind| *kind == Kind::Changes) {
            return Some(
                "--client matches no change, and --only asks for changes alone, so nothing would be shown; leave one of \
                 them away",
            );
        }
        self.filter.impossible(self.packets)
    }

    /// How large the probes' maps are.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            events: u32::try_from(self.ring).unwrap_or(1 << 30).clamp(4096, 1 << 30),
            ..self.probing.sizes()
        }
    }
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Scheduling decisions, and connections that began without the scheduler.
    Decisions,
    /// Configuration changes and overload transitions.
    Changes,
    /// Packets dropped before and after the scheduler.
    Drops,
    /// Ends of connections.
    Ends,
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
