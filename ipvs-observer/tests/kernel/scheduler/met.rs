//! Packets that meet an entry, where each packet is looked at.

use std::net::{TcpStream, UdpSocket};

use ipvs_observer::{
    model::{Activity, BegunBy, Decision, Drop, DropReason, Outcome, ServiceActivity, Traced},
    probe::{Occasions, ProbeSettings, Probes, Sizes, Tell},
};

use super::{
    Watch,
    around::Setting,
    client,
    ends::{at, close, to, told},
    modprobe, named, own_netns, packets,
    trace::ROOM,
};
use crate::{ipvsadm, traffic};

/// Probes that look at each packet; none on a kernel where there is nothing to hold.
fn looking() -> Option<Probes> {
    drop(Watch::whole()?);
    let probes = Probes::attach(&ProbeSettings {
        tell: Tell::DROPS | Tell::DECISIONS,
        namespaces: vec![own_netns()],
        occasions: Occasions::PACKETS,
        sizes: Sizes {
            events: ROOM,
            ..Sizes::default()
        },
        ..ProbeSettings::default()
    });
    let availability = probes.availability();
    assert!(availability.complete(), "{:?}", availability.first_missing());
    Some(probes)
}

/// What was counted of a service since these probes were attached.
fn counted(probes: &mut Probes, service: &str) -> ServiceActivity {
    let mut activity = Activity::default();
    probes.read(&mut activity);
    assert!(activity.watched.packets);
    let mut services = activity.services.iter();
    let found = services.find(|((_, key), _)| named(key) == service);
    *found.expect("it was counted").1
}

#[test]
fn a_syn_that_takes_an_old_entry_is_counted_and_told_and_not_one_that_comes_again() {
    const TIMES: u16 = 4;
    let Some(mut probes) = looking() else { return };
    assert!(modprobe("ip_vs_rr"));
    let old = Setting::set("conn_reuse_mode", "0");
    ipvsadm::restore("-A -t 10.9.0.1:7520 -s rr\n-a -t 10.9.0.1:7520 -r 10.8.0.1:7000 -m\n");
    let ports = close("10.9.0.1:7520", TIMES.into());
    // The old entries lead to one server, and what is new would go to the other.
    ipvsadm::run(&["-a", "-t", "10.9.0.1:7520", "-r", "10.8.0.2:7000", "-m"]);
    told(&mut probes);
    let again = ports.clone();
    client::run(move || {
        for port in again {
            packets::segment(at(port), to("10.9.0.1:7520"), packets::SYN);
        }
    });
    let reused: Vec<u16> = told(&mut probes)
        .into_iter()
        .map(|event| {
            let Traced::Decision(decision) = event else {
                panic!("{event:?}");
            };
            let Decision {
                outcome,
                begun_by,
                destination,
                client_port,
                ..
            } = *decision;
            assert_eq!((outcome, begun_by), (Outcome::Reused, Some(BegunBy::Syn)));
            let destination = destination.expect("the old one");
            assert_eq!(destination.key.to_string(), "10.8.0.1:7000");
            client_port
        })
        .collect();
    assert_eq!(reused, ports);
    // A handshake that is not answered: the second SYN is the first one again.
    client::run(|| {
        let port = client::next_port();
        for _ in 0..2 {
            packets::segment(at(port), to("10.9.0.1:7520"), packets::SYN);
        }
    });
    let seen = counted(&mut probes, "TCP 10.9.0.1:7520");
    assert_eq!(
        (seen.reused, seen.picks, seen.drops_server_removed),
        (TIMES.into(), u64::from(TIMES) + 1, 0)
    );
    drop(old);
}

#[test]
fn packets_whose_server_was_removed_are_counted_and_told_each() {
    const TIMES: usize = 5;
    let Some(mut probes) = looking() else { return };
    assert!(modprobe("ip_vs_rr"));
    let stays = Setting::set("expire_nodest_conn", "0");
    ipvsadm::restore("-A -u 10.9.0.1:7521 -s rr\n-a -u 10.9.0.1:7521 -r 10.8.0.1:7000 -m\n");
    let port = client::next_port();
    let send = move |times| {
        client::run(move || {
            let socket = UdpSocket::bind(("10.7.0.2", port)).expect("a socket");
            for _ in 0..times {
                socket.send_to(b"anybody?", "10.9.0.1:7521").expect("sending");
            }
        });
    };
    send(2);
    ipvsadm::run(&["-d", "-u", "10.9.0.1:7521", "-r", "10.8.0.1:7000"]);
    told(&mut probes);
    send(TIMES);
    let drops: Vec<_> = told(&mut probes)
        .into_iter()
        .map(|event| {
            let Traced::Drop(Drop { connection, reason }) = event else {
                panic!("{event:?}");
            };
            let destination = connection.destination.expect("the removed one");
            (reason, connection.client_port, destination.key.to_string())
        })
        .collect();
    let dropped = (DropReason::ServerRemoved, port, "10.8.0.1:7000".to_owned());
    assert_eq!(drops, vec![dropped; TIMES]);
    let seen = counted(&mut probes, "UDP 10.9.0.1:7521");
    assert_eq!(
        (seen.picks, seen.drops_server_removed, seen.reused),
        (1, TIMES as u64, 0)
    );
    drop(stays);
}

#[test]
fn packets_of_connections_that_are_well_are_left_alone() {
    let Some(mut probes) = looking() else { return };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore("-A -t 10.9.0.1:7522 -s rr\n-a -t 10.9.0.1:7522 -r 10.8.0.1:7000 -m\n");
    told(&mut probes);
    client::run(|| {
        for _ in 0..20 {
            drop::<TcpStream>(traffic::connect("10.9.0.1:7522"));
        }
    });
    let events = told(&mut probes);
    let scheduled = |event: &Traced| matches!(event, Traced::Decision(decision) if decision.outcome == Outcome::Scheduled);
    assert!(events.len() == 20 && events.iter().all(scheduled), "{events:?}");
    let seen = counted(&mut probes, "TCP 10.9.0.1:7522");
    assert_eq!((seen.picks, seen.reused, seen.drops_server_removed), (20, 0, 0));
}
