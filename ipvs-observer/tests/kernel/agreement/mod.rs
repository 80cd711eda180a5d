//! Every number, tag and line against `ipvsadm`'s listings.

mod schemas;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ipvsadm::{self, Entry, Name},
    observer::{self, of, only, service},
    support::lines::{Line, Value},
    traffic,
};

const TABLE: &str = include_str!("../table.rules");

/// Everything that `ipvsadm` tells, listing by listing.
#[derive(Debug, PartialEq)]
struct Listings {
    plain: BTreeMap<Name, Entry>,
    stats: BTreeMap<Name, Entry>,
    rates: BTreeMap<Name, Entry>,
    thresholds: BTreeMap<Name, Entry>,
    persistent: BTreeMap<Name, Entry>,
    saved: BTreeMap<Name, BTreeMap<String, String>>,
}

impl Listings {
    fn read() -> Self {
        Self {
            plain: ipvsadm::list(&[]),
            stats: ipvsadm::list(&["--stats", "--exact"]),
            rates: ipvsadm::list(&["--rate", "--exact"]),
            thresholds: ipvsadm::list(&["--thresholds"]),
            persistent: ipvsadm::list(&["--persistent-conn"]),
            saved: ipvsadm::saved(),
        }
    }
}

/// A gather, and the listings that were the same before and after it.
fn at_rest(args: &[&str]) -> (Vec<Line>, Listings) {
    for _ in 0..30 {
        let before = Listings::read();
        let lines = observer::gather(args);
        if before == Listings::read() {
            return (lines, before);
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    panic!("the table did not come to rest");
}

fn prepare() {
    traffic::addresses();
    ipvsadm::restore(TABLE);
}

#[test]
fn unsigned_fields_are_marked_where_they_are_asked_for() {
    prepare();
    let lines = observer::gather(&["--schema", "telegraf", "--unsigned", "--probes", "off"]);
    for (key, value) in lines.iter().flat_map(|line| &line.fields) {
        let signed = key.ends_with("active_connections");
        assert_eq!(matches!(value, Value::Signed(_)), signed, "{key}");
    }
}

#[test]
fn totals_timeouts_and_daemons_agree_with_ipvsadm() {
    traffic::addresses();
    // A real server of another family than its service, and the kernel starts no daemon.
    ipvsadm::restore("-A -t 10.9.0.1:80 -s rr\n-a -t 10.9.0.1:80 -r 10.8.0.1:8080 -m -w 1\n-A -f 47 -s rr\n");
    ipvsadm::run(&["--set", "901", "121", "301"]);
    // The multicast of a daemon needs a link that can.
    ipvsadm::run(&[
        "--start-daemon",
        "master",
        "--mcast-interface",
        "dummy9",
        "--syncid",
        "7",
    ]);
    let lines = observer::gather(&["--probes", "off"]);
    ipvsadm::run(&["--stop-daemon", "master"]);
    let line = only(&lines, "ipvs");
    let timeouts = ["timeout_tcp", "timeout_tcpfin", "timeout_udp"].map(|key| line.number(key));
    assert_eq!(timeouts, [901, 121, 301]);
    assert!(line.boolean("sync_master"));
    assert!(!line.boolean("sync_backup"));
    assert_eq!(
        (line.text("sync_master_interface"), line.number("sync_master_id")),
        ("dummy9", 7)
    );
    let stopped = observer::gather(&["--probes", "off"]);
    assert!(!only(&stopped, "ipvs").boolean("sync_master"));
    let heading = ipvsadm::run(&["-Ln"]);
    let heading = heading.lines().next().expect("a heading");
    let expected = format!(
        "IP Virtual Server version {} (size={})",
        line.text("version"),
        line.number("connection_table_size")
    );
    assert_eq!(heading, expected);
    let table = ipvsadm::list(&[]);
    assert_eq!(line.number("virtual_servers"), table.len() as u64);
    let real: usize = table.values().map(|entry| entry.destinations.len()).sum();
    assert_eq!(line.number("real_servers"), real as u64);
}

#[test]
fn only_the_services_asked_for_are_gathered() {
    prepare();
    let args = [
        "--service",
        "tcp://[fd00:9::1]:443",
        "--service",
        "fwmark:47",
        "--probes",
        "off",
    ];
    let lines = observer::gather(&args);
    let names: BTreeSet<_> = of(&lines, "ipvs_virtual_server")
        .map(|line| service(line, ""))
        .collect();
    assert_eq!(
        names,
        ["FWM 47", "FWM 47 IPv6", "TCP [fd00:9::1]:443"]
            .map(str::to_owned)
            .into()
    );
    assert_eq!(of(&lines, "ipvs_real_server").count(), 4);
    assert_eq!(
        only(&lines, "ipvs").number("virtual_servers"),
        ipvsadm::list(&[]).len() as u64
    );
}
