//! Connections that could not be made: what the decision says of the reason.

use std::{net::UdpSocket, path::Path};

use ipvs_observer::{
    model::Outcome,
    probe::{Probes, Tell},
};

use super::{
    Watch,
    around::Setting,
    client, modprobe, rules,
    trace::{ROOM, telling, told},
};
use crate::{abilities::lacking, ipvsadm};

#[test]
fn a_connection_beyond_the_limit_is_told_with_it() {
    const TIMES: u64 = 3;
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    let there = Path::new("/proc/sys/net/ipv4/vs/conn_max").exists();
    if lacking("net.ipv4.vs.conn_max", there) {
        return;
    }
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    probes.refresh();
    ipvsadm::restore(&rules("-u 10.9.0.1:7096", "rr", [1, 1, 1]));
    client::send("10.9.0.1:7096", 1);
    let limit = Setting::set("conn_max", "1");
    told(&mut probes);
    client::send("10.9.0.1:7096", TIMES as usize);
    drop(limit);
    watch.read();
    let counted = watch.service("UDP 10.9.0.1:7096");
    assert_eq!((counted.picks, counted.fatal), (1, TIMES));
    all_failed(
        &mut probes,
        TIMES,
        "the namespace has as many connections as net.ipv4.vs.conn_max allows",
    );
}

#[test]
fn a_packet_that_the_persistence_engine_cannot_read_is_told_with_it() {
    const TIMES: u64 = 3;
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_pe_sip"));
    assert!(modprobe("ip_vs_rr"));
    probes.refresh();
    ipvsadm::restore(
        "-A -u 10.9.0.2:5060 -s rr -p 60 --pe sip -o
         -a -u 10.9.0.2:5060 -r 10.8.0.1:5060 -m\n",
    );
    told(&mut probes);
    client::run(|| {
        for _ in 0..TIMES {
            let socket = UdpSocket::bind(("10.7.0.2", client::next_port())).expect("a socket");
            socket
                .send_to(
                    b"INVITE sip:a@b SIP/2.0\r\nContact: nobody\r\n\r\n",
                    "10.9.0.2:5060",
                )
                .expect("sending");
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(100));
    watch.read();
    let counted = watch.service("UDP 10.9.0.2:5060");
    assert_eq!((counted.calls, counted.fatal), (0, TIMES));
    all_failed(
        &mut probes,
        TIMES,
        "the persistence engine finds nothing in the packet to go by",
    );
}

/// Holds that so many decisions were told, each fatal for this reason.
fn all_failed(probes: &mut Probes, times: u64, reason: &str) {
    let (decisions, lost) = told(probes);
    assert!(lost.is_nothing(), "{lost:?}");
    assert_eq!(decisions.len() as u64, times);
    for decision in decisions {
        assert_eq!(
            (decision.outcome, decision.reason.as_str()),
            (Outcome::Fatal, reason)
        );
    }
}
