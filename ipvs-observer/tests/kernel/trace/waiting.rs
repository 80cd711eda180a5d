//! A trace that waits for `ip_vs`: it says from when on everything is seen, and ends where it cannot trace.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value as Json;

use super::{text, untraceable};
use crate::{
    abilities::{lacking, telling},
    ipvsadm, observer,
    privilege::{Paranoid, THREE, as_user},
    states,
    support::child::{self, shell},
    watched::{PATIENCE, Speaking},
};

/// The functions of IPVS that hold a probe, whoever's it is.
fn probed() -> BTreeSet<String> {
    let list = fs::read_to_string("/sys/kernel/debug/kprobes/list").expect("debugfs");
    list.lines()
        .filter(|line| line.contains("ip_vs") && !line.contains("[GONE]"))
        .filter_map(|line| line.split_whitespace().nth(2)?.split('+').next())
        .map(str::to_owned)
        .collect()
}

/// Whether this kernel leaves performance events open to `CAP_PERFMON` at that level: the test passes.
fn open_events() -> bool {
    let output = as_user(&THREE, &["check", "--format", "json"]).output();
    let rows: Json = serde_json::from_slice(&output.expect("setpriv").stdout).expect("JSON");
    let mut rows = rows.as_array().expect("rows").iter();
    let closed = rows.any(|row| row["need"] == "performance events" && row["state"] == "missing");
    lacking("level that closes performance events to CAP_PERFMON", closed)
}

/// Opens performance events to `CAP_PERFMON`; none where nothing can be traced, or nothing closes them again: the test
/// passes.
fn open_for_now() -> Option<Paranoid> {
    if untraceable() {
        return None;
    }
    let setting = Paranoid::at("3");
    if open_events() {
        return None;
    }
    fs::write(Paranoid::SETTING, "2").expect("root may");
    Some(setting)
}

/// Has the module, which is gone, come back with performance events closed, and returns how the program ends then.
fn ends_by_the_modules_return(mut program: Speaking, setting: Paranoid) -> String {
    program.until("IPVS is not loaded");
    fs::write(Paranoid::SETTING, "3").expect("root may");
    shell("modprobe ip_vs");
    let (code, messages) = program.ends();
    drop(setting);
    assert_eq!(code, Some(1), "{messages}");
    messages
}

fn add_services(from: u16) {
    let rules: Vec<_> = (from..from + 20)
        .map(|port| format!("-A -t 10.9.0.1:{port} -s rr\n"))
        .collect();
    ipvsadm::restore(&rules.concat());
}

/// The ports of the services of which the trace tells that they were added.
fn added(output: &str) -> Vec<u64> {
    output
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).expect("JSON"))
        .filter(|object| object["action"] == "add_service")
        .map(|object| object["service"]["port"].as_u64().expect("a port"))
        .collect()
}

#[test]
fn everything_is_traced_from_the_message_on_that_the_probes_are_attached() {
    if untraceable() {
        return;
    }
    states::unload();
    assert_eq!(probed(), BTreeSet::new(), "somebody else has probes here");
    let mut trace = Speaking::start(observer::command(&["trace", "--format", "json"]));
    assert!(trace.until("IPVS is not loaded").starts_with("I! "));
    // The second time the module was removed under the trace.
    for from in [8000, 8100] {
        shell("modprobe ip_vs");
        let loaded = Instant::now();
        let said = trace.until("probes attached; press Ctrl-C to end");
        println!("attached after {:?}", loaded.elapsed());
        // Two are outside of the module, where errors of ICMP are sent.
        let probes = probed().len() + 2;
        assert_eq!(said, format!("I! {probes} probes attached; press Ctrl-C to end"));
        add_services(from);
        // What is in the ring when the module goes is told before.
        states::unload();
        assert!(trace.until("IPVS is not loaded").starts_with("I! "));
    }
    assert_eq!(
        added(&trace.stop()),
        (8000..8020).chain(8100..8120).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_in_the_ring_when_the_module_goes_while_probes_are_attached_is_told() {
    const COME: [&str; 6] = ["lc", "wlc", "sed", "nq", "sh", "dh"];
    if untraceable() {
        return;
    }
    states::unload();
    shell("modprobe ip_vs_rr");
    let mut trace = Speaking::start(observer::command(&["trace", "--format", "json"]));
    trace.until("probes attached");
    // It attaches to one after the other, and is stopped at the first.
    shell(&format!(
        "modprobe -a {}",
        COME.map(|name| format!("ip_vs_{name}")).join(" ")
    ));
    let attached = || {
        let probed = probed();
        let holds = |name: &str| probed.contains(&format!("ip_vs_{name}_schedule"));
        COME.iter().filter(|name| holds(name)).count()
    };
    let begin = Instant::now();
    while attached() == 0 {
        assert!(begin.elapsed() < PATIENCE, "no scheduler is probed");
        thread::sleep(Duration::from_millis(1));
    }
    trace.process.signal(Signal::STOP);
    assert!(attached() < COME.len(), "it was done before it was stopped");
    add_services(8000);
    states::unload();
    trace.process.signal(Signal::CONT);
    trace.until("IPVS is not loaded");
    assert_eq!(added(&trace.stop()), (8000..8020).collect::<Vec<_>>());
}

#[test]
fn a_wait_that_ends_where_nothing_can_be_traced_ends_the_trace_as_a_start_would() {
    shell("modprobe ip_vs");
    let whole = telling();
    let _setting = Paranoid::at("3");
    // Without BTF of modules root cannot trace either.
    let command = || {
        if whole {
            as_user(&THREE, &["trace"])
        } else {
            observer::command(&["trace"])
        }
    };
    if whole && open_events() {
        return;
    }
    let started = command().output().expect("it starts");
    let reason = String::from_utf8(started.stderr).expect("text");
    assert_eq!(started.status.code(), Some(1), "{reason}");
    assert!(
        reason.starts_with("E! what is asked for cannot be traced here: "),
        "{reason}"
    );
    states::unload();
    let mut trace = Speaking::start(command());
    trace.until("IPVS is not loaded");
    shell("modprobe ip_vs");
    let (code, messages) = trace.ends();
    assert_eq!(code, Some(1), "{messages}");
    assert!(messages.ends_with(reason.trim_end()), "{messages}");
    assert!(!messages.contains("probes attached"), "{messages}");
}

#[test]
fn a_module_that_comes_back_where_nothing_can_be_traced_any_more_ends_the_trace() {
    let Some(setting) = open_for_now() else {
        return;
    };
    let mut trace = Speaking::start(as_user(&THREE, &["trace"]));
    trace.until("probes attached");
    states::unload();
    let messages = ends_by_the_modules_return(trace, setting);
    // The services that others left are deleted with the module.
    assert!(messages.contains("I! 0 decisions and "), "{messages}");
    assert!(
        messages.contains("E! what is asked for cannot be traced here: "),
        "{messages}"
    );
}

#[test]
fn a_trace_that_gave_up_what_attaching_needs_ends_when_the_module_goes() {
    if untraceable() {
        return;
    }
    let _setting = Paranoid::at("2");
    states::unload();
    let mut trace = Speaking::start(as_user(&THREE, &["trace", "--privileges", "attached"]));
    trace.until("IPVS is not loaded");
    shell("modprobe ip_vs");
    trace.until("probes attached");
    // A scheduler's module that comes later is a state: its durations are missing.
    shell("modprobe ip_vs_lc");
    assert!(trace.until("probe ip_vs_lc_schedule").starts_with("W! "));
    states::unload();
    let (code, messages) = trace.ends();
    assert_eq!(code, Some(1), "{messages}");
    assert!(messages.contains("--privileges reattach"), "{messages}");
    shell("modprobe ip_vs");
}

#[test]
fn all_probes_that_were_asked_for_and_cannot_be_attached_again_end_the_gathering() {
    let Some(setting) = open_for_now() else {
        return;
    };
    let args = ["collect", "--probes", "on", "--interval", "200ms"];
    let mut collect = Speaking::start(as_user(&THREE, &args));
    let lines = child::lines(collect.process.0.stdout.take().expect("piped"));
    let told = |status: &str, times: usize| {
        let status = format!("status=\"{status}\"");
        let told = |line: &String| line.starts_with("ipvs_observer ") && line.contains(&status);
        for _ in 0..times {
            while !told(&lines.recv_timeout(PATIENCE).expect("a line")) {}
        }
    };
    told("ok", 1);
    states::unload();
    // Without its module the probes are waited for.
    told("unavailable", 10);
    let messages = ends_by_the_modules_return(collect, setting);
    assert!(
        messages.contains("E! not all probes can be attached"),
        "{messages}"
    );
}

#[test]
fn a_namespace_is_told_by_the_name_that_it_was_given_and_times_are_local() {
    if untraceable() {
        return;
    }
    shell("ip netns add blue; ip netns add red");
    let add = |netns: &str| shell(&format!("ip netns exec {netns} ipvsadm -A -t 10.9.0.1:80 -s rr"));
    let traced = |args: &[&str], path: &str| {
        let mut command = observer::command(&[&["trace", "--netns", "blue", "--netns", path], args].concat());
        command.env("TZ", "XYZ-3:30");
        let mut trace = Speaking::start(command);
        trace.until("probes attached");
        add("blue");
        add("red");
        thread::sleep(Duration::from_secs(1));
        shell("ip netns exec blue ipvsadm -C; ip netns exec red ipvsadm -C");
        trace.stop()
    };
    let output = traced(&[], "/run/netns/red");
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "times are local, UTC+03:30");
    let columns: Vec<_> = lines[1..3].iter().map(|line| line.split("  ").nth(1)).collect();
    assert_eq!(columns, [Some("blue"), Some("/run/netns/red")], "{output}");
    let output = traced(&["--format", "json"], "red");
    let netns: Vec<_> = output
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).expect("JSON"))
        .map(|object| text(&object["netns"]).to_owned())
        .collect();
    assert_eq!(netns[..2], ["blue", "red"], "{output}");
    shell("ip netns del blue; ip netns del red");
}
