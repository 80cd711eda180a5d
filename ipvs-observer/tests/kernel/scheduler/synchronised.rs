//! Connections that another director tells of.

use std::collections::BTreeMap;

use ipvs_observer::{
    model::{BegunBy, Outcome, Traced},
    probe::Tell,
};

use super::{
    Watch,
    defence::wait_for,
    ends::told,
    modprobe, named,
    namespaces::Elsewhere,
    trace::{ROOM, telling},
};
use crate::{ipvsadm, support::child::shell, traffic};

const RULES: &str = "-A -u 10.9.0.1:7530 -s rr
-a -u 10.9.0.1:7530 -r 10.8.0.1:7000 -m
-A -t 10.9.0.1:7530 -s rr
-a -t 10.9.0.1:7530 -r 10.8.0.1:7000 -m\n";

/// This namespace as the backup of another director, until it is dropped.
struct Backup;

impl Backup {
    fn start() -> Self {
        shell(
            "ip link add sync0 type veth peer name sync1; ip link set sync0 up; ip addr add 10.5.0.1/24 dev sync0",
        );
        ipvsadm::run(&["--start-daemon", "backup", "--mcast-interface", "sync0"]);
        Self
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ipvsadm")
            .args(["--stop-daemon", "backup"])
            .status();
        let _ = std::process::Command::new("ip")
            .args(["link", "del", "sync0"])
            .status();
    }
}

#[test]
fn connections_learnt_from_another_director_are_counted_and_told_once() {
    const TIMES: u64 = 6;
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore(RULES);
    let backup = Backup::start();
    for probes in [&mut watch.probes, &mut probes] {
        wait_for(probes, "ip_vs_proc_conn", true);
    }
    told(&mut probes);
    let own = std::process::id();
    let elsewhere = Elsewhere::during(move || {
        shell("ip link set lo up");
        traffic::addresses();
        // The other end comes here from the namespace that the process began in.
        let here = rustix::thread::gettid().as_raw_nonzero();
        shell(&format!(
            "nsenter --net=/proc/{own}/ns/net ip link set sync1 netns {here}
             ip link set sync1 up; ip addr add 10.5.0.2/24 dev sync1
             echo 1 0 >/proc/sys/net/ipv4/vs/sync_threshold"
        ));
        ipvsadm::restore(RULES);
        ipvsadm::run(&["--start-daemon", "master", "--mcast-interface", "sync1"]);
        traffic::serve_udp("10.8.0.1:7000");
        traffic::serve_tcp("10.8.0.1:7000");
        for _ in 0..TIMES {
            traffic::ask("10.9.0.1:7530");
            drop(traffic::connect("10.9.0.1:7530"));
        }
    });
    let mut begun = BTreeMap::new();
    for service in ["TCP 10.9.0.1:7530", "UDP 10.9.0.1:7530"] {
        let seen = watch.until(service, |seen| seen.begun_by_sync >= TIMES);
        assert_eq!((seen.begun_by_sync, seen.picks), (TIMES, 0), "{service}");
        begun.insert(service.to_owned(), TIMES);
    }
    let mut seen = BTreeMap::new();
    for event in told(&mut probes) {
        let Traced::Decision(decision) = event else {
            panic!("{event:?}");
        };
        assert_eq!(
            (decision.outcome, decision.begun_by),
            (Outcome::Elsewhere, Some(BegunBy::Sync))
        );
        let destination = decision.destination.expect("the same server is here");
        assert_eq!(destination.key.to_string(), "10.8.0.1:7000");
        *seen.entry(named(&decision.service)).or_insert(0) += 1;
    }
    assert_eq!(seen, begun);
    elsewhere.end();
    drop(backup);
    wait_for(&mut watch.probes, "ip_vs_proc_conn", false);
    ipvsadm::run(&["-C"]);
}
