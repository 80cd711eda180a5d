//! `ipvs_observer`: the program itself.

use super::Points;
use crate::{line::Encoder, model::ProbeTotals, netlink, output};

/// How much of the work can be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// All of it.
    #[default]
    Ok,
    /// Some of it; the reason says what is missing.
    Degraded,
    /// The table cannot be read.
    Unavailable,
}

impl Status {
    /// The status as the field has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What one line of `ipvs_observer` says. Durations are of this gather, in nanoseconds; all else counts since
/// the start.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// How much of the work can be done.
    pub status: Status,
    /// Why not all of it; empty if it can.
    pub reason: String,
    /// From the gather's beginning to this line.
    pub gather_ns: u64,
    /// Reading the table.
    pub dump_ns: u64,
    /// Writing the lines before this one.
    pub encode_ns: u64,
    /// What went wrong with dumps.
    pub dumps: netlink::Counters,
    /// What became of earlier lines.
    pub outputs: output::Counters,
    /// Gathers that were left out because the one before took too long.
    pub gathers_skipped: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// What the probes say of themselves; none under `--probes off`.
    pub probes: Option<ProbeHealth>,
}

/// What the probes say of themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeHealth {
    /// Needs that are met: probes attached.
    pub attached: u64,
    /// Probes that this kernel or these privileges do not allow.
    pub missing: u64,
    /// Their own account.
    pub totals: ProbeTotals,
}

impl Points {
    /// Writes the line.
    pub fn observer(&self, encoder: &mut Encoder, observer: &Observer, timestamp: u64) {
        let lines = encoder.lines() + 1;
        let mut line = encoder.line("ipvs_observer");
        self.netns_tag(&mut line);
        line.literal("status", observer.status.name())
            .string("reason", &observer.reason);
        line.unsigned("gather_ns", observer.gather_ns)
            .unsigned("dump_ns", observer.dump_ns)
            .unsigned("encode_ns", observer.encode_ns)
            .unsigned("dump_errors", observer.dumps.errors)
            .unsigned("dump_repeats", observer.dumps.repeats)
            .unsigned("dump_duplicates", observer.dumps.duplicates)
            .unsigned("dump_skipped", observer.dumps.skipped)
            .unsigned("dump_vanished", observer.dumps.vanished)
            .unsigned("gathers_skipped", observer.gathers_skipped)
            .unsigned("lines", lines)
            .unsigned("lines_dropped", observer.outputs.dropped)
            .unsigned("output_reconnects", observer.outputs.reconnects)
            .unsigned("output_bytes", observer.outputs.bytes)
            .unsigned("rss_bytes", observer.rss_bytes);
        if let Some(ProbeHealth {
            attached,
            missing,
            totals,
        }) = &observer.probes
        {
            line.unsigned("probes", *attached)
                .unsigned("probes_missing", *missing)
                .unsigned("probe_runs", totals.runs)
                .unsigned("events", totals.entries)
                .unsigned("events_lost", totals.turned_away + totals.events_lost)
                .unsigned("events_unpaired", totals.unpaired)
                .unsigned("durations_lost", totals.durations_lost);
            if let Some(bytes) = totals.map_bytes {
                line.unsigned("map_bytes", bytes);
            }
            if let Some(missed) = totals.missed {
                line.unsigned("probe_runs_missed", missed);
            }
            if let Some(nanoseconds) = totals.run_ns {
                line.unsigned("probe_run_ns", nanoseconds);
            }
        }
        line.end(timestamp);
    }
}
