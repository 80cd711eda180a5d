//! What a trace came to, for its last message.

use crate::{
    log::{self, counted},
    model::Lost,
    trace::{if_any, lost_words},
};

/// What mends a loss for want of room.
const WIDER: &str = "; a larger --ring or a narrower filter loses less";

/// What a trace came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    pub(super) decisions: u64,
    pub(super) changes: u64,
    pub(super) drops: u64,
    pub(super) ends: u64,
    pub(super) lost: Lost,
    /// Decisions among the lost that the kernel ran no probe for.
    pub(super) skipped: u64,
}

impl Summary {
    /// Events of all kinds.
    pub(super) fn shown(&self) -> u64 {
        self.decisions + self.changes + self.drops + self.ends
    }

    /// Says it, with the lines that the outputs dropped.
    pub(super) fn tell(&self, dropped: u64) {
        let Summary {
            decisions,
            changes,
            drops,
            ends,
            lost,
            skipped,
        } = self;
        let whole = lost.is_nothing() && dropped == 0;
        log::write(
            if whole {
                log::Level::Info
            } else {
                log::Level::Warning
            },
            &format!(
                "{} and {}{}{} shown; lost: {}, {}{}",
                counted(*decisions, "decision"),
                counted(*changes, "change"),
                if_any(*drops, "drop"),
                if_any(*ends, "end"),
                lost_words(lost),
                counted(dropped, "line"),
                match (whole, *skipped) {
                    (true, _) => String::new(),
                    (false, 0) => WIDER.to_owned(),
                    (false, _) => format!(
                        "; the kernel ran no probe for {skipped} of the decisions, because another program of eBPF \
                         was at work on that processor{}",
                        if *skipped == lost.decisions && dropped == 0 {
                            ""
                        } else {
                            WIDER
                        }
                    ),
                }
            ),
        );
    }
}
