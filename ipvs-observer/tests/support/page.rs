//! `docs/metrics.md`, read: the rows of its tables.

use std::collections::BTreeSet;

/// A tag or a field that the page lists.
pub struct Row {
    pub measurement: &'static str,
    pub tag: bool,
    pub name: &'static str,
    /// A field's second column: its type, and whether it is a counter.
    pub kind: &'static str,
    /// All columns but the first.
    pub text: &'static str,
    /// Whether the last column says that Telegraf's schema has it.
    pub telegraf: bool,
}

impl Row {
    pub fn counter(&self) -> bool {
        !self.tag && self.kind.contains("counter")
    }

    /// The names in the row that are values: what is in parentheses says what they mean.
    pub fn values(&self) -> BTreeSet<&'static str> {
        let meant = self
            .text
            .split('(')
            .map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
        meant
            .flat_map(|part| part.split('`').skip(1).step_by(2))
            .collect()
    }
}

pub fn rows() -> Vec<Row> {
    let page = include_str!("../../../docs/metrics.md");
    let (mut measurement, mut tag) = ("", true);
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            measurement = name;
        } else if line.starts_with("| tag ") {
            tag = true;
        } else if line.starts_with("| field ") {
            tag = false;
        } else if let Some(row) = line.strip_prefix("| `") {
            let (name, text) = row.split_once('|').unwrap_or((row, ""));
            let mut columns = text.split('|').map(str::trim);
            rows.push(Row {
                measurement,
                tag,
                name: name.trim().trim_end_matches('`'),
                text,
                kind: columns.next().unwrap_or_default(),
                telegraf: row.ends_with("| yes |"),
            });
        }
    }
    rows
}
