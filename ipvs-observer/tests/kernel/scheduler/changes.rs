//! Who changed the table.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use ipvs_observer::model::Action;

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
    let change = changes[0];
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
            (Action::DeleteService, None, None),
        ]
    );
}
