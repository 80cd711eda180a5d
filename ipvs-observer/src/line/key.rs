//! Keys with what is around them.

use super::buffer::Buffer;

/// The longest key, the longest number, and what is around them.
pub(super) const ROOM: usize = LONGEST_KEY + 24;
const LONGEST_KEY: usize = 40;

/// Writes a separator, a key and an equals sign; returns where they end.
#[inline(always)]
pub(super) fn frame(room: &mut [u8; ROOM], separator: u8, key: &str) -> usize {
    debug_assert!(key.len() <= LONGEST_KEY, "{key} is longer than there is room");
    let length = key.len().min(LONGEST_KEY);
    room[0] = separator;
    room[1..=length].copy_from_slice(&key.as_bytes()[..length]);
    room[length + 1] = b'=';
    length + 2
}

/// Appends a separator, a key and an equals sign.
#[inline(always)]
pub(super) fn append_framed(buffer: &mut Buffer, separator: u8, key: &str) {
    buffer.put::<ROOM>(|room| frame(room, separator, key));
}
