//! Some of the lines that wait, plain or packed.

use bytes::Bytes;
use lz4_flex::block;

/// What is shorter than this stays as it is: a trace's lines come one by one, and one has little to repeat.
const WORTH_PACKING: usize = 4 << 10;

/// Whole lines. A large table's are dozens of MiB a gather, and repeat each other.
#[derive(Debug)]
pub(super) struct Piece {
    /// The lines, or what they were packed into.
    bytes: Bytes,
    packed: Option<Packed>,
}

/// The lines that were packed.
#[derive(Debug)]
struct Packed {
    length: usize,
    lines: u64,
}

impl Piece {
    pub(super) fn of(plain: Bytes) -> Self {
        Self {
            bytes: plain,
            packed: None,
        }
    }

    /// Packs lines, if that makes them any smaller. Their room is free again then, unless others hold it.
    pub(super) fn packed(plain: Bytes) -> Self {
        if plain.len() < WORTH_PACKING {
            return Self::of(plain);
        }
        let bytes = block::compress(&plain);
        if bytes.len() >= plain.len() {
            return Self::of(plain);
        }
        Self {
            bytes: bytes.into_boxed_slice().into(),
            packed: Some(Packed {
                length: plain.len(),
                lines: lines(&plain),
            }),
        }
    }

    /// Bytes of the lines, whatever they take now.
    pub(super) fn len(&self) -> usize {
        self.packed
            .as_ref()
            .map_or(self.bytes.len(), |packed| packed.length)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn lines(&self) -> u64 {
        self.packed
            .as_ref()
            .map_or_else(|| lines(&self.bytes), |packed| packed.lines)
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// The lines, unpacked first if they are packed.
    pub(super) fn plain(&mut self) -> &mut Bytes {
        if let Some(Packed { length, .. }) = self.packed.take() {
            self.bytes = block::decompress(&self.bytes, length)
                .unwrap_or_else(|error| unreachable!("it was packed here: {error}"))
                .into();
        }
        &mut self.bytes
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
        assert!(piece.held() < text.len() / 3);
        assert_eq!((piece.len(), piece.lines()), (text.len(), 1000));
        assert_eq!(piece.plain(), &text);
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
            assert!(Piece::packed(stays.into()).packed.is_none());
        }
    }
}
