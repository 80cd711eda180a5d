//! The Grafana dashboard in `docs/grafana/`: its queries, and what Grafana makes of them before the database sees them.
//!
//! The rules of substitution are Grafana's: `${name:regex}` is a value with what is special in it escaped, several
//! values are a group of alternatives, and All is the variable's own `allValue` as it stands.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::Value as Json;

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

    /// The measurement that is asked, by the query within if there is one.
    pub fn measurement(&self) -> &str {
        let (_, rest) = self.text.rsplit_once("FROM \"").expect("a measurement");
        rest.split_once('"').expect("its end").0
    }

    /// Everything in double quotes: measurements, tags, fields and what columns are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.text.split('"').skip(1).step_by(2)
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
