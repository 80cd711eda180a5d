//! The Grafana dashboard, as far as no database is needed to judge it: that Grafana can import it, that nothing
//! overlaps, and that every name in its queries is on the page of measurements. `tests/end_to_end/` runs the queries.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod support;

use std::collections::BTreeSet;

use ipvs_observer::points::Status;
use serde_json::{Value as Json, json};
use support::{
    dashboard::{Dashboard, Kind, items, text},
    page::{self, Row},
};

/// The tag that Telegraf adds to every line.
const HOST: &str = "host";
/// Where a counter's name may stand: its growth is asked for, that of a query within is summed, or a column is called so.
const RATES: [&str; 4] = [
    "non_negative_derivative(last(",
    "non_negative_difference(last(",
    "sum(",
    "AS ",
];

#[test]
fn grafana_can_import_it_and_asks_for_nothing_but_the_data_source() {
    let json = &Dashboard::read().0;
    assert_eq!(
        json["id"],
        Json::Null,
        "an id of one Grafana is another's in another"
    );
    assert!(
        json["schemaVersion"]
            .as_u64()
            .is_some_and(|version| version >= 38)
    );
    for key in ["title", "uid", "description"] {
        assert!(!text(&json[key]).is_empty(), "no {key}");
    }
    assert_eq!(
        json["__inputs"],
        json!([]),
        "the data source is a variable instead"
    );
    let required: BTreeSet<_> = items(&json["__requires"])
        .filter(|need| need["type"] == "panel")
        .map(|need| text(&need["id"]))
        .collect();
    let used: BTreeSet<_> = items(&json["panels"])
        .map(|panel| text(&panel["type"]))
        .filter(|kind| *kind != "row")
        .collect();
    assert_eq!(required, used, "kinds of panels");
}

#[test]
fn every_query_goes_to_the_data_source_that_was_chosen() {
    let dashboard = Dashboard::read();
    let chosen = json!({"type": "influxdb", "uid": "${datasource}"});
    for panel in dashboard.panels().filter(|panel| panel["type"] != "row") {
        let title = text(&panel["title"]);
        assert_eq!(panel["datasource"], chosen, "{title}");
        let mut letters = BTreeSet::new();
        for target in items(&panel["targets"]) {
            assert_eq!(target["datasource"], chosen, "{title}");
            assert_eq!(target["rawQuery"], true, "{title}");
            assert!(letters.insert(text(&target["refId"])), "{title}: a letter twice");
            let format = text(&target["resultFormat"]);
            assert_eq!(format == "table", panel["type"] == "table", "{title}");
        }
        assert!(!letters.is_empty(), "{title} asks for nothing");
    }
    for variable in dashboard
        .variables()
        .filter(|variable| variable["type"] == "query")
    {
        assert_eq!(variable["datasource"], chosen, "{variable}");
    }
    for annotation in dashboard.annotations() {
        assert_eq!(annotation["datasource"], chosen, "{annotation}");
    }
}

#[test]
fn annotations_have_a_place_for_each_column_that_they_ask_for() {
    for annotation in Dashboard::read().annotations() {
        let target = &annotation["target"];
        // Without this mark Grafana takes the query for a panel's.
        assert_eq!(target["fromAnnotations"], true, "{annotation}");
        let (asked, _) = text(&target["query"])
            .strip_prefix("SELECT ")
            .and_then(|rest| rest.split_once(" FROM "))
            .expect("a plain query");
        let asked: BTreeSet<_> = asked.split(", ").map(|name| name.trim_matches('"')).collect();
        // A column with no place would be taken for the title; a space would hide the next one's name.
        let placed: BTreeSet<_> = text(&target["tagsColumn"])
            .split(',')
            .chain([text(&target["textColumn"])])
            .collect();
        assert_eq!(asked, placed, "{annotation}");
    }
}

#[test]
fn panels_are_told_apart_lie_side_by_side_and_say_what_to_do() {
    let dashboard = Dashboard::read();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let mut titles = BTreeSet::new();
    for panel in dashboard.panels() {
        let title = text(&panel["title"]);
        assert!(
            ids.insert(panel["id"].as_u64().expect("an id")),
            "{title}: its id is another's"
        );
        assert!(titles.insert(title), "{title}: its title is another's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| {
            let place = panel["gridPos"][key].as_u64();
            place.unwrap_or_else(|| panic!("{title} has no {key}"))
        });
        assert!(w > 0 && h > 0 && x + w <= 24, "{title} is wider than the page");
        for column in x..x + w {
            for row in y..y + h {
                assert!(taken.insert((column, row)), "{title} lies over another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            text(&panel["description"]).len() > 40,
            "{title} does not say what it means"
        );
        assert_eq!(
            panel["interval"], "$gather",
            "{title} draws points between gathers"
        );
        let kind = text(&panel["type"]);
        if ["stat", "timeseries"].contains(&kind) {
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{title} has no unit"
            );
        }
    }
}

#[test]
fn every_name_in_a_query_is_on_the_page_of_measurements() {
    let page = page::rows();
    let mut measurements = BTreeSet::new();
    for query in Dashboard::read().queries() {
        let measurement = query.measurement();
        for name in query.names() {
            let listed = page
                .iter()
                .any(|row| row.measurement == measurement && row.name == name);
            // A column may have any name; one that is made of nothing has no values in `tests/end_to_end/`.
            let column = query.text.contains(&format!("AS \"{name}\""));
            assert!(
                listed || column || [HOST, measurement].contains(&name),
                "{}: {measurement} has no {name:?}",
                query.place
            );
        }
        measurements.insert(measurement.to_owned());
    }
    // These are `trace`'s: no Telegraf gathers them.
    let gathered: BTreeSet<_> = page
        .iter()
        .map(|row| row.measurement.to_owned())
        .filter(|measurement| !["ipvs_decision", "ipvs_drop", "ipvs_end"].contains(&measurement.as_str()))
        .collect();
    assert_eq!(measurements, gathered, "measurements that the dashboard shows");
}

#[test]
fn panels_keep_to_the_time_shown_and_counters_are_drawn_as_rates_that_survive_a_restart() {
    let page = page::rows();
    for query in Dashboard::read().queries() {
        let place = &query.place;
        if matches!(query.kind, Kind::Variable) {
            assert!(query.text.starts_with("SHOW TAG VALUES "), "{place}");
            continue;
        }
        let selects = query.text.matches("SELECT ").count();
        assert_eq!(
            query.text.matches("$timeFilter").count(),
            selects,
            "{place}: every part of it"
        );
        if query.text.contains("GROUP BY time(") {
            let all = query.text.matches("GROUP BY time(").count();
            let shown = query.text.matches("GROUP BY time($__interval)").count();
            assert_eq!(shown, all, "{place}: points at the interval shown");
            assert_eq!(
                query.text.matches("fill(none)").count(),
                all,
                "{place}: gaps stay gaps"
            );
            let asked = |row: &&Row| row.measurement == query.measurement() && row.counter();
            for counter in page.iter().filter(asked) {
                let name = format!("\"{}\"", counter.name);
                let mut rest = query.text.clone();
                for form in RATES {
                    rest = rest.replace(&format!("{form}{name}"), "");
                }
                assert!(!rest.contains(&name), "{place}: {name} as it stands");
            }
        }
    }
}

#[test]
fn no_two_servers_are_taken_for_one() {
    let mut judged = 0;
    for query in Dashboard::read().queries() {
        // What of a server's tags may change while it goes on, or follows from the others.
        let free: &[&str] = match query.measurement() {
            "ipvs_virtual_server" => &["sched", "netmask"],
            "ipvs_real_server" => &["address_family"],
            _ => continue,
        };
        // The newest value and what grows between two are of one series each.
        if !query.text.contains("last(") {
            continue;
        }
        let (_, grouped) = query.text.split_once("GROUP BY").expect("groups");
        for row in page::rows() {
            if row.measurement == query.measurement() && row.tag && !free.contains(&row.name) {
                assert!(
                    grouped.contains(&format!("\"{}\"", row.name)),
                    "{}: {} is not among its groups",
                    query.place,
                    row.name
                );
                judged += 1;
            }
        }
    }
    assert!(judged > 100, "{judged}");
}

#[test]
fn every_variable_is_there_used_and_safe_in_a_regular_expression() {
    let dashboard = Dashboard::read();
    let defined: BTreeSet<_> = dashboard
        .variables()
        .map(|variable| text(&variable["name"]).to_owned())
        .collect();
    for variable in dashboard
        .variables()
        .filter(|variable| variable["type"] == "query")
    {
        // Matches also where there is no such tag.
        assert_eq!(variable["allValue"], ".*", "{variable}");
        assert_eq!(variable["includeAll"], true, "{variable}");
    }
    let mut used: BTreeSet<_> = ["datasource", "gather"].map(str::to_owned).into();
    for query in dashboard.queries() {
        for part in query.text.split("${").skip(1) {
            let (name, rest) = part.split_once('}').expect("a whole variable");
            let name = name
                .strip_suffix(":regex")
                .unwrap_or_else(|| panic!("{}: {name} is written without its escapes", query.place));
            assert!(
                rest.starts_with("$/"),
                "{}: {name} is not matched whole",
                query.place
            );
            used.insert(name.to_owned());
        }
        let known = ["${", "$timeFilter", "$__interval", "$/"];
        let known: usize = known.iter().map(|form| query.text.matches(form).count()).sum();
        assert_eq!(
            query.text.matches('$').count(),
            known,
            "{}: a variable without its escapes",
            query.place
        );
    }
    assert_eq!(used, defined);
}

#[test]
fn every_status_has_a_colour_of_its_own() {
    let dashboard = Dashboard::read();
    let statuses = [Status::Ok, Status::Degraded, Status::Unavailable].map(Status::name);
    let mut shown = 0;
    for panel in dashboard.panels() {
        let mappings = panel["fieldConfig"].to_string();
        if !mappings.contains("\"unavailable\"") {
            continue;
        }
        shown += 1;
        for status in &statuses {
            assert!(
                mappings.contains(&format!("\"{status}\":{{")),
                "{}",
                panel["title"]
            );
        }
    }
    assert_eq!(shown, 3, "the status at a glance, over time, and with its reason");
}
