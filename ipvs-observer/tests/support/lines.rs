//! Line protocol, read strictly and by its specification alone.

use std::collections::BTreeMap;

/// A field's value with its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Boolean(bool),
    Text(String),
}

impl Value {
    /// The number, whatever its integer type.
    pub fn number(&self) -> u64 {
        match self {
            Self::Signed(value) => u64::try_from(*value).expect("a number that is not negative"),
            Self::Unsigned(value) => *value,
            other => panic!("{other:?} is no integer"),
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub measurement: String,
    pub tags: BTreeMap<String, String>,
    pub fields: BTreeMap<String, Value>,
    pub timestamp: u64,
}

impl Line {
    pub fn tag(&self, key: &str) -> &str {
        self.tags.get(key).map_or("", String::as_str)
    }

    pub fn number(&self, key: &str) -> u64 {
        self.fields
            .get(key)
            .unwrap_or_else(|| panic!("{self:?} has no {key}"))
            .number()
    }

    /// The same, or 0 where the field is absent.
    pub fn number_if_any(&self, key: &str) -> u64 {
        self.fields.get(key).map_or(0, Value::number)
    }

    pub fn text(&self, key: &str) -> &str {
        match self.fields.get(key) {
            Some(Value::Text(text)) => text,
            other => panic!("{key} of {self:?} is {other:?}"),
        }
    }

    pub fn boolean(&self, key: &str) -> bool {
        match self.fields.get(key) {
            Some(Value::Boolean(value)) => *value,
            other => panic!("{key} of {self:?} is {other:?}"),
        }
    }

    /// Measurement and tags: what makes a series.
    pub fn series(&self) -> String {
        self.tags
            .iter()
            .fold(self.measurement.clone(), |series, (key, value)| {
                format!("{series},{key}={value}")
            })
    }
}

/// What is read of a text that was written as a string field: what would end a line is the two letters that stand
/// for it.
pub fn as_text(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\0' => {}
            letter => out.push(letter),
        }
    }
    out
}

/// And of one that was written as a tag, in which readers differ on a backslash before what is escaped: there, and
/// at the end, it is left out.
pub fn as_tag(text: &str) -> String {
    let mut out = String::new();
    for letter in as_text(text).chars() {
        if matches!(letter, ',' | '=' | ' ') {
            out.truncate(out.trim_end_matches('\\').len());
        }
        out.push(letter);
    }
    out.truncate(out.trim_end_matches('\\').len());
    out
}

/// All lines of a text, which must end with a newline.
pub fn parse(text: &str) -> Vec<Line> {
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is not whole: {text:?}"
    );
    text.lines().map(line).collect()
}

/// Splits at the first `end` that is neither escaped nor, where `quoted`, within quotes.
fn split(text: &str, end: char, quoted: bool) -> Option<(&str, &str)> {
    let (mut escaped, mut within) = (false, false);
    for (index, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if quoted => within = !within,
            _ if letter == end && !within => {
                return Some((&text[..index], &text[index + letter.len_utf8()..]));
            }
            _ => {}
        }
    }
    None
}

fn unescape(text: &str, special: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letters.peek() {
            Some(&next) if letter == '\\' && special.contains(next) => {
                out.push(next);
                letters.next();
            }
            _ => out.push(letter),
        }
    }
    out
}

/// Pairs with commas between them. Quotes mean something in fields alone: in a tag they are letters.
fn pairs(mut text: &str, quoted: bool) -> Vec<(&str, &str)> {
    let mut pairs = Vec::new();
    while !text.is_empty() {
        let (pair, rest) = split(text, ',', quoted).unwrap_or((text, ""));
        pairs.push(split(pair, '=', quoted).unwrap_or_else(|| panic!("{pair:?} is no pair")));
        text = rest;
    }
    pairs
}

/// Measurement and tags as InfluxDB itself takes them apart, for which a separator is one unless a backslash is
/// before it, whatever is before that. To others, Telegraf among them, two backslashes are a pair. A line that is
/// not the same to both is wrong for one of them.
fn series_of_influxdb(text: &str) -> (&str, Vec<&str>) {
    let cut = |text: &str, end: u8| {
        let bytes = text.as_bytes();
        (0..bytes.len()).find(|&at| bytes[at] == end && (at == 0 || bytes[at - 1] != b'\\'))
    };
    let mut rest = &text[..cut(text, b' ').unwrap_or(text.len())];
    let mut parts = Vec::new();
    while let Some(at) = cut(rest, b',') {
        parts.push(&rest[..at]);
        rest = &rest[at + 1..];
    }
    parts.push(rest);
    let keys = parts[1..]
        .iter()
        .map(|part| &part[..cut(part, b'=').unwrap_or(0)]);
    (parts[0], keys.collect())
}

fn line(text: &str) -> Line {
    let (series, rest) = split(text, ' ', false).unwrap_or_else(|| panic!("{text:?} has no fields"));
    let (fields, timestamp) = split(rest, ' ', true).unwrap_or_else(|| panic!("{text:?} has no time"));
    let (measurement, tags) = split(series, ',', false).unwrap_or((series, ""));
    let tag_pairs = pairs(tags, false);
    let keys: Vec<_> = tag_pairs.iter().map(|pair| pair.0).collect();
    assert_eq!(
        series_of_influxdb(text),
        (measurement, keys.clone()),
        "another series to InfluxDB: {text:?}"
    );
    assert!(keys.is_sorted(), "the tags of {text:?} are not in order");
    let field_pairs = pairs(fields, true);
    assert!(!field_pairs.is_empty(), "{text:?} has no fields");
    let line = Line {
        measurement: unescape(measurement, ", "),
        tags: tag_pairs
            .iter()
            .map(|(key, value)| (unescape(key, ",= "), unescape(value, ",= ")))
            .collect(),
        fields: field_pairs
            .iter()
            .map(|(key, text)| (unescape(key, ",= "), value(text)))
            .collect(),
        timestamp: timestamp
            .parse()
            .unwrap_or_else(|error| panic!("{timestamp:?}: {error}")),
    };
    // Its times are signed, and the last number is no time.
    assert!(
        line.timestamp < i64::MAX as u64,
        "no time of InfluxDB's in {text:?}"
    );
    assert_eq!(line.tags.len(), tag_pairs.len(), "a tag twice in {text:?}");
    assert_eq!(line.fields.len(), field_pairs.len(), "a field twice in {text:?}");
    assert!(
        line.tags.values().all(|value| !value.is_empty()),
        "an empty tag in {text:?}"
    );
    line
}

fn value(text: &str) -> Value {
    if let Some(inner) = text.strip_prefix('"') {
        let inner = inner
            .strip_suffix('"')
            .unwrap_or_else(|| panic!("{text:?} has no closing quote"));
        return Value::Text(unescape(inner, "\"\\"));
    }
    match text {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => match text.split_at(text.len() - 1) {
            (digits, "i") => {
                Value::Signed(digits.parse().unwrap_or_else(|error| panic!("{text:?}: {error}")))
            }
            (digits, "u") => {
                Value::Unsigned(digits.parse().unwrap_or_else(|error| panic!("{text:?}: {error}")))
            }
            _ => Value::Float(text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))),
        },
    }
}
