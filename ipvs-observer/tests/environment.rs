//! The environment from outside: which variables set something, which are passed over, and which are refused.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod support;

use clap::ArgAction;
use ipvs_observer::cli;
use support::child::run;

const ONCE: [&str; 2] = ["collect", "--once"];

#[test]
fn an_empty_variable_is_unset_whatever_its_flag() {
    for verb in ["collect", "trace", "check"] {
        let definition = cli::definition();
        let verb = definition.find_subcommand(verb).expect("the verb");
        let names: Vec<String> = verb
            .get_arguments()
            .filter_map(|flag| flag.get_env()?.to_str().map(str::to_owned))
            .collect();
        assert!(names.len() > 1, "{names:?}");
        // As the environment would have it: a trace and a run without end are told by their help that all is well.
        let empty: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        let (args, code) = match verb.get_name() {
            "check" => (&["check", "--format", "json"][..], 1),
            "collect" => (&ONCE[..], 0),
            _ => (&["trace", "--duration", "1ms"][..], 1),
        };
        let (with, without) = (run(args, &empty), run(args, &[]));
        assert_eq!(with.0, without.0, "{}", with.2);
        assert_eq!(with.2, without.2);
        assert!(with.0 == Some(code) || with.0 == Some(0), "{with:?}");
    }
}

#[test]
fn a_value_for_another_verb_is_passed_over_and_one_for_none_is_wrong_usage() {
    let line = [("IPVS_OBSERVER_FORMAT", "line")];
    let rows = |variables: &[_]| {
        let (code, rows, message) = run(&["check"], variables);
        assert_ne!(code, Some(2), "{message}");
        // How much memory the process has is not always the same.
        let same = |row: &&str| !row.starts_with("ok       memory ");
        rows.lines().filter(same).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rows(&line), rows(&[]), "as without it");
    for args in [&["check"][..], &["trace"], &ONCE] {
        let (code, stdout, message) = run(args, &[("IPVS_OBSERVER_FORMAT", "xml")]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {message}");
        assert!(
            message.contains("'xml'") && message.contains("IPVS_OBSERVER_FORMAT"),
            "{message}"
        );
    }
    // The command line comes first.
    let overridden = run(&["check", "--format", "text"], &[("IPVS_OBSERVER_FORMAT", "xml")]);
    assert_ne!(overridden.0, Some(2), "{}", overridden.2);
    assert_eq!(run(&["--help"], &[("IPVS_OBSERVER_FORMAT", "xml")]).0, Some(0));
}

#[test]
fn every_value_that_a_verb_names_is_taken_by_it_and_breaks_no_other() {
    let definition = cli::definition();
    let verbs: Vec<_> = definition
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .collect();
    let mut tried = 0;
    for flag in verbs.iter().flat_map(|verb| verb.get_arguments()) {
        let Some(name) = flag.get_env().and_then(|name| name.to_str()) else {
            continue;
        };
        let values: Vec<String> = match flag.get_action() {
            ArgAction::SetTrue => ["true", "false"].map(str::to_owned).to_vec(),
            _ => flag
                .get_possible_values()
                .iter()
                .map(|value| value.get_name().to_owned())
                .collect(),
        };
        for value in values {
            for args in [&["check"][..], &ONCE, &["trace", "--duration", "1ms"]] {
                // Without it, one of the outcomes can match nothing.
                let packets = ("IPVS_OBSERVER_PACKETS", "true");
                let (code, _, message) = run(args, &[packets, (name, value.as_str())]);
                assert_ne!(code, Some(2), "{name}={value} {args:?}: {message}");
            }
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn a_flag_without_a_value_is_set_by_true_and_not_by_false() {
    let count = ["collect", "--count", "1", "--interval", "10ms", "--probes", "off"];
    let (code, lines, message) = run(&["collect", "--probes", "off"], &[("IPVS_OBSERVER_ONCE", "true")]);
    assert_eq!((code, lines.lines().count()), (Some(0), 1), "{message}");
    let (code, _, message) = run(&count, &[("IPVS_OBSERVER_ONCE", "true")]);
    assert_eq!(code, Some(0), "what was typed comes first: {message}");
    let (code, lines, message) = run(&count, &[("IPVS_OBSERVER_ONCE", "false")]);
    assert_eq!(code, Some(0), "{message}");
    assert_eq!(lines.lines().count(), 1);
    assert_eq!(run(&count, &[("IPVS_OBSERVER_ONCE", "maybe")]).0, Some(2));
}

#[test]
fn what_kubernetes_sets_for_a_service_of_this_name_is_told_once_as_that() {
    let links = [
        ("IPVS_OBSERVER_SERVICE_HOST", "10.0.0.1"),
        ("IPVS_OBSERVER_SERVICE_PORT", "9100"),
        ("IPVS_OBSERVER_PORT", "tcp://10.0.0.1:9100"),
        ("IPVS_OBSERVER_PORT_9100_TCP_ADDR", "10.0.0.1"),
    ];
    let (code, _, messages) = run(&ONCE, &links);
    assert_eq!(code, Some(0));
    let told: Vec<_> = messages
        .lines()
        .filter(|line| line.contains("IPVS_OBSERVER_"))
        .collect();
    assert_eq!(told.len(), 1, "{messages}");
    assert!(told[0].contains("enableServiceLinks: false"), "{messages}");
}

#[test]
fn a_name_that_is_no_setting_is_warned_of_with_the_nearest_that_is() {
    let unknown = [
        ("IPVS_OBSERVER_INTERVALL", "3s"),
        ("IPVS_OBSERVER_SERVICES", "tcp://10.0.0.1:80"),
        ("IPVS_OBSERVER_MAXSERVICES", "1"),
        ("IPVS_OBSERVER_XYZZY", "1"),
        ("IPVS_OBSERVER_ALSO_UNKNOWN", ""),
        ("IPVS_OBSERVER_LAB_MIRROR", "the lab's"),
    ];
    let (code, lines, messages) = run(&ONCE, &unknown);
    assert_eq!(code, Some(0));
    assert_eq!(lines.lines().count(), 1);
    let warnings: Vec<_> = messages.lines().filter(|line| line.starts_with("W! ")).collect();
    assert_eq!(warnings.len(), 4, "{messages}");
    for (name, nearest) in [
        ("IPVS_OBSERVER_INTERVALL ", "IPVS_OBSERVER_INTERVAL?"),
        ("IPVS_OBSERVER_SERVICES ", "IPVS_OBSERVER_SERVICE?"),
        ("IPVS_OBSERVER_MAXSERVICES ", "IPVS_OBSERVER_MAX_SERVICES?"),
        ("IPVS_OBSERVER_XYZZY ", "--help"),
    ] {
        let warning = warnings.iter().find(|line| line.contains(name));
        assert!(
            warning.is_some_and(|line| line.contains(nearest)),
            "{name}: {messages}"
        );
    }
    // Help and what packages ask for are answered without a word.
    for args in [&["--help"][..], &["man"], &["completions", "bash"]] {
        assert_eq!(run(args, &unknown).2, "", "{args:?}");
    }
}
