//! Both schemas, whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{Listings, at_rest, prepare};
use crate::{
    ipvsadm::{Entry, Name, numbers},
    observer::{endpoint, of, service},
    support::lines::{Line, Value},
    traffic,
};

const TELEGRAF_STATS: [&str; 8] = [
    "connections",
    "pkts_in",
    "pkts_out",
    "bytes_in",
    "bytes_out",
    "cps",
    "pps_in",
    "pps_out",
];

fn make_traffic() -> Vec<std::net::TcpStream> {
    for host in 1..=3 {
        traffic::serve_tcp(&format!("10.8.0.{host}:8080"));
        traffic::serve_tcp(&format!("[fd00:8::{host}]:8080"));
    }
    traffic::serve_tcp("[fd00:8::1]:443");
    traffic::serve_udp("10.8.0.1:5353");
    let mut held = Vec::new();
    for turn in 0..12 {
        let streams =
            ["10.9.0.1:80", "10.9.0.1:81", "[fd00:9::1]:80", "[fd00:9::1]:443"].map(traffic::connect);
        traffic::ask("10.9.0.1:53");
        // Every third round stays open, so that active and inactive connections differ.
        if turn % 3 == 0 {
            held.extend(streams);
        }
    }
    held
}

/// Both schemas: names, tags, the eight statistics.
fn compare_common(lines: &[Line], listings: &Listings, full: bool) {
    let mut servers = BTreeSet::new();
    let series: BTreeSet<_> = lines.iter().map(Line::series).collect();
    // Telegraf's tags do not tell the family of a mark from that of its real servers.
    assert_eq!(
        series.len() + usize::from(!full),
        lines.len(),
        "a series came twice"
    );
    let mut last = String::new();
    let mut real = 0;
    for line in lines {
        match line.measurement.as_str() {
            "ipvs_virtual_server" => {
                last = service(line, "");
                compare_virtual(line, &last, listings, full);
                assert!(servers.insert(last.clone()), "{last} twice");
            }
            "ipvs_real_server" => {
                compare_real(line, &last, listings, full);
                real += 1;
            }
            _ => assert!(full, "{line:?}"),
        }
        assert_eq!(line.timestamp, lines[0].timestamp, "one gather, one time");
        assert_eq!(line.timestamp % 1_000_000_000, 0, "rounded to seconds");
    }
    assert_eq!(servers.len(), listings.plain.len());
    let destinations = listings.plain.values().map(|entry| entry.destinations.len());
    assert_eq!(real, destinations.sum::<usize>());
}

fn compare_virtual(line: &Line, name: &str, listings: &Listings, full: bool) {
    compare_numbers(
        line,
        &listings.stats[name].numbers()[..5],
        &listings.rates[name].numbers(),
    );
    assert_eq!(line.tag("sched"), listings.plain[name].words[0], "{name}");
    assert_eq!(
        line.tag("netmask"),
        netmask(&listings.saved[name], name, full),
        "{name}"
    );
    assert_eq!(line.tag("address_family"), family(name), "{name}");
}

/// A real server's line, which follows that of its service.
fn compare_real(line: &Line, name: &str, listings: &Listings, full: bool) {
    // A mark's line does not tell the service's family.
    if line.tag("virtual_fwmark").is_empty() {
        assert_eq!(
            service(line, "virtual_"),
            name,
            "a real server away from its virtual server"
        );
    } else {
        let mark = format!("FWM {}", line.tag("virtual_fwmark"));
        assert!(name.starts_with(&mark), "{name}");
        let differs = full && line.tag("address_family") != family(name);
        let expected = if differs { family(name) } else { "" };
        assert_eq!(line.tag("virtual_address_family"), expected);
    }
    let destination = endpoint(line.tag("address"), line.tag("port"));
    let find = |table: &BTreeMap<Name, Entry>| numbers(&table[name].destinations[&destination]);
    compare_numbers(line, &find(&listings.stats), &find(&listings.rates));
    let shown = numbers(&listings.plain[name].destinations[&destination][1..]);
    let connections = ["active_connections", "inactive_connections"].map(|key| line.number(key));
    assert_eq!(connections, shown[1..], "{name} {destination}");
    if full {
        assert_eq!(line.number("weight"), shown[0], "{name} {destination}");
    }
    assert_eq!(line.tag("address_family"), family(&destination));
}

/// The family of a service or destination by its name.
fn family(name: &str) -> &'static str {
    if name.contains('[') || name.ends_with("IPv6") {
        "inet6"
    } else {
        "inet"
    }
}

fn compare_numbers(line: &Line, stats: &[u64], rates: &[u64]) {
    let found: Vec<_> = TELEGRAF_STATS.iter().map(|key| line.number(key)).collect();
    assert_eq!(found[..5], *stats, "{}", line.series());
    assert_eq!(found[5..], rates[..3], "{}", line.series());
    if line.fields.contains_key("bps_in") {
        assert_eq!(
            [line.number("bps_in"), line.number("bps_out")],
            rates[3..],
            "{}",
            line.series()
        );
    }
}

/// The netmask that `ipvsadm -Sn` shows, as each schema has it.
fn netmask(saved: &BTreeMap<String, String>, name: &str, full: bool) -> String {
    let six = family(name) == "inet6";
    let ones = match (saved.get("-M"), six) {
        (None, false) => 32,
        (None, true) => 128,
        (Some(mask), false) => u32::from(mask.parse::<std::net::Ipv4Addr>().expect("a netmask")).count_ones(),
        (Some(length), true) => length.parse().expect("a prefix length"),
    };
    // Telegraf counts the bits of what for IPv6 is a length already.
    if six && !full {
        u32::count_ones(ones).to_string()
    } else {
        ones.to_string()
    }
}

#[test]
fn every_number_tag_and_line_of_the_full_schema_agrees_with_ipvsadm() {
    prepare();
    let _held = make_traffic();
    // On the older kernels counters reach the table with the next estimation, every two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let (lines, listings) = at_rest(&["--probes", "off"]);
    compare_common(&lines, &listings, true);
    let mut last = String::new();
    for line in &lines {
        match line.measurement.as_str() {
            "ipvs_virtual_server" => {
                last = service(line, "");
                compare_full_virtual(line, &last, &listings);
            }
            "ipvs_real_server" => compare_full_real(line, &last, &listings),
            _ => {}
        }
    }
    let tunnels: BTreeSet<_> = of(&lines, "ipvs_real_server")
        .filter(|line| line.fields.contains_key("tunnel"))
        .map(|line| line.text("tunnel").to_owned())
        .collect();
    assert_eq!(
        tunnels,
        ["gre", "gue", "ipip"].map(str::to_owned).into(),
        "every kind of tunnel"
    );
    let connections: u64 = of(&lines, "ipvs_virtual_server")
        .map(|line| line.number("connections"))
        .sum();
    assert!(connections >= 60, "the comparison is not of zeros: {connections}");
}

/// What only the full schema has of a virtual server.
fn compare_full_virtual(line: &Line, name: &str, listings: &Listings) {
    let entry = &listings.plain[name];
    let persistence = entry.words.iter().skip_while(|word| *word != "persistent").nth(1);
    let expected = persistence.map_or(0, |seconds| seconds.parse().expect("seconds"));
    assert_eq!(line.number("persistence_timeout"), expected, "{name}");
    assert_eq!(
        line.boolean("one_packet"),
        entry.words.iter().any(|word| word == "ops"),
        "{name}"
    );
    let engine = entry
        .words
        .iter()
        .skip_while(|word| *word != "pe")
        .nth(1)
        .map(String::as_str);
    assert_eq!(
        line.fields
            .contains_key("persistence_engine")
            .then(|| line.text("persistence_engine")),
        engine
    );
    assert_eq!(
        line.number("real_servers"),
        entry.destinations.len() as u64,
        "{name}"
    );
    let drained = entry
        .destinations
        .values()
        .filter(|words| words[1] == "0")
        .count() as u64;
    assert_eq!(line.number("real_servers_drained"), drained, "{name}");
}

/// What only the full schema has of a real server.
fn compare_full_real(line: &Line, name: &str, listings: &Listings) {
    let destination = endpoint(line.tag("address"), line.tag("port"));
    let thresholds = numbers(&listings.thresholds[name].destinations[&destination]);
    let found = [line.number("upper_threshold"), line.number("lower_threshold")];
    assert_eq!(found, thresholds[..2], "{name} {destination}");
    let persistent = numbers(&listings.persistent[name].destinations[&destination]);
    assert_eq!(
        line.number("persistent_connections"),
        persistent[1],
        "{name} {destination}"
    );
    let forward = match listings.plain[name].destinations[&destination][0].as_str() {
        "Masq" => "masq",
        "Tunnel" => "tunnel",
        "Route" => "droute",
        "Local" => "local",
        other => panic!("{other}"),
    };
    assert_eq!(line.text("forward"), forward, "{name} {destination}");
    assert_eq!(
        line.fields.contains_key("tunnel"),
        forward == "tunnel",
        "{name} {destination}"
    );
}

#[test]
fn the_telegraf_schema_has_what_its_plugin_has_and_nothing_else() {
    prepare();
    let (lines, listings) = at_rest(&["--schema", "telegraf", "--probes", "off"]);
    compare_common(&lines, &listings, false);
    let eight: BTreeSet<_> = TELEGRAF_STATS.into_iter().collect();
    let ten = eight
        .union(&["active_connections", "inactive_connections"].into())
        .copied()
        .collect::<BTreeSet<_>>();
    for line in &lines {
        let fields: BTreeSet<_> = line.fields.keys().map(String::as_str).collect();
        let tags: Vec<_> = line.tags.keys().map(String::as_str).collect();
        assert!(
            line.fields
                .values()
                .all(|value| matches!(value, Value::Signed(_))),
            "{line:?}"
        );
        if line.measurement == "ipvs_virtual_server" {
            assert_eq!(fields, eight);
            let mark: &[&str] = &["address_family", "fwmark", "netmask", "sched"];
            let address: &[&str] = &[
                "address",
                "address_family",
                "netmask",
                "port",
                "protocol",
                "sched",
            ];
            assert_eq!(
                tags,
                if line.tag("fwmark").is_empty() {
                    address
                } else {
                    mark
                }
            );
        } else {
            assert_eq!(line.measurement, "ipvs_real_server");
            assert_eq!(fields, ten);
            let mark: &[&str] = &["address", "address_family", "port", "virtual_fwmark"];
            let address: &[&str] = &[
                "address",
                "address_family",
                "port",
                "virtual_address",
                "virtual_port",
                "virtual_protocol",
            ];
            assert_eq!(
                tags,
                if line.tag("virtual_fwmark").is_empty() {
                    address
                } else {
                    mark
                }
            );
        }
    }
    let six = lines
        .iter()
        .find(|line| service(line, "") == "TCP [fd00:9::1]:443")
        .expect("the service");
    assert_eq!(
        six.tag("netmask"),
        "3",
        "a prefix length of 112 has three bits set"
    );
}
