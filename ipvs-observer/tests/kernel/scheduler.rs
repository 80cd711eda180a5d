//! What the probes count, held against what the kernel counted itself: exactly.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::{
    model::{Activity, DestinationKey, Netns, ServiceActivity, ServiceKey},
    probe::{ProbeSettings, Probes},
};

use socket2::{Domain, Socket, Type};

use crate::{ipvsadm, traffic};

/// Probes of this test alone, and what they last said.
struct Watch {
    probes: Probes,
    activity: Activity,
}

impl Watch {
    fn new() -> Self {
        let probes = Probes::attach(&ProbeSettings::default());
        Self {
            probes,
            activity: Activity::default(),
        }
    }

    /// Probes on a kernel that tells of modules; none on one that does not, where there is nothing to hold.
    fn whole() -> Option<Self> {
        let watch = Self::new();
        let availability = watch.probes.availability();
        if !std::path::Path::new("/sys/kernel/btf/ip_vs").exists() {
            assert!(!availability.complete());
            return None;
        }
        assert!(availability.complete(), "{:?}", availability.first_missing());
        Some(watch)
    }

    fn read(&mut self) -> &Activity {
        self.probes.refresh();
        self.probes.read(&mut self.activity);
        assert_eq!(self.activity.diagnostics, Vec::<String>::new());
        let totals = self.activity.probes;
        assert_eq!((totals.unreadable, totals.turned_away), (0, 0));
        &self.activity
    }

    fn service(&self, service: &str) -> ServiceActivity {
        let (name, activity) = (service.to_owned(), &self.activity);
        let found = activity
            .services
            .iter()
            .find(|((netns, key), _)| *netns == own_netns() && named(key) == name);
        found.map(|(_, activity)| *activity).unwrap_or_default()
    }

    /// Picks by destination, as `ipvsadm` names these.
    fn picks(&self, service: &str) -> BTreeMap<String, u64> {
        self.activity
            .destinations
            .iter()
            .filter(|((netns, key, _), _)| *netns == own_netns() && named(key) == service)
            .map(|((_, _, key), activity)| (endpoint(key), activity.picks))
            .collect()
    }
}

fn own_netns() -> Netns {
    use std::os::unix::fs::MetadataExt;
    Netns(std::fs::metadata("/proc/self/ns/net").expect("a namespace").ino() as u32)
}

/// A service as `ipvsadm` names it.
fn named(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Endpoint {
            address,
            protocol,
            port,
        } => format!(
            "{} {}",
            protocol.to_string().to_uppercase(),
            SocketAddr::new(address.ip(), *port)
        ),
        ServiceKey::Fwmark { family, mark } => {
            format!(
                "FWM {mark}{}",
                if family.to_string() == "inet6" {
                    " IPv6"
                } else {
                    ""
                }
            )
        }
    }
}

fn endpoint(key: &DestinationKey) -> String {
    SocketAddr::new(key.address.ip(), key.port).to_string()
}

/// Connections by destination as the kernel counted them, once they add up to `expected`: until some version
/// the counters are copied every two seconds only.
fn kernel_connections(service: &str, expected: u64) -> BTreeMap<String, u64> {
    let begin = Instant::now();
    loop {
        let table = ipvsadm::list(&["--stats", "--exact"]);
        let entry = &table[service];
        let counted: BTreeMap<String, u64> = entry
            .destinations
            .iter()
            .map(|(name, words)| (name.clone(), words[0].parse().expect("a number")))
            .filter(|(_, connections)| *connections > 0)
            .collect();
        if counted.values().sum::<u64>() == expected || begin.elapsed() > Duration::from_secs(6) {
            return counted;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// The modules of the schedulers, and `ip_vs` itself.
fn modprobe(module: &str) -> bool {
    Command::new("modprobe")
        .arg(module)
        .output()
        .is_ok_and(|output| output.status.success())
}

const SCHEDULERS: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "lblc", "lblcr", "fo", "ovf", "twos",
];

/// Real servers that answer on every address of the lab's dummy link.
fn real_servers() {
    traffic::addresses();
    for n in 1..=3 {
        traffic::serve_tcp(&format!("10.8.0.{n}:7001"));
        traffic::serve_udp(&format!("10.8.0.{n}:7001"));
        traffic::serve_tcp(&format!("[fd00:8::{n}]:7001"));
        traffic::serve_udp(&format!("[fd00:8::{n}]:7001"));
    }
}

/// Opens a connection from a socket that bears a mark.
fn connect_marked(address: &str, mark: u32) -> TcpStream {
    let address: SocketAddr = address.parse().expect("an address");
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_mark(mark).expect("root may mark");
    socket.connect(&address.into()).expect("a connection");
    socket.into()
}

/// One datagram there and back, from a port that no other comes from: IPVS takes datagrams between the same ends
/// for one connection, even of a service that is gone.
fn ask(address: &str) {
    static PORT: AtomicU16 = AtomicU16::new(20000);
    let address: SocketAddr = address.parse().expect("an address");
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, PORT.fetch_add(1, Ordering::Relaxed))).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    socket.send_to(b"there and back", address).expect("sending");
    socket.recv(&mut [0; 64]).expect("an echo");
}

const CONNECTIONS: u64 = 24;

#[test]
fn picks_are_the_kernels_own_connections_for_every_scheduler_family_and_protocol() {
    assert!(modprobe("ip_vs"));
    let Some(mut watch) = Watch::whole() else { return };
    real_servers();
    for scheduler in SCHEDULERS {
        if !modprobe(&format!("ip_vs_{scheduler}")) {
            assert_eq!(scheduler, "twos", "this kernel lacks a scheduler that all have");
            continue;
        }
        watch.read();
        ipvsadm::restore(&rules(scheduler));
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(traffic::connect("10.9.0.1:7001"));
            held.push(traffic::connect("[fd00:9::1]:7001"));
            held.push(connect_marked("10.9.0.2:7001", 71));
            ask("10.9.0.1:7001");
            ask("[fd00:9::1]:7001");
        }
        watch.read();
        for service in [
            "TCP 10.9.0.1:7001",
            "TCP [fd00:9::1]:7001",
            "UDP 10.9.0.1:7001",
            "UDP [fd00:9::1]:7001",
            "FWM 71",
        ] {
            let context = format!("{scheduler}, {service}");
            let kernel = kernel_connections(service, CONNECTIONS);
            assert_eq!(watch.picks(service), kernel, "{context}");
            let activity = watch.service(service);
            assert_eq!(activity.picks, CONNECTIONS, "{context}");
            assert_eq!(activity.calls, CONNECTIONS, "{context}");
            assert_eq!(
                (activity.none, activity.template_hits, activity.fatal),
                (0, 0, 0),
                "{context}"
            );
            let durations = activity
                .durations
                .unwrap_or_else(|| panic!("{context}: no durations"));
            assert!(durations.p50 > 0 && durations.p50 <= durations.p99 && durations.p99 <= durations.max);
            assert!(activity.ns_sum >= durations.max, "{context}");
        }
    }
    let totals = watch.activity.probes;
    assert_eq!(totals.unpaired, 0, "{totals:?}");
}

fn rules(scheduler: &str) -> String {
    let mut rules = String::new();
    for (service, addresses, forward) in [
        ("-t 10.9.0.1:7001", "10.8.0.{}:7001", "-m"),
        ("-u 10.9.0.1:7001", "10.8.0.{}:7001", "-m"),
        ("-t [fd00:9::1]:7001", "[fd00:8::{}]:7001", "-m"),
        ("-u [fd00:9::1]:7001", "[fd00:8::{}]:7001", "-m"),
        ("-f 71", "10.8.0.{}:7001", "-m"),
    ] {
        rules += &format!("-A {service} -s {scheduler}\n");
        for (n, weight) in [(1, 1), (2, 3), (3, 100)] {
            let address = addresses.replace("{}", &n.to_string());
            rules += &format!("-a {service} -r {address} {forward} -w {weight}\n");
        }
    }
    rules
}
