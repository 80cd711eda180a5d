//! Each query of the dashboard, as Grafana sends it, finds in the database what it asks for.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    HOST, Run, filled,
    support::{
        dashboard::{Choice, Dashboard, Kind, Query},
        influx::{Influx, Series},
        page,
    },
};

/// Seconds of a point: two gathers.
const POINT: u64 = 2;
const NETNS: &str = "blue";

fn series(influx: &Influx, query: &Query, choice: &Choice<'_>) -> Vec<Series> {
    let text = query.with(Dashboard::read(), choice, Run::read().time, POINT);
    let series = influx.series(&text);
    series.unwrap_or_else(|error| panic!("{}: {error}\n{text}", query.place))
}

/// What is wrong with what a query gave: columns in which no row has a value. A tag may be absent.
fn empty_columns(series: &[Series]) -> Vec<String> {
    let mut columns: BTreeMap<&str, bool> = BTreeMap::new();
    for one in series {
        for (place, column) in one.columns.iter().enumerate() {
            let some = one.rows.iter().any(|row| !row[place].is_null());
            *columns.entry(column).or_default() |= some;
        }
    }
    if columns.is_empty() {
        return vec!["no rows at all".to_owned()];
    }
    let tags: BTreeSet<_> = page::rows()
        .iter()
        .filter(|row| row.tag)
        .map(|row| row.name)
        .collect();
    columns
        .into_iter()
        .filter(|(column, some)| !some && !tags.contains(column))
        .map(|(column, _)| column.to_owned())
        .collect()
}

/// Everything the dashboard asks, with all variables at what is chosen.
fn assert_all_find_something(influx: &Influx, choice: &Choice<'_>, netns: bool) {
    let mut asked = 0;
    for query in Dashboard::read().queries() {
        let found = series(influx, &query, choice);
        if matches!(query.kind, Kind::Variable) && query.place.contains("netns") && !netns {
            assert!(found.is_empty(), "{}: no line has the tag", query.place);
            continue;
        }
        assert_eq!(
            empty_columns(&found),
            Vec::<String>::new(),
            "{}: nothing but nulls there\n{}",
            query.place,
            query.text
        );
        asked += 1;
    }
    assert!(asked >= 45, "{asked} queries");
}

#[test]
#[ignore = "judges a run in the lab: `cargo xtask end-to-end` makes one"]
fn every_panel_variable_and_annotation_finds_values() {
    assert_all_find_something(&filled(""), &Choice::new(), false);
}

#[test]
#[ignore = "judges a run in the lab: `cargo xtask end-to-end` makes one"]
fn with_a_namespace_in_every_line_and_host_and_namespace_chosen_it_finds_the_same() {
    let influx = filled(&format!(",netns={NETNS}"));
    assert_all_find_something(&influx, &Choice::new(), true);
    assert_all_find_something(
        &influx,
        &Choice::from([("host", vec![HOST]), ("netns", vec![NETNS])]),
        true,
    );
    let other = Choice::from([("netns", vec!["bl.e"])]);
    for query in Dashboard::read().queries() {
        if matches!(query.kind, Kind::Panel) {
            let found = series(&influx, &query, &other);
            assert!(
                found.is_empty(),
                "{}: the point is a letter like others",
                query.place
            );
        }
    }
}

#[test]
#[ignore = "judges a run in the lab: `cargo xtask end-to-end` makes one"]
fn what_is_the_programs_is_counted_once_however_many_namespaces_it_gathers() {
    let influx = filled(",netns=blue");
    influx.write(&Run::read().tagged(",netns=green"));
    let dashboard = Dashboard::read();
    for (title, expected) in [
        ("Runs of the probes", 1),
        ("Written, and memory", 1),
        ("Status over time", 2),
        ("Picks by virtual server", 16),
    ] {
        let found = series(&influx, &dashboard.query_of(title), &Choice::new());
        // The service that came and went may have been seen once only, and has no rate then.
        let found = found
            .iter()
            .filter(|one| one.tags.get("port").is_none_or(|port| port != "7"))
            .count();
        assert_eq!(found, expected, "{title}");
    }
}

/// Whether a series of a virtual or a real server is one that was chosen.
fn chosen(series: &Series, choice: &Choice<'_>) -> bool {
    let of = |variable: &str, tags: &[&str]| {
        let Some(values) = choice.get(variable) else {
            return true;
        };
        let mut present = tags.iter().filter_map(|tag| series.tags.get(*tag)).peekable();
        present.peek().is_none() || present.any(|value| values.contains(&value.as_str()))
    };
    if series.name == "ipvs_real_server" {
        of("vs", &["virtual_address", "virtual_fwmark"])
            && of("vport", &["virtual_port"])
            && of("rs", &["address"])
    } else {
        of("vs", &["address", "fwmark"]) && of("vport", &["port"])
    }
}

#[test]
#[ignore = "judges a run in the lab: `cargo xtask end-to-end` makes one"]
fn a_choice_of_servers_gives_those_and_no_others() {
    let influx = filled("");
    let dashboard = Dashboard::read();
    let (servers, real_servers) = (
        dashboard.query_of("Real servers, and drained ones"),
        dashboard.query_of("Active connections"),
    );
    for (choice, of_servers, of_real_servers) in [
        (Choice::new(), 9, 15),
        (Choice::from([("vs", vec!["fd00:9::1"])]), 1, 2),
        (Choice::from([("vs", vec!["47"])]), 1, 2),
        (Choice::from([("vs", vec!["fd00:9::1", "47"])]), 2, 4),
        (Choice::from([("vs", vec!["10.9.0.1"])]), 7, 11),
        (Choice::from([("vport", vec!["80"])]), 2, 5),
        (Choice::from([("vport", vec!["80", "8080"])]), 3, 7),
        (
            Choice::from([
                ("vs", vec!["10.9.0.1"]),
                ("vport", vec!["80"]),
                ("rs", vec!["10.8.0.2"]),
            ]),
            1,
            1,
        ),
        (Choice::from([("rs", vec!["fd00:8::2"])]), 9, 1),
        (Choice::from([("vs", vec!["10.9.0"])]), 0, 0),
        (Choice::from([("rs", vec!["10.8.0.*"])]), 9, 0),
    ] {
        for query in dashboard.queries() {
            for one in series(&influx, &query, &choice) {
                assert!(
                    chosen(&one, &choice),
                    "{}: {choice:?}, {:?}",
                    query.place,
                    one.tags
                );
            }
        }
        let found = [&servers, &real_servers].map(|query| series(&influx, query, &choice).len());
        assert_eq!(found, [of_servers, of_real_servers], "{choice:?}");
    }
}

/// The area under a panel's only column, by the series' tags. A point stands for the time since the one before.
fn areas(influx: &Influx, title: &str, tags: [&str; 3]) -> BTreeMap<[String; 3], f64> {
    let query = Dashboard::read().query_of(title);
    let point = POINT * 1_000_000_000;
    let begin = Run::read().time.0 * 1_000_000 / point * point;
    let mut areas = BTreeMap::new();
    for one in series(influx, &query, &Choice::new()) {
        let (mut before, mut area) = (begin, 0.0);
        for row in &one.rows {
            let time = row[0].as_u64().expect("a time");
            let seconds = (time - before) as f64 / 1e9;
            area += row[1].as_f64().expect("a rate") * seconds;
            before = time;
        }
        areas.insert(tags.map(|tag| one.tags[tag].clone()), area);
    }
    areas
}

#[test]
#[ignore = "judges a run in the lab: `cargo xtask end-to-end` makes one"]
fn the_area_under_a_rate_is_what_was_counted() {
    let influx = filled("");
    let mut compared = 0;
    for (title, field) in [
        ("Picks by virtual server", "schedule_picks"),
        ("New connections by virtual server", "connections"),
    ] {
        let tags = ["address", "port", "fwmark"];
        let mut counted = BTreeMap::new();
        for line in influx.stored("ipvs_virtual_server") {
            let value = (line.timestamp, line.number(field));
            let newest = counted
                .entry(tags.map(|tag| line.tag(tag).to_owned()))
                .or_insert(value);
            *newest = value.max(*newest);
        }
        for (server, area) in areas(&influx, title, tags) {
            // Its counters were set to 0 on the way: see the next test.
            if server[1] == "123" && field == "connections" {
                continue;
            }
            let counted = counted[&server].1 as f64;
            assert!(
                (area - counted).abs() < 0.001,
                "{title}, {server:?}: {area}, counted {counted}"
            );
            compared += 1;
        }
    }
    assert!(compared >= 14, "{compared}");
}

#[test]
#[ignore = "judges a run in the lab: `cargo xtask end-to-end` makes one"]
fn a_counter_that_begins_anew_draws_no_rate_below_nought() {
    let influx = filled("");
    let dashboard = Dashboard::read();
    let connections: Vec<_> = Run::read()
        .lines
        .iter()
        .filter(|line| line.measurement == "ipvs_virtual_server" && line.tag("port") == "123")
        .map(|line| line.number("connections"))
        .collect();
    assert!(!connections.is_sorted(), "{connections:?} never began anew");
    let query = dashboard.query_of("New connections by virtual server");
    let choice = Choice::from([("vport", vec!["123"])]);
    let drawn = series(&influx, &query, &choice);
    // A point where nothing was drawn makes this less, never more.
    let area: f64 = drawn[0]
        .rows
        .iter()
        .filter_map(|row| row[1].as_f64())
        .map(|rate| rate * POINT as f64)
        .sum();
    let most: u64 = connections
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .sum();
    assert!(area > 0.0 && area <= most as f64, "{area}, at most {most}");
    for query in dashboard.queries() {
        if !query.text.contains("non_negative") {
            continue;
        }
        for one in series(&influx, &query, &Choice::new()) {
            let below = one
                .rows
                .iter()
                .flatten()
                .skip(1)
                .find(|value| value.as_f64() < Some(0.0) && value.is_number());
            assert_eq!(below, None, "{}: {:?}", query.place, one.tags);
        }
    }
}
