//! Connections of a service that is deleted: what becomes of them, and who counts them.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::probe::Tell;

use super::{
    Watch,
    around::Setting,
    client,
    ends::{PATIENCE, Timeouts, close, ends, told},
    modprobe, named, rules,
    trace::{ROOM, telling},
};
use crate::ipvsadm;

#[test]
fn a_service_that_is_added_again_takes_over_the_connections_of_the_one_before() {
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    let service = "TCP 10.9.0.1:7513";
    let rules = rules("-t 10.9.0.1:7513", "rr", [1, 1, 1]);
    ipvsadm::restore(&rules);
    let held = client::connect("10.9.0.1:7513", 4);
    close("10.9.0.1:7513", 3);
    // This empties the table first.
    ipvsadm::restore(&rules);
    assert_eq!(ipvsadm::connections(service), 7, "the kernel keeps them");
    close("10.9.0.1:7513", 2);
    watch.read();
    let seen = watch.service(service);
    assert_eq!((seen.taken_over, seen.picks, seen.ended), (7, 2, 0));
    let cut = Setting::set("expire_nodest_conn", "1");
    for server in 1..=3 {
        let server = format!("10.8.0.{server}:7000");
        ipvsadm::run(&["-d", "-t", "10.9.0.1:7513", "-r", &server]);
    }
    let seen = watch.until(service, |seen| seen.ended == 9);
    assert_eq!((seen.taken_over, seen.picks, seen.ended), (7, 2, 9));
    assert_eq!(ipvsadm::connections(service), 0);
    drop((held, cut));
}

#[test]
fn the_end_of_a_connection_whose_service_is_deleted_is_told_and_brings_no_counters_back() {
    let Some(mut probes) = telling(Tell::ENDS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    let timeouts = Timeouts::set("2", "2");
    let services = ["TCP 10.9.0.1:7512", "UDP 10.9.0.1:7512"];
    ipvsadm::restore(
        &["-t 10.9.0.1:7512", "-u 10.9.0.1:7512"]
            .map(|service| rules(service, "rr", [1, 1, 1]))
            .concat(),
    );
    watch.read();
    told(&mut probes);
    let held = client::connect("10.9.0.1:7512", 3);
    client::ask("10.9.0.1:7512", 3);
    ipvsadm::run(&["-C"]);
    assert!(services.iter().all(|service| ipvsadm::connections(service) > 0));
    let begin = Instant::now();
    while services.iter().any(|service| ipvsadm::connections(service) > 0) {
        assert!(begin.elapsed() < PATIENCE, "they do not end");
        thread::sleep(Duration::from_millis(100));
    }
    // The kernel frees them a grace period later.
    thread::sleep(Duration::from_secs(1));
    watch.read();
    let counted: Vec<_> = watch
        .activity
        .services
        .keys()
        .map(|(_, key)| named(key))
        .collect();
    for service in services {
        assert!(!counted.iter().any(|name| name == service), "{counted:?}");
        assert!(watch.destinations(service).is_empty(), "{service}");
    }
    let events = told(&mut probes);
    for (service, state) in services.into_iter().zip(["ESTABLISHED", "UDP"]) {
        let how = BTreeMap::from([(("server_removed", state), 3)]);
        assert_eq!(ends(&events, service), how);
    }
    drop((held, timeouts));
}
