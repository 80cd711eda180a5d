//! Everything is as it was within two intervals of the usual length.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    abilities::{lacking_btf, telling},
    faults::{RULES, connections, in_the_kernel, picks, prepare, remove, state},
    ipvsadm,
    observer::{of, only, service},
    scheduler,
    support::{child::shell, lines::Line},
    watched::{PATIENCE, Watched},
};

/// The interval where none is asked for.
const USUAL: Duration = Duration::from_secs(10);
/// What a gather and the way of its lines take at most, beside the intervals.
const GATHER: Duration = Duration::from_secs(1);

/// Everything there is: the table, and all that this kernel allows of the probes.
fn everything(gather: &[Line], before: &[Line]) -> bool {
    let probes = |gather: &[Line]| {
        let line = only(gather, "ipvs_observer");
        line.fields
            .contains_key("probes")
            .then(|| (line.number("probes"), line.number("probes_missing")))
    };
    state(gather) == state(before)
        && probes(gather) == probes(before)
        && of(gather, "ipvs_real_server").count() == of(before, "ipvs_real_server").count()
}

/// Connections of each service and each real server, and their picks, from the next gather that has these.
fn agrees(watched: &Watched) {
    thread::sleep(Duration::from_millis(2500));
    let table = ipvsadm::list(&["--stats", "--exact"]);
    let told = |gather: &[Line]| {
        table.iter().all(|(name, entry)| {
            of(gather, "ipvs_virtual_server")
                .any(|line| service(line, "") == *name && line.number("schedule_picks") == entry.numbers()[0])
                && of(gather, "ipvs_real_server")
                    .filter(|line| service(line, "virtual_") == *name)
                    .all(|line| {
                        let to = format!("{}:{}", line.tag("address"), line.tag("port"));
                        line.number("picks") == ipvsadm::numbers(&entry.destinations[&to])[0]
                    })
        })
    };
    assert!(table.values().any(|entry| entry.numbers()[0] > 0));
    watched.shown("ipvsadm's numbers", told);
}

#[test]
fn at_the_usual_interval_everything_is_back_within_two_after_a_module_came() {
    const WEIGHTED: [&str; 2] = [
        "-A -u 10.9.0.1:7101 -s wrr",
        "-a -u 10.9.0.1:7101 -r 10.8.0.1:7101 -m -w 3",
    ];
    let add = || {
        for rule in WEIGHTED {
            ipvsadm::run(&rule.split(' ').collect::<Vec<_>>());
        }
    };
    // The modules of the two schedulers and no others come with their services, now and later.
    remove();
    prepare();
    add();
    let watched = Watched::start(&[]);
    let (before, _) = watched.shown("the probes", |gather| {
        of(gather, "ipvs_real_server").count() == 3 && (!telling() || picks(gather).is_some())
    });
    if telling() {
        assert_eq!(state(&before), ("ok", ""));
    }
    remove();
    watched.shown("its absence", |gather| state(gather).0 == "unavailable");
    let probes = |there: bool| {
        let begin = Instant::now();
        while (in_the_kernel().0 > 0) != there {
            assert!(begin.elapsed() < PATIENCE, "probes are there, or not: {}", !there);
            thread::sleep(Duration::from_millis(100));
        }
        begin.elapsed()
    };
    probes(false);
    // A gather has been a moment ago: the next two are far.
    let (begin, gathers) = (Instant::now(), watched.count());
    shell("modprobe ip_vs");
    ipvsadm::restore(RULES);
    add();
    println!("the first probe {:?} after the table", probes(true));
    assert_eq!(watched.count(), gathers, "the probes waited for a gather");
    let back = |what: &str, begin: Instant| {
        watched.shown(what, |gather| everything(gather, &before));
        let took = begin.elapsed();
        println!("{what} after {took:?}");
        assert!(took < 2 * USUAL + GATHER, "{took:?}");
    };
    back("everything", begin);
    if lacking_btf() {
        watched.end();
        ipvsadm::run(&["-C"]);
        return;
    }
    connections(20);
    agrees(&watched);

    // A scheduler's module.
    ipvsadm::run(&["-D", "-u", "10.9.0.1:7101"]);
    let begin = Instant::now();
    while !scheduler::rmmod("ip_vs_wrr") {
        assert!(begin.elapsed() < PATIENCE, "something holds it");
        thread::sleep(Duration::from_millis(200));
    }
    let begin = Instant::now();
    assert!(scheduler::modprobe("ip_vs_wrr"));
    add();
    back("the scheduler", begin);
    let weighted = |gather: &[Line]| {
        of(gather, "ipvs_virtual_server")
            .find(|line| line.tag("port") == "7101")
            .cloned()
    };
    for port in 1..=20 {
        let client = std::net::UdpSocket::bind(("0.0.0.0", 20_000 + port)).expect("a socket");
        client.send_to(b"one way", "10.9.0.1:7101").expect("sending");
    }
    let (gather, _) = watched.shown("its picks", |gather| {
        weighted(gather).is_some_and(|line| line.number("schedule_picks") == 20)
    });
    let line = weighted(&gather).expect("it was there");
    assert!(
        line.fields.contains_key("schedule_ns_p50"),
        "its probes are not there: {line:?}"
    );
    agrees(&watched);
    watched.end();
    ipvsadm::run(&["-C"]);
}
