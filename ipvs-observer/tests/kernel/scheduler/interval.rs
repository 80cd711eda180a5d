//! What was counted since the last reading, and in tables of which a part is mapped at a time.

use std::{fmt::Write, net::UdpSocket};

use super::{Watch, kernel_connections};
use crate::{
    abilities::lacking_btf,
    faults::{self, connections, prepare},
    ipvsadm,
    observer::of,
    support::{
        child::shell,
        lines::{Line, Value},
    },
    watched::Watched,
};

#[test]
fn picks_of_thousands_of_real_servers_are_the_kernels_connections() {
    const SERVICE: &str = "10.9.0.4:7050";
    /// More than are mapped at a time, and the last part is not whole.
    const SERVERS: u64 = 4500;
    let Some(mut watch) = Watch::whole() else { return };
    shell("ip route replace 10.12.0.0/16 dev dummy9");
    let mut rules = format!("-A -u {SERVICE} -s rr -o\n");
    for server in 0..SERVERS {
        let (high, low) = (server / 250, server % 250);
        writeln!(rules, "-a -u {SERVICE} -r 10.12.{high}.{low}:7000 -m").expect("a string grows");
    }
    ipvsadm::restore(&rules);
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let service = format!("UDP {SERVICE}");
    let mut made = 0;
    // Each of them, and then some of them once more.
    for connections in [SERVERS, SERVERS / 3] {
        for _ in 0..connections {
            socket.send_to(b"there", SERVICE).expect("it is scheduled");
        }
        made += connections;
        watch.read();
        let picks = watch.picks(&service);
        assert_eq!(picks.len() as u64, SERVERS);
        assert_eq!(picks, kernel_connections(&service, made));
        let since: u64 = watch
            .destinations(&service)
            .values()
            .map(|destination| destination.picks_since)
            .sum();
        assert_eq!(since, connections, "since the last reading");
    }
    ipvsadm::run(&["-C"]);
    watch.read();
    assert!(watch.picks(&service).is_empty());
}

#[test]
fn shares_of_picks_are_of_the_interval_and_not_of_all_time() {
    if lacking_btf() {
        return;
    }
    prepare();
    let share = |gather: &[Line], server: &str| {
        let line = of(gather, "ipvs_real_server").find(|line| line.tag("address") == server);
        line.and_then(|line| match line.fields.get("pick_share") {
            Some(Value::Float(share)) => Some(*share),
            _ => None,
        })
    };
    let watched = Watched::start(&["--interval", "1s"]);
    watched.until("the probes", |gather| faults::picks(gather).is_some());
    let weight = |server: &str, weight: &str| {
        ipvsadm::run(&[
            "-e",
            "-u",
            faults::SERVICE,
            "-r",
            &format!("{server}:7100"),
            "-m",
            "-w",
            weight,
        ]);
    };
    for (turn, (picked, other)) in [("10.8.0.1", "10.8.0.2"), ("10.8.0.2", "10.8.0.1")]
        .into_iter()
        .enumerate()
    {
        weight(picked, "1");
        weight(other, "0");
        // What was seen before the change has been told.
        watched.until("rest", |gather| {
            share(gather, picked).is_none() && share(gather, other).is_none()
        });
        let first = watched.count();
        connections(30);
        let all = 30 * (turn as u64 + 1);
        watched.until("the picks", |gather| faults::picks(gather) == Some(all));
        let shares: Vec<_> = watched.all()[first..]
            .iter()
            .map(|gather| (share(gather, picked), share(gather, other)))
            .collect();
        println!("{shares:?}");
        assert!(shares.contains(&(Some(1.0), Some(0.0))), "{shares:?}");
        let idle_or_all =
            |shares: &(Option<f64>, Option<f64>)| matches!(shares, (None, None) | (Some(1.0), Some(0.0)));
        assert!(shares.iter().all(idle_or_all), "{shares:?}");
    }
    watched.end();
    ipvsadm::run(&["-C"]);
}
