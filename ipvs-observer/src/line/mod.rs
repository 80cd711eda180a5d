//! InfluxDB line protocol: escaping and encoding into one reused buffer.
//!
//! Owns: the syntax. Keys are this program's own names and need no escape; values may hold anything. Refuses to know: which measurements there are. Integers are written with `itoa`, everything
//! else byte by byte; a line costs no allocation once the buffer has grown to a gather's size.

#![allow(
    clippy::inline_always,
    reason = "measured: keys of a known length halve the instructions of a line"
)]

mod escape;

use std::{
    fmt::{self, Write},
    net::IpAddr,
};

use bytes::{BufMut, Bytes, BytesMut};

use escape::{Escape, Escaped};

/// Encodes the lines of one gather after the other.
#[derive(Debug, Default)]
pub struct Encoder {
    buffer: BytesMut,
    lines: u64,
    unsigned: bool,
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

    /// Begins a line.
    pub fn line(&mut self, measurement: &str) -> Line<'_> {
        let start = self.buffer.len();
        self.write(measurement, Escape::Measurement);
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

    /// Takes the finished lines. The room comes back when the last holder of the bytes drops them.
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    fn write(&mut self, text: &str, escape: Escape) {
        escape.append(text, &mut self.buffer);
    }
}

/// Tags encoded once and used in many lines: `,key=value` after `,key=value`.
#[derive(Debug, Default)]
pub struct Tags(BytesMut);

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
fn tag_key(buffer: &mut BytesMut, key: &str) {
    debug_assert!(Escape::Key.needless(key), "{key} is a name of ours");
    append_framed(buffer, b',', key);
}

#[inline(always)]
fn tag_number(buffer: &mut BytesMut, key: &str, value: u32) {
    tag_key(buffer, key);
    buffer.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[inline(always)]
fn tag_ip(buffer: &mut BytesMut, key: &str, ip: IpAddr) {
    tag_key(buffer, key);
    match ip {
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    buffer.put_u8(b'.');
                }
                buffer.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        // Writing to memory does not fail.
        IpAddr::V6(ip) => {
            let _ = write!(buffer, "{ip}");
        }
    }
}

fn tag(buffer: &mut BytesMut, key: &str, value: impl fmt::Display) {
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
    while buffer.len() > value_start && buffer.ends_with(b"\\") {
        buffer.truncate(buffer.len() - 1);
    }
    if buffer.len() == value_start {
        buffer.truncate(start);
    }
}

/// A line being written: tags in the order of their keys, then fields, then [`Line::end`]. Dropped without an
/// end, it leaves nothing.
#[derive(Debug)]
pub struct Line<'a> {
    encoder: &'a mut Encoder,
    start: usize,
    fields: bool,
}

impl Line<'_> {
    /// Adds a tag. An empty value is no tag.
    pub fn tag(&mut self, key: &str, value: impl fmt::Display) -> &mut Self {
        tag(&mut self.encoder.buffer, key, value);
        self
    }

    /// Adds a tag that is a number.
    pub fn tag_number(&mut self, key: &str, value: impl Into<u32>) -> &mut Self {
        tag_number(&mut self.encoder.buffer, key, value.into());
        self
    }

    /// Adds a tag that is an address.
    pub fn tag_ip(&mut self, key: &str, ip: IpAddr) -> &mut Self {
        tag_ip(&mut self.encoder.buffer, key, ip);
        self
    }

    /// Adds a tag whose value is a name of this program's own and needs no escape.
    #[inline(always)]
    pub fn tag_literal(&mut self, key: &str, value: &'static str) -> &mut Self {
        debug_assert!(Escape::Key.needless(value), "{value} is a name of ours");
        tag_key(&mut self.encoder.buffer, key);
        self.encoder.buffer.extend_from_slice(value.as_bytes());
        self
    }

    /// Adds tags encoded before.
    pub fn tags(&mut self, tags: &Tags) -> &mut Self {
        self.encoder.buffer.extend_from_slice(&tags.0);
        self
    }

    /// Adds a field that cannot be negative.
    #[inline(always)]
    pub fn unsigned(&mut self, key: &str, value: u64) -> &mut Self {
        if self.encoder.unsigned {
            self.number(key, value, b'u');
        } else {
            self.number(key, value.min(i64::MAX as u64), b'i');
        }
        self
    }

    /// Adds a field that cannot be negative and that Telegraf's plugin declares as signed all the same.
    #[inline(always)]
    pub fn signed(&mut self, key: &str, value: u32) -> &mut Self {
        self.number(key, value.into(), b'i');
        self
    }

    /// Adds a field that is a fraction. What is not a finite number is no field.
    #[inline(always)]
    pub fn float(&mut self, key: &str, value: f64) -> &mut Self {
        if value.is_finite() {
            self.key(key);
            let _ = write!(self.encoder.buffer, "{value}");
        }
        self
    }

    /// Adds a field that is true or false.
    #[inline(always)]
    pub fn boolean(&mut self, key: &str, value: bool) -> &mut Self {
        self.key(key);
        self.encoder
            .buffer
            .extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    /// Adds a field that is text.
    pub fn string(&mut self, key: &str, value: impl fmt::Display) -> &mut Self {
        self.key(key);
        self.encoder.buffer.extend_from_slice(b"\"");
        let _ = write!(
            Escaped {
                escape: Escape::String,
                buffer: &mut self.encoder.buffer
            },
            "{value}"
        );
        self.encoder.buffer.extend_from_slice(b"\"");
        self
    }

    /// Adds a field that is a name of this program's own and needs no escape.
    #[inline(always)]
    pub fn literal(&mut self, key: &str, value: &'static str) -> &mut Self {
        debug_assert!(Escape::String.needless(value), "{value} is a name of ours");
        self.key(key);
        self.encoder.buffer.put_u8(b'"');
        self.encoder.buffer.extend_from_slice(value.as_bytes());
        self.encoder.buffer.put_u8(b'"');
        self
    }

    /// Ends the line with its time in nanoseconds since 1970. A line without a field is not written.
    pub fn end(mut self, timestamp: u64) {
        if !self.fields {
            return;
        }
        self.encoder.buffer.extend_from_slice(b" ");
        self.encoder
            .buffer
            .extend_from_slice(itoa::Buffer::new().format(timestamp).as_bytes());
        self.encoder.buffer.extend_from_slice(b"\n");
        self.encoder.lines += 1;
        self.start = self.encoder.buffer.len();
    }

    // Keys are literals where these are called: inlined, their copies have a known length and take a few
    // instructions each. Most counters of most servers are 0, and that is written without a conversion.
    #[inline(always)]
    fn number(&mut self, key: &str, value: u64, suffix: u8) {
        self.key(key);
        if value == 0 {
            self.encoder.buffer.extend_from_slice(&[b'0', suffix]);
        } else {
            self.digits(value, suffix);
        }
    }

    #[inline(never)]
    fn digits(&mut self, value: u64, suffix: u8) {
        self.encoder
            .buffer
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.encoder.buffer.put_u8(suffix);
    }

    #[inline(always)]
    fn key(&mut self, key: &str) {
        debug_assert!(Escape::Key.needless(key), "{key} is a name of ours");
        let separator = if self.fields { b',' } else { b' ' };
        self.fields = true;
        append_framed(&mut self.encoder.buffer, separator, key);
    }
}

/// Appends a separator, a key and an equals sign, with one look at the room.
#[inline(always)]
fn append_framed(buffer: &mut BytesMut, separator: u8, key: &str) {
    const LONGEST: usize = 64;
    let mut frame = [0; LONGEST];
    let length = key.len().min(LONGEST - 2);
    frame[0] = separator;
    frame[1..=length].copy_from_slice(&key.as_bytes()[..length]);
    frame[length + 1] = b'=';
    buffer.extend_from_slice(&frame[..length + 2]);
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.encoder.buffer.truncate(self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(encoder: &mut Encoder) -> String {
        String::from_utf8_lossy(&encoder.take()).into_owned()
    }

    #[test]
    fn a_line_has_tags_then_fields_then_nanoseconds() {
        let mut encoder = Encoder::new(false);
        let mut line = encoder.line("m");
        line.tag("a", "x").tag("b", 7);
        line.unsigned("n", 5)
            .boolean("t", true)
            .string("s", "q")
            .float("f", 0.25)
            .signed("z", 1);
        line.end(1_700_000_000_000_000_000);
        assert_eq!(
            text(&mut encoder),
            "m,a=x,b=7 n=5i,t=true,s=\"q\",f=0.25,z=1i 1700000000000000000\n"
        );
        assert_eq!(encoder.lines(), 1);
    }

    #[test]
    fn unsigned_fields_are_clamped_where_the_store_has_no_such_type() {
        for (unsigned, expected) in [
            (false, "m n=9223372036854775807i 1\n"),
            (true, "m n=18446744073709551615u 1\n"),
        ] {
            let mut encoder = Encoder::new(unsigned);
            let mut line = encoder.line("m");
            line.unsigned("n", u64::MAX);
            line.end(1);
            assert_eq!(text(&mut encoder), expected);
        }
    }

    #[test]
    fn a_line_without_a_field_or_without_an_end_leaves_nothing() {
        let mut encoder = Encoder::new(false);
        let mut line = encoder.line("m");
        line.tag("a", 1).float("f", f64::NAN);
        line.end(1);
        encoder.line("m").unsigned("n", 1);
        assert_eq!((text(&mut encoder).as_str(), encoder.lines()), ("", 0));
    }

    #[test]
    fn what_would_end_a_tag_is_escaped_and_an_empty_tag_is_left_out() {
        let mut encoder = Encoder::new(false);
        let mut line = encoder.line("a b,c");
        line.tag("k", "x,y=z w\\")
            .tag("e", "")
            .tag("n", "1\n2")
            .unsigned("f", 1);
        line.end(1);
        assert_eq!(text(&mut encoder), "a\\ b\\,c,k=x\\,y\\=z\\ w,n=1\\n2 f=1i 1\n");
    }

    #[test]
    fn a_string_keeps_quotes_and_backslashes_and_never_breaks_the_line() {
        let mut encoder = Encoder::new(false);
        let mut line = encoder.line("m");
        line.string("s", "a\"b\\c\nd");
        line.end(1);
        assert_eq!(text(&mut encoder), "m s=\"a\\\"b\\\\c\\\\nd\" 1\n");
    }
}
