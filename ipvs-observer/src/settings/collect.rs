//! The settings of `collect`.

use std::time::Duration;

use clap::{Args, ValueEnum, builder::BoolishValueParser};

use super::{
    shared::{Namespaces, Packets, Probing, Services, Writing, named},
    values::{count, interval, refusals},
};
use crate::{points::Schema, probe::ProbeMode, trigger::Start};

/// What `collect` does.
#[derive(Args, Clone, Debug)]
pub struct Collect {
    /// Gather period, aligned to the clock: 10s, 500ms, 1m
    #[arg(
        long, value_name = "DURATION", default_value = "10s", value_parser = interval,
        allow_hyphen_values = true
    )]
    pub interval: Duration,

    /// What starts a gather: the clock, a newline on stdin, or a signal (Telegraf's inputs.execd)
    #[arg(long, value_name = "TRIGGER", default_value = "interval", value_parser = named::<Start>())]
    pub trigger: Start,

    /// Gather once, at once, and exit
    #[arg(long, conflicts_with = "count", value_parser = BoolishValueParser::new())]
    pub once: bool,

    /// Gather this many times and exit
    #[arg(
        long, value_name = "N", value_parser = |text: &str| count(text, "no gather would be made"),
        allow_hyphen_values = true
    )]
    count: Option<u64>,

    /// Where lines go.
    #[command(flatten)]
    pub writing: Writing,

    /// Which series: all, or exactly those of Telegraf's inputs.ipvs
    #[arg(long, value_name = "SCHEMA", default_value = "full", value_parser = named::<Schema>())]
    pub schema: Schema,

    /// Write unsigned fields as such (Telegraf's influx_uint_support), not as signed ones of at most 2^63-1
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub unsigned: bool,

    /// Round timestamps down to it [default: s, or ms where the interval is under 1s]
    #[arg(long, value_name = "UNIT", value_parser = named::<Precision>())]
    precision: Option<Precision>,

    /// eBPF probes: whatever this kernel allows (none with --once), all or fail, or none
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = named::<ProbeMode>())]
    pub probes: ProbeMode,

    /// Write up to this many refusals and drops of a namespace and interval, the first of each service and reason before
    /// others; all are counted. 0: none
    #[arg(
        long, value_name = "N", default_value = "10", value_parser = refusals, allow_hyphen_values = true
    )]
    refusals: u32,

    /// Whether each packet is looked at.
    #[command(flatten)]
    pub packets: Packets,

    /// Read the connection table this often, and write it by real server and state: 60s, 5m [default: not]
    #[arg(long, value_name = "DURATION", value_parser = interval, allow_hyphen_values = true)]
    pub connections: Option<Duration>,

    /// Which services.
    #[command(flatten)]
    pub services: Services,

    /// Which network namespaces.
    #[command(flatten)]
    pub namespaces: Namespaces,

    /// Load the module ip_vs if it is absent
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub load_module: bool,

    /// How it is probed.
    #[command(flatten)]
    pub probing: Probing,
}

impl Collect {
    /// Which probes are wanted, in the end.
    pub fn probes_wanted(&self) -> ProbeMode {
        match self.probes {
            // Counters since the probes were attached say nothing in the one gather right after it.
            ProbeMode::Auto if self.once => ProbeMode::Off,
            mode => mode,
        }
    }

    /// How many refusals and drops are written of a namespace and interval. The other schema has nothing of them.
    pub fn refusals(&self) -> u32 {
        match self.schema {
            Schema::Full => self.refusals,
            Schema::Telegraf => 0,
        }
    }

    /// How many gathers; none: until stopped.
    pub fn gathers(&self) -> Option<u64> {
        if self.once { Some(1) } else { self.count }
    }

    /// What timestamps are rounded down to.
    pub fn precision(&self) -> Precision {
        self.precision
            .unwrap_or_else(|| Precision::fitting(self.interval))
    }
}

/// What timestamps are rounded down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Nanoseconds.
    #[value(name = "ns")]
    Nanoseconds,
    /// Microseconds.
    #[value(name = "us")]
    Microseconds,
    /// Milliseconds.
    #[value(name = "ms")]
    Milliseconds,
    /// Seconds.
    #[value(name = "s")]
    Seconds,
}

impl Precision {
    /// The precision that fits an interval: seconds, or milliseconds where it is shorter than one.
    pub fn fitting(interval: Duration) -> Self {
        if interval < Duration::from_secs(1) {
            Self::Milliseconds
        } else {
            Self::Seconds
        }
    }

    /// A time in nanoseconds, rounded down; still in nanoseconds.
    pub fn round(self, nanoseconds: u64) -> u64 {
        let unit = match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
        };
        nanoseconds - nanoseconds % unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rounded_down_and_stay_nanoseconds() {
        let time = 1_700_000_000_123_456_789;
        assert_eq!(Precision::Nanoseconds.round(time), time);
        assert_eq!(Precision::Microseconds.round(time), 1_700_000_000_123_456_000);
        assert_eq!(Precision::Milliseconds.round(time), 1_700_000_000_123_000_000);
        assert_eq!(Precision::Seconds.round(time), 1_700_000_000_000_000_000);
        assert_eq!(
            Precision::fitting(Duration::from_millis(500)),
            Precision::Milliseconds
        );
        assert_eq!(Precision::fitting(Duration::from_secs(1)), Precision::Seconds);
    }
}
