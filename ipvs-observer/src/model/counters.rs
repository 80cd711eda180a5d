//! What went wrong on the way, counted since the start: plain values for the line of the program itself.

/// What went wrong with dumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpCounters {
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

/// What became of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputCounters {
    /// Bytes written.
    pub bytes: u64,
    /// Lines dropped, because the output was away for longer than the backlog lasts.
    pub dropped: u64,
    /// Times that the output came back.
    pub reconnects: u64,
}
