//! Which bytes need an escape, and where.

use std::fmt;

use super::buffer::Buffer;

/// A place in a line, with escapes of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Escape {
    /// The measurement: comma and space.
    Measurement,
    /// Tag and field keys and tag values: comma, space, equals sign.
    Key,
    /// String fields: quote and backslash.
    String,
}

impl Escape {
    /// Appends `text` with its escapes. Control characters that would end a line become the two characters by
    /// which they are commonly written, everywhere: lines must stay lines for every reader. Outside of strings a
    /// backslash before what is escaped is left out: InfluxDB looks at the one byte before a separator, Telegraf reads
    /// backslashes in pairs, and one of the two would see another series.
    pub(super) fn append(self, text: &str, buffer: &mut Buffer) {
        if self.needless(text) {
            buffer.append(text.as_bytes());
            return;
        }
        for byte in text.bytes() {
            match byte {
                b'\n' => self.control(b'n', buffer),
                b'\r' => self.control(b'r', buffer),
                b'\t' => self.control(b't', buffer),
                0x0b => self.control(b'v', buffer),
                0x0c => self.control(b'f', buffer),
                0 => {}
                _ if self.special(byte) => {
                    if !matches!(self, Self::String) {
                        buffer.drop_last(b'\\');
                    }
                    buffer.append(&[b'\\', byte]);
                }
                _ => buffer.append(&[byte]),
            }
        }
    }

    /// Whether nothing in `text` needs an escape.
    pub(super) fn needless(self, text: &str) -> bool {
        !text.bytes().any(|byte| self.special(byte))
    }

    fn special(self, byte: u8) -> bool {
        match byte {
            0 | b'\n' | b'\r' | b'\t' | 0x0b | 0x0c => true,
            b',' | b' ' => !matches!(self, Self::String),
            b'=' => matches!(self, Self::Key),
            b'"' | b'\\' => matches!(self, Self::String),
            _ => false,
        }
    }

    fn control(self, letter: u8, buffer: &mut Buffer) {
        // In a string a backslash is escaped itself.
        if matches!(self, Self::String) {
            buffer.append(b"\\");
        }
        buffer.append(&[b'\\', letter]);
    }
}

/// Escapes what is formatted through it.
pub(super) struct Escaped<'a> {
    pub(super) escape: Escape,
    pub(super) buffer: &'a mut Buffer,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.escape.append(text, self.buffer);
        Ok(())
    }
}
