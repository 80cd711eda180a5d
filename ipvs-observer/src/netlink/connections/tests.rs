use std::{
    cell::Cell,
    io::{self, Read},
    net::SocketAddr,
};

use super::{count_from, entry};
use crate::model::{
    Address, Destination, DestinationKey, Entries, EntryCounts, EntryState, Family, Forward, Listing, Name,
    Protocol, Service, ServiceEntries, ServiceFlags, ServiceKey, Snapshot, Stats,
};

const HEADING: &str = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

/// One of each kind, as 5.10, 6.12 and 7.3 wrote them; the addresses of some are others.
const RECORDED: &str = "\
TCP 0A010034 9C40 0A000001 1F41 0A020102 0050 SYN_RECV         59
TCP 0A010000 0000 0A000001 1F41 0A020102 0050 NONE            299
UDP 0A010033 9C40 0A000001 0035 0A020102 0035 UDP             299
UDP 0A010033 0000 0A000001 0037 0A020102 0037 UDP             299
UDP 0A010033 0000 0A000001 0000 0A020102 0000 NONE            299
UDP 0A010032 9C40 0A000001 0037 0A020102 0037 UDP             299
TCP 0A01003C 9C40 0A000001 0015 0A020102 0015 CLOSE             9
TCP 0A01003C 0000 0A000001 0000 0A020102 0000 NONE            299
TCP 0A01003D 9C41 0A000001 1388 0A020102 1388 CLOSE             9
TCP 0A01003D 9C41 0A000001 0014 0A020102 0014 CLOSE             9
TCP 0A01003C 9C40 0A000007 2329 0A020102 1F90 CLOSE             9
IP  0A01003C 0000 0000002F 0000 0A020103 0000 NONE            299
TCP 0A01003C 9C40 0A000007 2328 0A020103 2328 ESTABLISHED     899
IP  fd00:0009:0000:0000:0000:0000:0000:0002 0000 0000:002f:0000:0000:0000:0000:0000:0000 0000 fd00:0008:0000:0000:0000:0000:0000:0002 0000 NONE             99
UDP fd00:0009:0000:0000:0000:0000:0000:0001 E24B fd00:0009:0000:0000:0000:0000:0000:0001 0035 fd00:0008:0000:0000:0000:0000:0000:0002 14E9 UDP             299
UDP fd00:0009:0000:0000:0000:0000:0000:0001 0000 fd00:0009:0000:0000:0000:0000:0000:0001 0035 fd00:0008:0000:0000:0000:0000:0000:0002 14E9 NONE             99
UDP fd00:0009:0000:0000:0000:0000:0000:0002 8B5D fd00:0009:0000:0000:0000:0000:0000:0002 0063 fd00:0008:0000:0000:0000:0000:0000:0002 0063 UDP             299
UDP 0A010032 9C40 0A000001 004D fd00:0008:0000:0000:0000:0000:0000:0002 004D UDP             299
SCTP 0A010063 9C40 0A000001 0084 0A020102 0084 INIT1             3
";

/// A table of services, each with its real servers.
fn table(services: &[(ServiceKey, &[&str])], others: &[ServiceKey]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let keys = services.iter().map(|service| service.0);
    for key in keys.chain(others.iter().copied()) {
        snapshot.push_service(Service {
            key,
            scheduler: Name::from("rr"),
            flags: ServiceFlags(0),
            timeout: 0,
            netmask: 0,
            persistence_engine: Name::default(),
            stats: Stats::default(),
        });
    }
    snapshot.services_in_namespace = Some(services.len() + others.len());
    snapshot.retain_services(|service| !others.contains(&service.key));
    let (servers, parts) = snapshot.to_list(1);
    for (server, (_, destinations)) in servers.iter_mut().zip(services) {
        let mut listing = Listing::begin(server, &mut parts[0]);
        for destination in *destinations {
            listing.push(Destination {
                key: real_server(destination),
                forward: Forward::Masquerade,
                tunnel: None,
                weight: 1,
                upper_threshold: 0,
                lower_threshold: 0,
                active: 0,
                inactive: 0,
                persistent: 0,
                stats: Stats::default(),
            });
        }
        listing.finish();
    }
    snapshot
}

/// The same with persistent ones.
fn persistent(services: &[(ServiceKey, &[&str])]) -> Snapshot {
    let plain = table(services, &[]);
    let mut snapshot = Snapshot::default();
    for server in plain.virtual_servers() {
        snapshot.push_service(Service {
            flags: ServiceFlags(1),
            ..server.service
        });
    }
    snapshot.services_in_namespace = plain.services_in_namespace;
    let (servers, parts) = snapshot.to_list(1);
    for (server, before) in servers.iter_mut().zip(plain.virtual_servers()) {
        let mut listing = Listing::begin(server, &mut parts[0]);
        for &destination in plain.destinations(before) {
            listing.push(destination);
        }
        listing.finish();
    }
    snapshot
}

fn endpoint(protocol: Protocol, text: &str) -> ServiceKey {
    let DestinationKey { address, port } = real_server(text);
    ServiceKey::Endpoint {
        address,
        protocol,
        port,
    }
}

fn real_server(text: &str) -> DestinationKey {
    let parsed: SocketAddr = text.parse().expect("an address and port");
    DestinationKey {
        address: Address::from(parsed.ip()),
        port: parsed.port(),
    }
}

fn mark(mark: u32, family: Family) -> ServiceKey {
    ServiceKey::Fwmark { family, mark }
}

/// Established, SYN_RECV, TIME_WAIT, other, templates.
fn counts(entries: &Entries, service: ServiceKey, destination: &str) -> [u32; 5] {
    let EntryCounts {
        established,
        syn_received,
        time_wait,
        other,
        templates,
    } = *entries
        .destination(&service, &real_server(destination))
        .expect("it was there");
    [established, syn_received, time_wait, other, templates]
}

/// Orphaned, unattributed.
fn rest(entries: &Entries, service: ServiceKey) -> [u64; 2] {
    let ServiceEntries {
        orphaned,
        unattributed,
    } = *entries.service(&service).expect("it was there");
    [orphaned, unattributed]
}

fn counted(snapshot: &Snapshot, lines: &str) -> Entries {
    let mut entries = Entries::default();
    assert!(entries.begin(snapshot));
    let text = format!("{HEADING}{lines}");
    assert!(count_from(text.as_bytes(), &mut entries, &|| false).expect("a table"));
    entries
}

#[test]
fn each_kind_of_entry_is_counted_where_it_was_scheduled() {
    let many = endpoint(Protocol::TCP, "10.0.0.1:8001");
    let dns = endpoint(Protocol::UDP, "10.0.0.1:53");
    let all = endpoint(Protocol::UDP, "10.0.0.1:0");
    let tunnelled = endpoint(Protocol::UDP, "10.0.0.1:77");
    let ftp = endpoint(Protocol::TCP, "10.0.0.1:21");
    let six = endpoint(Protocol::UDP, "[fd00:9::1]:53");
    let sctp = endpoint(Protocol::SCTP, "10.0.0.1:132");
    let (grouped, translated) = (mark(47, Family::INET), mark(48, Family::INET));
    let grouped_six = mark(47, Family::INET6);
    let entries = counted(
        &table(
            &[
                (many, &["10.2.1.9:80", "10.2.1.2:80"]),
                (dns, &["10.2.1.2:53"]),
                (all, &["10.2.1.2:0"]),
                (tunnelled, &["[fd00:8::2]:77"]),
                (ftp, &["10.2.1.2:21"]),
                (six, &["[fd00:8::2]:5353"]),
                (sctp, &["10.2.1.2:132"]),
                (grouped, &["10.2.1.3:0"]),
                (translated, &["10.2.1.2:8080"]),
                (grouped_six, &["[fd00:8::2]:0"]),
            ],
            &[],
        ),
        RECORDED,
    );
    for (service, destination, expected) in [
        (many, "10.2.1.2:80", [0, 1, 0, 0, 1]),
        (many, "10.2.1.9:80", [0; 5]),
        (dns, "10.2.1.2:53", [0, 0, 0, 1, 0]),
        // A client's port may be 0 without a template.
        (all, "10.2.1.2:0", [0, 0, 0, 2, 1]),
        (tunnelled, "[fd00:8::2]:77", [0, 0, 0, 1, 0]),
        // Its template, its data connections and what a client opens to any of its ports.
        (ftp, "10.2.1.2:21", [0, 0, 0, 3, 1]),
        (six, "[fd00:8::2]:5353", [0, 0, 0, 1, 1]),
        (sctp, "10.2.1.2:132", [0, 0, 0, 1, 0]),
        (grouped, "10.2.1.3:0", [1, 0, 0, 0, 1]),
        (translated, "10.2.1.2:8080", [0, 0, 0, 1, 0]),
        (grouped_six, "[fd00:8::2]:0", [0, 0, 0, 1, 1]),
    ] {
        assert_eq!(
            counts(&entries, service, destination),
            expected,
            "{service} {destination}"
        );
        assert_eq!(rest(&entries, service), [0, 0], "{service}");
    }
    assert_eq!(entries.unattributed(), 0);
}

const WEB: &str = "TCP 0A010034 9C40 0A000001 0050 0A020102 0050 TIME_WAIT        59\n";
const MARKED: &str = "TCP 0A010034 9C40 0A000007 1F90 0A020102 1F90 ESTABLISHED      59\n";

#[test]
fn a_persistent_service_of_several_ports_keeps_the_port_that_was_asked_for() {
    let all = endpoint(Protocol::TCP, "10.0.0.1:0");
    let (one, two) = (mark(1, Family::INET), mark(2, Family::INET));
    let of = |services: &[(ServiceKey, &[&str])], lines| counted(&persistent(services), lines);
    let entries = of(&[(all, &["10.2.1.2:8080", "10.2.1.3:8080"])], WEB);
    assert_eq!(counts(&entries, all, "10.2.1.2:8080"), [0, 0, 1, 0, 0]);
    let entries = of(&[(one, &["10.2.1.2:81"]), (two, &["10.2.1.3:81"])], MARKED);
    assert_eq!(counts(&entries, one, "10.2.1.2:81"), [1, 0, 0, 0, 0]);
    let entries = of(&[(one, &["10.2.1.2:81"]), (two, &["10.2.1.2:82"])], MARKED);
    assert_eq!([rest(&entries, one), rest(&entries, two)], [[0, 1], [0, 1]]);
}

#[test]
fn an_entry_without_its_real_server_is_its_services_orphan() {
    let web = endpoint(Protocol::TCP, "10.0.0.1:80");
    let entries = counted(&table(&[(web, &["10.2.1.3:80", "10.2.1.2:81"])], &[]), WEB);
    assert_eq!(rest(&entries, web), [1, 0]);
    assert_eq!(counts(&entries, web, "10.2.1.3:80"), [0; 5]);
    // To no address that a service has: the only mark's, or a deleted service's.
    let only = mark(1, Family::INET);
    let entries = counted(&table(&[(web, &[]), (only, &[])], &[]), MARKED);
    assert_eq!(rest(&entries, only), [0, 1]);
}

#[test]
fn an_entry_of_no_service_is_nobodys() {
    let other = endpoint(Protocol::UDP, "10.0.0.1:80");
    let entries = counted(&table(&[(other, &["10.2.1.2:80"])], &[]), WEB);
    assert_eq!((rest(&entries, other), entries.unattributed()), ([0, 0], 1));
    let template = "IP  0A01003C 0000 0000002F 0000 0A020103 0000 NONE            299\n";
    let entries = counted(&table(&[(mark(1, Family::INET), &["10.2.1.3:0"])], &[]), template);
    assert_eq!(entries.unattributed(), 1);
}

#[test]
fn what_may_be_of_several_marks_is_unattributed_in_each_of_them() {
    let (one, two, three) = (
        mark(1, Family::INET),
        mark(2, Family::INET),
        mark(3, Family::INET),
    );
    // By the same port, and by a port and every port.
    for second in ["10.2.1.2:8080", "10.2.1.2:0"] {
        let snapshot = table(
            &[
                (one, &["10.2.1.2:8080"]),
                (two, &[second]),
                (three, &["10.2.1.4:0"]),
                (mark(1, Family::INET6), &["10.2.1.2:8080"]),
            ],
            &[],
        );
        let entries = counted(&snapshot, MARKED);
        assert_eq!(counts(&entries, one, "10.2.1.2:8080"), [0; 5]);
        assert_eq!(
            [one, two, three].map(|service| rest(&entries, service)),
            [[0, 1], [0, 1], [0, 0]]
        );
    }
    // A template names its mark.
    let template = "IP  0A010034 0000 00000002 0000 0A020102 0000 NONE            59\n";
    let snapshot = table(&[(one, &["10.2.1.2:0"]), (two, &["10.2.1.2:8080"])], &[]);
    let entries = counted(&snapshot, template);
    assert_eq!(counts(&entries, two, "10.2.1.2:8080"), [0, 0, 0, 0, 1]);
}

#[test]
fn an_address_and_port_that_a_service_has_are_not_a_marks() {
    let (web, marked) = (endpoint(Protocol::TCP, "10.0.0.1:80"), mark(1, Family::INET));
    let snapshot = table(&[(web, &["10.2.1.2:80"]), (marked, &["10.2.1.2:0"])], &[]);
    let entries = counted(&snapshot, WEB);
    assert_eq!(counts(&entries, web, "10.2.1.2:80"), [0, 0, 1, 0, 0]);
    // Unless the service has no such real server and the mark has.
    let snapshot = table(&[(web, &["10.2.1.3:80"]), (marked, &["10.2.1.2:0"])], &[]);
    let entries = counted(&snapshot, WEB);
    assert_eq!(counts(&entries, marked, "10.2.1.2:0"), [0, 0, 1, 0, 0]);
    assert_eq!(rest(&entries, web), [0, 0]);
    // A port that both a mark and FTP's data may have.
    let ftp = endpoint(Protocol::TCP, "10.0.0.7:21");
    let snapshot = table(&[(ftp, &["10.2.1.2:21"]), (marked, &["10.2.1.2:0"])], &[]);
    let entries = counted(&snapshot, MARKED);
    assert_eq!([rest(&entries, ftp), rest(&entries, marked)], [[0, 1], [0, 1]]);
}

#[test]
fn services_that_were_not_asked_for_keep_theirs() {
    let (web, all) = (
        endpoint(Protocol::TCP, "10.0.0.1:80"),
        endpoint(Protocol::TCP, "10.0.0.1:0"),
    );
    let (marked, other) = (mark(1, Family::INET), mark(2, Family::INET));
    let snapshot = table(&[(all, &["10.2.1.2:0"]), (marked, &["10.2.1.2:0"])], &[web]);
    let entries = counted(&snapshot, &format!("{WEB}{MARKED}"));
    assert_eq!(counts(&entries, all, "10.2.1.2:0"), [0; 5]);
    assert_eq!(counts(&entries, marked, "10.2.1.2:0"), [1, 0, 0, 0, 0]);
    // Another mark may have the same real server.
    let entries = counted(&table(&[(marked, &["10.2.1.2:0"])], &[other]), MARKED);
    assert_eq!(rest(&entries, marked), [0, 1]);
}

#[test]
fn a_service_whose_real_servers_are_not_known_has_no_orphans() {
    let web = endpoint(Protocol::TCP, "10.0.0.1:80");
    let mut snapshot = table(&[(web, &["10.2.1.2:80"])], &[]);
    // Begins a listing that nothing ends.
    snapshot.to_list(1);
    let entries = counted(&snapshot, WEB);
    assert_eq!(rest(&entries, web), [0, 1]);
    snapshot.services_in_namespace = None;
    assert!(!Entries::default().begin(&snapshot), "nothing to attribute to");
}

/// Gives so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(self.0.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

#[test]
fn a_line_in_two_pieces_is_one_line() {
    let web = endpoint(Protocol::TCP, "10.0.0.1:80");
    let text = format!("{HEADING}{}", WEB.repeat(50));
    for size in [1, 7, 80, 4096] {
        let mut entries = Entries::default();
        entries.begin(&table(&[(web, &["10.2.1.2:80"])], &[]));
        let whole = count_from(Pieces(text.as_bytes(), size), &mut entries, &|| false);
        assert!(whole.expect("a table"));
        assert_eq!(counts(&entries, web, "10.2.1.2:80"), [0, 0, 50, 0, 0], "{size}");
    }
}

#[test]
fn a_reading_ends_between_two_reads_when_it_is_given_up() {
    let text = format!("{HEADING}{}", WEB.repeat(50));
    let asked = Cell::new(0);
    let give_up = || asked.replace(asked.get() + 1) == 3;
    let whole = count_from(Pieces(text.as_bytes(), 80), &mut Entries::default(), &give_up);
    assert!(!whole.expect("no failure"));
    assert_eq!(asked.get(), 4);
}

#[test]
fn a_line_that_makes_no_sense_is_a_failure_and_no_entry() {
    for line in [
        "",
        "TCP",
        "TCP 0A010034 9C40 0A000001 0050 0A020102 0050",
        "TCP 0A010034 9C40 0A000001 0050 0A020102 50 ESTABLISHED 59",
        "TCP 0A01003G 9C40 0A000001 0050 0A020102 0050 ESTABLISHED 59",
        "GRE 0A010034 9C40 0A000001 0050 0A020102 0050 ESTABLISHED 59",
        "IP_x 0A010034 9C40 0A000001 0050 0A020102 0050 ESTABLISHED 59",
        "TCP 0A010034 9C40 fd00:0009:0000:0000:0000:0000:0000:0002 0050 0A020102 0050 ESTABLISHED 59",
        "TCP 0A010034 9C40 0A000001 0050 fd00:0009:0000:0000:0000:0000:0000-0002 0050 ESTABLISHED 59",
    ] {
        assert_eq!(entry(line.as_bytes()), None, "{line}");
        let text = format!("{HEADING}{line}\n");
        let failed = count_from(text.as_bytes(), &mut Entries::default(), &|| false);
        assert!(
            failed.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData),
            "{line}"
        );
    }
    let endless = vec![b'x'; 1 << 20];
    assert!(count_from(endless.as_slice(), &mut Entries::default(), &|| false).is_err());
    let cut = &WEB.as_bytes()[..40];
    assert!(count_from(cut, &mut Entries::default(), &|| false).is_err());
}

#[test]
fn a_state_is_the_kernels_word_and_the_rest_of_a_line_is_an_engines() {
    let of = |words: &str| {
        let line = format!("IP_50 0A010034 {words} PE-name Call-ID: of anybody");
        let entry = entry(line.as_bytes()).expect("an entry");
        assert_eq!(entry.protocol, Protocol(50));
        entry.state
    };
    let to = "0A000001 0050 0A020102 0050";
    assert_eq!(of(&format!("0000 {to} ASSURED 59")), EntryState::Template);
    assert_eq!(of(&format!("9C40 {to} NONE 59")), EntryState::Other);
    // Passive FTP's, which waits for its client.
    assert_eq!(of(&format!("0000 {to} LISTEN 59")), EntryState::Other);
    assert_eq!(of(&format!("9C40 {to} ERR! 59")), EntryState::Other);
}
