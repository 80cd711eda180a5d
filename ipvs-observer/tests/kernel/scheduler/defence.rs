//! What IPVS drops to defend itself: made, and held against what the kernel let pass and what is left in its table.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::{
    model::{Drop, DropReason, Traced},
    probe::{Probes, Tell},
};

use super::{
    Watch,
    around::Setting,
    budget::Shown,
    client,
    ends::{at, ends, to, told},
    kernel_connections, modprobe, named, packets, rules,
    trace::{ROOM, telling},
};
use crate::{ipvsadm, observer};

/// Waits until a function that is probed on an occasion is, or is no longer.
pub(super) fn wait_for(probes: &mut Probes, function: &str, attached: bool) {
    let begin = Instant::now();
    loop {
        probes.refresh();
        let needs = probes.availability().needs();
        if needs.iter().any(|need| need.name == function) == attached {
            assert!(probes.availability().complete(), "{needs:?}");
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{function}: {needs:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn new_connections_that_drop_packet_drops_are_counted_and_told_while_it_is_set() {
    const SENT: usize = 100;
    const FOUND: &str = "ip_vs_service_find";
    let Some(mut probes) = telling(Tell::DROPS | Tell::DECISIONS, ROOM) else {
        return;
    };
    let Some(mut shown) = Shown::start("10") else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    wait_for(&mut watch.probes, FOUND, false);
    let services = ["-u 10.9.0.1:7510", "-u [fd00:9::1]:7510", "-t 10.9.0.1:7510"];
    ipvsadm::restore(&services.map(|service| rules(service, "rr", [1, 1, 1])).concat());
    let defence = [Setting::set("am_droprate", "4"), Setting::set("drop_packet", "3")];
    for probes in [&mut watch.probes, &mut probes] {
        wait_for(probes, FOUND, true);
    }
    // The program looks each second too, and is not asked for a gather.
    thread::sleep(Duration::from_secs(4));
    told(&mut probes);
    client::send("10.9.0.1:7510", SENT);
    client::send("[fd00:9::1]:7510", SENT);
    client::run(|| {
        for _ in 0..SENT {
            packets::segment(at(client::next_port()), to("10.9.0.1:7510"), packets::SYN);
        }
    });
    watch.read();
    let lines = shown.gather();
    let events = told(&mut probes);
    for service in ["UDP 10.9.0.1:7510", "UDP [fd00:9::1]:7510", "TCP 10.9.0.1:7510"] {
        let seen = watch.service(service);
        assert_eq!(seen.picks + seen.drops_defence, SENT as u64, "{service}");
        assert!(
            seen.drops_defence.abs_diff(SENT as u64 / 4) < 2,
            "{service}: {seen:?}"
        );
        let mut written = observer::of(&lines, "ipvs_virtual_server");
        let line = written.find(|line| observer::service(line, "") == service);
        let line = line.expect("it is in the table");
        assert_eq!(line.number("drops_defence"), seen.drops_defence, "{line:?}");
        let connections: u64 = kernel_connections(service, seen.picks).values().sum();
        assert_eq!(connections, seen.picks, "{service}");
        // Each packet is from a port of its own, and was either dropped or scheduled.
        let (mut dropped, mut scheduled) = (BTreeSet::new(), BTreeSet::new());
        for event in &events {
            match event {
                Traced::Drop(Drop { connection, reason }) if named(&connection.service) == service => {
                    assert_eq!(*reason, DropReason::Defence);
                    assert!(connection.destination.is_none());
                    assert_eq!(connection.r#virtual.port, 7510);
                    let client = connection.client.to_string();
                    assert!(["10.7.0.2", "fd00:7::2"].contains(&client.as_str()), "{client}");
                    dropped.insert(connection.client_port);
                }
                Traced::Decision(decision) if named(&decision.service) == service => {
                    scheduled.insert(decision.client_port);
                }
                _ => {}
            }
        }
        assert_eq!(dropped.len() as u64, seen.drops_defence, "{service}");
        assert_eq!(scheduled.len() as u64, seen.picks, "{service}");
        assert!(dropped.is_disjoint(&scheduled), "{service}");
    }
    drop(defence);
    wait_for(&mut watch.probes, FOUND, false);
    client::send("10.9.0.1:7510", 10);
    watch.read();
    let seen = watch.service("UDP 10.9.0.1:7510");
    assert_eq!(seen.picks + seen.drops_defence, SENT as u64 + 10);
}

#[test]
fn connections_that_drop_entry_kills_end_by_the_defence() {
    const MADE: u64 = 400;
    let Some(mut probes) = telling(Tell::ENDS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    // An address of the real servers' network that nobody has: half-open connections are what is killed first.
    ipvsadm::restore("-A -t 10.9.0.1:7511 -s rr\n-a -t 10.9.0.1:7511 -r 10.8.0.77:7000 -m\n");
    let defence = Setting::set("drop_entry", "3");
    for probes in [&mut watch.probes, &mut probes] {
        wait_for(probes, "ip_vs_random_dropentry", true);
    }
    told(&mut probes);
    client::run(|| {
        for _ in 0..MADE {
            packets::segment(at(client::next_port()), to("10.9.0.1:7511"), packets::SYN);
        }
    });
    let service = "TCP 10.9.0.1:7511";
    // The kernel looks at a part of its table each second.
    let seen = watch.until(service, |seen| seen.ended >= 10);
    assert!(seen.ended >= 10, "{seen:?}");
    drop(defence);
    let begin = Instant::now();
    let seen = loop {
        watch.read();
        let seen = watch.service(service);
        if seen.picks - seen.ended == ipvsadm::connections(service) {
            break seen;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{seen:?}");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(seen.picks, MADE);
    assert_eq!(watch.ends(service).other, seen.ended);
    let how = BTreeMap::from([(("defence", "SYN_RECV"), seen.ended as usize)]);
    assert_eq!(ends(&told(&mut probes), service), how);
    wait_for(&mut watch.probes, "ip_vs_random_dropentry", false);
}
