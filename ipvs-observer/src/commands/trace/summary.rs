//! What a trace came to, for its last message.

use crate::{
    log::{self, counted},
    model::Lost,
    trace::{if_any, lost_words, skipped_words},
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
        } = self;
        if lost.skipped > 0 {
            log::write(log::Level::Warning, &skipped_words(lost.skipped));
        }
        let (level, advice) = if lost.had_room() && dropped == 0 {
            (log::Level::Info, "")
        } else {
            (log::Level::Warning, WIDER)
        };
        log::write(
            level,
            &format!(
                "{} and {}{}{} shown; lost: {}, {}{advice}",
                counted(*decisions, "decision"),
                counted(*changes, "change"),
                if_any(*drops, "drop"),
                if_any(*ends, "end"),
                lost_words(lost),
                counted(dropped, "line"),
            ),
        );
    }
}
