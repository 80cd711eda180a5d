//! What happens beside the scheduler: packets that go another way, and connections that something else than a client's
//! first packet begins.

use std::{
    fs,
    net::{SocketAddrV4, TcpStream, UdpSocket},
    time::Duration,
};

use ipvs_observer::{
    model::{BegunBy, Decision, Outcome},
    probe::Tell,
};

use super::{
    Watch, client, kernel_connections, modprobe, packets, rules,
    trace::{ROOM, telling, told},
};
use crate::ipvsadm;

/// A setting that is what it was when this is dropped.
pub struct Setting {
    path: String,
    before: String,
}

impl Setting {
    pub fn set(name: &str, value: &str) -> Self {
        let path = format!("/proc/sys/net/ipv4/vs/{name}");
        let before = fs::read_to_string(&path).expect("a setting of IPVS");
        fs::write(&path, value).expect("root may");
        Self { path, before }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.before);
    }
}

fn outcomes(decisions: &[Decision]) -> Vec<(Outcome, &str)> {
    decisions
        .iter()
        .map(|decision| (decision.outcome, decision.reason.as_str()))
        .collect()
}

fn at(address: &str) -> SocketAddrV4 {
    address.parse().expect("an address and a port")
}

#[test]
fn what_is_for_other_ports_beside_an_ftp_service_is_handed_on_and_not_refused() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore(&rules("-t 10.9.0.1:21", "rr", [1, 1, 1]));
    watch.read();
    told(&mut probes);
    // The kernel takes any port that needs no privilege for one of passive FTP.
    client::run(|| {
        for port in [7600, 7601, 7602] {
            let nobody = format!("10.9.0.1:{port}").parse().expect("an address");
            TcpStream::connect_timeout(&nobody, Duration::from_secs(5)).expect_err("nobody is there");
        }
    });
    watch.read();
    let counted = watch.service("TCP 10.9.0.1:21");
    assert_eq!((counted.accepted, counted.refused, counted.bypassed), (3, 0, 0));
    assert_eq!((counted.calls, counted.none), (0, 0));
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    let reason = "the packet is for another port than the service's";
    assert_eq!(outcomes(&decisions), [(Outcome::Accepted, reason); 3]);
    let ports: Vec<_> = decisions.iter().map(|decision| decision.r#virtual.port).collect();
    assert_eq!(ports, [7600, 7601, 7602]);
}

#[test]
fn a_bypassed_packet_is_told_and_counted_as_that() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    let bypass = Setting::set("cache_bypass", "1");
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore("-A -f 72 -s rr\n");
    watch.read();
    told(&mut probes);
    // To an address that is not this machine's: one of the client's network.
    client::run(|| ());
    let sent = 4;
    for _ in 0..sent {
        packets::marked("10.7.0.99:9", 72);
    }
    watch.read();
    let counted = watch.service("FWM 72");
    assert_eq!(ipvsadm::connections("UDP 10.7.0.99:9"), sent);
    assert_eq!(
        (counted.bypassed, counted.refused, counted.accepted),
        (sent, 0, 0)
    );
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    let reason = "the service has no real servers (net.ipv4.vs.cache_bypass is on)";
    assert_eq!(
        outcomes(&decisions),
        vec![(Outcome::Bypassed, reason); sent as usize]
    );
    let asked = decisions[0].r#virtual;
    assert_eq!(
        (asked.address.to_string(), asked.port),
        ("10.7.0.99".to_owned(), 9)
    );
    // Of a one-packet service, nothing stays.
    ipvsadm::restore("-A -f 74 -s rr -o\n");
    packets::marked("10.7.0.99:10", 74);
    watch.read();
    let counted = watch.service("FWM 74");
    assert_eq!((counted.bypassed, counted.ended), (1, 1));
    assert_eq!(ipvsadm::connections("UDP 10.7.0.99:10"), 0);
    drop(bypass);
}

#[test]
fn a_service_without_a_scheduler_asks_nobody_and_refuses() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::restore(&rules("-u 10.9.0.1:7091", "rr", [1, 1, 1]));
    ipvsadm::run(&["-E", "-u", "10.9.0.1:7091", "-s", "none"]);
    watch.read();
    told(&mut probes);
    client::send("10.9.0.1:7091", 3);
    watch.read();
    let counted = watch.service("UDP 10.9.0.1:7091");
    assert_eq!((counted.calls, counted.none, counted.refused), (0, 0, 3));
    let (decisions, _) = told(&mut probes);
    let reason = "the service has no scheduler";
    assert_eq!(outcomes(&decisions), [(Outcome::None, reason); 3]);
}

#[test]
fn what_began_a_connection_is_told() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    let settings = [
        Setting::set("sloppy_tcp", "1"),
        Setting::set("schedule_icmp", "1"),
    ];
    assert!(modprobe("ip_vs_rr"));
    probes.refresh();
    ipvsadm::restore(
        &["-t 10.9.0.1:7092", "-u 10.9.0.1:7092"]
            .map(|service| rules(service, "rr", [1, 1, 1]))
            .concat(),
    );
    told(&mut probes);
    let held = client::connect("10.9.0.1:7092", 1);
    client::send("10.9.0.1:7092", 1);
    client::run(|| {
        packets::segment(at("10.7.0.2:4000"), at("10.9.0.1:7092"), packets::ACK);
        packets::unreachable(at("10.9.0.1:7092"), at("10.7.0.2:4001"));
    });
    std::thread::sleep(Duration::from_millis(100));
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    let begun: Vec<_> = decisions.iter().map(|decision| decision.begun_by).collect();
    assert_eq!(
        begun,
        [Some(BegunBy::Syn), None, Some(BegunBy::Data), Some(BegunBy::Icmp)],
        "{decisions:?}"
    );
    for decision in &decisions {
        let asked = decision.r#virtual;
        assert_eq!(
            (asked.address.to_string(), asked.port),
            ("10.9.0.1".to_owned(), 7092)
        );
        assert_eq!(decision.client.to_string(), "10.7.0.2");
    }
    assert_eq!(decisions[2].client_port, 4000);
    assert_eq!(decisions[3].client_port, 4001);
    drop((held, settings));
}

#[test]
fn what_a_client_asked_for_is_told_also_where_it_is_not_the_service() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    assert!(modprobe("ip_vs_rr"));
    probes.refresh();
    ipvsadm::restore(
        "-A -u 10.9.0.2:0 -s rr -p 60\n-a -u 10.9.0.2:0 -r 10.8.0.1:0 -m
         -A -f 73 -s rr\n-a -f 73 -r 10.8.0.1:7000 -m\n",
    );
    told(&mut probes);
    client::send("10.9.0.2:7093", 1);
    client::send("10.9.0.2:7094", 1);
    packets::marked("10.9.0.3:7095", 73);
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    let asked: Vec<_> = decisions
        .iter()
        .map(|decision| {
            let asked = decision.r#virtual;
            format!("{}://{}:{}", asked.protocol, asked.address, asked.port)
        })
        .collect();
    assert_eq!(
        asked,
        [
            "udp://10.9.0.2:7093",
            "udp://10.9.0.2:7094",
            "udp://10.9.0.3:7095"
        ]
    );
}

#[test]
fn connections_that_a_real_server_begins_are_counted_beside_the_picks() {
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_pe_sip"));
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore(
        "-A -u 10.9.0.4:5060 -s rr -p 60 --pe sip -o
         -a -u 10.9.0.4:5060 -r 10.8.0.4:5060 -m\n",
    );
    watch.read();
    client::run(|| ());
    let server = UdpSocket::bind("10.8.0.4:5060").expect("an address of the machine");
    let call = |number: u16| format!("INVITE sip:a@b SIP/2.0\r\nCall-ID: {number}@10.8.0.4\r\n\r\n");
    for number in 0..3 {
        let client = format!("10.7.0.2:{}", 5070 + number);
        server.send_to(call(number).as_bytes(), client).expect("sending");
    }
    client::run(move || {
        let socket = UdpSocket::bind("10.7.0.2:5080").expect("a socket");
        for number in 10..12 {
            socket
                .send_to(call(number).as_bytes(), "10.9.0.4:5060")
                .expect("sending");
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    watch.read();
    let counted = watch.service("UDP 10.9.0.4:5060");
    let all = counted.picks + counted.template_hits + counted.begun_by_server;
    assert_eq!(counted.begun_by_server, 3, "{counted:?}");
    assert!(counted.picks > 0, "{counted:?}");
    assert_eq!(counted.ended, all, "each is over with its packet: {counted:?}");
    let kernel = kernel_connections("UDP 10.9.0.4:5060", all);
    assert_eq!(kernel.values().sum::<u64>(), all);
}
