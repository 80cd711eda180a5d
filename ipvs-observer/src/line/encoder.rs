//! The lines of gathers: begun, ended, taken or handed out.

use std::fmt;

use bytes::Bytes;

use super::{Line, buffer::Buffer, digits::digits, escape::Escape, fractions::Fractions};

/// Encodes the lines of one gather after the other.
///
/// All are kept until they are taken, or handed out in pieces as they are encoded, so that a large table's lines are
/// not all there at one time where their reader keeps up.
#[derive(Debug, Default)]
pub struct Encoder {
    pub(super) buffer: Buffer,
    reader: Reader,
    pub(super) fractions: Fractions,
    pub(super) lines: u64,
    pub(super) unsigned: bool,
    /// A time, and the end of a line that has it.
    end: (u64, [u8; 22], usize),
}

impl Encoder {
    /// An encoder that writes unsigned fields with `u`, or, for stores without that type, with `i` and no more
    /// than 2^63−1.
    pub fn new(unsigned: bool) -> Self {
        Self {
            unsigned,
            ..Self::default()
        }
    }

    /// The same, that hands out its lines: some hundred KiB at a time, as soon as these are encoded, and the rest at
    /// [`Encoder::finish`].
    pub fn handing_out(unsigned: bool, reader: impl FnMut(Bytes) + Send + 'static) -> Self {
        Self {
            reader: Reader(Some(Box::new(reader))),
            ..Self::new(unsigned)
        }
    }

    /// Begins a line.
    #[inline(always)]
    pub fn line(&mut self, measurement: &'static str) -> Line<'_> {
        let start = self.buffer.len();
        debug_assert!(
            Escape::Measurement.needless(measurement),
            "{measurement} is a name of ours"
        );
        self.buffer.append(measurement.as_bytes());
        Line {
            encoder: self,
            start,
            fields: false,
        }
    }

    /// Lines finished since the start.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The bytes of the lines that were not taken yet.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the finished lines that were not handed out. The room comes back when the last holder of the bytes drops
    /// them.
    pub fn take(&mut self) -> Bytes {
        self.buffer.take()
    }

    /// Hands out the finished lines, if they are handed out.
    #[cold]
    pub fn finish(&mut self) {
        if let Some(reader) = &mut self.reader.0 {
            reader(self.buffer.take());
        }
    }

    /// Ends a line with its time, which most lines of a gather share.
    #[inline]
    pub(super) fn end(&mut self, timestamp: u64) {
        let (known, end, length) = &mut self.end;
        if *known != timestamp || *length == 0 {
            end[0] = b' ';
            *length = 1 + end[1..]
                .first_chunk_mut()
                .map_or(0, |room| digits(room, timestamp));
            end[*length] = b'\n';
            *length += 1;
            *known = timestamp;
        }
        self.buffer.put::<22>(|room| {
            room.copy_from_slice(end);
            *length
        });
    }
}

/// Who is handed the lines, if anybody is.
#[derive(Default)]
struct Reader(Option<Box<dyn FnMut(Bytes) + Send>>);

impl fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "a reader" } else { "nobody" })
    }
}
