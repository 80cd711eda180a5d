//! Packets that IPVS cannot send to the real server: made so many times, counted and told so many times.

use std::{collections::BTreeMap, mem, net::SocketAddr, os::fd::AsRawFd, thread, time::Duration};

use ipvs_observer::{
    model::{Drop, DropReason, ServiceActivity, Traced},
    probe::{Probes, Tell},
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    Watch, client,
    ends::told,
    modprobe, named, packets,
    trace::{ROOM, telling},
};
use crate::{ipvsadm, support::child::shell};

const TIMES: u64 = 3;

/// A network that nobody has a route to, and the real server behind a link that takes 1400 bytes.
const NOWHERE: [&str; 2] = ["10.77.0.9", "fd00:77::9"];
const NARROW: [&str; 2] = ["10.6.0.2", "fd00:6::2"];

/// A service on a port with one real server, and what befalls datagrams to it.
struct Case {
    port: u16,
    six: bool,
    server: [&'static str; 2],
    forward: &'static str,
    bytes: usize,
    ttl: u32,
    reason: DropReason,
}

impl Case {
    fn address(&self) -> String {
        if self.six {
            format!("[fd00:9::1]:{}", self.port)
        } else {
            format!("10.9.0.1:{}", self.port)
        }
    }

    fn service(&self) -> String {
        format!("UDP {}", self.address())
    }

    fn real_server(&self) -> String {
        let address = self.server[usize::from(self.six)].parse().expect("an address");
        SocketAddr::new(address, self.port).to_string()
    }

    fn rules(&self) -> String {
        let (address, server, forward) = (self.address(), self.real_server(), self.forward);
        format!("-A -u {address} -s rr\n-a -u {address} -r {server} {forward}\n")
    }

    /// From a port of its own each.
    fn make(&self, times: u64) {
        let (to, bytes, ttl) = (self.address(), self.bytes, self.ttl);
        client::run(move || {
            for _ in 0..times {
                datagrams(client::next_port(), &to, bytes, ttl, 1);
            }
        });
    }
}

/// All of the cases, on ports from `first` on.
fn cases(first: u16) -> Vec<Case> {
    let ways = [
        (NOWHERE, 8, 64, DropReason::NoRoute),
        (NARROW, 1450, 64, DropReason::TooLarge),
        (NARROW, 8, 1, DropReason::Transmit),
    ];
    let mut cases = Vec::new();
    for (server, bytes, ttl, reason) in ways {
        for forward in ["-m", "-g", "-i"] {
            for six in [false, true] {
                cases.push(Case {
                    port: first + cases.len() as u16,
                    six,
                    server,
                    forward,
                    bytes,
                    ttl,
                    reason,
                });
            }
        }
    }
    cases
}

/// Datagrams that are not fragmented, whatever the system has learnt of the path.
fn datagrams(port: u16, to: &str, bytes: usize, ttl: u32, times: usize) {
    const DISCOVER_V4: (i32, i32) = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
    const DISCOVER_V6: (i32, i32) = (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER);

    let to: SocketAddr = to.parse().expect("an address and a port");
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).expect("a socket");
    let (any, (level, name)) = if to.is_ipv6() {
        socket.set_unicast_hops_v6(ttl).expect("hops");
        ("[::]", DISCOVER_V6)
    } else {
        socket.set_ttl_v4(ttl).expect("hops");
        ("0.0.0.0", DISCOVER_V4)
    };
    let probe: i32 = libc::IP_PMTUDISC_PROBE;
    // SAFETY: the descriptor is the socket's, and as many bytes are read as the number has.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const probe).cast(),
            size_of_val(&probe) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
    let any: SocketAddr = format!("{any}:{port}").parse().expect("an address and a port");
    socket.bind(&SockAddr::from(any)).expect("its own port");
    for _ in 0..times {
        // What came back for the one before is said once.
        let _ = socket.take_error();
        socket
            .send_to(&vec![0; bytes], &SockAddr::from(to))
            .expect("sending");
        thread::sleep(Duration::from_millis(5));
    }
}

fn counted(seen: &ServiceActivity) -> [u64; 3] {
    [seen.drops_no_route, seen.drops_too_large, seen.drops_transmit]
}

fn expected(reason: DropReason, times: u64) -> [u64; 3] {
    let of = |other| if reason == other { times } else { 0 };
    [
        of(DropReason::NoRoute),
        of(DropReason::TooLarge),
        of(DropReason::Transmit),
    ]
}

/// The drops told, by service, reason and real server.
fn drops(probes: &mut Probes) -> BTreeMap<(String, &'static str, String), u64> {
    let mut drops = BTreeMap::new();
    for event in told(probes) {
        if let Traced::Drop(Drop { connection, reason }) = event {
            let server = connection.destination.map(|state| state.key.to_string());
            let key = (
                named(&connection.service),
                reason.name(),
                server.unwrap_or_default(),
            );
            *drops.entry(key).or_default() += 1;
        }
    }
    drops
}

/// Makes the link to the real server take 1400 bytes, until this is dropped.
struct Narrow;

impl Narrow {
    fn make() -> Self {
        client::run(|| ());
        client::run_server(|| ());
        shell("ip link set to-server0 mtu 1400");
        Self
    }
}

impl std::ops::Drop for Narrow {
    fn drop(&mut self) {
        shell("ip link set to-server0 mtu 1500");
    }
}

#[test]
fn a_packet_that_cannot_be_sent_is_told_and_counted_with_the_reason_however_it_is_forwarded() {
    let Some(mut probes) = telling(Tell::DROPS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    let narrow = Narrow::make();
    let cases = cases(7700);
    ipvsadm::restore(&cases.iter().map(Case::rules).collect::<String>());
    told(&mut probes);
    for case in &cases {
        case.make(TIMES);
    }
    thread::sleep(Duration::from_millis(200));
    watch.read();
    let (mut made, mut seen) = (Vec::new(), Vec::new());
    let mut events = drops(&mut probes);
    for case in &cases {
        let key = (case.service(), case.reason.name(), case.real_server());
        let about = format!("{key:?} {}", case.forward);
        let counted = counted(&watch.service(&case.service()));
        made.push((about.clone(), expected(case.reason, TIMES), Some(TIMES)));
        seen.push((about, counted, events.remove(&key)));
    }
    assert_eq!(seen, made, "{events:#?}");
    assert_eq!(events, BTreeMap::new());
    mem::drop(narrow);
}

#[test]
fn later_packets_of_a_connection_that_cannot_be_sent_are_told_by_what_they_say_themselves() {
    const PORT: u16 = 29_001;
    let Some(mut probes) = telling(Tell::DROPS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore("-A -u 10.9.0.1:7730 -s rr\n-a -u 10.9.0.1:7730 -r 10.77.0.9:7730 -m\n");
    told(&mut probes);
    client::run(|| datagrams(PORT, "10.9.0.1:7730", 8, 64, 3));
    thread::sleep(Duration::from_millis(100));
    watch.read();
    assert_eq!(counted(&watch.service("UDP 10.9.0.1:7730")), [3, 0, 0]);
    let mut servers = Vec::new();
    for event in told(&mut probes) {
        let Traced::Drop(Drop { connection, .. }) = event else {
            continue;
        };
        let asked = connection.r#virtual;
        assert_eq!(
            (connection.client.to_string(), connection.client_port),
            ("10.7.0.2".to_owned(), PORT)
        );
        assert_eq!(
            (asked.address.to_string(), asked.port),
            ("10.9.0.1".to_owned(), 7730)
        );
        servers.push(connection.destination.map(|state| state.key.to_string()));
    }
    assert_eq!(servers, [Some("10.77.0.9:7730".to_owned()), None, None]);
}

#[test]
fn a_connection_from_before_the_probes_is_told_too_though_nothing_is_scheduled_since() {
    const PORT: u16 = 29_002;
    drop::<Option<_>>(Watch::whole());
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore("-A -u 10.9.0.1:7734 -s rr\n-a -u 10.9.0.1:7734 -r 10.77.0.9:7734 -m\n");
    client::run(|| datagrams(PORT, "10.9.0.1:7734", 8, 64, 1));
    let Some(mut probes) = telling(Tell::DROPS, ROOM) else {
        return;
    };
    // The kernel looks at its defences each second, and that is where the probes learn where its code is.
    thread::sleep(Duration::from_millis(1500));
    client::run(|| datagrams(PORT, "10.9.0.1:7734", 8, 64, 3));
    thread::sleep(Duration::from_millis(100));
    let dropped = ("UDP 10.9.0.1:7734".to_owned(), "no_route", String::new());
    assert_eq!(drops(&mut probes), BTreeMap::from([(dropped, 3)]));
}

#[test]
fn what_the_kernel_takes_for_data_of_ftp_is_counted_on_that_service() {
    let Some(mut probes) = telling(Tell::DROPS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore("-A -t 10.9.0.4:21 -s rr -p 60\n-a -t 10.9.0.4:21 -r 10.77.0.9:0 -m\n");
    told(&mut probes);
    client::run(|| {
        for _ in 0..TIMES {
            let from = format!("10.7.0.2:{}", client::next_port());
            let from = from.parse().expect("an address");
            packets::segment(from, "10.9.0.4:5000".parse().expect("an address"), packets::SYN);
        }
    });
    thread::sleep(Duration::from_millis(100));
    watch.read();
    assert_eq!(counted(&watch.service("TCP 10.9.0.4:21")), [TIMES, 0, 0]);
    let told: Vec<_> = drops(&mut probes).into_iter().collect();
    let [((service, reason, _), times)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(
        (service.as_str(), *reason, *times),
        ("TCP 10.9.0.4:21", "no_route", TIMES)
    );
}

#[test]
fn packets_of_this_machine_and_of_marks_are_told_too_and_those_of_others_are_not() {
    let Some(mut probes) = telling(Tell::DROPS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore(
        "-A -u 10.9.0.1:7731 -s rr\n-a -u 10.9.0.1:7731 -r 10.77.0.9:7731 -m
         -A -f 77 -s rr\n-a -f 77 -r 10.77.0.9:7732 -m\n",
    );
    told(&mut probes);
    for _ in 0..TIMES {
        datagrams(client::next_port(), "10.9.0.1:7731", 8, 64, 1);
        packets::marked("10.9.0.3:7732", 77);
        // Nobody listens there, and no service is there: an ICMP error, and no drop of ours.
        client::send("10.9.0.1:7733", 1);
    }
    thread::sleep(Duration::from_millis(100));
    watch.read();
    for service in ["UDP 10.9.0.1:7731", "FWM 77"] {
        assert_eq!(counted(&watch.service(service)), [TIMES, 0, 0], "{service}");
    }
    let made = [
        ("FWM 77", "10.77.0.9:7732"),
        ("UDP 10.9.0.1:7731", "10.77.0.9:7731"),
    ];
    let made = made.map(|(service, server)| ((service.to_owned(), "no_route", server.to_owned()), TIMES));
    assert_eq!(drops(&mut probes), BTreeMap::from(made));
    mem::drop(watch);
    ipvsadm::run(&["-D", "-f", "77"]);
}
