use std::net::IpAddr;

use super::*;
use crate::{
    commands::check::row::State,
    model::{Address, Destination, DestinationKey, Listing, Name, Protocol, Service, ServiceFlags, Stats},
};

const ON: Forwarding = Forwarding {
    inet: Some(true),
    inet6: Some(true),
};
const OFF: Forwarding = Forwarding {
    inet: Some(false),
    inet6: Some(false),
};

fn address(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().expect("an address"))
}

/// A virtual server for each address, on two ports, with a real server of the same family.
fn table(addresses: &[&str], forward: Forward) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for text in addresses {
        for port in [80, 443] {
            snapshot.push_service(Service {
                key: ServiceKey::Endpoint {
                    address: address(text),
                    protocol: Protocol::TCP,
                    port,
                },
                scheduler: Name::from("rr"),
                flags: ServiceFlags::default(),
                timeout: 0,
                netmask: 0,
                persistence_engine: Name::default(),
                stats: Stats::default(),
            });
        }
    }
    let (servers, parts) = snapshot.to_list(1);
    for server in servers {
        let key = DestinationKey {
            address: match server.service.key.family() {
                Family::INET => address("10.2.0.1"),
                _ => address("fd00:2::1"),
            },
            port: 8080,
        };
        let mut listing = Listing::begin(server, &mut parts[0]);
        listing.push(Destination {
            key,
            forward,
            tunnel: None,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            active: 0,
            inactive: 0,
            persistent: 0,
            stats: Stats::default(),
        });
        listing.finish();
    }
    snapshot
}

fn of<'a>(rows: &'a [Row], need: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.need == need).collect()
}

#[test]
fn addresses_that_are_not_local_are_named_each_once_and_many_are_counted() {
    let texts = ["10.0.0.5", "10.0.0.4", "10.0.0.3", "10.0.0.2", "10.0.0.1"];
    let mut snapshot = table(&texts, Forward::DirectRoute);
    snapshot.locate(|key| Some(key.to_string().contains("10.0.0.3")));
    let rows = rows(&snapshot, OFF);
    assert_eq!(rows.len(), 1, "nothing is masqueraded: {rows:?}");
    assert_eq!(rows[0].state, State::Warning);
    assert_eq!(
        rows[0].detail,
        "not local: 10.0.0.1, 10.0.0.2, 10.0.0.4 and 1 more"
    );
    snapshot.locate(|_| Some(true));
    let rows = super::rows(&snapshot, OFF);
    assert_eq!(
        (rows[0].state, rows[0].detail.as_str()),
        (State::Ok, "5 of 5 local")
    );
    snapshot.locate(|_| None);
    assert_eq!(super::rows(&snapshot, OFF)[0].state, State::Optional);
}

#[test]
fn forwarding_is_asked_for_where_a_server_of_its_family_is_masqueraded() {
    let both = table(&["10.0.0.1", "fd00::1"], Forward::Masquerade);
    let rows = rows(&both, OFF);
    let details: Vec<_> = of(&rows, "forwarding")
        .iter()
        .map(|row| row.detail.as_str())
        .collect();
    assert_eq!(
        details,
        ["net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"]
    );
    assert!(
        of(&rows, "forwarding")
            .iter()
            .all(|row| row.state == State::Warning)
    );
    assert!(
        of(&rows, "forwarding")[0]
            .remedy
            .starts_with("sysctl net.ipv4.ip_forward=1; ")
    );
    let rows = super::rows(&both, ON);
    assert!(of(&rows, "forwarding").iter().all(|row| row.state == State::Ok));
    let six = table(&["fd00::1"], Forward::Masquerade);
    let rows = super::rows(&six, OFF);
    assert_eq!(of(&rows, "forwarding").len(), 1);
    // A kernel without IPv6 says nothing.
    assert!(of(&super::rows(&six, Forwarding::default()), "forwarding").is_empty());
    let routed = table(&["10.0.0.1"], Forward::DirectRoute);
    assert!(of(&super::rows(&routed, OFF), "forwarding").is_empty());
}
