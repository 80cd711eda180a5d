//! The encoder of line protocol: whatever names, texts and numbers it is given, what it writes is read back as
//! equal values by a reader that is not its own.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use arbitrary::{Result, Unstructured};
use ipvs_observer::line::{Encoder, Line as Writing, Tags};

use crate::reader::{self, Line, Value};

const MEASUREMENTS: [&str; 3] = ["ipvs", "ipvs_real_server", "m"];
const TAGS: [&str; 5] = ["address", "family", "netns", "port", "sched"];
const FIELDS: [&str; 6] = [
    "connections",
    "pkts_in",
    "pick_share",
    "one_packet",
    "reason",
    "comm",
];
/// The last time that `InfluxDB` takes.
const LAST: u64 = i64::MAX as u64 - 1;

/// Bytes that become the values of some lines.
pub fn run(data: &[u8]) {
    let mut source = Unstructured::new(data);
    let unsigned = source.arbitrary().unwrap_or_default();
    let mut encoder = Encoder::new(unsigned);
    let mut expected = Vec::new();
    while !source.is_empty() && expected.len() < 16 {
        // Bytes that end in the middle of a line: it was begun, and leaves nothing.
        let Ok(line) = line(&mut source, &mut encoder, unsigned) else {
            break;
        };
        expected.extend(line);
    }
    assert_eq!(encoder.lines(), expected.len() as u64);
    let pending = encoder.pending();
    let text = String::from_utf8(encoder.take().to_vec()).expect("text");
    assert_eq!((text.len(), encoder.pending()), (pending, 0));
    assert!(!text.contains(['\r', '\0']));
    assert_eq!(reader::parse(&text), expected, "{text:?}");
}

/// Writes a line, and says what must be read of it; none if it has no field.
fn line(source: &mut Unstructured<'_>, encoder: &mut Encoder, unsigned: bool) -> Result<Option<Line>> {
    let measurement = source.choose(&MEASUREMENTS)?;
    let mut writing = encoder.line(measurement);
    let mut line = Line {
        measurement: (*measurement).to_owned(),
        tags: BTreeMap::new(),
        fields: BTreeMap::new(),
        timestamp: 0,
    };
    let mut before = Tags::default();
    for (place, key) in TAGS.iter().enumerate() {
        let mut prepared = |tags: &mut Tags, writing: &mut Writing<'_>| -> Result<String> {
            tag(source, key, tags, writing, place == 0)
        };
        let value = prepared(&mut before, &mut writing)?;
        if place == 0 {
            writing.tags(&before);
        }
        if !value.is_empty() {
            line.tags.insert((*key).to_owned(), value);
        }
    }
    for key in FIELDS {
        if let Some(value) = field(source, key, &mut writing, unsigned)? {
            line.fields.insert(key.to_owned(), value);
        }
    }
    if source.ratio(1, 16)? {
        return Ok(None);
    }
    line.timestamp = source.arbitrary()?;
    writing.end(line.timestamp);
    line.timestamp = line.timestamp.min(LAST);
    Ok((!line.fields.is_empty()).then_some(line))
}

/// Writes a tag, into the line or among those that are encoded before it.
fn tag(
    source: &mut Unstructured<'_>,
    key: &str,
    tags: &mut Tags,
    writing: &mut Writing<'_>,
    before: bool,
) -> Result<String> {
    Ok(match source.int_in_range(0..=4)? {
        0 => String::new(),
        1 => {
            let number: u32 = source.arbitrary()?;
            if before {
                tags.add_number(key, number);
            } else {
                writing.tag_number(key, number);
            }
            number.to_string()
        }
        2 => {
            let ip = if source.arbitrary()? {
                IpAddr::V4(Ipv4Addr::from(source.arbitrary::<[u8; 4]>()?))
            } else {
                IpAddr::V6(Ipv6Addr::from(source.arbitrary::<[u8; 16]>()?))
            };
            if before {
                tags.add_ip(key, ip);
            } else {
                writing.tag_ip(key, ip);
            }
            ip.to_string()
        }
        _ => {
            let text = Pieces::take(source)?;
            if before {
                tags.add(key, &text);
            } else {
                writing.tag(key, &text);
            }
            reader::as_tag(text.0)
        }
    })
}

fn field(
    source: &mut Unstructured<'_>,
    key: &str,
    writing: &mut Writing<'_>,
    unsigned: bool,
) -> Result<Option<Value>> {
    Ok(match source.int_in_range(0..=5)? {
        0 => None,
        1 => {
            let number: u64 = source.arbitrary()?;
            writing.unsigned(key, number);
            Some(match i64::try_from(number) {
                _ if unsigned => Value::Unsigned(number),
                Ok(number) => Value::Signed(number),
                Err(_) => Value::Signed(i64::MAX),
            })
        }
        2 => {
            let number: u32 = source.arbitrary()?;
            writing.signed(key, number);
            Some(Value::Signed(number.into()))
        }
        3 => {
            let number: f64 = source.arbitrary()?;
            writing.float(key, number);
            number.is_finite().then_some(Value::Float(number))
        }
        4 => {
            let value = source.arbitrary()?;
            writing.boolean(key, value);
            Some(Value::Boolean(value))
        }
        _ => {
            let text = Pieces::take(source)?;
            writing.string(key, &text);
            Some(Value::Text(reader::as_text(text.0)))
        }
    })
}

/// A text that is formatted in pieces of so many letters, as values of several parts are.
struct Pieces<'a>(&'a str, usize);

impl<'a> Pieces<'a> {
    fn take(source: &mut Unstructured<'a>) -> Result<Self> {
        let length = source.int_in_range(1..=8)?;
        Ok(Self(source.arbitrary()?, length))
    }
}

impl fmt::Display for Pieces<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters: Vec<char> = self.0.chars().collect();
        letters
            .chunks(self.1)
            .try_for_each(|piece| formatter.write_str(&piece.iter().collect::<String>()))
    }
}

/// Texts that some reader could stumble over, each in every place, among bytes that make lines of them.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "wlc",
        "",
        "a,b",
        "a=b",
        "a b",
        "a\\",
        "a\\,b",
        "a\\\\=b",
        "\"",
        "\\\"",
        "a\nb",
        "\r\n",
        "\t",
        "\0",
        "\\\0,",
        "ä€😀",
        "#",
        "/run/netns/blue",
        "x=1i 5\ny",
        "{}",
        "'",
    ];
    let mut seeds = Vec::new();
    for (number, text) in (0_u8..).zip(texts) {
        for filling in [3, 4, 5, 0x55, 0xff] {
            let mut seed = vec![filling; 24];
            seed.extend(text.as_bytes());
            seed.extend([number; 40]);
            seed.extend(text.as_bytes());
            seeds.push(seed);
        }
    }
    seeds
}
