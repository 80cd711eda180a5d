//! The Grafana dashboard in `docs/grafana/`: its queries, what names they use, and what Grafana makes of them before
//! the database sees them.
//!
//! The rules of substitution are Grafana's: `${name:regex}` is a value with what is special in it escaped, several
//! values are a group of alternatives, and All is the variable's own `allValue` as it stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use serde_json::Value as Json;

use super::page::{self, Row};

/// The tag that Telegraf adds to every line.
pub const HOST: &str = "host";

/// Words of InfluxQL that the dashboard may use without quotes: a name among them would be a mistake.
const WORDS: [&str; 32] = [
    "SELECT",
    "FROM",
    "WHERE",
    "AND",
    "OR",
    "GROUP",
    "BY",
    "AS",
    "ORDER",
    "DESC",
    "LIMIT",
    "IN",
    "SHOW",
    "TAG",
    "VALUES",
    "WITH",
    "KEY",
    "time",
    "fill",
    "none",
    "true",
    "last",
    "max",
    "mean",
    "sum",
    "count",
    "non_negative_derivative",
    "non_negative_difference",
    "$timeFilter",
    "$__interval",
    "$__interval_ms",
    "1s",
];

pub enum Kind {
    Panel,
    Variable,
    Annotation,
}

pub struct Query {
    /// Where it is, for messages.
    pub place: String,
    pub kind: Kind,
    pub text: String,
    /// `5m` where the panel looks at the newest minutes only.
    pub newest: Option<String>,
}

pub struct Dashboard(pub Json);

impl Dashboard {
    pub fn read() -> &'static Self {
        static DASHBOARD: OnceLock<Dashboard> = OnceLock::new();
        DASHBOARD.get_or_init(|| {
            let text = include_str!("../../../docs/grafana/ipvs-observer.json");
            Self(serde_json::from_str(text).expect("the dashboard is JSON"))
        })
    }

    pub fn panels(&self) -> impl Iterator<Item = &Json> {
        items(&self.0["panels"])
    }

    pub fn variables(&self) -> impl Iterator<Item = &Json> {
        items(&self.0["templating"]["list"])
    }

    /// Without the one that every dashboard has, of Grafana's own store.
    pub fn annotations(&self) -> impl Iterator<Item = &Json> {
        items(&self.0["annotations"]["list"]).filter(|annotation| annotation["builtIn"] != 1)
    }

    pub fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        for panel in self.panels() {
            for target in items(&panel["targets"]) {
                queries.push(Query {
                    place: format!("panel {:?}, {}", text(&panel["title"]), text(&target["refId"])),
                    kind: Kind::Panel,
                    text: text(&target["query"]).to_owned(),
                    newest: panel["timeFrom"].as_str().map(str::to_owned),
                });
            }
        }
        for variable in self.variables().filter(|variable| variable["type"] == "query") {
            queries.push(Query {
                place: format!("variable {:?}", text(&variable["name"])),
                kind: Kind::Variable,
                text: text(&variable["query"]).to_owned(),
                newest: None,
            });
        }
        for annotation in self.annotations() {
            queries.push(Query {
                place: format!("annotation {:?}", text(&annotation["name"])),
                kind: Kind::Annotation,
                text: text(&annotation["target"]["query"]).to_owned(),
                newest: None,
            });
        }
        queries
    }

    /// The only query of the panel with this title.
    pub fn query_of(&self, title: &str) -> Query {
        let place = format!("panel {title:?}, A");
        let mut found = self.queries().into_iter().filter(|query| query.place == place);
        found
            .next()
            .unwrap_or_else(|| panic!("the dashboard has no {place}"))
    }
}

/// What a person has chosen: values by variable. A variable that is not here is at All.
pub type Choice<'a> = BTreeMap<&'a str, Vec<&'a str>>;

impl Query {
    /// The query as Grafana sends it. Times in milliseconds.
    pub fn with(&self, dashboard: &Dashboard, choice: &Choice<'_>, time: (u64, u64), seconds: u64) -> String {
        let mut text = self.text.clone();
        for variable in dashboard.variables() {
            let name = self::text(&variable["name"]);
            let value = match choice.get(name).map(Vec::as_slice) {
                None => variable["allValue"].as_str().unwrap_or_default().to_owned(),
                Some([one]) => escaped(one),
                Some(several) => {
                    let several: Vec<_> = several.iter().map(|value| escaped(value)).collect();
                    format!("({})", several.join("|"))
                }
            };
            text = text.replace(&format!("${{{name}:regex}}"), &value);
        }
        let (mut from, to) = time;
        if let Some(newest) = &self.newest {
            let minutes: u64 = newest
                .strip_suffix('m')
                .and_then(|digits| digits.parse().ok())
                .unwrap_or_else(|| panic!("{}: {newest:?} is not in minutes", self.place));
            from = to - minutes * 60_000;
        }
        // In Grafana's order: the longer name first.
        text.replace("$timeFilter", &format!("time >= {from}ms and time <= {to}ms"))
            .replace("$__interval_ms", &(seconds * 1000).to_string())
            .replace("$__interval", &format!("{seconds}s"))
    }

    /// The measurement, and the tags and fields that are asked of it; an error names what is not on the page.
    pub fn names(&self) -> Result<Names, String> {
        let tokens = tokens(&self.text)?;
        for token in &tokens {
            if let Token::Word(word) = token
                && !WORDS.contains(&word.as_str())
                && word.parse::<f64>().is_err()
            {
                return Err(format!(
                    "{word:?} is no word of InfluxQL: names go in double quotes"
                ));
            }
        }
        names(&tokens, &page::rows())
    }

    /// Fields that the page calls counters and that are used as they stand.
    pub fn bare_counters(&self, names: &Names) -> Vec<&'static str> {
        let counters = page::rows();
        let counters = counters
            .iter()
            .filter(|row| row.measurement == names.measurement && row.counter());
        counters
            .filter(|row| {
                let used = format!("\"{}\"", row.name);
                let within =
                    ["derivative", "difference"].map(|kind| format!("non_negative_{kind}(last({used})"));
                let all = self.text.matches(&used).count();
                let aliases = self.text.matches(&format!("AS {used}")).count();
                let outer = format!("sum({used})");
                let outer = self.text.matches(&outer).count();
                let counted: usize = within.iter().map(|form| self.text.matches(form).count()).sum();
                all > aliases + outer + counted
            })
            .map(|row| row.name)
            .collect()
    }
}

pub fn items(json: &Json) -> impl Iterator<Item = &Json> {
    json.as_array().into_iter().flatten()
}

pub fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_default()
}

fn escaped(value: &str) -> String {
    let mut escaped = String::new();
    for letter in value.chars() {
        if r"\^$*+?.()|[]{}/".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// What a query asks of the database.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    pub measurement: String,
    pub tags: BTreeSet<String>,
    pub fields: BTreeSet<String>,
    /// The columns that it gives under names of its own.
    aliases: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// In double quotes.
    Name(String),
    Word(String),
    Sign(char),
    /// A text or a regular expression.
    Literal,
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let matching = matches!(tokens.last(), Some(Token::Sign('~')));
        let end = match letter {
            '"' | '\'' => Some(letter),
            '/' if matching => Some('/'),
            _ => None,
        };
        if let Some(end) = end {
            let mut inner = String::new();
            loop {
                match letters.next() {
                    None => return Err(format!("{inner:?} has no end")),
                    Some(letter) if letter == end => break,
                    Some('\\') => inner.extend(letters.next()),
                    Some(letter) => inner.push(letter),
                }
            }
            tokens.push(if end == '"' {
                Token::Name(inner)
            } else {
                Token::Literal
            });
        } else if letter.is_alphanumeric() || "_$".contains(letter) {
            let mut word = letter.to_string();
            while let Some(letter) = letters.next_if(|letter| letter.is_alphanumeric() || *letter == '_') {
                word.push(letter);
            }
            tokens.push(Token::Word(word));
        } else if !letter.is_whitespace() {
            tokens.push(Token::Sign(letter));
        }
    }
    Ok(tokens)
}

fn names(tokens: &[Token], page: &[Row]) -> Result<Names, String> {
    let from = tokens
        .iter()
        .position(|token| *token == Token::Word("FROM".to_owned()))
        .ok_or("it has no FROM")?;
    // What is asked of a query within, or of a measurement: its tags are there in both cases.
    let (mut names, rest, inner) = match tokens.get(from + 1) {
        Some(Token::Name(measurement)) => {
            let names = Names {
                measurement: measurement.clone(),
                tags: BTreeSet::new(),
                fields: BTreeSet::new(),
                aliases: BTreeSet::new(),
            };
            (names, &tokens[from + 2..], None)
        }
        Some(Token::Sign('(')) => {
            let end = closing(tokens, from + 1)?;
            let mut names = self::names(&tokens[from + 2..end], page)?;
            let inner = std::mem::take(&mut names.aliases);
            (names, &tokens[end + 1..], Some(inner))
        }
        _ => return Err("neither a measurement nor a query is behind FROM".to_owned()),
    };
    let mut of_it = page
        .iter()
        .filter(|row| row.measurement == names.measurement)
        .peekable();
    if of_it.peek().is_none() {
        return Err(format!("no measurement is called {:?}", names.measurement));
    }
    let (tags, fields): (Vec<_>, Vec<_>) = of_it.partition(|row| row.tag);
    let has = |rows: &[&Row], name: &str| rows.iter().any(|row| row.name == name);
    let mut alias = false;
    for token in tokens[..from].iter().chain(rest) {
        if let Token::Name(name) = token {
            if alias {
                names.aliases.insert(name.clone());
            } else if name == HOST || has(&tags, name) {
                names.tags.insert(name.clone());
            } else if let Some(inner) = &inner {
                if !inner.contains(name) {
                    return Err(format!("the query within gives no {name:?}"));
                }
            } else if has(&fields, name) {
                names.fields.insert(name.clone());
            } else {
                return Err(format!("{} has no {name:?}", names.measurement));
            }
        }
        alias = *token == Token::Word("AS".to_owned());
    }
    Ok(names)
}

/// Where the bracket ends that opens at `open`.
fn closing(tokens: &[Token], open: usize) -> Result<usize, String> {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(place);
        }
    }
    Err("a bracket is not closed".to_owned())
}
