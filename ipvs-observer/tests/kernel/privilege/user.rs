//! A user of its own.

use std::{collections::BTreeMap, fs, io::Read, process::Stdio};

use super::{
    BPF, NET_ADMIN, PERFMON, Paranoid, THREE, as_user, assert_picks, assert_reduced, attached, connect,
    gathering, serve, shell, soon, stderr, terminate, threads,
};
use crate::{
    abilities::{lacking_btf, telling},
    observer::{self, of, only},
    states,
    support::lines::Line,
};

/// Probes of IPVS that hold, whoever's they are.
fn probes() -> usize {
    let list = fs::read_to_string("/sys/kernel/debug/kprobes/list").expect("debugfs");
    let holding = |line: &&str| line.contains("ip_vs") && !line.contains("[GONE]");
    list.lines().filter(holding).count()
}

/// The same, once whatever was stopped before has let go of its own: a child of it lasts as long as that takes.
fn probes_of_others() -> usize {
    assert!(soon(|| !runs("ipvs-observer")), "one that was stopped goes on");
    probes()
}

/// Whether there is a process of that name that still has something open: all but a zombie may, to their very end.
fn runs(name: &str) -> bool {
    let mut processes = fs::read_dir("/proc").expect("procfs").flatten();
    processes.any(|process| {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let rest = stat.split_once(&format!("({name}) ")).map(|(_, rest)| rest);
        rest.is_some_and(|rest| !rest.starts_with(['Z', 'X']))
    })
}

/// The fields of each series of the table, without rates, which move.
fn table(lines: &[Line]) -> BTreeMap<String, BTreeMap<String, String>> {
    let of_table = lines.iter().filter(|line| line.measurement != "ipvs_observer");
    of_table
        .map(|line| {
            let steady = line.fields.iter().filter(|(name, _)| {
                !["cps", "pps_in", "pps_out", "bps_in", "bps_out"].contains(&name.as_str())
            });
            let fields = steady.map(|(name, value)| (name.clone(), format!("{value:?}")));
            (format!("{:?}", line.series()), fields.collect())
        })
        .collect()
}

#[test]
fn three_capabilities_do_what_root_does_also_after_modules_went_and_came() {
    let _setting = Paranoid::at("2");
    shell("modprobe ip_vs; modprobe ip_vs_rr");
    let before = probes_of_others();
    serve(7081);
    let mut collect = gathering(&THREE, &[]);
    let lines = collect.gather(1);
    let three = NET_ADMIN | BPF | PERFMON;
    assert_reduced(collect.child.id(), three, three);
    if telling() {
        assert_eq!(only(&lines, "ipvs_observer").text("reason"), "");
    }
    assert!(probes() > before, "{} after {before}", probes());
    let lines = assert_picks(&mut collect, 7081, 12);
    let (users, roots) = (table(&lines), table(&observer::gather(&["--probes", "off"])));
    assert_eq!(users.keys().collect::<Vec<_>>(), roots.keys().collect::<Vec<_>>());
    for (series, fields) in roots {
        for (name, value) in fields {
            assert_eq!(users[&series].get(&name), Some(&value), "{series} {name}");
        }
    }

    shell("ipvsadm -C; rmmod ip_vs_rr");
    collect.gather(1);
    shell("modprobe ip_vs_rr");
    serve(7082);
    assert_picks(&mut collect, 7082, 5);

    states::unload();
    let lines = collect.gather(1);
    assert_eq!(only(&lines, "ipvs_observer").text("status"), "unavailable");
    shell("modprobe ip_vs; modprobe ip_vs_rr");
    serve(7083);
    assert_picks(&mut collect, 7083, 4);
    assert_reduced(collect.child.id(), three, three);
    terminate(collect);
    assert!(soon(|| probes() <= before), "{} probes are left", probes());
}

#[test]
fn what_only_attaching_needs_is_given_up_when_the_module_has_come_and_told_when_it_is_missed() {
    let _setting = Paranoid::at("2");
    states::unload();
    let mut collect = gathering(&THREE, &["--privileges", "attached"]);
    let lines = collect.gather(1);
    assert_eq!(of(&lines, "ipvs_observer").count(), 1);
    let three = NET_ADMIN | BPF | PERFMON;
    assert_reduced(collect.child.id(), three, three);

    shell("modprobe ip_vs; modprobe ip_vs_rr");
    serve(7084);
    attached(&mut collect);
    // What was counted is read from memory, which takes nothing.
    assert_reduced(collect.child.id(), NET_ADMIN, three);
    let old = !telling();
    assert_picks(&mut collect, 7084, 6);

    shell("modprobe ip_vs_lc");
    for _ in 0..3 {
        let lines = collect.gather(1);
        let state = only(&lines, "ipvs_observer");
        assert_eq!(state.text("status"), "degraded");
        if !old {
            let reason = state.text("reason");
            assert!(reason.contains("CAP_PERFMON was given up"), "{reason}");
        }
    }
    connect(7084, 1);
    let mut messages = collect.child.stderr.take().expect("piped");
    terminate(collect);
    let mut text = String::new();
    messages.read_to_string(&mut text).expect("reading");
    if !old {
        assert_eq!(text.matches("--privileges reattach").count(), 1, "{text}");
        assert!(text.contains("probe ip_vs_lc_schedule"), "{text}");
    }
    shell("rmmod ip_vs_lc");
}

#[test]
fn a_trace_keeps_in_the_thread_that_traces_what_it_needs() {
    let _setting = Paranoid::at("2");
    shell("modprobe ip_vs; modprobe ip_vs_rr");
    if lacking_btf() {
        return;
    }
    serve(7085);
    let mut command = as_user(
        &THREE,
        &[
            "trace",
            "--count",
            "3",
            "--privileges",
            "attached",
            "--format",
            "json",
        ],
    );
    let trace = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv is in the lab");
    let process = trace.id();
    // It has attached when the capability for it is gone.
    assert!(soon(|| threads(process)
        .iter()
        .all(|thread| thread.set("CapPrm") & PERFMON == 0)));
    assert_reduced(process, NET_ADMIN, NET_ADMIN | BPF | PERFMON);
    connect(7085, 3);
    let output = trace.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    assert_eq!(
        text.lines().filter(|line| line.contains("\"decision\"")).count(),
        3,
        "{text}"
    );
    assert!(stderr(&output).contains("I! 3 decisions"));
}
