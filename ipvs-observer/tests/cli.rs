//! The program from outside, where no kernel with IPVS is needed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

use std::process::{Command, Output, Stdio};

fn run(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipvs-observer"));
    command
        .args(args)
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command.output().expect("the program starts")
}

#[test]
fn a_wrong_value_ends_with_2_before_anything_starts_and_shows_a_right_one() {
    for (args, example) in [
        (["--interval", "0s"], "10s, 500ms or 1m"),
        (["--interval", "-1s"], "10s, 500ms or 1m"),
        (["--interval", "lots"], "10s, 500ms or 1m"),
        (["--count", "0"], "--count 3"),
        (["--count", "-1"], "--count 3"),
        (["--service", "tcp:/bad"], "tcp://10.0.0.1:80"),
        (["--service", "tcp://x:80"], "tcp://10.0.0.1:80"),
        (["--schema", "x"], "full, telegraf"),
        (["--precision", "m"], "ns, us, ms, s"),
        (["--probes", "maybe"], "auto, on, off"),
    ] {
        let output = run(&["collect", args[0], args[1]], &[]);
        let message = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(message.starts_with("E! "), "{message}");
        assert_eq!(
            message.lines().count(),
            1,
            "Telegraf reads stderr by lines: {message}"
        );
        assert!(
            message.contains(args[0]) && message.contains(example),
            "{args:?}: {message}"
        );
    }
}

#[test]
fn an_unknown_flag_and_flags_that_contradict_end_with_2() {
    for args in [
        &["collect", "--nope"][..],
        &["collect", "--once", "--count", "2"],
        &["nope"],
        &[],
    ] {
        let output = run(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn the_environment_sets_what_flags_set_and_is_checked_like_them() {
    let output = run(&["collect"], &[("IPVS_OBSERVER_INTERVAL", "soon")]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).expect("text");
    assert!(
        message.contains("--interval") && message.contains("'soon'"),
        "{message}"
    );
    let output = run(
        &["collect"],
        &[("IPVS_OBSERVER_ONCE", "true"), ("IPVS_OBSERVER_SCHEMA", "full")],
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).expect("text").lines().count(),
        1,
        "a machine without IPVS"
    );
}

#[test]
fn help_and_version_go_to_stdout_and_end_with_0() {
    for args in [&["--help"][..], &["--version"], &["collect", "--help"]] {
        let output = run(args, &[]);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_said_and_ends_with_1() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipvs-observer"));
    let output = command
        .args(["collect", "--once"])
        .stdout(full)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).expect("text");
    assert!(message.contains("cannot write to stdout"), "{message}");
}
