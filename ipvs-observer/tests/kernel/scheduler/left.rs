//! What a change leaves behind: how much, and what then becomes of it.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::model::{Action, Change, Netns, Remaining};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{Watch, around::Setting, client, endpoint, packets, rules};
use crate::{ipvsadm, support::child::shell, traffic};

/// What each real server has, as `ipvsadm` counts it.
fn judged(service: &str) -> BTreeMap<String, Remaining> {
    let table = ipvsadm::list(&["--persistent-conn"]);
    let servers = table[service].destinations.iter();
    servers
        .map(|(name, words)| {
            let [_, templates, active, inactive] = ipvsadm::numbers(words)[..] else {
                panic!("{name}: {words:?}");
            };
            let [templates, active, inactive] =
                [templates, active, inactive].map(|count| u32::try_from(count).expect("few"));
            let remaining = Remaining {
                active,
                inactive,
                templates,
            };
            (name.clone(), remaining)
        })
        .collect()
}

fn run(command: &str) {
    ipvsadm::run(&command.split(' ').collect::<Vec<_>>());
}

/// What the one change that a command makes says.
fn change(watch: &mut Watch, command: &str) -> Change {
    watch.read();
    run(command);
    let changes = &watch.read().changes;
    assert_eq!(changes.len(), 1, "{command}: {changes:?}");
    changes[0].clone()
}

fn wait_until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(10), "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn each_change_tells_what_the_kernel_counts_of_each_real_server() {
    let Some(mut watch) = Watch::whole() else { return };
    let _zero = Setting::set("expire_nodest_conn", "0");
    ipvsadm::restore(&rules("-t 10.9.0.1:7063", "rr", [1, 1, 1]));
    ipvsadm::run(&["-d", "-t", "10.9.0.1:7063", "-r", "10.8.0.3:7000"]);
    let open = client::connect("10.9.0.1:7063", 5);
    drop(client::connect("10.9.0.1:7063", 4));
    wait_until("the connections that are closed are inactive", || {
        judged("TCP 10.9.0.1:7063")
            .values()
            .map(|left| left.inactive)
            .sum::<u32>()
            == 4
    });
    let before = judged("TCP 10.9.0.1:7063");
    assert_eq!(before.values().map(|left| left.active).sum::<u32>(), 5);
    let drained = change(&mut watch, "-e -t 10.9.0.1:7063 -r 10.8.0.1:7000 -m -w 0");
    assert_eq!(drained.remaining, Some(before["10.8.0.1:7000"]));
    assert!(drained.left.starts_with("connections go on"), "{drained:?}");
    watch.read();
    run("-D -t 10.9.0.1:7063");
    let changes = watch.read().changes.clone();
    let actions: Vec<_> = changes.iter().map(|change| change.action).collect();
    assert_eq!(
        actions,
        [
            Action::DeleteDestination,
            Action::DeleteDestination,
            Action::DeleteService
        ]
    );
    let told: BTreeMap<_, _> = changes[..2]
        .iter()
        .map(|change| {
            assert!(
                change.left.starts_with("packets of connections are dropped"),
                "{change:?}"
            );
            assert!(!change.left.contains("added again"), "{change:?}");
            let name = change.destination.as_ref().map(endpoint).expect("a destination");
            (name, change.remaining.expect("it is known"))
        })
        .collect();
    assert_eq!(told, before);
    assert_eq!(changes[2].destination, None);
    drop(open);
}

#[test]
fn templates_are_told_and_go_on_sending_clients_to_a_drained_server_unless_they_expire() {
    let Some(mut watch) = Watch::whole() else { return };
    let _kept = Setting::set("expire_quiescent_template", "0");
    ipvsadm::restore("-A -u 10.9.0.1:7064 -s rr -p 300\n-a -u 10.9.0.1:7064 -r 10.8.0.1:7000 -m\n");
    packets::from_many(20, 3000, "10.9.0.1:7064");
    let before = judged("UDP 10.9.0.1:7064");
    assert_eq!(before["10.8.0.1:7000"].templates, 20);
    let drained = change(&mut watch, "-e -u 10.9.0.1:7064 -r 10.8.0.1:7000 -m -w 0");
    assert_eq!(drained.remaining, Some(before["10.8.0.1:7000"]));
    assert!(
        drained.left.contains("(expire_quiescent_template=0)"),
        "{drained:?}"
    );
    let given = |watch: &mut Watch| {
        watch.read();
        let counted = watch.service("UDP 10.9.0.1:7064");
        (counted.template_hits, counted.none)
    };
    packets::from_many(20, 3001, "10.9.0.1:7064");
    assert_eq!(given(&mut watch), (20, 0));
    let _expire = Setting::set("expire_quiescent_template", "1");
    let back = change(&mut watch, "-e -u 10.9.0.1:7064 -r 10.8.0.1:7000 -m -w 1");
    assert_eq!(back.left, "all go on");
    let drained = change(&mut watch, "-e -u 10.9.0.1:7064 -r 10.8.0.1:7000 -m -w 0");
    assert!(
        drained.left.contains("(expire_quiescent_template=1)"),
        "{drained:?}"
    );
    packets::from_many(20, 3002, "10.9.0.1:7064");
    assert_eq!(given(&mut watch), (20, 20));
}

#[test]
fn what_ends_with_its_namespace_says_so() {
    let Some(mut watch) = Watch::whole() else { return };
    let there = thread::spawn(|| {
        // SAFETY: the namespace of the network is no memory and no file descriptor of anybody.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root may");
        shell("ip link set lo up");
        traffic::addresses();
        ipvsadm::restore("-A -u 10.9.0.1:7066 -s rr\n-a -u 10.9.0.1:7066 -r 10.8.0.1:7000 -m\n");
        packets::from_many(3, 3000, "10.9.0.1:7066");
        let namespace = std::fs::metadata("/proc/thread-self/ns/net").expect("a namespace");
        Netns(namespace.ino() as u32)
    });
    let there = there.join().expect("the other namespace");
    let begin = Instant::now();
    let deletion = loop {
        let mut changes = watch.read().changes.iter();
        let gone = |change: &&Change| change.netns == there && change.action == Action::DeleteDestination;
        if let Some(change) = changes.find(gone) {
            break change.clone();
        }
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "the kernel takes it away"
        );
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(deletion.left, "all end with the network namespace");
    assert_eq!(deletion.remaining.map(|left| left.inactive), Some(3));
}

const ADD: &str = "-a -t 10.9.0.1:7065 -r 10.8.0.1:7000 -m -w 1";
const DELETE: &str = "-d -t 10.9.0.1:7065 -r 10.8.0.1:7000";

/// Says something on a connection, and what comes back of it within a second.
fn answer(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    let second = Some(Duration::from_secs(1));
    stream.set_read_timeout(second).expect("a timeout");
    let _ = stream.write_all(b"still there?");
    stream.read(&mut [0; 64]).map_err(|error| error.kind())
}

#[test]
fn connections_of_a_deleted_server_hang_until_it_is_added_again_or_are_reset_at_once() {
    let Some(mut watch) = Watch::whole() else { return };
    let _hang = Setting::set("expire_nodest_conn", "0");
    ipvsadm::restore(&format!("-A -t 10.9.0.1:7065 -s rr\n{ADD}\n"));
    let mut open = client::connect("10.9.0.1:7065", 2);
    let deletion = change(&mut watch, DELETE);
    let two = Remaining {
        active: 2,
        ..Remaining::default()
    };
    assert_eq!(deletion.remaining, Some(two));
    assert_eq!((deletion.weight_before, deletion.weight_after), (Some(1), None));
    assert!(
        deletion.left.contains("dropped") && deletion.left.contains("(expire_nodest_conn=0)"),
        "{deletion:?}"
    );
    assert_eq!(answer(&mut open[0]), Err(ErrorKind::WouldBlock));
    assert_eq!(ipvsadm::connections("TCP 10.9.0.1:7065"), 2);
    let addition = change(&mut watch, ADD);
    assert_eq!(addition.remaining, Some(two));
    assert_eq!(addition.left, "what it had before it was deleted goes on");
    assert!(answer(&mut open[1]).is_ok_and(|length| length > 0));
    let _end = Setting::set("expire_nodest_conn", "1");
    let deletion = change(&mut watch, DELETE);
    assert_eq!(deletion.remaining, Some(two));
    assert!(
        deletion.left.starts_with("all are ended at once") && deletion.left.contains("reset"),
        "{deletion:?}"
    );
    wait_until("no entries", || ipvsadm::connections("TCP 10.9.0.1:7065") == 0);
    assert_eq!(answer(&mut open[1]), Err(ErrorKind::ConnectionReset));
    let nothing = change(&mut watch, ADD);
    assert_eq!(nothing.left, "");
    let nothing = change(&mut watch, DELETE);
    assert_eq!(
        (nothing.remaining, nothing.left.as_str()),
        (Some(Remaining::default()), "nothing")
    );
}
