//! `ipvs_observer`: the program itself.

use super::Points;
use crate::{
    line::Encoder,
    model::{DumpCounters, OutputCounters, ProbeTotals},
};

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
    pub dumps: DumpCounters,
    /// What became of earlier lines.
    pub outputs: OutputCounters,
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
        let Observer {
            status,
            reason,
            gather_ns,
            dump_ns,
            encode_ns,
            dumps:
                DumpCounters {
                    errors,
                    repeats,
                    skipped,
                    duplicates,
                    vanished,
                },
            outputs:
                OutputCounters {
                    bytes,
                    dropped,
                    reconnects,
                },
            gathers_skipped,
            rss_bytes,
            probes,
        } = observer;
        let mut line = encoder.line("ipvs_observer");
        self.netns_tag(&mut line);
        line.literal("status", status.name()).string("reason", reason);
        line.unsigned("gather_ns", *gather_ns)
            .unsigned("dump_ns", *dump_ns)
            .unsigned("encode_ns", *encode_ns)
            .unsigned("dump_errors", *errors)
            .unsigned("dump_repeats", *repeats)
            .unsigned("dump_duplicates", *duplicates)
            .unsigned("dump_skipped", *skipped)
            .unsigned("dump_vanished", *vanished)
            .unsigned("gathers_skipped", *gathers_skipped)
            .unsigned("lines", lines)
            .unsigned("lines_dropped", *dropped)
            .unsigned("output_reconnects", *reconnects)
            .unsigned("output_bytes", *bytes)
            .unsigned("rss_bytes", *rss_bytes);
        if let Some(ProbeHealth {
            attached,
            missing,
            totals:
                ProbeTotals {
                    map_bytes,
                    runs,
                    run_ns,
                    missed,
                    entries,
                    unpaired,
                    durations_lost,
                    events_lost,
                    turned_away,
                    // Parts of those above, and what a diagnostic tells of.
                    returns: _,
                    events: _,
                    lost: _,
                    unreadable: _,
                },
        }) = probes
        {
            line.unsigned("probes", *attached)
                .unsigned("probes_missing", *missing)
                .unsigned("probe_runs", *runs)
                .unsigned("events", *entries)
                .unsigned("events_lost", turned_away + events_lost)
                .unsigned("events_unpaired", *unpaired)
                .unsigned("durations_lost", *durations_lost);
            if let Some(bytes) = *map_bytes {
                line.unsigned("map_bytes", bytes);
            }
            if let Some(missed) = *missed {
                line.unsigned("probe_runs_missed", missed);
            }
            if let Some(nanoseconds) = *run_ns {
                line.unsigned("probe_run_ns", nanoseconds);
            }
        }
        line.end(timestamp);
    }
}
