//! Bytes that are appended in small pieces.

use std::{fmt, mem};

use bytes::{Bytes, BytesMut};

/// Room for what was appended last: a few lines.
const RECENT: usize = 4096;
/// Room for what is taken at once: of a size that a processor's cache holds.
const ROOM: usize = 256 << 10;
/// Rooms that are kept for later. What is beyond them goes back to the system when its reader lets go of it.
const SPARES: usize = 8;

/// A growing buffer. Pieces go into an array of a fixed size first, where a piece of a known length costs a look at
/// the room and its copy; `BytesMut` has more to look at, and takes the array whole.
pub(super) struct Buffer {
    settled: BytesMut,
    /// Rooms that were filled and taken. They are free again when the last holder of their bytes has dropped them.
    spares: Vec<BytesMut>,
    /// Whether the room is as good as used up. It grows if it is not taken.
    full: bool,
    recent: Box<[u8; RECENT]>,
    length: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            settled: BytesMut::new(),
            spares: Vec::new(),
            full: false,
            recent: Box::new([0; RECENT]),
            length: 0,
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Buffer of {} bytes", self.len())
    }
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.settled.len() + self.length
    }

    /// Whether it is time to take what there is.
    #[inline(always)]
    pub(super) fn full(&self) -> bool {
        self.full
    }

    pub(super) fn clear(&mut self) {
        self.settled.clear();
        self.length = 0;
    }

    /// Forgets all behind the first `length` bytes.
    pub(super) fn truncate(&mut self, length: usize) {
        let recent = length.checked_sub(self.settled.len());
        self.length = self.length.min(recent.unwrap_or(0));
        self.settled.truncate(length);
    }

    /// Gives room for `N` bytes, of which `write` says how many it took from the front.
    #[inline(always)]
    pub(super) fn put<const N: usize>(&mut self, write: impl FnOnce(&mut [u8; N]) -> usize) {
        const { assert!(N <= RECENT) };
        let start = if self.length > RECENT - N {
            self.settle();
            0
        } else {
            self.length
        };
        if let Some(room) = self.recent[start..].first_chunk_mut() {
            self.length = start + write(room).min(N);
        }
    }

    #[inline(always)]
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if bytes.len() > RECENT / 8 {
            self.settle();
            self.settled.extend_from_slice(bytes);
        } else {
            if self.length + bytes.len() > RECENT {
                self.settle();
            }
            self.recent[self.length..self.length + bytes.len()].copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }

    pub(super) fn append_all(&mut self, other: &Self) {
        if !other.settled.is_empty() {
            self.append(&other.settled);
        }
        for piece in other.recent[..other.length].chunks(RECENT / 8) {
            self.append(piece);
        }
    }

    pub(super) fn last(&self) -> Option<u8> {
        match self.length {
            0 => self.settled.last().copied(),
            length => Some(self.recent[length - 1]),
        }
    }

    /// Forgets as many of the last bytes as are this one.
    pub(super) fn drop_last(&mut self, byte: u8) {
        while self.last() == Some(byte) {
            self.truncate(self.len() - 1);
        }
    }

    /// Takes all bytes.
    pub(super) fn take(&mut self) -> Bytes {
        self.settle();
        let bytes = self.settled.split().freeze();
        if mem::take(&mut self.full) {
            let used = mem::take(&mut self.settled);
            if self.spares.len() < SPARES {
                self.spares.push(used);
            }
        }
        bytes
    }

    #[cold]
    fn settle(&mut self) {
        self.make_room();
        self.settled.extend_from_slice(&self.recent[..self.length]);
        self.length = 0;
        // A line may be under way, and what is recent when it ends has to fit as well.
        self.full = self.settled.capacity() - self.settled.len() < 2 * RECENT;
    }

    /// Sees to it that there is a room: a spare one that is free again, or a new one.
    fn make_room(&mut self) {
        if self.settled.capacity() != 0 {
            return;
        }
        let free = self.spares.iter_mut().position(|spare| spare.try_reclaim(ROOM));
        self.settled = match free {
            Some(place) => self.spares.swap_remove(place),
            None => BytesMut::with_capacity(ROOM),
        };
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.append(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffer, RECENT};

    #[test]
    fn pieces_of_every_length_come_out_as_they_went_in() {
        let mut buffer = Buffer::default();
        let mut expected = Vec::new();
        for length in (0..200).chain([RECENT / 8, RECENT / 8 + 1, RECENT, 3 * RECENT, 1]) {
            let piece: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            buffer.append(&piece);
            expected.extend_from_slice(&piece);
            assert_eq!(buffer.len(), expected.len());
            assert_eq!(buffer.last(), expected.last().copied());
        }
        assert_eq!(buffer.take(), expected);
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn what_is_forgotten_may_have_settled_already() {
        for cut in [0, 10, RECENT - 1, RECENT, RECENT + 10, 2 * RECENT] {
            let mut buffer = Buffer::default();
            for at in 0..2 * RECENT {
                buffer.append(&[(at % 251) as u8]);
            }
            buffer.truncate(cut);
            assert_eq!(buffer.len(), cut);
            buffer.append(b"x");
            let bytes = buffer.take();
            assert_eq!((bytes.len(), bytes[cut]), (cut + 1, b'x'));
            assert!(
                bytes[..cut]
                    .iter()
                    .enumerate()
                    .all(|(at, &byte)| byte == (at % 251) as u8)
            );
        }
    }
}
