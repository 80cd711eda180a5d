//! InfluxDB line protocol: escaping and encoding into one reused buffer.
//!
//! Owns: the syntax. Keys are this program's own names and need no escape; values may hold anything. Refuses to know:
//! which measurements there are. A line costs no allocation: rooms that were filled come back.

#![allow(
    clippy::inline_always,
    reason = "measured: keys of a known length halve the instructions of a line"
)]

mod buffer;
mod escape;

use std::{
    fmt::{self, Write},
    mem,
    net::IpAddr,
};

use bytes::Bytes;

use buffer::Buffer;
use escape::{Escape, Escaped};

/// Encodes the lines of one gather after the other.
///
/// All are kept until they are taken, or handed out in pieces as they are encoded, so that a large table's lines are
/// not all there at one time where their reader keeps up.
#[derive(Debug, Default)]
pub struct Encoder {
    buffer: Buffer,
    reader: Reader,
    fractions: Fractions,
    lines: u64,
    unsigned: bool,
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
    fn end(&mut self, timestamp: u64) {
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

/// A fraction, written.
#[derive(Clone, Copy, Debug, Default)]
struct Fraction {
    bits: u64,
    text: [u8; FRACTION],
    length: usize,
}

/// The last two fractions: the real servers of a service have two each, and often the same.
#[derive(Debug, Default)]
struct Fractions {
    last: [Fraction; 2],
    older: usize,
}

impl Fractions {
    /// A number that is finite, written.
    #[inline(always)]
    fn of(&mut self, value: f64) -> &Fraction {
        let bits = value.to_bits();
        let known = |fraction: &Fraction| fraction.bits == bits && fraction.length > 0;
        let place = self.last.iter().position(known);
        let place = place.unwrap_or_else(|| self.write(value));
        &self.last[place]
    }

    #[inline(never)]
    fn write(&mut self, value: f64) -> usize {
        let place = self.older;
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        // A whole number is written without a fraction.
        let text = text.strip_suffix(".0").unwrap_or(text).as_bytes();
        let fraction = &mut self.last[place];
        fraction.bits = value.to_bits();
        fraction.length = text.len().min(FRACTION);
        fraction.text[..fraction.length].copy_from_slice(&text[..fraction.length]);
        self.older = 1 - place;
        place
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

/// Tags encoded once and used in many lines: `,key=value` after `,key=value`.
#[derive(Debug, Default)]
pub struct Tags(Buffer);

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
fn tag_key(buffer: &mut Buffer, key: &str) {
    debug_assert!(Escape::Key.needless(key), "{key} is a name of ours");
    append_framed(buffer, b',', key);
}

#[inline(always)]
fn tag_number(buffer: &mut Buffer, key: &str, value: u32) {
    tag_key(buffer, key);
    append_number(buffer, value.into());
}

#[inline(always)]
fn tag_ip(buffer: &mut Buffer, key: &str, ip: IpAddr) {
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

fn tag(buffer: &mut Buffer, key: &str, value: impl fmt::Display) {
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
/// The longest key, the longest number, and what is around them.
const ROOM: usize = LONGEST_KEY + 24;
/// Those of 2^64−1.
const DIGITS: usize = 20;
/// The longest fraction: a sign, seventeen digits with a point, and an exponent of five characters.
const FRACTION: usize = 24;
const LONGEST_KEY: usize = 40;

/// Writes a separator, a key and an equals sign; returns where they end.
#[inline(always)]
fn frame(room: &mut [u8; ROOM], separator: u8, key: &str) -> usize {
    debug_assert!(key.len() <= LONGEST_KEY, "{key} is longer than there is room");
    let length = key.len().min(LONGEST_KEY);
    room[0] = separator;
    room[1..=length].copy_from_slice(&key.as_bytes()[..length]);
    room[length + 1] = b'=';
    length + 2
}

/// Writes a number's digits; returns how many they are. What is behind them is as it happens to be.
#[inline(always)]
fn digits(room: &mut [u8; DIGITS], value: u64) -> usize {
    // The greater part of all numbers.
    if value < 10 {
        room[0] = b'0' + value as u8;
        return 1;
    }
    more_digits(room, value)
}

#[inline(never)]
fn more_digits(room: &mut [u8; DIGITS], value: u64) -> usize {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    let length = digits.len();
    // Pieces of known lengths that overlap: a copy of any length takes a call.
    if let (Some(first), Some(last)) = (digits.first_chunk::<8>(), digits.last_chunk::<8>()) {
        room[..8].copy_from_slice(first);
        if let Some(middle) = digits.get(8..16) {
            room[8..16].copy_from_slice(middle);
        }
        room[length - 8..length].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (digits.first_chunk::<4>(), digits.last_chunk::<4>()) {
        room[..4].copy_from_slice(first);
        room[length - 4..length].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (digits.first_chunk::<2>(), digits.last_chunk::<2>()) {
        room[..2].copy_from_slice(first);
        room[length - 2..length].copy_from_slice(last);
    }
    length
}

/// Appends a separator, a key and an equals sign.
#[inline(always)]
fn append_framed(buffer: &mut Buffer, separator: u8, key: &str) {
    buffer.put::<ROOM>(|room| frame(room, separator, key));
}

fn append_number(buffer: &mut Buffer, value: u64) {
    buffer.put::<DIGITS>(|room| digits(room, value));
}

/// The digits of a byte with a dot behind them, and how many they are with it.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [
            b'0' + (octet / 100) as u8,
            b'0' + (octet / 10 % 10) as u8,
            b'0' + (octet % 10) as u8,
        ];
        octets[octet] = match octet {
            0..10 => ([digits[2], b'.', 0, 0], 2),
            10..100 => ([digits[1], digits[2], b'.', 0], 3),
            _ => ([digits[0], digits[1], digits[2], b'.'], 4),
        };
        octet += 1;
    }
    octets
};

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
