//! What goes wrong in listings, counted.

use super::link::Replies;
use crate::model::DumpCounters;

/// How often a listing that changed under the dump is read again before it is reported as such.
pub(super) const ATTEMPTS: usize = 3;

impl DumpCounters {
    /// Whether a listing stands: not marked as inconsistent. Counts what it left out.
    pub(super) fn settled(&mut self, replies: Replies) -> bool {
        self.errors += replies.malformed as u64;
        self.repeats += u64::from(replies.interrupted);
        !replies.interrupted
    }
}
