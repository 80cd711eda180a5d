//! How connections end: made so many times, counted and told so many times.

use std::{
    collections::BTreeMap,
    io,
    net::{Shutdown, SocketAddrV4, TcpStream},
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::{
    model::{Activity, End, Ends, ServiceActivity, Traced},
    probe::{Probes, Tell},
};

use super::{
    Watch,
    around::Setting,
    client, kernel_connections, modprobe, named, packets, rules,
    trace::{ROOM, telling},
};
use crate::{
    abilities::{lacking, version},
    ipvsadm, traffic,
};

/// An end comes a grace period after the kernel's timer, which counts seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

impl Watch {
    /// Reads until the service is as wanted, or time is up.
    pub(super) fn until(
        &mut self,
        service: &str,
        wanted: impl Fn(&ServiceActivity) -> bool,
    ) -> ServiceActivity {
        self.within(PATIENCE, service, wanted)
    }

    fn within(
        &mut self,
        longest: Duration,
        service: &str,
        wanted: impl Fn(&ServiceActivity) -> bool,
    ) -> ServiceActivity {
        let begin = Instant::now();
        loop {
            self.read();
            let seen = self.service(service);
            if wanted(&seen) || begin.elapsed() > longest {
                return seen;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// How connections of all its destinations ended.
    pub(super) fn ends(&self, service: &str) -> Ends {
        let each = self.destinations(service).into_values();
        each.fold(Ends::default(), |sum, seen| Ends {
            closed: sum.closed + seen.ends.closed,
            reset: sum.reset + seen.ends.reset,
            half_open: sum.half_open + seen.ends.half_open,
            idle: sum.idle + seen.ends.idle,
            expired: sum.expired + seen.ends.expired,
            other: sum.other + seen.ends.other,
        })
    }
}

/// Timeouts of established and of UDP's connections in seconds, until this is dropped.
pub(super) struct Timeouts;

impl Timeouts {
    pub(super) fn set(established: &str, udp: &str) -> Self {
        ipvsadm::run(&["--set", established, "0", udp]);
        Self
    }
}

impl std::ops::Drop for Timeouts {
    fn drop(&mut self) {
        ipvsadm::run(&["--set", "900", "0", "300"]);
    }
}

/// What was told since the last call, with nothing lost.
pub(super) fn told(probes: &mut Probes) -> Vec<Traced> {
    let (mut events, mut activity) = (Vec::new(), Activity::default());
    while probes.events(|traced, _| events.push(traced)) {}
    probes.health(&mut activity);
    assert!(activity.probes.lost.is_nothing(), "{:?}", activity.probes.lost);
    events
}

/// The ends among them of one service, by how and in which state.
pub(super) fn ends(events: &[Traced], service: &str) -> BTreeMap<(&'static str, &'static str), usize> {
    let mut ends = BTreeMap::new();
    for event in events {
        if let Traced::End(End {
            connection,
            how,
            state,
        }) = event
            && named(&connection.service) == service
        {
            let destination = connection.destination.expect("it had one");
            assert!(destination.key.to_string().starts_with("10.8.0."));
            assert_eq!(connection.client.to_string(), "10.7.0.2");
            assert_ne!(connection.client_port, 0);
            *ends.entry((how.name(), state.unwrap_or(""))).or_default() += 1;
        }
    }
    ends
}

/// A client's port, used for several connections.
pub(super) fn at(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new([10, 7, 0, 2].into(), port)
}

pub(super) fn to(address: &str) -> SocketAddrV4 {
    address.parse().expect("an address and a port")
}

/// Connections that both sides close, the client first; its ports.
pub(super) fn close(address: &str, times: usize) -> Vec<u16> {
    let address = address.to_owned();
    client::run(move || {
        let connections = (0..times).map(|_| {
            let mut stream = traffic::connect_from(client::next_port(), &address);
            stream.shutdown(Shutdown::Write).expect("it is open");
            io::copy(&mut stream, &mut io::sink()).expect("the server closes it too");
            stream.local_addr().expect("it was connected").port()
        });
        connections.collect()
    })
}

#[test]
fn connections_of_a_removed_server_end_by_the_state_that_they_were_in() {
    let Some(mut probes) = telling(Tell::ENDS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    let cut = Setting::set("expire_nodest_conn", "1");
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore(
        "-A -t 10.9.0.1:7500 -s rr\n-a -t 10.9.0.1:7500 -r 10.8.0.1:7000 -m
         -A -t 10.9.0.1:7501 -s rr\n-a -t 10.9.0.1:7501 -r 10.8.0.2:7999 -m\n",
    );
    told(&mut probes);
    let held = client::connect("10.9.0.1:7500", 4);
    close("10.9.0.1:7500", 3);
    client::run(|| {
        for _ in 0..2 {
            TcpStream::connect("10.9.0.1:7501").expect_err("nobody listens there");
        }
    });
    let (open, refused) = ("TCP 10.9.0.1:7500", "TCP 10.9.0.1:7501");
    watch.read();
    assert_eq!((watch.service(open).ended, watch.service(refused).ended), (0, 0));
    ipvsadm::run(&["-d", "-t", "10.9.0.1:7500", "-r", "10.8.0.1:7000"]);
    ipvsadm::run(&["-d", "-t", "10.9.0.1:7501", "-r", "10.8.0.2:7999"]);
    let seen = watch.until(open, |seen| seen.ended == 7);
    assert_eq!((seen.ended, seen.ended_server_removed), (7, 4));
    let seen = watch.until(refused, |seen| seen.ended == 2);
    assert_eq!((seen.ended, seen.ended_server_removed), (2, 0));
    let (closed, other) = (3, 4);
    assert_eq!(
        watch.ends(open),
        Ends {
            closed,
            other,
            ..Ends::default()
        }
    );
    let reset = 2;
    assert_eq!(
        watch.ends(refused),
        Ends {
            reset,
            ..Ends::default()
        }
    );
    let events = told(&mut probes);
    assert_eq!(
        ends(&events, open),
        BTreeMap::from([
            (("closed", "TIME_WAIT"), 3),
            (("server_removed", "ESTABLISHED"), 4)
        ])
    );
    assert_eq!(ends(&events, refused), BTreeMap::from([(("reset", "CLOSE"), 2)]));
    drop((held, cut));
}

#[test]
fn connections_without_a_packet_for_their_timeout_end_and_the_table_is_what_is_left() {
    let Some(mut probes) = telling(Tell::ENDS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore(
        &["-t 10.9.0.1:7502", "-u 10.9.0.1:7502", "-u 10.9.0.1:7503 -p 100"]
            .map(|service| rules(service, "rr", [1, 1, 1]))
            .concat(),
    );
    ipvsadm::run(&["-A", "-u", "10.9.0.1:7504", "-s", "rr", "-o"]);
    ipvsadm::run(&["-a", "-u", "10.9.0.1:7504", "-r", "10.8.0.1:7000", "-m"]);
    told(&mut probes);
    let timeouts = Timeouts::set("1", "1");
    let held = client::connect("10.9.0.1:7502", 5);
    for (port, times) in [(7502, 6), (7503, 7), (7504, 8)] {
        client::ask(&format!("10.9.0.1:{port}"), times);
    }
    // What is begun from here on stays.
    drop(timeouts);
    client::ask("10.9.0.1:7502", 2);
    let services = [
        ("TCP 10.9.0.1:7502", 5, ("idle", "ESTABLISHED"), 0),
        ("UDP 10.9.0.1:7502", 6, ("expired", "UDP"), 2),
        ("UDP 10.9.0.1:7503", 7, ("expired", "UDP"), 0),
        ("UDP 10.9.0.1:7504", 8, ("", ""), 0),
    ];
    for (service, ended, ..) in services {
        watch.until(service, |seen| seen.ended == ended);
    }
    let events = told(&mut probes);
    for (service, ended, how, left) in services {
        let seen = watch.service(service);
        assert_eq!((seen.ended, seen.ended_server_removed), (ended, 0), "{service}");
        let of_server = watch.ends(service);
        let expected = if how.0 == "idle" {
            Ends {
                idle: ended,
                ..Ends::default()
            }
        } else {
            Ends {
                expired: ended,
                ..Ends::default()
            }
        };
        assert_eq!(of_server, expected, "{service}");
        // Of one-packet services, none is told.
        let told = ends(&events, service);
        let expected = if how.0.is_empty() {
            BTreeMap::new()
        } else {
            BTreeMap::from([(how, ended as usize)])
        };
        assert_eq!(told, expected, "{service}");
        assert_eq!(ipvsadm::connections(service), left, "{service}");
        let begun = seen.picks + seen.template_hits;
        let connections: u64 = kernel_connections(service, begun).values().sum();
        assert_eq!(connections, begun, "{service}");
    }
    drop(held);
}

#[test]
fn the_table_has_what_began_and_did_not_end_also_where_servers_come_and_go() {
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    let services = [("TCP", "-t", "10.9.0.1:7508"), ("UDP", "-u", "10.9.0.1:7509")];
    ipvsadm::restore(
        &services
            .map(|(_, flag, address)| rules(&format!("{flag} {address}"), "rr", [1, 1, 1]))
            .concat(),
    );
    watch.read();
    // So that some end meanwhile.
    let timeouts = Timeouts::set("2", "1");
    let mut held = Vec::new();
    for turn in 0..6 {
        held.extend(client::connect("10.9.0.1:7508", 3));
        close("10.9.0.1:7508", 2);
        client::ask("10.9.0.1:7509", 5);
        let server = format!("10.8.0.{}:7000", turn % 3 + 1);
        for (_, flag, address) in services {
            ipvsadm::run(&["-d", flag, address, "-r", &server]);
        }
        client::ask("10.9.0.1:7509", 2);
        for (_, flag, address) in services {
            ipvsadm::run(&["-a", flag, address, "-r", &server, "-m"]);
        }
    }
    drop(timeouts);
    for (protocol, _, address) in services {
        let service = format!("{protocol} {address}");
        // Between two looks at the table nothing ended.
        let begin = Instant::now();
        let (left, seen) = loop {
            let before = ipvsadm::connections(&service);
            watch.read();
            let seen = watch.service(&service);
            let counted = seen.picks - seen.ended;
            let settled = seen.ended > 0 && before == counted && ipvsadm::connections(&service) == counted;
            if settled || begin.elapsed() > PATIENCE {
                break (before, seen);
            }
            thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(seen.picks, if protocol == "TCP" { 30 } else { 42 });
        assert!(seen.ended > 0, "{seen:?}");
        assert_eq!(seen.picks - seen.ended, left, "{service}: {seen:?}");
        let of_servers = watch.ends(&service);
        let Ends {
            closed,
            reset,
            half_open,
            idle,
            expired,
            other,
        } = of_servers;
        assert_eq!(closed + reset + half_open + idle + expired + other, seen.ended);
    }
    drop(held);
}

#[test]
fn a_handshake_that_nobody_goes_on_with_ends_half_open() {
    // It takes a minute, and one kernel says it for all.
    if lacking(
        "need of this test, which one other kernel has",
        version() == (6, 18),
    ) {
        return;
    }
    let Some(mut probes) = telling(Tell::ENDS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    // An address of the real servers' network that nobody has.
    ipvsadm::restore("-A -t 10.9.0.1:7505 -s rr\n-a -t 10.9.0.1:7505 -r 10.8.0.77:7000 -m\n");
    told(&mut probes);
    client::run(|| {
        for _ in 0..3 {
            packets::segment(at(client::next_port()), to("10.9.0.1:7505"), packets::SYN);
        }
    });
    let service = "TCP 10.9.0.1:7505";
    let seen = watch.within(Duration::from_secs(90), service, |seen| seen.ended == 3);
    assert_eq!((seen.picks, seen.ended), (3, 3));
    assert_eq!(watch.ends(service).half_open, 3);
    let events = told(&mut probes);
    assert_eq!(
        ends(&events, service),
        BTreeMap::from([(("half_open", "SYN_RECV"), 3)])
    );
}
