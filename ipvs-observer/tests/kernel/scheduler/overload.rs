//! Who is full.

use std::{
    net::{TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use ipvs_observer::{
    correlate::Correlator,
    model::{Activity, Outcome, Snapshot},
    netlink::Reader,
    probe::Tell,
};

use super::{
    Watch, client, modprobe, own_netns, packets,
    trace::{ROOM, telling, told},
};
use crate::ipvsadm;

#[test]
fn an_upper_threshold_that_is_reached_is_counted_and_a_full_service_refuses() {
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::restore(
        "-A -t 10.9.0.1:7050 -s rr
         -a -t 10.9.0.1:7050 -r 10.8.0.1:7000 -m -x 2
         -a -t 10.9.0.1:7050 -r 10.8.0.2:7000 -m -x 3\n",
    );
    watch.read();
    let held = client::connect("10.9.0.1:7050", 5);
    client::run(|| TcpStream::connect("10.9.0.1:7050").expect_err("both are full"));
    watch.read();
    let service = "TCP 10.9.0.1:7050";
    let activity = watch.service(service);
    assert_eq!((activity.picks, activity.calls), (5, 5 + activity.none));
    assert!(activity.none > 0 && activity.none == activity.refused);
    for (destination, found) in watch.destinations(service) {
        assert_eq!(
            (found.overloads, found.overloaded),
            (1, Some(true)),
            "{destination}"
        );
    }
    drop(held);
    // The threshold is lifted: full no longer.
    ipvsadm::run(&[
        "-e",
        "-t",
        "10.9.0.1:7050",
        "-r",
        "10.8.0.1:7000",
        "-m",
        "-x",
        "0",
    ]);
    thread::sleep(Duration::from_millis(100));
    watch.read();
    let found = watch.destinations(service)["10.8.0.1:7000"];
    assert_eq!((found.overloads, found.overloaded), (1, Some(false)));
}

#[test]
fn connections_by_template_fill_a_real_server_and_the_one_that_does_is_not_told_as_beyond_it() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    probes.refresh();
    ipvsadm::restore("-A -u 10.9.0.1:7052 -s rr -p 60\n-a -u 10.9.0.1:7052 -r 10.8.0.1:7000 -m -x 3\n");
    watch.read();
    told(&mut probes);
    client::send("10.9.0.1:7052", 5);
    // Another client, which has no template.
    packets::from_many(1, 3000, "10.9.0.1:7052");
    watch.read();
    let service = "UDP 10.9.0.1:7052";
    let counted = watch.service(service);
    assert_eq!(
        (
            counted.picks,
            counted.template_hits,
            counted.none,
            counted.refused
        ),
        (1, 4, 1, 1)
    );
    let found = watch.destinations(service)["10.8.0.1:7000"];
    assert_eq!((found.overloads, found.overloaded), (1, Some(true)));
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    let reasons: Vec<_> = decisions
        .iter()
        .map(|decision| (decision.outcome, decision.reason.as_str()))
        .collect();
    let beyond = "although it is overloaded";
    assert_eq!(
        reasons,
        [
            (Outcome::Scheduled, ""),
            (Outcome::Template, ""),
            (Outcome::Template, ""),
            (Outcome::Template, beyond),
            (Outcome::Template, beyond),
            (Outcome::Overloaded, "1 of 1 real servers are overloaded"),
        ]
    );
}

#[test]
fn a_real_server_that_several_processors_fill_at_once_becomes_overloaded_once() {
    const ROUNDS: u16 = 100;
    const EACH: u16 = 4;
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    client::run(|| ());
    for round in 0..ROUNDS {
        // The kernel would give another of the same name the connections that are still there.
        let service = format!("10.9.0.1:{}", 8000 + round);
        ipvsadm::restore(&format!(
            "-A -u {service} -s rr\n-a -u {service} -r 10.8.0.1:7000 -m -x {}\n",
            2 * EACH
        ));
        let send = |port: u16| {
            let socket = UdpSocket::bind(("0.0.0.0", port)).expect("a socket");
            let _ = socket.send_to(b"anybody?", &service);
        };
        // What one processor sees of another's transition must not be taken for its own.
        let ports = |thread: u16| {
            let first = 20_000 + (2 * round + thread) * EACH;
            first..first + EACH
        };
        thread::scope(|scope| {
            for thread in 0..2 {
                scope.spawn(move || ports(thread).for_each(&send));
            }
        });
        watch.read();
        let found = watch.destinations(&format!("UDP {service}"))["10.8.0.1:7000"];
        assert_eq!(
            (found.picks, found.overloads, found.overloaded),
            (u64::from(2 * EACH), 1, Some(true)),
            "round {round}"
        );
    }
}

#[test]
fn a_one_packet_service_leaves_its_real_server_free_for_the_next_packet() {
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore("-A -u 10.9.0.1:7054 -s rr -o\n-a -u 10.9.0.1:7054 -r 10.8.0.1:7000 -m -x 1\n");
    watch.read();
    client::send("10.9.0.1:7054", 3);
    watch.read();
    let service = "UDP 10.9.0.1:7054";
    // Each packet fills it, and each finds it free.
    let found = watch.destinations(service)["10.8.0.1:7000"];
    assert_eq!((found.picks, found.overloads), (3, 3));
    assert_eq!(watch.service(service).none, 0);
    let mut snapshot = Snapshot::default();
    let mut reader = Reader::default();
    reader.read(&mut snapshot, &|_| true).expect("the table");
    assert_eq!(overloaded(&snapshot, &watch.activity), [Some(false)]);
    // One that stays fills it for good.
    ipvsadm::restore("-A -u 10.9.0.1:7055 -s rr\n-a -u 10.9.0.1:7055 -r 10.8.0.1:7000 -m -x 1\n");
    client::send("10.9.0.1:7055", 2);
    watch.read();
    assert_eq!(watch.service("UDP 10.9.0.1:7055").none, 1);
    reader.read(&mut snapshot, &|_| true).expect("the table");
    assert_eq!(overloaded(&snapshot, &watch.activity), [Some(true)]);
}

/// What is reported of each real server, with what the table proves.
fn overloaded(snapshot: &Snapshot, activity: &Activity) -> Vec<Option<bool>> {
    let correlator = Correlator::new(own_netns());
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for server in snapshot.virtual_servers() {
        let destinations = snapshot.destinations(server);
        correlator.observe(activity, &server.service.key, destinations, &mut seen);
        all.extend(seen.iter().map(|seen| seen.activity.overloaded));
    }
    all
}
