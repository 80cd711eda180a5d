//! Who changed the table.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use ipvs_observer::model::{Action, Change};

use super::{Watch, endpoint, named, own_netns};
use crate::ipvsadm;

#[test]
fn a_change_names_what_was_before_and_the_process_and_script_that_made_it() {
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::restore("-A -t 10.9.0.1:7060 -s rr\n-a -t 10.9.0.1:7060 -r 10.8.0.1:7000 -m -w 5\n");
    watch.read();
    fs::write(
        "/tmp/drain.sh",
        "#!/bin/sh\nipvsadm -e -t 10.9.0.1:7060 -r 10.8.0.1:7000 -m -w 0\nexit $?\n",
    )
    .expect("written");
    fs::set_permissions("/tmp/drain.sh", fs::Permissions::from_mode(0o755)).expect("executable");
    assert!(Command::new("/tmp/drain.sh").status().expect("it runs").success());
    let changes = watch.read().changes.clone();
    assert_eq!(changes.len(), 1, "{changes:?}");
    let change = &changes[0];
    assert_eq!(change.action, Action::EditDestination);
    assert_eq!(change.netns, own_netns());
    assert_eq!(named(&change.service), "TCP 10.9.0.1:7060");
    assert_eq!(
        change.destination.as_ref().map(endpoint).as_deref(),
        Some("10.8.0.1:7000")
    );
    assert_eq!((change.weight_before, change.weight_after), (Some(5), Some(0)));
    assert_eq!(
        (change.comm.as_str(), change.parent_comm.as_str()),
        ("ipvsadm", "drain.sh")
    );
    assert!(change.pid > 0 && change.parent_pid > 0 && change.pid != change.parent_pid);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock");
    assert!(
        u64::try_from(now.as_nanos())
            .expect("this century")
            .abs_diff(change.time)
            < 60_000_000_000
    );
}

#[test]
fn every_kind_of_change_is_told_once_and_what_fails_is_not() {
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::run(&["-C"]);
    watch.read();
    for line in [
        "-A -f 9 -s rr",
        "-E -f 9 -s wrr",
        "-a -f 9 -r 10.8.0.1 -g -w 2",
        "-e -f 9 -r 10.8.0.1 -g -w 70000",
        "-d -f 9 -r 10.8.0.1",
        "-a -f 9 -r 10.8.0.1 -g",
        "-a -f 9 -r 10.8.0.2 -g",
        "-D -f 9",
    ] {
        ipvsadm::run(&line.split(' ').collect::<Vec<_>>());
    }
    for failing in ["-d -f 9 -r 10.8.0.1", "-D -f 9", "-E -f 8 -s rr"] {
        let output = Command::new("ipvsadm")
            .args(failing.split(' '))
            .output()
            .expect("ipvsadm");
        assert!(!output.status.success(), "{failing}");
    }
    let told: Vec<_> = watch
        .read()
        .changes
        .iter()
        .map(|change| {
            assert_eq!(named(&change.service), "FWM 9");
            (change.action, change.weight_before, change.weight_after)
        })
        .collect();
    assert_eq!(
        told,
        [
            (Action::AddService, None, None),
            (Action::EditService, None, None),
            (Action::AddDestination, None, Some(2)),
            (Action::EditDestination, Some(2), Some(70000)),
            (Action::DeleteDestination, Some(70000), None),
            (Action::AddDestination, None, Some(1)),
            (Action::AddDestination, None, Some(1)),
            (Action::DeleteDestination, Some(1), None),
            (Action::DeleteDestination, Some(1), None),
            (Action::DeleteService, None, None),
        ]
    );
}

/// Does one thing after the other with `ipvsadm`, and holds against what was told of each.
fn each_says(watch: &mut Watch, steps: &[(&str, &str)]) {
    watch.read();
    for (command, expected) in steps {
        ipvsadm::run(&command.split(' ').collect::<Vec<_>>());
        let changes = &watch.read().changes;
        let words: Vec<_> = changes.iter().map(Change::changed_words).collect();
        assert_eq!(words, [Some((*expected).to_owned())], "{command}: {changes:?}");
    }
}

#[test]
fn an_edit_of_a_service_says_what_was_and_what_is() {
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::run(&["-C"]);
    let steps = [
        ("-A -t 10.9.0.1:7061 -s rr", "scheduler rr"),
        ("-E -t 10.9.0.1:7061 -s wlc", "scheduler rr -> wlc"),
        ("-E -t 10.9.0.1:7061 -s wlc -p 60", "persistence timeout 0 -> 60"),
        ("-E -t 10.9.0.1:7061 -s wlc -p 60", "nothing changed"),
        (
            "-E -t 10.9.0.1:7061 -s wlc -p 90 -M 255.255.255.0",
            "persistence timeout 60 -> 90, netmask 32 -> 24",
        ),
        (
            "-E -t 10.9.0.1:7061 -s sh -b sh-fallback,sh-port",
            "scheduler wlc -> sh, flags none -> sh-fallback,sh-port, persistence timeout 90 -> 0, netmask 24 -> 32",
        ),
        ("-E -t 10.9.0.1:7061 -s sh", "flags sh-fallback,sh-port -> none"),
        (
            "-A -u 10.9.0.1:7061 -s rr -p 60 --pe sip",
            "scheduler rr, persistence timeout 60, persistence engine sip",
        ),
        (
            "-E -u 10.9.0.1:7061 -s rr -p 60",
            "persistence engine sip -> none",
        ),
        (
            "-E -u 10.9.0.1:7061 -s rr -o",
            "flags none -> ops, persistence timeout 60 -> 0",
        ),
        (
            "-A -t [fd00:9::1]:7061 -s rr -p 60 -M 64",
            "scheduler rr, persistence timeout 60, netmask 64",
        ),
        ("-E -t [fd00:9::1]:7061 -s rr -p 60", "netmask 64 -> 128"),
    ];
    each_says(&mut watch, &steps);
}

#[test]
fn an_edit_of_a_real_server_says_what_was_and_what_is() {
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::restore("-A -t 10.9.0.1:7062 -s rr\n");
    let server = "-t 10.9.0.1:7062 -r 10.8.0.1:7062";
    let steps = [
        ("-a", "-m -w 2", "weight 2, forward masq"),
        ("-e", "-m -w 5", "weight 2 -> 5"),
        (
            "-e",
            "-m -w 5 -x 10 -y 5",
            "upper threshold 0 -> 10, lower threshold 0 -> 5",
        ),
        ("-e", "-g -w 5 -x 10 -y 5", "forward masq -> droute"),
        ("-e", "-g -w 5 -x 10 -y 5", "nothing changed"),
        (
            "-e",
            "-i -w 5 --tun-type gue --tun-port 6080",
            "forward droute -> tunnel, tunnel none -> gue port 6080, upper threshold 10 -> 0, lower threshold 5 -> 0",
        ),
        (
            "-e",
            "-i -w 5 --tun-type gre --tun-csum",
            "tunnel gue port 6080 -> gre csum",
        ),
        (
            "-e",
            "-m -w 0",
            "weight 5 -> 0, forward tunnel -> masq, tunnel gre csum -> none",
        ),
    ];
    let steps = steps.map(|(verb, how, expected)| (format!("{verb} {server} {how}"), expected));
    let steps: Vec<_> = steps
        .iter()
        .map(|(command, expected)| (command.as_str(), *expected))
        .collect();
    each_says(&mut watch, &steps);
}
