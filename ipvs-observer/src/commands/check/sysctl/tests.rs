use super::*;
use crate::{
    commands::check::row::State,
    model::{
        Address, DestinationKey, Forward, Listing, Name, Protocol, Service, ServiceFlags, ServiceKey, Stats,
        Timeouts,
    },
};

/// The kernel's own settings, of a kernel without `conn_max`.
const USUAL: Settings = Settings {
    conn_reuse_mode: Some(1),
    expire_nodest_conn: Some(false),
    expire_quiescent_template: Some(false),
    conntrack: Some(false),
    cache_bypass: Some(false),
    sloppy_tcp: Some(false),
    sloppy_sctp: Some(false),
    schedule_icmp: Some(false),
    drop_entry: Some(0),
    drop_packet: Some(0),
    secure_tcp: Some(0),
    am_droprate: Some(10),
    conn_max: None,
};

/// A virtual server with one real server.
fn table(weight: u32, persistent: u32) -> Snapshot {
    let address = Address::from(std::net::IpAddr::from([10, 0, 0, 1]));
    let mut snapshot = Snapshot::default();
    snapshot.push_service(Service {
        key: ServiceKey::Endpoint {
            address,
            protocol: Protocol::TCP,
            port: 80,
        },
        scheduler: Name::from("rr"),
        flags: ServiceFlags::default(),
        timeout: 0,
        netmask: 0,
        persistence_engine: Name::default(),
        stats: Stats::default(),
    });
    let (servers, parts) = snapshot.to_list(1);
    let mut listing = Listing::begin(&mut servers[0], &mut parts[0]);
    listing.push(Destination {
        key: DestinationKey { address, port: 8080 },
        forward: Forward::Masquerade,
        tunnel: None,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        active: 0,
        inactive: 0,
        persistent,
        stats: Stats::default(),
    });
    listing.finish();
    snapshot.timeouts = Some(Timeouts {
        tcp: 900,
        tcp_fin: 120,
        udp: 300,
    });
    snapshot
}

/// The rows that warn, by their needs.
fn warnings(settings: Settings, mut snapshot: Snapshot) -> Vec<Row> {
    snapshot.settings = Some(settings);
    let mut rows = rows(&snapshot);
    for row in &rows {
        assert_eq!(row.state == State::Ok, row.consequence.is_empty(), "{row:?}");
        assert!(row.state == State::Ok || row.remedy.contains("sysctl") || row.remedy.contains("price"));
    }
    rows.retain(|row| row.state != State::Ok);
    rows
}

fn needs(rows: &[Row]) -> Vec<&str> {
    rows.iter()
        .map(|row| row.need.trim_start_matches("setting: "))
        .collect()
}

#[test]
fn the_usual_settings_hurt_only_where_servers_may_be_removed() {
    assert_eq!(warnings(USUAL, Snapshot::default()), []);
    let rows = warnings(USUAL, table(1, 0));
    assert_eq!(needs(&rows), ["removed servers"]);
    assert!(rows[0].consequence.contains("900 s"), "{}", rows[0].consequence);
    let expiring = Settings {
        expire_nodest_conn: Some(true),
        ..USUAL
    };
    assert_eq!(warnings(expiring, table(1, 0)), []);
}

#[test]
fn conntrack_hurts_where_syns_on_old_ports_are_scheduled_anew() {
    let with = |conn_reuse_mode, expire_nodest_conn| Settings {
        conntrack: Some(true),
        conn_reuse_mode: Some(conn_reuse_mode),
        expire_nodest_conn: Some(expire_nodest_conn),
        ..USUAL
    };
    let rows = |mode, expires| warnings(with(mode, expires), Snapshot::default());
    assert_eq!(needs(&rows(1, false)), ["conntrack"]);
    assert_eq!(needs(&rows(3, true)), ["conntrack"]);
    // What takes the old entry is not scheduled anew; what finds its server gone is.
    assert_eq!(needs(&rows(0, false)), ["port reuse"]);
    let both = rows(0, true);
    assert_eq!(needs(&both), ["port reuse", "conntrack"]);
    assert!(
        !both[1].remedy.contains("conn_reuse_mode=0"),
        "{}",
        both[1].remedy
    );
}

#[test]
fn without_reuse_a_syn_takes_the_old_entry() {
    let old = Settings {
        conn_reuse_mode: Some(0),
        ..USUAL
    };
    let rows = warnings(old, Snapshot::default());
    assert_eq!(needs(&rows), ["port reuse"]);
    assert!(rows[0].consequence.contains("the SYN is dropped"));
    let expiring = Settings {
        expire_nodest_conn: Some(true),
        ..old
    };
    let rows = warnings(expiring, Snapshot::default());
    assert!(!rows[0].consequence.contains("the SYN is dropped"));
}

#[test]
fn a_drained_server_is_told_of_while_persistence_binds_clients_to_it() {
    let usual = Settings {
        expire_nodest_conn: Some(true),
        ..USUAL
    };
    assert_eq!(needs(&warnings(usual, table(0, 2))), ["drained servers"]);
    assert_eq!(warnings(usual, table(0, 0)), []);
    assert_eq!(warnings(usual, table(1, 2)), []);
    let expiring = Settings {
        expire_quiescent_template: Some(true),
        ..usual
    };
    assert_eq!(warnings(expiring, table(0, 2)), []);
}

#[test]
fn a_defence_at_work_is_told_and_one_that_waits_is_not() {
    let waiting = Settings {
        drop_entry: Some(1),
        drop_packet: Some(1),
        secure_tcp: Some(1),
        ..USUAL
    };
    assert_eq!(warnings(waiting, Snapshot::default()), []);
    let rows = warnings(
        Settings {
            drop_packet: Some(2),
            secure_tcp: Some(3),
            ..waiting
        },
        Snapshot::default(),
    );
    assert_eq!(needs(&rows), ["defence"]);
    assert!(
        rows[0].consequence.contains("new connections") && rows[0].consequence.contains("time out sooner")
    );
    assert!(!rows[0].consequence.contains("at random"));
}

#[test]
fn what_the_kernel_lacks_is_named_and_nothing_is_said_of_a_namespace_that_shows_no_settings() {
    let mut snapshot = Snapshot::default();
    snapshot.settings = Some(USUAL);
    let rows = super::rows(&snapshot);
    assert!(
        rows.iter()
            .any(|row| row.detail.ends_with("(not in this kernel: conn_max)"))
    );
    snapshot.settings = Some(Settings::default());
    let rows = super::rows(&snapshot);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].state, State::Optional);
}
