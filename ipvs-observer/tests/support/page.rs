//! `docs/metrics.md`, read: the rows of its tables.

/// A tag or a field that the page lists.
pub struct Row {
    pub measurement: &'static str,
    pub tag: bool,
    pub name: &'static str,
    /// A field's second column: its type, and whether it is a counter.
    pub kind: &'static str,
    /// Whether the last column says that Telegraf's schema has it.
    pub telegraf: bool,
}

impl Row {
    pub fn counter(&self) -> bool {
        !self.tag && self.kind.contains("counter")
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
            let mut columns = row.split('|').map(str::trim);
            let name = columns.next().unwrap_or_default().trim_end_matches('`');
            rows.push(Row {
                measurement,
                tag,
                name,
                kind: columns.next().unwrap_or_default(),
                telegraf: row.ends_with("| yes |"),
            });
        }
    }
    rows
}
