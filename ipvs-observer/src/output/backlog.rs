//! Lines that wait for their output.

use std::collections::VecDeque;

use bytes::Bytes;

/// Batches of whole lines in pieces, oldest first, within a bound.
///
/// The newest batch is kept whole whatever its size, or a table larger than the bound could never be written.
#[derive(Debug)]
pub(super) struct Backlog {
    pieces: VecDeque<Bytes>,
    /// How many of the last pieces are the newest batch's.
    newest: usize,
    bytes: usize,
    limit: usize,
    dropped: u64,
}

impl Backlog {
    /// A backlog of at most `limit` bytes beside the newest batch.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            pieces: VecDeque::new(),
            newest: 0,
            bytes: 0,
            limit,
            dropped: 0,
        }
    }

    /// Begins a batch: what was the newest until now may be dropped.
    pub(super) fn begin(&mut self) {
        self.newest = 0;
    }

    /// Adds whole lines to the newest batch, and drops as many of the oldest lines before it as are too many then.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.bytes += piece.len();
        self.pieces.push_back(piece);
        self.newest += 1;
        while self.bytes > self.limit && self.pieces.len() > self.newest {
            let surplus = self.bytes - self.limit;
            let Some(oldest) = self.pieces.front_mut() else {
                return;
            };
            let dropped = oldest.split_to(lines_covering(oldest, surplus));
            if oldest.is_empty() {
                self.pieces.pop_front();
            }
            self.bytes -= dropped.len();
            self.dropped += lines(&dropped);
        }
    }

    /// Takes the oldest lines: as many whole ones of one piece as fit `limit` bytes, and at least one.
    pub(super) fn take(&mut self, limit: usize) -> Option<Bytes> {
        let oldest = self.pieces.front_mut()?;
        let taken = oldest.split_to(lines_within(oldest, limit));
        if oldest.is_empty() {
            self.pieces.pop_front();
            self.newest = self.newest.min(self.pieces.len());
        }
        self.bytes -= taken.len();
        Some(taken)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Lines that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.pieces.iter().map(|piece| lines(piece)).sum()
    }

    /// Lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// How many lines these bytes hold; a last one that does not end counts.
#[allow(
    clippy::naive_bytecount,
    reason = "some thousand bytes at a time, beside a system call"
)]
pub(super) fn lines(bytes: &[u8]) -> u64 {
    let ended = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    ended + u64::from(bytes.last().is_some_and(|&last| last != b'\n'))
}

/// The length of the whole lines that fit `limit` bytes; where not even one does, of that one.
fn lines_within(bytes: &[u8], limit: usize) -> usize {
    if bytes.len() <= limit {
        return bytes.len();
    }
    match bytes[..limit].iter().rposition(|&byte| byte == b'\n') {
        Some(end) => end + 1,
        None => lines_covering(bytes, 1),
    }
}

/// The length of the fewest whole lines that make up at least `amount` bytes, or of all.
fn lines_covering(bytes: &[u8], amount: usize) -> usize {
    let from = amount.clamp(1, bytes.len().max(1)) - 1;
    let rest = bytes.get(from..).unwrap_or_default();
    rest.iter()
        .position(|&byte| byte == b'\n')
        .map_or(bytes.len(), |end| from + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(backlog: &mut Backlog, limit: usize) -> Option<String> {
        backlog
            .take(limit)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn batch(backlog: &mut Backlog, pieces: &[&'static [u8]]) {
        backlog.begin();
        for piece in pieces {
            backlog.push(Bytes::from_static(piece));
        }
    }

    #[test]
    fn lines_come_out_in_order_and_whole() {
        let mut backlog = Backlog::new(100);
        batch(&mut backlog, &[b"aa\nbb\ncc\n"]);
        batch(&mut backlog, &[b"dd\n"]);
        assert_eq!(take(&mut backlog, 7).as_deref(), Some("aa\nbb\n"));
        assert_eq!(take(&mut backlog, 100).as_deref(), Some("cc\n"));
        assert_eq!(
            take(&mut backlog, 1).as_deref(),
            Some("dd\n"),
            "a line that does not fit goes by itself"
        );
        assert_eq!(take(&mut backlog, 100), None);
        assert!(backlog.is_empty());
    }

    #[test]
    fn the_oldest_lines_are_dropped_whole_and_counted() {
        let mut backlog = Backlog::new(9);
        batch(&mut backlog, &[b"aa\nbb\ncc\n"]);
        batch(&mut backlog, &[b"dddd\n"]);
        assert_eq!((backlog.dropped(), backlog.waiting()), (2, 2));
        assert_eq!(take(&mut backlog, 100).as_deref(), Some("cc\n"));
        assert_eq!(take(&mut backlog, 100).as_deref(), Some("dddd\n"));
    }

    #[test]
    fn the_newest_batch_is_kept_whatever_its_size() {
        let mut backlog = Backlog::new(4);
        batch(&mut backlog, &[b"aa\nbb\ncc\n"]);
        assert_eq!(backlog.dropped(), 0);
        batch(&mut backlog, &[b"dd\nee\nff\n"]);
        assert_eq!((backlog.dropped(), backlog.waiting()), (3, 3));
    }

    #[test]
    fn the_newest_batch_is_kept_in_however_many_pieces_it_comes() {
        let mut backlog = Backlog::new(4);
        batch(&mut backlog, &[b"aa\n", b"bb\ncc\n"]);
        assert_eq!((backlog.dropped(), backlog.waiting()), (0, 3));
        batch(&mut backlog, &[b"dd\n"]);
        assert_eq!((backlog.dropped(), backlog.waiting()), (3, 1));
        // Some of it is out before all of it is there.
        assert_eq!(take(&mut backlog, 100).as_deref(), Some("dd\n"));
        backlog.push(Bytes::from_static(b"ee\nff\n"));
        backlog.push(Bytes::from_static(b"gg\n"));
        assert_eq!((backlog.dropped(), backlog.waiting()), (3, 3));
        batch(&mut backlog, &[b"h\n"]);
        assert_eq!(
            (backlog.dropped(), backlog.waiting()),
            (6, 1),
            "what is too many is dropped of the batch before"
        );
    }

    #[test]
    fn every_line_is_either_taken_or_dropped_whatever_the_sizes() {
        for limit in 0..40 {
            for room in 1..20 {
                let mut backlog = Backlog::new(limit);
                let mut taken = 0;
                for turn in 0..20usize {
                    let batch: String = (0..turn % 5).map(|line| "x".repeat(line * 3) + "\n").collect();
                    backlog.begin();
                    let middle = batch.len() / 2;
                    let cut = batch[..middle].rfind('\n').map_or(0, |end| end + 1);
                    backlog.push(Bytes::from(batch[..cut].to_owned()));
                    backlog.push(Bytes::from(batch[cut..].to_owned()));
                    if turn % 3 == 0 {
                        taken += backlog.take(room).map_or(0, |bytes| lines(&bytes));
                    }
                }
                while let Some(bytes) = backlog.take(room) {
                    assert!(bytes.ends_with(b"\n"));
                    taken += lines(&bytes);
                }
                assert_eq!(taken + backlog.dropped(), 40, "limit {limit}, room {room}");
            }
        }
    }
}
