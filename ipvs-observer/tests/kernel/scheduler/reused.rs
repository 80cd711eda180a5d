//! SYNs that meet the entry of an earlier connection, and connections that nobody scheduled: made so many times, counted
//! and told so many times.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use ipvs_observer::{
    model::{BegunBy, Drop, DropReason, How, Outcome, Traced},
    probe::Tell,
};

use super::{
    Watch,
    around::Setting,
    budget::Shown,
    client,
    ends::{at, close, ends, to, told},
    modprobe, named, packets, rmmod, rules,
    trace::{ROOM, telling},
};
use crate::{abilities::lacking, ipvsadm, observer};

#[test]
fn a_syn_that_meets_an_old_entry_replaces_it_and_is_dropped_where_conntrack_holds_that() {
    const TIMES: usize = 4;
    let Some(mut probes) = telling(Tell::ENDS | Tell::DROPS | Tell::DECISIONS, ROOM) else {
        return;
    };
    let Some(mut shown) = Shown::start("2") else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    // A service on FTP's port is what has connection tracking look at packets where no rule of netfilter does.
    let settings = [
        Setting::set("conntrack", "1"),
        Setting::set("conn_reuse_mode", "0"),
        Setting::set("expire_nodest_conn", "1"),
    ];
    ipvsadm::restore(
        "-A -t 10.9.0.1:21 -s rr\n-a -t 10.9.0.1:21 -r 10.8.0.1:21 -m
         -A -t 10.9.0.1:7506 -s rr\n-a -t 10.9.0.1:7506 -r 10.8.0.1:7000 -m\n",
    );
    told(&mut probes);
    let held = client::connect("10.9.0.1:7506", TIMES);
    ipvsadm::run(&["-a", "-t", "10.9.0.1:7506", "-r", "10.8.0.2:7000", "-m"]);
    ipvsadm::run(&[
        "-e",
        "-t",
        "10.9.0.1:7506",
        "-r",
        "10.8.0.1:7000",
        "-m",
        "-w",
        "0",
    ]);
    let ports: Vec<u16> = held
        .iter()
        .map(|stream| stream.local_addr().expect("it is connected").port())
        .collect();
    client::run(move || {
        for port in ports {
            packets::segment(at(port), to("10.9.0.1:7506"), packets::SYN);
        }
    });
    let service = "TCP 10.9.0.1:7506";
    let seen = watch.until(service, |seen| seen.ended == TIMES as u64);
    assert_eq!(
        (seen.drops_old_conntrack, seen.ended, seen.picks),
        (TIMES as u64, TIMES as u64, TIMES as u64)
    );
    assert_eq!(watch.ends(service).other, TIMES as u64);
    let events = told(&mut probes);
    let how = BTreeMap::from([((How::Replaced.name(), "ESTABLISHED"), TIMES)]);
    assert_eq!(ends(&events, service), how);
    let mut drops = Vec::new();
    for event in &events {
        if let Traced::Drop(Drop { connection, reason }) = event {
            let destination = connection.destination.expect("the drained one");
            assert_eq!(destination.key.to_string(), "10.8.0.1:7000");
            drops.push((named(&connection.service), *reason));
        }
    }
    let dropped = (service.to_owned(), DropReason::OldConntrack);
    assert_eq!(drops, vec![dropped; TIMES]);
    let lines = shown.gather();
    let drops = observer::of(&lines, "ipvs_drop");
    let reasons: Vec<_> = drops.map(|line| line.tag("reason")).collect();
    assert_eq!(reasons, ["old_conntrack"; 2], "as many as are asked for");
    drop((held, settings));
}

#[test]
fn a_port_that_is_used_again_replaces_its_entry_without_a_drop() {
    const TIMES: u64 = 3;
    let Some(mut probes) = telling(Tell::ENDS | Tell::DROPS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    let reuse = Setting::set("conn_reuse_mode", "1");
    ipvsadm::restore(&rules("-t 10.9.0.1:7507", "rr", [1, 1, 1]));
    told(&mut probes);
    let service = "TCP 10.9.0.1:7507";
    for port in close("10.9.0.1:7507", TIMES as usize) {
        client::run(move || packets::segment(at(port), to("10.9.0.1:7507"), packets::SYN));
    }
    let seen = watch.until(service, |seen| seen.ended == TIMES);
    assert_eq!(
        (seen.picks, seen.ended, seen.drops_old_conntrack),
        (2 * TIMES, TIMES, 0)
    );
    let events = told(&mut probes);
    assert_eq!(
        ends(&events, service),
        BTreeMap::from([((How::Replaced.name(), "TIME_WAIT"), TIMES as usize)])
    );
    assert_eq!(events.len(), TIMES as usize, "{events:?}");
    drop(reuse);
}

#[test]
fn a_syn_on_the_entry_of_a_removed_server_replaces_it_where_entries_of_such_stay() {
    const TIMES: u64 = 3;
    let Some(mut probes) = telling(Tell::ENDS | Tell::DROPS, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    let settings = [
        Setting::set("conn_reuse_mode", "1"),
        Setting::set("expire_nodest_conn", "0"),
    ];
    ipvsadm::restore("-A -t 10.9.0.1:7514 -s rr\n-a -t 10.9.0.1:7514 -r 10.8.0.1:7000 -m\n");
    told(&mut probes);
    let service = "TCP 10.9.0.1:7514";
    let ports = close("10.9.0.1:7514", TIMES as usize);
    ipvsadm::run(&["-a", "-t", "10.9.0.1:7514", "-r", "10.8.0.2:7000", "-m"]);
    ipvsadm::run(&["-d", "-t", "10.9.0.1:7514", "-r", "10.8.0.1:7000"]);
    client::run(move || {
        for port in ports {
            packets::segment(at(port), to("10.9.0.1:7514"), packets::SYN);
        }
    });
    let seen = watch.until(service, |seen| seen.ended == TIMES);
    assert_eq!(
        (seen.picks, seen.ended, seen.ended_server_removed),
        (2 * TIMES, TIMES, 0)
    );
    assert_eq!((seen.drops_old_conntrack, seen.drops_server_removed), (0, 0));
    let events = told(&mut probes);
    assert_eq!(
        ends(&events, service),
        BTreeMap::from([((How::Replaced.name(), "TIME_WAIT"), TIMES as usize)])
    );
    assert_eq!(events.len(), TIMES as usize, "{events:?}");
    drop(settings);
}

#[test]
fn data_connections_of_ftp_are_counted_and_told_as_begun_by_it() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    if lacking("ip_vs_ftp", modprobe("ip_vs_ftp")) {
        return;
    }
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    let conntrack = Setting::set("conntrack", "1");
    // A real server of this machine is not masqueraded, and then the module for FTP does not look.
    ipvsadm::restore("-A -t 10.9.0.4:21 -s rr\n-a -t 10.9.0.4:21 -r 10.6.0.2:21 -m\n");
    told(&mut probes);
    let listener = client::run_server(|| TcpListener::bind("10.6.0.2:21").expect("its own address"));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.read_exact(&mut [0; 6]).expect("a command");
        stream
            .write_all(b"227 Entering Passive Mode (10,6,0,2,30,40).\r\n")
            .expect("it is open");
        // Until the client leaves.
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    client::run(|| {
        let mut stream = TcpStream::connect("10.9.0.4:21").expect("a service");
        stream.write_all(b"PASV\r\n").expect("it is open");
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"227 Ente");
    });
    server.join().expect("it ends");
    let service = "TCP 10.9.0.4:21";
    let seen = watch.until(service, |seen| seen.begun_by_ftp == 1);
    assert_eq!((seen.picks, seen.begun_by_ftp), (1, 1));
    let begun: Vec<_> = told(&mut probes)
        .into_iter()
        .filter_map(|event| match event {
            Traced::Decision(decision) => Some((decision.outcome, decision.begun_by)),
            _ => None,
        })
        .collect();
    assert_eq!(
        begun,
        [
            (Outcome::Scheduled, Some(BegunBy::Syn)),
            (Outcome::Elsewhere, Some(BegunBy::Ftp))
        ]
    );
    drop(conntrack);
    // While a connection is in the table, it holds the module for FTP.
    let cut = Setting::set("expire_nodest_conn", "1");
    ipvsadm::run(&["-d", "-t", "10.9.0.4:21", "-r", "10.6.0.2:21"]);
    assert_eq!(watch.until(service, |seen| seen.ended == 2).ended, 2);
    drop(cut);
    assert!(rmmod("ip_vs_ftp"), "nothing holds it");
}
