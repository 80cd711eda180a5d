//! What is missing is told by its name: as a row, as a reason, by the exit.

use std::{fs, process::Command};

use rustix::fs::{XattrFlags, setxattr};
use serde_json::Value;

use super::{NET_ADMIN, Paranoid, SYS_ADMIN, THREE, USER, as_user, run, shell, soon, stderr, threads};
use crate::{
    abilities::{telling, version},
    netns::Collect,
    observer::{self, only},
    states,
    support::lines,
};

/// The rows of `check`, and its exit status.
fn check(mut command: Command) -> (Vec<Value>, Option<i32>) {
    let output = command.output().expect("a command");
    let rows = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (rows, output.status.code())
}

fn row<'a>(rows: &'a [Value], need: &str) -> &'a Value {
    let found = rows.iter().find(|row| row["need"] == need);
    found.unwrap_or_else(|| panic!("no row {need}: {rows:?}"))
}

const CHECK: [&str; 3] = ["check", "--format", "json"];

#[test]
fn each_capability_left_out_is_a_row_a_reason_and_never_the_end_of_what_works() {
    let _setting = Paranoid::at("2");
    shell("modprobe ip_vs; modprobe ip_vs_rr");
    super::serve(7086);
    let whole = telling();
    let (rows, code) = check(as_user(&THREE, &CHECK));
    assert_eq!(code, Some(i32::from(!whole)), "{rows:?}");
    assert_eq!(row(&rows, "collect --netns")["state"], "optional");
    for left_out in THREE {
        let others: Vec<_> = THREE.into_iter().filter(|name| *name != left_out).collect();
        let name = format!("CAP_{}", left_out.to_uppercase());
        let (rows, code) = check(as_user(&others, &CHECK));
        assert_eq!(code, Some(1));
        for capability in THREE.map(|name| format!("CAP_{}", name.to_uppercase())) {
            let state = if capability == name { "missing" } else { "ok" };
            assert_eq!(row(&rows, &capability)["state"], state, "{capability}");
        }
        let missing = row(&rows, &name);
        assert_ne!(missing["consequence"], "");
        let (detail, remedy) = (missing["detail"].to_string(), missing["remedy"].to_string());
        assert!(detail.contains("not in effect"), "{detail}");
        for words in [
            "AmbientCapabilities=",
            "CapabilityBoundingSet=",
            "setcap",
            "--cap-add",
            "securityContext",
        ] {
            assert!(remedy.contains(words), "{remedy}");
        }

        let (args, status): (&[&str], _) = if left_out == "net_admin" {
            (&["collect", "--once"], "unavailable")
        } else {
            (&["collect", "--count", "1", "--interval", "100ms"], "degraded")
        };
        let output = run(as_user(&others, args));
        assert!(output.status.success(), "{output:?}");
        let lines = lines::parse(&String::from_utf8(output.stdout.clone()).expect("text"));
        let state = only(&lines, "ipvs_observer");
        assert_eq!(state.text("status"), status);
        // Where there is no layout of IPVS, that is the first reason.
        if whole || left_out != "perfmon" {
            assert!(state.text("reason").contains(&name), "{}", state.text("reason"));
            let messages = stderr(&output);
            assert_eq!(messages.lines().count(), 1, "{messages}");
            assert!(
                messages.contains(&name) && messages.contains("AmbientCapabilities="),
                "{messages}"
            );
        }
        assert_eq!(
            lines.iter().any(|line| line.measurement == "ipvs_virtual_server"),
            left_out != "net_admin"
        );
        if left_out != "net_admin" {
            for wanted in [&["trace"][..], &["collect", "--probes", "on", "--count", "1"]] {
                let output = run(as_user(&others, wanted));
                assert_eq!(output.status.code(), Some(1), "{output:?}");
                assert!(!whole || stderr(&output).contains(&name), "{output:?}");
            }
        }
    }
}

#[test]
fn a_kernel_that_wants_more_for_performance_events_is_told_with_what_mends_it() {
    let _setting = Paranoid::at("3");
    shell("modprobe ip_vs");
    let (rows, _) = check(as_user(&THREE, &CHECK));
    let events = row(&rows, "performance events");
    let probe = row(&rows, "probe: ip_vs_schedule");
    // Some kernels open them to CAP_PERFMON at any level.
    assert_eq!(probe["state"], events["state"]);
    let refused = events["state"] == "missing";
    for row in [probe, events] {
        assert_eq!(
            row["detail"]
                .to_string()
                .contains("perf_event_paranoid is 3, at which"),
            refused
        );
        assert_eq!(
            row["remedy"].to_string().contains("kernel.perf_event_paranoid=2"),
            refused
        );
    }
    // The remedy is the same for whoever lacks CAP_PERFMON too: what this kernel wants at that level is not known then.
    let (rows, _) = check(as_user(&["net_admin", "bpf"], &CHECK));
    let without = row(&rows, "performance events");
    assert_eq!(without["state"], "missing");
    assert!(!refused || without["remedy"] == events["remedy"], "{without}");
    for words in ["give CAP_PERFMON", "kernel.perf_event_paranoid=2"] {
        assert!(without["remedy"].to_string().contains(words), "{without}");
    }
    // Root keeps the older capability for it where it must, and there alone.
    let mut collect = Collect::of(observer::command(&["collect", "--trigger", "stdin"]));
    collect.gather(1);
    let held = threads(collect.child.id());
    let admin = held.iter().any(|thread| thread.set("CapEff") & SYS_ADMIN != 0);
    assert_eq!(admin, refused);
    collect.end();
}

#[test]
fn below_that_level_the_remedy_is_the_capability_alone() {
    let _setting = Paranoid::at("2");
    shell("modprobe ip_vs");
    let (rows, _) = check(as_user(&["net_admin", "bpf"], &CHECK));
    let events = row(&rows, "performance events");
    assert_eq!(events["state"], "missing");
    assert_eq!(events["remedy"], row(&rows, "CAP_PERFMON")["remedy"]);
    assert!(!events["remedy"].to_string().contains("paranoid"), "{events}");
}

/// The oldest kernel takes maps from the locked memory; the others do not ask for it.
#[test]
fn too_little_locked_memory_is_told_once_and_named_for_what_it_is() {
    let _setting = Paranoid::at("2");
    states::unload();
    let limited = |args: &[&str]| {
        let inner = as_user(&THREE, args);
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -l 64; exec \"$@\"", "sh"])
            .arg(inner.get_program())
            .args(inner.get_args());
        command
    };
    let mut collect = Collect::of(limited(&["collect", "--trigger", "stdin"]));
    collect.gather(1);
    let reason = |collect: &mut Collect| {
        let lines = collect.gather(1);
        only(&lines, "ipvs_observer").text("reason").to_owned()
    };
    shell("modprobe ip_vs");
    assert!(soon(|| !reason(&mut collect).contains("attached or taken away")
        && !reason(&mut collect).contains("not loaded")));
    let first = reason(&mut collect);
    for scheduler in ["rr", "wrr", "lc"] {
        shell(&format!("modprobe ip_vs_{scheduler}"));
        for _ in 0..3 {
            assert_eq!(reason(&mut collect), first, "{scheduler}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
    let messages = collect.end();
    let (rows, _) = check(limited(&CHECK));
    if !first.contains("not permitted to load BPF programs") {
        assert!(
            version() > (5, 10),
            "this kernel takes maps from the locked memory: {first}"
        );
        assert!(!messages.contains("locked memory"), "{messages}");
        return;
    }
    let warnings: Vec<_> = messages.lines().filter(|line| line.starts_with("W! ")).collect();
    let [warning] = warnings[..] else {
        panic!("not one warning: {messages}");
    };
    for words in ["locked memory, here 64 KiB", "nothing is counted", "LimitMEMLOCK"] {
        assert!(warning.contains(words), "{warning}");
    }
    assert!(
        !messages.contains("only calls") && !warning.contains("BTF"),
        "{messages}"
    );
    let refused = row(&rows, "probe: BPF programs");
    assert_eq!(refused["state"], "missing");
    assert!(
        rows.iter().all(|row| row["need"] != "probe: BTF of ip_vs"),
        "{rows:?}"
    );
    assert!(!serde_json::to_string(&rows).expect("text").contains("only calls"));
}

#[test]
fn capabilities_of_a_user_namespace_are_told_from_those_that_count() {
    shell("modprobe ip_vs");
    let mut command = Command::new("unshare");
    let (rows, code) = check({
        command.args(["-U", "-r", "ipvs-observer"]).args(CHECK);
        command
    });
    assert_eq!(code, Some(1));
    for capability in ["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"] {
        let row = row(&rows, capability);
        assert_eq!(row["state"], "missing");
        let (detail, remedy) = (row["detail"].to_string(), row["remedy"].to_string());
        assert!(detail.contains("does not count"), "{detail}");
        assert!(remedy.contains("hostUsers"), "{remedy}");
    }
}

/// A copy of the program that has capabilities as `setcap` gives them: `struct vfs_cap_data`, version 2.
fn with_capabilities(path: &str, capabilities: u64) {
    fs::copy("/usr/local/bin/ipvs-observer", path).expect("a copy");
    let effective: u32 = 0x0200_0001;
    let (low, high) = (capabilities as u32, (capabilities >> 32) as u32);
    let bytes: Vec<u8> = [effective, low, 0, high, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    setxattr(path, "security.capability", &bytes, XattrFlags::empty()).expect("root may");
}

#[test]
fn a_file_with_capabilities_loads_the_module_and_then_cannot_any_more() {
    const SYS_MODULE: u64 = 1 << 16;
    let program = "/tmp/ipvs-observer-with-capabilities";
    let as_anybody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={USER}"), format!("--regid={USER}")])
            .args(["--clear-groups", program])
            .args(args);
        command
    };
    states::unload();
    with_capabilities(program, NET_ADMIN);
    let output = run(as_anybody(&["collect", "--once", "--load-module"]));
    assert!(output.status.success(), "{output:?}");
    let messages = stderr(&output);
    assert!(messages.contains("CAP_SYS_MODULE is not in effect"), "{messages}");
    assert!(messages.contains("cap_sys_module+ep"), "{messages}");

    with_capabilities(program, NET_ADMIN | SYS_MODULE);
    let mut collect = Collect::of(as_anybody(&[
        "collect",
        "--load-module",
        "--probes",
        "off",
        "--trigger",
        "stdin",
    ]));
    let lines = collect.gather(1);
    assert_eq!(only(&lines, "ipvs_observer").text("status"), "ok");
    assert!(soon(
        || fs::read_to_string("/proc/modules").is_ok_and(|list| list.contains("ip_vs "))
    ));
    for thread in threads(collect.child.id()) {
        assert_eq!(thread.set("CapPrm") & SYS_MODULE, 0);
    }
    assert_eq!(collect.end(), "");
    fs::remove_file(program).expect("it is there");
}
