//! Persistence: who decided, whatever came before.

use std::{
    collections::BTreeSet,
    net::UdpSocket,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::{
    model::{Activity, Decision, Outcome, ServiceActivity},
    probe::{ProbeSettings, Probes, Tell},
};

use super::{
    Watch,
    around::Setting,
    client, modprobe,
    namespaces::Elsewhere,
    own_netns, packets, rules,
    trace::{ROOM, telling, told},
};
use crate::{abilities::lacking, ipvsadm, soak::footprint, support::child::shell, traffic};

/// More than there is room for in the maps of what is under way.
const MANY: u16 = 4500;

/// Probes of this namespace alone.
fn of_this_namespace() -> Probes {
    Probes::attach(&ProbeSettings {
        namespaces: vec![own_netns()],
        ..ProbeSettings::default()
    })
}

/// Picks and template hits of this namespace's only service.
fn counted(probes: &mut Probes) -> (u64, u64) {
    let mut activity = Activity::default();
    probes.read(&mut activity);
    assert_eq!(activity.probes.turned_away, 0);
    assert!(activity.services.len() < 2, "{:?}", activity.services.keys());
    let sum =
        |sum: (u64, u64), service: &ServiceActivity| (sum.0 + service.picks, sum.1 + service.template_hits);
    activity.services.values().fold((0, 0), sum)
}

/// Nothing is left of any call in maps that are not `others`'.
fn nothing_under_way(others: &BTreeSet<u64>) {
    let left: Vec<_> = footprint::entries(others)
        .into_iter()
        .filter(|(name, count)| {
            *count > 0 && !name.starts_with("SERVICES") && !name.starts_with("DESTINATIONS")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn templates_of_a_namespace_that_nobody_observes_leave_nothing_behind() {
    if Watch::whole().is_none() {
        return;
    }
    let others = footprint::maps();
    let mut probes = of_this_namespace();
    ipvsadm::restore(&rules("-u 10.9.0.1:7080 -p 300", "rr", [1, 1, 1]));
    client::ask("10.9.0.1:7080", 1);
    assert_eq!(counted(&mut probes), (1, 0));
    let elsewhere = Elsewhere::during(|| {
        shell("ip link set lo up");
        traffic::addresses();
        ipvsadm::restore("-A -u 10.9.0.1:7080 -s rr -p 300\n-a -u 10.9.0.1:7080 -r 10.8.0.1:7000 -m\n");
        for port in [3000, 3001] {
            packets::from_many(MANY, port, "10.9.0.1:7080");
        }
        let begin = Instant::now();
        // Some kernels copy their counters every two seconds only.
        while ipvsadm::list(&["--stats", "--exact"])["UDP 10.9.0.1:7080"].numbers()[0] == 0 {
            assert!(
                begin.elapsed() < Duration::from_secs(6),
                "the kernel schedules there"
            );
            thread::sleep(Duration::from_millis(200));
        }
    });
    client::ask("10.9.0.1:7080", 6);
    assert_eq!(counted(&mut probes), (1, 6));
    elsewhere.end();
    nothing_under_way(&others);
}

#[test]
fn templates_of_connections_that_fail_leave_nothing_behind() {
    let most = Path::new("/proc/sys/net/ipv4/vs/conn_max");
    // Only the kernel's own limit makes connections fail when a test wants them to.
    if Watch::whole().is_none() || lacking("limit on connections", most.exists()) {
        return;
    }
    let others = footprint::maps();
    let mut probes = of_this_namespace();
    let unlimited = std::fs::read_to_string(most).expect("a number");
    ipvsadm::restore(&rules("-u 10.9.0.1:7081 -p 300", "rr", [1, 1, 1]));
    packets::from_many(10, 3000, "10.9.0.1:7081");
    assert_eq!(counted(&mut probes), (10, 0));
    let connections = ipvsadm::run(&["-L", "-n", "-c"]).lines().count();
    std::fs::write(most, "20").expect("a limit below what there is");
    for port in 3001..3001 + MANY / 10 {
        packets::from_many(10, port, "10.9.0.1:7081");
    }
    let (picks, hits) = counted(&mut probes);
    assert_eq!(picks, 10);
    assert!(hits < u64::from(MANY) / 10, "they fail: {hits} of {connections}");
    std::fs::write(most, unlimited).expect("no limit again");
    for port in 9001..9021 {
        packets::from_many(10, port, "10.9.0.1:7081");
    }
    assert_eq!(counted(&mut probes), (10, hits + 200));
    nothing_under_way(&others);
}

#[test]
fn no_template_is_taken_for_a_pick_while_probes_are_being_attached() {
    if Watch::whole().is_none() {
        return;
    }
    ipvsadm::restore(&rules("-u 10.9.0.1:7082 -p 300", "rr", [1, 1, 1]));
    client::ask("10.9.0.1:7082", 1);
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let load = thread::spawn(move || {
        client::run(move || {
            while !told.load(Ordering::Relaxed) {
                let socket = UdpSocket::bind("10.7.0.2:0").expect("a socket");
                let _ = socket.send_to(b"anybody?", "10.9.0.1:7082");
            }
        });
    });
    let sums = [(); 2].map(|()| {
        let mut probes = of_this_namespace();
        let begin = Instant::now();
        loop {
            let sum = counted(&mut probes);
            if sum.1 > 100 || begin.elapsed() > Duration::from_secs(20) {
                return sum;
            }
        }
    });
    done.store(true, Ordering::Relaxed);
    load.join().expect("the load ends");
    assert!(
        sums.iter().all(|(picks, hits)| *picks == 0 && *hits > 100),
        "{sums:?}"
    );
}

#[test]
fn a_decision_says_why_a_template_was_given_up() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    assert!(modprobe("ip_vs_rr"));
    let drained = Setting::set("expire_quiescent_template", "1");
    ipvsadm::restore(&rules("-u 10.9.0.1:7083 -p 300", "rr", [1, 1, 1]));
    told(&mut probes);
    let ask = |probes: &mut _| {
        client::ask("10.9.0.1:7083", 2);
        let (decisions, lost) = told(probes);
        assert!(lost.is_nothing() && decisions.len() == 2, "{decisions:?}");
        let [first, second] = [0, 1].map(|place| {
            let decision: &Decision = &decisions[place];
            let destination = decision.destination.expect("one of three");
            (
                decision.outcome,
                decision.reason.clone(),
                destination.key.to_string(),
            )
        });
        // The second is decided by the template that the first made.
        assert_eq!(second, (Outcome::Template, String::new(), first.2.clone()));
        first
    };
    let (outcome, reason, server) = ask(&mut probes);
    assert_eq!((outcome, reason.as_str()), (Outcome::Scheduled, ""));
    let of = ["-u", "10.9.0.1:7083", "-r"];
    ipvsadm::run(&[&["-e"], &of[..], &[&server, "-m", "-w", "0"]].concat());
    let (outcome, reason, next) = ask(&mut probes);
    assert_eq!(outcome, Outcome::Scheduled);
    assert_eq!(
        reason,
        "the real server of this client's template has weight 0 (net.ipv4.vs.expire_quiescent_template is on)"
    );
    assert_ne!(next, server);
    ipvsadm::run(&[&["-d"], &of[..], &[&next]].concat());
    let (outcome, reason, last) = ask(&mut probes);
    assert_eq!(outcome, Outcome::Scheduled);
    assert_eq!(reason, "the real server of this client's template was removed");
    assert!(last != next && last != server);
    drop(drained);
}
