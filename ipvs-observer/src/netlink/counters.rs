//! What goes wrong in listings, counted.

use super::socket::Replies;

/// How often a listing that changed under the dump is read again before it is reported as such.
pub(super) const ATTEMPTS: usize = 3;

/// What went wrong so far, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Listings that failed and records that could not be decoded.
    pub errors: u64,
    /// Listings read again because they were inconsistent or cut off, or lacked what the one before had.
    pub repeats: u64,
    /// Services that were there and that the kernel left out of a listing, because others were deleted meanwhile.
    pub skipped: u64,
    /// Entries that came twice in one listing, because the table changed meanwhile; the newer is kept.
    pub duplicates: u64,
    /// Services that were listed and gone when their destinations were asked for.
    pub vanished: u64,
}

impl Counters {
    /// Whether a listing stands: not marked as inconsistent. Counts what it left out.
    pub(super) fn settled(&mut self, replies: Replies) -> bool {
        self.errors += replies.malformed as u64;
        self.repeats += u64::from(replies.interrupted);
        !replies.interrupted
    }
}
