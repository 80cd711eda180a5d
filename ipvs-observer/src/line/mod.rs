//! InfluxDB line protocol: escaping and encoding into one reused buffer.
//!
//! Owns: the syntax. Keys are this program's own names and need no escape; values may hold anything. Refuses to know:
//! which measurements there are. A line costs no allocation: rooms that were filled come back.

#![allow(
    clippy::inline_always,
    reason = "measured: keys of a known length halve the instructions of a line"
)]

mod buffer;
mod digits;
mod encoder;
mod escape;
mod fractions;
mod key;
mod tags;

use std::{
    fmt::{self, Write},
    mem,
    net::IpAddr,
};

use digits::digits;
pub use encoder::Encoder;
use escape::{Escape, Escaped};
use fractions::{FRACTION, Fraction};
use key::{ROOM, append_framed, frame};
pub use tags::Tags;
use tags::{tag, tag_ip, tag_key, tag_number};

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
        self.encoder.buffer.append(value.as_bytes());
        self
    }

    /// Adds tags encoded before.
    pub fn tags(&mut self, tags: &Tags) -> &mut Self {
        self.encoder.buffer.append_all(&tags.0);
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
            let Fraction { text, length, .. } = self.encoder.fractions.of(value);
            self.encoder.buffer.put::<FRACTION>(|room| {
                *room = *text;
                *length
            });
        }
        self
    }

    /// Adds a field that is true or false.
    #[inline(always)]
    pub fn boolean(&mut self, key: &str, value: bool) -> &mut Self {
        self.key(key);
        self.encoder.buffer.append(if value { b"true" } else { b"false" });
        self
    }

    /// Adds a field that is text.
    pub fn string(&mut self, key: &str, value: impl fmt::Display) -> &mut Self {
        self.key(key);
        self.encoder.buffer.append(b"\"");
        let _ = write!(
            Escaped {
                escape: Escape::String,
                buffer: &mut self.encoder.buffer
            },
            "{value}"
        );
        self.encoder.buffer.append(b"\"");
        self
    }

    /// Adds a field that is a name of this program's own and needs no escape.
    #[inline(always)]
    pub fn literal(&mut self, key: &str, value: &'static str) -> &mut Self {
        debug_assert!(Escape::String.needless(value), "{value} is a name of ours");
        self.key(key);
        self.encoder.buffer.append(b"\"");
        self.encoder.buffer.append(value.as_bytes());
        self.encoder.buffer.append(b"\"");
        self
    }

    /// Ends the line with its time in nanoseconds since 1970, or the last that InfluxDB takes. A line without a
    /// field is not written.
    pub fn end(mut self, timestamp: u64) {
        if !self.fields {
            return;
        }
        self.encoder.end(timestamp.min(LAST_TIME));
        self.encoder.lines += 1;
        if self.encoder.buffer.full() {
            self.encoder.finish();
        }
        self.start = self.encoder.buffer.len();
    }

    // Keys are literals where these are called: inlined, their copies have a known length and take a few
    // instructions each.
    #[inline(always)]
    fn number(&mut self, key: &str, value: u64, suffix: u8) {
        debug_assert!(Escape::Key.needless(key), "{key} is a name of ours");
        let separator = self.separator();
        self.encoder.buffer.put::<ROOM>(|room| {
            let start = frame(room, separator, key);
            let end = start
                + room[start..]
                    .first_chunk_mut()
                    .map_or(0, |room| digits(room, value));
            room[end] = suffix;
            end + 1
        });
    }

    #[inline(always)]
    fn key(&mut self, key: &str) {
        debug_assert!(Escape::Key.needless(key), "{key} is a name of ours");
        let separator = self.separator();
        append_framed(&mut self.encoder.buffer, separator, key);
    }

    #[inline(always)]
    fn separator(&mut self) -> u8 {
        if mem::replace(&mut self.fields, true) {
            b','
        } else {
            b' '
        }
    }
}

/// In the year 2262.
const LAST_TIME: u64 = i64::MAX as u64 - 1;

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.encoder.buffer.truncate(self.start);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
    fn lines_that_are_handed_out_are_whole_in_order_and_not_all_kept() {
        use std::sync::mpsc;
        let (sender, pieces) = mpsc::channel();
        let mut given = Encoder::handing_out(false, move |lines| drop(sender.send(lines)));
        let mut kept = Encoder::new(false);
        for gather in 1..4 {
            for number in 0..20_000 {
                for encoder in [&mut given, &mut kept] {
                    let mut line = encoder.line("m");
                    line.tag("text", "x".repeat(number % 700))
                        .unsigned("n", number as u64);
                    line.end(gather);
                }
                assert!(given.pending() < 300_000);
            }
            given.finish();
            let pieces: Vec<Bytes> = pieces.try_iter().collect();
            assert!(pieces.len() > 20 && pieces.iter().all(|piece| piece.ends_with(b"\n")));
            assert!(pieces.iter().all(|piece| piece.len() <= 256 << 10));
            assert_eq!(pieces.concat(), kept.take());
        }
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
        let mut line = encoder.line("m");
        line.tag("k", "x,y=z w\\")
            .tag("e", "")
            .tag("n", "1\n2")
            .unsigned("f", 1);
        line.end(1);
        assert_eq!(text(&mut encoder), "m,k=x\\,y\\=z\\ w,n=1\\n2 f=1i 1\n");
    }

    #[test]
    fn a_backslash_before_what_is_escaped_is_left_out_however_the_value_comes() {
        for value in ["a\\,b", "a\\\\,b"] {
            let mut encoder = Encoder::new(false);
            let mut line = encoder.line("m");
            // In one piece, and in two with the backslash at the end of the first.
            let (first, second) = value.split_at(value.len() - 2);
            line.tag("k", value).tag("l", format_args!("{first}{second}"));
            line.unsigned("f", 1);
            line.end(1);
            assert_eq!(text(&mut encoder), "m,k=a\\,b,l=a\\,b f=1i 1\n");
        }
    }

    #[test]
    fn a_time_that_influxdb_has_not_is_the_last_that_it_has() {
        for time in [i64::MAX as u64 - 1, i64::MAX as u64, u64::MAX] {
            let mut encoder = Encoder::new(false);
            let mut line = encoder.line("m");
            line.unsigned("f", 1);
            line.end(time);
            assert_eq!(text(&mut encoder), "m f=1i 9223372036854775806\n");
        }
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
