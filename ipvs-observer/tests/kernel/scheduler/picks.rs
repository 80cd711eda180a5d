//! Who was picked.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
};

use socket2::{Domain, Socket, Type};

use super::{Watch, client, kernel_connections, modprobe, rmmod, rules};
use crate::{ipvsadm, traffic};

const SCHEDULERS: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "lblc", "lblcr", "fo", "ovf", "twos",
];
const CONNECTIONS: u64 = 24;
const WEIGHTS: [u32; 3] = [1, 3, 100];

/// Opens a connection from this machine that bears a mark.
fn connect_marked(address: &str, mark: u32) -> TcpStream {
    let address: SocketAddr = address.parse().expect("an address");
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_mark(mark).expect("root may mark");
    let from = traffic::any(address, client::next_port());
    socket.bind(&from.into()).expect("a port of its own");
    socket.connect(&address.into()).expect("a connection");
    socket.into()
}

#[test]
fn picks_are_the_kernels_own_connections_for_every_scheduler_family_and_protocol() {
    let Some(mut watch) = Watch::whole() else { return };
    for scheduler in SCHEDULERS {
        if !modprobe(&format!("ip_vs_{scheduler}")) {
            assert_eq!(scheduler, "twos", "this kernel lacks a scheduler that all have");
            continue;
        }
        watch.read();
        let services = [
            "-t 10.9.0.1:7001",
            "-u 10.9.0.1:7001",
            "-t [fd00:9::1]:7001",
            "-u [fd00:9::1]:7001",
            "-f 71",
            "-f 71 -6",
        ];
        ipvsadm::restore(
            &services
                .map(|service| {
                    let rules = rules(service, scheduler, WEIGHTS);
                    if service.ends_with("-6") {
                        rules.replace("10.8.0.", "[fd00:8::").replace(":7000", "]:7000")
                    } else {
                        rules
                    }
                })
                .concat(),
        );
        let marked: Vec<_> = (0..CONNECTIONS)
            .flat_map(|_| {
                [
                    connect_marked("10.9.0.2:7001", 71),
                    connect_marked("[fd00:9::2]:7001", 71),
                ]
            })
            .collect();
        let held = [
            client::connect("10.9.0.1:7001", CONNECTIONS as usize),
            client::connect("[fd00:9::1]:7001", CONNECTIONS as usize),
        ];
        client::ask("10.9.0.1:7001", CONNECTIONS as usize);
        client::ask("[fd00:9::1]:7001", CONNECTIONS as usize);
        watch.read();
        for service in [
            "TCP 10.9.0.1:7001",
            "TCP [fd00:9::1]:7001",
            "UDP 10.9.0.1:7001",
            "UDP [fd00:9::1]:7001",
            "FWM 71",
            "FWM 71 IPv6",
        ] {
            let context = format!("{scheduler}, {service}");
            assert_eq!(
                watch.picks(service),
                kernel_connections(service, CONNECTIONS),
                "{context}"
            );
            let activity = watch.service(service);
            assert_eq!(
                (activity.calls, activity.picks),
                (CONNECTIONS, CONNECTIONS),
                "{context}"
            );
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
        drop((held, marked));
    }
}

#[test]
fn with_persistence_picks_and_template_hits_are_the_kernels_connections() {
    let Some(mut watch) = Watch::whole() else { return };
    // The scheduler is loaded by the rule, a moment before it is asked, and has no probe of its own yet.
    ipvsadm::run(&["-C"]);
    rmmod("ip_vs_lc");
    watch.read();
    let services = [
        "-t 10.9.0.1:7002 -p 300",
        "-u [fd00:9::1]:7002 -p 300 -M 128",
        "-t 10.9.0.2:0 -p 300",
    ];
    ipvsadm::restore(&services.map(|service| rules(service, "lc", [1, 1, 1])).concat());
    let times = CONNECTIONS as usize;
    let held = client::connect("10.9.0.1:7002", times);
    client::ask("[fd00:9::1]:7002", times);
    watch.read();
    for service in ["TCP 10.9.0.1:7002", "UDP [fd00:9::1]:7002"] {
        let kernel = kernel_connections(service, CONNECTIONS);
        assert_eq!(kernel.values().sum::<u64>(), CONNECTIONS, "{service}");
        let activity = watch.service(service);
        assert_eq!(
            (activity.picks, activity.template_hits),
            (1, CONNECTIONS - 1),
            "{service}"
        );
        assert_eq!((activity.calls, activity.none), (1, 0), "{service}");
        let picked = watch.picks(service);
        assert_eq!(picked.values().sum::<u64>(), 1, "{service}: {picked:?}");
        assert!(
            picked.keys().all(|destination| kernel.contains_key(destination)),
            "{service}"
        );
    }
    drop(held);
}

#[test]
fn picks_are_exact_also_of_a_scheduler_that_was_loaded_a_moment_ago() {
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::run(&["-C"]);
    assert!(!modprobe("ip_vs_wrr") || rmmod("ip_vs_wrr"));
    watch.read();
    ipvsadm::restore(&rules("-u 10.9.0.1:7003", "wrr", WEIGHTS));
    client::ask("10.9.0.1:7003", CONNECTIONS as usize);
    let service = "UDP 10.9.0.1:7003";
    watch.read();
    assert_eq!(watch.picks(service), kernel_connections(service, CONNECTIONS));
    assert_eq!(watch.service(service).durations, None, "nobody measured it yet");
    client::ask("10.9.0.1:7003", 1);
    watch.read();
    assert!(watch.service(service).durations.is_some());
    assert_eq!(watch.service(service).picks, CONNECTIONS + 1);
}

#[test]
fn a_client_on_the_machine_itself_is_scheduled_in_its_own_process_and_counted_as_any() {
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::restore(&rules("-t 10.9.0.1:7009", "rr", [1, 1, 1]));
    let held: Vec<_> = (0..CONNECTIONS)
        .map(|_| traffic::connect("10.9.0.1:7009"))
        .collect();
    watch.read();
    let service = "TCP 10.9.0.1:7009";
    assert_eq!(watch.picks(service), kernel_connections(service, CONNECTIONS));
    assert_eq!(watch.service(service).picks, CONNECTIONS);
    drop(held);
}

#[test]
fn no_pick_is_lost_where_processes_and_interrupts_schedule_beside_each_other() {
    const EACH: u16 = 200;
    let Some(mut watch) = Watch::whole() else { return };
    let services = ["-u 10.9.0.1:7010", "-u 10.9.0.1:7011 -p 300"];
    ipvsadm::restore(&services.map(|service| rules(service, "wlc", WEIGHTS)).concat());
    watch.read();
    let ask = |from: u16| {
        for port in (from..from + 2 * EACH).step_by(2) {
            client::ask_from("10.9.0.1:7010", port);
            client::ask_from("10.9.0.1:7011", port + 1);
        }
    };
    thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || ask(40000 + thread * 2 * EACH));
        }
        client::run(move || {
            thread::scope(|scope| {
                for thread in 0..2 {
                    scope.spawn(move || ask(50000 + thread * 2 * EACH));
                }
            });
        });
    });
    watch.read();
    let all = 4 * u64::from(EACH);
    let service = "UDP 10.9.0.1:7010";
    assert_eq!(watch.picks(service), kernel_connections(service, all));
    let counted = watch.service(service);
    assert_eq!((counted.picks, counted.calls), (all, all));
    let persistent = watch.service("UDP 10.9.0.1:7011");
    assert_eq!(persistent.picks + persistent.template_hits, all);
    assert_eq!(persistent.calls, persistent.picks);
    // A client at the director and one beside it, which may both have begun before a template was there.
    assert!((2..=4).contains(&persistent.picks), "{persistent:?}");
}
