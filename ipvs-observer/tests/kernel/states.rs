//! What is missing is a state: said once, shown in the data, and over when it is over.

use std::{
    os::unix::process::CommandExt,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    faults::state,
    ipvsadm,
    observer::{self, of, only},
    support::{child::shell, lines},
    traffic,
    watched::Watched,
};

/// Takes IPVS out of the kernel with everything that uses it; false if something holds it.
pub fn try_unload() -> bool {
    let script = "ipvsadm -C 2>/dev/null || :
         for turn in 1 2 3; do
             for module in $(sed -n 's/^\\(ip_vs_[a-z_]*\\) .*/\\1/p' /proc/modules) ip_vs; do
                 rmmod $module 2>/dev/null || :
             done
         done
         ! grep '^ip_vs ' /proc/modules";
    let status = Command::new("sh").args(["-euc", script]).status();
    status.expect("sh").success()
}

pub fn unload() {
    assert!(try_unload(), "something holds it");
}

#[test]
fn an_absent_module_is_said_once_and_gathering_goes_on_when_it_comes() {
    unload();
    let watched = Watched::start(&["--interval", "200ms"]);
    for _ in 0..5 {
        watched.until("its absence", |gather| {
            state(gather) == ("unavailable", "ip_vs not loaded")
        });
    }
    assert_eq!(state(&watched.all()[0]).0, "unavailable");
    shell("modprobe ip_vs");
    traffic::addresses();
    ipvsadm::restore("-A -t 10.9.0.1:80 -s rr\n");
    watched.shown("the table", |gather| {
        state(gather).0 != "unavailable" && of(gather, "ipvs_virtual_server").count() == 1
    });
    let begin = Instant::now();
    let messages = watched.end();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(messages.matches("modprobe ip_vs").count(), 1, "{messages}");
    assert!(messages.starts_with("I! IPVS is not loaded"), "{messages}");
}

#[test]
fn looking_for_the_module_does_not_load_it() {
    unload();
    let lines = observer::gather(&[]);
    assert_eq!(only(&lines, "ipvs_observer").text("status"), "unavailable");
    assert_eq!(lines.len(), 1);
    shell("! grep -q '^ip_vs ' /proc/modules");
    shell("modprobe ip_vs");
}

#[test]
fn without_the_privilege_totals_are_gathered_and_the_remedy_is_said() {
    shell("modprobe ip_vs");
    ipvsadm::restore("-A -t 10.9.0.1:80 -s rr\n");
    // A user other than root, without any capability.
    let mut command = observer::command(&["collect", "--once"]);
    let output = command
        .uid(65534)
        .gid(65534)
        .output()
        .expect("ipvs-observer is in the lab's PATH");
    assert!(output.status.success(), "{output:?}");
    let lines = lines::parse(&String::from_utf8(output.stdout).expect("text"));
    let state = only(&lines, "ipvs_observer");
    assert_eq!(state.text("status"), "unavailable");
    assert_eq!(state.text("reason"), "not permitted (CAP_NET_ADMIN)");
    assert!(only(&lines, "ipvs").fields.contains_key("connections"));
    assert!(!only(&lines, "ipvs").fields.contains_key("virtual_servers"));
    let messages = String::from_utf8(output.stderr).expect("text");
    assert!(messages.contains("CAP_NET_ADMIN"), "{messages}");
}

#[test]
fn counters_that_stand_still_are_told() {
    shell("modprobe ip_vs");
    assert!(only(&observer::gather(&["--probes", "off"]), "ipvs").boolean("estimation"));
    let setting = "/proc/sys/net/ipv4/vs/run_estimation";
    if std::fs::write(setting, "0").is_ok() {
        let stopped = only(&observer::gather(&["--probes", "off"]), "ipvs").boolean("estimation");
        std::fs::write(setting, "1").expect("the setting is put back");
        assert!(!stopped);
    } else {
        // The oldest kernel of the matrix has no such setting, and always estimates.
        assert!(
            !std::path::Path::new(setting).exists(),
            "the setting is there and cannot be written"
        );
    }
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    shell("modprobe ip_vs");
    shell(
        "{ ipvs-observer collect --interval 100ms --probes off; echo $? >/tmp/status; } 2>/tmp/messages | head -n 1 >/dev/null
         test \"$(cat /tmp/status)\" = 0
         test ! -s /tmp/messages",
    );
}
