//! Some of the lines that wait, plain or packed.

use bytes::Bytes;
use lz4_flex::block;

/// What is shorter than this stays as it is: a trace's lines come one by one, and one has little to repeat.
const WORTH_PACKING: usize = 4 << 10;

/// Whole lines. A large table's are dozens of MiB a gather, and repeat each other.
#[derive(Debug)]
pub(super) enum Piece {
    Plain(Bytes),
    Packed {
        bytes: Box<[u8]>,
        /// Of the lines, in bytes.
        length: usize,
        lines: u64,
    },
}

impl Piece {
    /// Packs lines, if that makes them any smaller. Their room is free again then, unless others hold it.
    pub(super) fn packed(plain: Bytes) -> Self {
        if plain.len() < WORTH_PACKING {
            return Self::Plain(plain);
        }
        let bytes = block::compress(&plain);
        if bytes.len() >= plain.len() {
            return Self::Plain(plain);
        }
        Self::Packed {
            bytes: bytes.into_boxed_slice(),
            length: plain.len(),
            lines: lines(&plain),
        }
    }

    /// Bytes of the lines, whatever they take now.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Packed { length, .. } => *length,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn lines(&self) -> u64 {
        match self {
            Self::Plain(bytes) => lines(bytes),
            Self::Packed { lines, .. } => *lines,
        }
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Packed { bytes, .. } => bytes.len(),
        }
    }

    /// The lines, unpacked first if they are packed. None where memory no longer has what was packed.
    pub(super) fn plain(&mut self) -> Option<&mut Bytes> {
        if let Self::Packed { bytes, length, .. } = self {
            *self = Self::Plain(block::decompress(bytes, *length).ok()?.into());
        }
        match self {
            Self::Plain(bytes) => Some(bytes),
            Self::Packed { .. } => None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_repeat_each_other_are_packed_and_come_back_as_they_were() {
        let lines = (0..1000).map(|number| format!("ipvs_real_server,port=80 weight={number}i 1\n"));
        let text = lines.collect::<Vec<_>>().concat();
        let mut piece = Piece::packed(Bytes::from(text.clone()));
        assert!(matches!(&piece, Piece::Packed { bytes, .. } if bytes.len() < text.len() / 3));
        assert_eq!((piece.len(), piece.lines()), (text.len(), 1000));
        assert_eq!(piece.plain().unwrap(), &text);
        assert_eq!((piece.len(), piece.lines()), (text.len(), 1000));
    }

    #[test]
    fn what_is_short_or_would_be_larger_packed_stays() {
        let mut state = 1u32;
        let mut any = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let noise: Vec<u8> = (0..2 * WORTH_PACKING).map(|_| any()).collect();
        for stays in [vec![b'a'; WORTH_PACKING - 1], noise] {
            assert!(matches!(Piece::packed(stays.into()), Piece::Plain(_)));
        }
    }

    #[test]
    fn what_cannot_be_unpacked_is_not_given_out() {
        let mut piece = Piece::Packed {
            bytes: Box::new([0xff; 3]),
            length: 10,
            lines: 1,
        };
        assert_eq!(piece.plain(), None);
        assert_eq!((piece.len(), piece.lines()), (10, 1));
    }
}
