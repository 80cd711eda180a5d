//! Lines that wait for their output.

use std::collections::VecDeque;

use bytes::Bytes;

use super::piece::{Piece, lines};

/// Bytes of lines that wait as they are. What comes while more of them wait is packed: that takes up to half as long
/// again as the gather itself, and is for large tables whose reader is away or slow.
const PLAIN: usize = 4 << 20;

/// Batches of whole lines in pieces, oldest first, within a bound.
///
/// The newest batch is kept whole whatever its size, or a table larger than the bound could never be written.
#[derive(Debug)]
pub(super) struct Backlog {
    pieces: VecDeque<Piece>,
    /// How many of the last pieces are the newest batch's.
    newest: usize,
    /// Of the lines, before they are packed: so `--backlog` bounds the same lines whatever they say.
    bytes: usize,
    limit: usize,
    /// How many of the bytes may be there before what comes is packed.
    plain: usize,
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
            plain: PLAIN,
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
        self.pieces.push_back(if self.bytes <= self.plain {
            Piece::of(piece)
        } else {
            Piece::packed(piece)
        });
        self.newest += 1;
        while self.bytes > self.limit && self.pieces.len() > self.newest {
            self.drop_oldest(self.bytes - self.limit);
        }
    }

    /// Drops the oldest piece, or as many of its lines as are `surplus` bytes.
    fn drop_oldest(&mut self, surplus: usize) {
        let Some(oldest) = self.pieces.front_mut() else {
            return;
        };
        if surplus < oldest.len() {
            let plain = oldest.plain();
            let dropped = plain.split_to(lines_covering(plain, surplus));
            self.bytes -= dropped.len();
            self.dropped += lines(&dropped);
        } else {
            self.bytes -= oldest.len();
            self.dropped += oldest.lines();
            *oldest = Piece::of(Bytes::new());
        }
        self.shed();
    }

    /// Takes the oldest lines: as many whole ones of one piece as fit `limit` bytes, and at least one.
    pub(super) fn take(&mut self, limit: usize) -> Option<Bytes> {
        let plain = self.pieces.front_mut()?.plain();
        let taken = plain.split_to(lines_within(plain, limit));
        self.bytes -= taken.len();
        self.shed();
        Some(taken)
    }

    /// Removes the oldest piece if all of it is gone.
    fn shed(&mut self) {
        if self.pieces.front().is_some_and(Piece::is_empty) {
            self.pieces.pop_front();
            self.newest = self.newest.min(self.pieces.len());
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Lines that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.pieces.iter().map(Piece::lines).sum()
    }

    /// Lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
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

    /// Batches of up to four lines, of up to four times `unit` bytes each, of which some are taken in between.
    fn every_line_is_taken_or_dropped(mut backlog: Backlog, unit: usize, room: usize) {
        let name = format!("{backlog:?}, room {room}");
        let mut taken = 0;
        for turn in 0..20usize {
            let batch: String = (0..turn % 5).map(|line| "x".repeat(line * unit) + "\n").collect();
            backlog.begin();
            let middle = batch.len() / 2;
            let cut = batch[..middle].rfind('\n').map_or(0, |end| end + 1);
            backlog.push(Bytes::from(batch[..cut].to_owned()));
            backlog.push(Bytes::from(batch[cut..].to_owned()));
            if turn % 3 == 0 {
                taken += backlog.take(room).map_or(0, |bytes| lines(&bytes));
            }
        }
        assert_eq!(
            backlog.bytes,
            backlog.pieces.iter().map(Piece::len).sum::<usize>(),
            "{name}"
        );
        while let Some(bytes) = backlog.take(room) {
            assert!(bytes.ends_with(b"\n"), "{name}");
            taken += lines(&bytes);
        }
        assert_eq!((backlog.bytes, taken + backlog.dropped()), (0, 40), "{name}");
    }

    #[test]
    fn every_line_is_either_taken_or_dropped_whatever_the_sizes() {
        for limit in 0..40 {
            for room in 1..20 {
                every_line_is_taken_or_dropped(Backlog::new(limit), 3, room);
            }
        }
    }

    #[test]
    fn every_line_is_either_taken_or_dropped_where_they_are_packed() {
        for limit in [0, 5_000, 30_000, 70_000] {
            for plain in [0, 10_000, 40_000] {
                for room in [1, 6_000, 100_000] {
                    let backlog = Backlog {
                        plain,
                        ..Backlog::new(limit)
                    };
                    every_line_is_taken_or_dropped(backlog, 4_000, room);
                }
            }
        }
    }

    #[test]
    fn what_waits_behind_some_mebibytes_is_packed_and_comes_in_its_turn() {
        let mut backlog = Backlog::new(4 * PLAIN);
        let piece = |number: usize| Bytes::from(format!("m n={number} 1\n").repeat(20_000));
        let count = 3 * PLAIN / piece(10).len();
        for number in 10..10 + count {
            backlog.begin();
            backlog.push(piece(number));
        }
        let held: usize = backlog.pieces.iter().map(Piece::held).sum();
        assert!(held < PLAIN + PLAIN / 4, "{held} bytes of {}", backlog.bytes);
        assert_eq!((backlog.dropped(), backlog.waiting()), (0, 20_000 * count as u64));
        for number in 10..10 + count {
            assert_eq!(backlog.take(usize::MAX), Some(piece(number)));
        }
        assert_eq!(backlog.take(usize::MAX), None);
    }
}
