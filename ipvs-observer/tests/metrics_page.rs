//! `docs/metrics.md` lists exactly what is written.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipvs_observer::{
    correlate::Correlator,
    line::Encoder,
    model::{
        Action, Activity, Address, BegunBy, Change, Connection, Daemon, DaemonRole, Decision, Destination,
        DestinationActivity, DestinationKey, DestinationState, Drop, DropReason, Durations, End, Entries,
        Entry, EntryState, Family, Forward, How, Info, Listing, Name, Netns, Outcome, ProbeTotals, Protocol,
        Remaining, Service, ServiceActivity, ServiceFlags, ServiceKey, Settings, Snapshot, Stats, Timeouts,
        Totals, Tunnel, TunnelKind, Virtual, VirtualServer, Watched,
    },
    points::{Observer, Points, ProbeHealth, Schema, Seen},
};
use support::{
    lines::{self, Value},
    page,
};

/// Tags and fields by measurement.
type Names = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

fn address(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().expect("an address"))
}

/// A snapshot in which everything that is optional is there.
fn everything() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let endpoint = ServiceKey::Endpoint {
        address: address("10.0.0.1"),
        protocol: Protocol::UDP,
        port: 53,
    };
    for key in [
        endpoint,
        // Of another family than its real server, as only tunnels allow.
        ServiceKey::Fwmark {
            family: Family::INET,
            mark: 7,
        },
        // With the same one.
        ServiceKey::Fwmark {
            family: Family::INET,
            mark: 8,
        },
    ] {
        snapshot.push_service(Service {
            key,
            scheduler: Name::from("rr"),
            flags: ServiceFlags(0x3d),
            timeout: 300,
            netmask: 24,
            persistence_engine: Name::from("sip"),
            stats: Stats::default(),
        });
    }
    let (servers, parts) = snapshot.to_list(1);
    for server in servers {
        let mut listing = Listing::begin(server, &mut parts[0]);
        listing.push(Destination {
            key: DestinationKey {
                address: address("fd00::1"),
                port: 53,
            },
            forward: Forward::Tunnel,
            tunnel: Some(Tunnel {
                kind: TunnelKind::Gue,
                port: 6080,
                flags: 0,
            }),
            weight: 1,
            upper_threshold: 2,
            lower_threshold: 1,
            active: 0,
            inactive: 0,
            persistent: 0,
            stats: Stats::default(),
        });
        listing.finish();
    }
    snapshot.services_in_namespace = Some(3);
    snapshot.info = Some(Info {
        version: 0x0001_0201,
        connection_table_size: 4096,
    });
    snapshot.timeouts = Some(Timeouts {
        tcp: 1,
        tcp_fin: 2,
        udp: 3,
    });
    snapshot.totals = Some(Totals::default());
    snapshot.settings = Some(Settings {
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
        conn_max: Some(1),
    });
    snapshot.locate(|_| Some(true));
    for role in [DaemonRole::Master, DaemonRole::Backup] {
        snapshot.daemons.push(Daemon {
            role,
            interface: Name::from("eth0"),
            sync_id: 1,
        });
    }
    snapshot
}

/// What probes that can do everything would see of it.
fn all_activity(snapshot: &Snapshot) -> Activity {
    let mut activity = Activity {
        watched: Watched {
            ends: true,
            reused_ports: true,
            ftp: true,
            unsent: true,
            defence: true,
            sync: true,
            packets: true,
        },
        ..Activity::default()
    };
    for server in snapshot.virtual_servers() {
        let service = server.service.key;
        let seen = ServiceActivity {
            durations: Some(Durations::default()),
            ..ServiceActivity::default()
        };
        activity.services.insert((NETNS, service), seen);
        for destination in snapshot.destinations(server) {
            let seen = DestinationActivity {
                picks: 1,
                overloaded: Some(true),
                ..DestinationActivity::default()
            };
            let place = activity.destinations.len() as u32;
            let name = (NETNS, service, destination.key);
            activity.destinations.update(place, 1, seen, || Some(name));
            activity.changes.extend(Action::ALL.iter().map(|&action| Change {
                time: 1,
                netns: NETNS,
                action,
                service,
                destination: Some(destination.key),
                weight_before: Some(1),
                weight_after: Some(2),
                changed: Some(Vec::new()),
                remaining: Some(Remaining::default()),
                left: "nothing".to_owned(),
                comm: Name::from("ipvsadm"),
                pid: 1,
                parent_comm: Name::from("drain.sh"),
                parent_pid: 1,
            }));
        }
    }
    activity
}

/// A decision for each service, of each outcome and beginning.
fn decisions(snapshot: &Snapshot) -> Vec<Decision> {
    let decide = |server: &VirtualServer, outcome, begun_by| Decision {
        time: 1,
        netns: NETNS,
        service: server.service.key,
        scheduler: server.service.scheduler,
        client: address("10.0.0.9"),
        client_port: 4000,
        r#virtual: Virtual {
            protocol: Protocol::TCP,
            address: address("10.0.0.1"),
            port: 80,
        },
        begun_by: Some(begun_by),
        destination: snapshot
            .destinations(server)
            .first()
            .map(|destination| DestinationState {
                key: destination.key,
                weight: 1,
                active: 0,
                inactive: 0,
                overloaded: false,
            }),
        ns: Some(1),
        outcome,
        reason: String::new(),
        candidates: None,
    };
    let mut decisions = Vec::new();
    for server in snapshot.virtual_servers() {
        for &outcome in Outcome::ALL {
            decisions.extend(
                BegunBy::ALL
                    .iter()
                    .map(|&begun_by| decide(server, outcome, begun_by)),
            );
        }
    }
    decisions
}

/// A connection table with entries of every kind that are told apart.
fn all_entries(snapshot: &Snapshot) -> Entries {
    let mut entries = Entries::default();
    assert!(entries.begin(snapshot));
    for (port, destination) in [(53, "fd00::1"), (54, "fd00::1"), (54, "fd00::2")] {
        entries.count(&Entry {
            protocol: Protocol::UDP,
            address: address("10.0.0.1"),
            port,
            destination: DestinationKey {
                address: address(destination),
                port,
            },
            state: EntryState::Other,
        });
    }
    entries.finish();
    entries
}

/// What befalls a connection of each service, in every way.
fn befallen(snapshot: &Snapshot) -> (Vec<Drop>, Vec<End>) {
    let connection = |decision: Decision| Connection {
        time: decision.time,
        netns: decision.netns,
        service: decision.service,
        client: decision.client,
        client_port: decision.client_port,
        r#virtual: decision.r#virtual,
        destination: decision.destination,
    };
    let (mut drops, mut ends) = (Vec::new(), Vec::new());
    for connection in decisions(snapshot).into_iter().map(connection) {
        drops.extend(DropReason::ALL.iter().map(|&reason| Drop { connection, reason }));
        ends.extend(How::ALL.iter().map(|&how| End {
            connection,
            how,
            state: Some("ESTABLISHED"),
        }));
    }
    (drops, ends)
}

const NETNS: Netns = Netns(7);

/// Every line that there can be.
fn all_lines(schema: Schema) -> Vec<lines::Line> {
    let mut encoder = Encoder::new(false);
    let netns = (schema == Schema::Full).then(|| "blue".to_owned());
    let mut points = Points::new(schema, netns);
    let snapshot = everything();
    let activity = all_activity(&snapshot);
    let correlator = Correlator::new(NETNS);
    let seen = Seen {
        activity: &activity,
        correlator: &correlator,
    };
    let entries = all_entries(&snapshot);
    points.snapshot(&mut encoder, &snapshot, Some(seen), Some(&entries), false, 1);
    if schema == Schema::Full {
        let totals = ProbeTotals {
            map_bytes: Some(1),
            run_ns: Some(1),
            missed: Some(1),
            ..ProbeTotals::default()
        };
        let probes = Some(ProbeHealth {
            totals,
            ..ProbeHealth::default()
        });
        let observer = Observer {
            probes,
            ..Observer::default()
        };
        points.changes(&mut encoder, &activity.changes);
        for decision in decisions(&snapshot) {
            points.decision(&mut encoder, &decision);
        }
        let (drops, ends) = befallen(&snapshot);
        for drop in &drops {
            points.dropped(&mut encoder, drop);
        }
        for end in &ends {
            points.ended(&mut encoder, end);
        }
        points.observer(&mut encoder, &observer, 1);
    }
    lines::parse(std::str::from_utf8(&encoder.take()).expect("text"))
}

fn written(schema: Schema) -> Names {
    let mut names = Names::new();
    for line in all_lines(schema) {
        let (tags, fields) = names.entry(line.measurement).or_default();
        tags.extend(line.tags.into_keys());
        fields.extend(line.fields.into_keys());
    }
    names
}

/// The first column of the page's tables; with `telegraf`, of the rows whose last column says yes.
fn listed(telegraf: bool) -> Names {
    let mut names = Names::new();
    for row in page::rows() {
        if telegraf && !row.telegraf {
            continue;
        }
        let (tags, fields) = names.entry(row.measurement.to_owned()).or_default();
        let names = if row.tag { tags } else { fields };
        assert!(
            names.insert(row.name.to_owned()),
            "{} is listed twice for {}",
            row.name,
            row.measurement
        );
    }
    names
}

#[test]
fn the_page_lists_everything_that_is_written_and_nothing_else() {
    assert_eq!(listed(false), written(Schema::Full));
}

#[test]
fn the_page_marks_what_the_telegraf_schema_has() {
    assert_eq!(listed(true), written(Schema::Telegraf));
}

#[test]
fn the_page_lists_every_outcome_action_beginning_drop_and_end_by_its_name() {
    let lines = all_lines(Schema::Full);
    for (measurement, name) in [
        ("ipvs_change", "action"),
        ("ipvs_decision", "outcome"),
        ("ipvs_decision", "begun_by"),
        ("ipvs_drop", "reason"),
        ("ipvs_end", "how"),
    ] {
        let of = lines.iter().filter(|line| line.measurement == measurement);
        let values: BTreeSet<_> = of
            .map(|line| match line.fields.get(name) {
                Some(Value::Text(value)) => value.as_str(),
                _ => line.tag(name),
            })
            .collect();
        let row = page::rows()
            .into_iter()
            .find(|row| row.measurement == measurement && row.name == name)
            .expect("a row of the page");
        assert_eq!(row.values(), values, "{name}");
    }
}
