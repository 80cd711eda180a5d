//! Tags, for a line or for many.

use std::{
    fmt::{self, Write},
    net::IpAddr,
};

use super::{
    buffer::Buffer,
    digits::{DIGITS, OCTETS, digits},
    escape::{Escape, Escaped},
    key::append_framed,
};

/// Tags encoded once and used in many lines: `,key=value` after `,key=value`.
#[derive(Debug, Default)]
pub struct Tags(pub(super) Buffer);

impl Tags {
    /// Forgets them and keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a tag. Keys must come in order; an empty value is no tag.
    pub fn add(&mut self, key: &str, value: impl fmt::Display) {
        tag(&mut self.0, key, value);
    }

    /// Adds a tag that is a number.
    pub fn add_number(&mut self, key: &str, value: impl Into<u32>) {
        tag_number(&mut self.0, key, value.into());
    }

    /// Adds a tag that is an address.
    pub fn add_ip(&mut self, key: &str, ip: IpAddr) {
        tag_ip(&mut self.0, key, ip);
    }
}

#[inline(always)]
pub(super) fn tag_key(buffer: &mut Buffer, key: &str) {
    debug_assert!(Escape::Key.needless(key), "{key} is a name of ours");
    append_framed(buffer, b',', key);
}

#[inline(always)]
pub(super) fn tag_number(buffer: &mut Buffer, key: &str, value: u32) {
    tag_key(buffer, key);
    append_number(buffer, value.into());
}

#[inline(always)]
pub(super) fn tag_ip(buffer: &mut Buffer, key: &str, ip: IpAddr) {
    tag_key(buffer, key);
    match ip {
        IpAddr::V4(ip) => {
            buffer.put::<16>(|room| {
                let mut length = 0;
                for octet in ip.octets() {
                    let (digits, count) = OCTETS[usize::from(octet)];
                    room[length..length + 4].copy_from_slice(&digits);
                    length += usize::from(count);
                }
                // Without the last dot.
                length - 1
            });
        }
        // Writing to memory does not fail.
        IpAddr::V6(ip) => {
            let _ = write!(buffer, "{ip}");
        }
    }
}

pub(super) fn tag(buffer: &mut Buffer, key: &str, value: impl fmt::Display) {
    let start = buffer.len();
    tag_key(buffer, key);
    let value_start = buffer.len();
    // Writing to memory does not fail, and a `Display` that does leaves what it wrote.
    let _ = write!(
        Escaped {
            escape: Escape::Key,
            buffer
        },
        "{value}"
    );
    // A backslash at the end would escape the comma or the space that follows.
    buffer.drop_last(b'\\');
    if buffer.len() == value_start {
        buffer.truncate(start);
    }
}

fn append_number(buffer: &mut Buffer, value: u64) {
    buffer.put::<DIGITS>(|room| digits(room, value));
}
