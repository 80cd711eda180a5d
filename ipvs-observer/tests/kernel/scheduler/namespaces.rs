//! Whose traffic it is.

use std::{
    os::unix::fs::MetadataExt,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::{
    model::{Activity, Netns},
    probe::{ProbeSettings, Probes},
};

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{Watch, client::ask_from, own_netns, packets};
use crate::{ipvsadm, support::child::shell, traffic};

/// A network namespace of its own, with a table that must not outlive the test: sockets keep the namespace, and
/// its services would keep their modules.
pub(super) struct Elsewhere {
    pub(super) netns: Netns,
    finish: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Elsewhere {
    /// Does something there.
    pub(super) fn during(work: impl FnOnce() + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        let (finish, finished) = mpsc::channel();
        let thread = thread::spawn(move || {
            // SAFETY: the namespace of the network is no memory and no file descriptor of anybody.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root may");
            let namespace = std::fs::metadata("/proc/thread-self/ns/net").expect("a namespace");
            work();
            sender
                .send(Netns(namespace.ino() as u32))
                .expect("the test waits");
            // A test that failed is gone, and its table goes with it all the same.
            let _ = finished.recv();
            ipvsadm::run(&["-C"]);
            // A daemon keeps the module too, where there is one.
            let _ = Command::new("ipvsadm").args(["--stop-daemon", "master"]).output();
        });
        Self {
            netns: receiver.recv().expect("its number"),
            finish,
            thread,
        }
    }

    pub(super) fn end(self) {
        drop(self.finish);
        self.thread.join().expect("the other namespace");
    }
}

const RULES: &str = "-A -u 10.9.0.1:7070 -s rr
-a -u 10.9.0.1:7070 -r 10.8.0.1:7000 -m\n";

#[test]
fn the_same_service_in_two_namespaces_has_separate_numbers() {
    let Some(mut watch) = Watch::whole() else { return };
    let mut only_own = Probes::attach(&ProbeSettings {
        namespaces: vec![own_netns()],
        ..ProbeSettings::default()
    });
    ipvsadm::restore(RULES);
    let traffic = |times: usize, from: u16| {
        for index in 0..times {
            ask_from("10.9.0.1:7070", from + index as u16);
        }
    };
    traffic(3, 30000);
    let elsewhere = Elsewhere::during(move || {
        shell("ip link set lo up");
        traffic::addresses();
        traffic::serve_udp("10.8.0.1:7000");
        ipvsadm::restore(RULES);
        traffic(7, 30000);
    });
    let other = elsewhere.netns;
    assert_ne!(other, own_netns());
    watch.read();
    let service = |activity: &Activity, netns: Netns| -> u64 {
        let of_netns = activity.services.iter().filter(|((found, _), _)| *found == netns);
        of_netns.map(|(_, service)| service.picks).sum()
    };
    assert_eq!(service(&watch.activity, own_netns()), 3);
    assert_eq!(service(&watch.activity, other), 7);
    assert!(watch.activity.changes.iter().any(|change| change.netns == other));
    let mut activity = Activity::default();
    only_own.read(&mut activity);
    assert_eq!(service(&activity, own_netns()), 3);
    assert_eq!(service(&activity, other), 0);
    assert!(activity.changes.iter().all(|change| change.netns == own_netns()));
    elsewhere.end();
}

#[test]
fn counters_of_a_removed_real_server_go_when_the_kernel_lets_go_of_it() {
    let Some(mut watch) = Watch::whole() else { return };
    let elsewhere = Elsewhere::during(|| {
        shell("ip link set lo up");
        traffic::addresses();
        ipvsadm::restore("-A -u 10.9.0.1:7071 -s rr\n-a -u 10.9.0.1:7071 -r 10.8.0.1:7000 -m\n");
        packets::from_many(3, 3000, "10.9.0.1:7071");
        ipvsadm::run(&["-d", "-u", "10.9.0.1:7071", "-r", "10.8.0.1:7000"]);
    });
    let other = elsewhere.netns;
    let picks = |watch: &mut Watch| -> Vec<u64> {
        watch.read();
        let destinations = watch.activity.destinations.iter();
        let there = destinations.filter(|((netns, _, _), _)| *netns == other);
        there.map(|(_, activity)| activity.picks).collect()
    };
    assert_eq!(picks(&mut watch), [3]);
    // The kernel would keep it for minutes, but not longer than its namespace.
    elsewhere.end();
    let begin = Instant::now();
    while !picks(&mut watch).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is still there");
        thread::sleep(Duration::from_millis(200));
    }
}
