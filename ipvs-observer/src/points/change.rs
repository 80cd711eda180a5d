//! `ipvs_change`: what was done to the configuration, and by whom.

use super::{Points, event_time};
use crate::{
    line::Encoder,
    model::{Change, Remaining},
};

impl Points {
    /// Writes changes, each with its own time: two of one gather would otherwise be one point of one series.
    pub fn changes<'a>(&mut self, encoder: &mut Encoder, changes: impl IntoIterator<Item = &'a Change>) {
        for change in changes {
            let Change {
                time,
                // By its name, as a tag, if it was asked for.
                netns: _,
                action,
                service,
                destination,
                weight_before,
                weight_after,
                // In words.
                changed: _,
                remaining,
                left,
                comm,
                pid,
                parent_comm,
                parent_pid,
            } = change;
            self.last_change = event_time(*time, self.last_change);
            let mut line = encoder.line("ipvs_change");
            line.tag_literal("action", action.name());
            self.service_tags(&mut line, service, |line| self.netns_tag(line));
            if let Some(destination) = destination {
                line.string("destination", destination);
            }
            if let Some(weight) = *weight_before {
                line.unsigned("weight_before", weight.into());
            }
            if let Some(weight) = *weight_after {
                line.unsigned("weight_after", weight.into());
            }
            if let Some(words) = change.changed_words() {
                line.string("changed", words);
            }
            if let Some(Remaining {
                active,
                inactive,
                templates,
            }) = *remaining
            {
                line.unsigned("active", active.into())
                    .unsigned("inactive", inactive.into())
                    .unsigned("templates", templates.into());
            }
            if !left.is_empty() {
                line.string("left", left);
            }
            line.string("comm", comm).unsigned("pid", (*pid).into());
            if !parent_comm.is_empty() {
                line.string("parent_comm", parent_comm)
                    .unsigned("parent_pid", (*parent_pid).into());
            }
            line.end(self.last_change);
        }
    }
}
