//! The connection table by real server and state, held against `ipvsadm -Lnc`.

use std::{
    collections::BTreeMap,
    net::{SocketAddrV4, TcpStream, UdpSocket},
    process::Output,
    thread,
    time::{Duration, Instant},
};

use crate::{
    ipvsadm::{self, Row},
    netns::Named,
    observer::{self, of, only, service},
    privilege::{THREE, as_user},
    scheduler::{self, packets},
    states,
    support::{
        child::shell,
        lines::{self, Line},
    },
    traffic,
    watched::Watched,
};

const FIELDS: [&str; 5] = [
    "entries_established",
    "entries_syn_recv",
    "entries_time_wait",
    "entries_other",
    "entries_templates",
];

/// Which field an entry that `ipvsadm` shows is counted in.
fn field(entry: &Row) -> &'static str {
    match entry.state.as_str() {
        "NONE" | "ASSURED" if entry.is_template() => "entries_templates",
        "ESTABLISHED" => "entries_established",
        "SYN_RECV" => "entries_syn_recv",
        "TIME_WAIT" => "entries_time_wait",
        _ => "entries_other",
    }
}

/// A gather at a moment when the table is at rest, with what `ipvsadm` shows of it.
fn at_rest(gather: impl Fn() -> Vec<Line>) -> (Vec<Line>, Vec<Row>) {
    let begin = Instant::now();
    loop {
        let (before, lines, after) = (ipvsadm::entries(), gather(), ipvsadm::entries());
        if before == after {
            return (lines, after);
        }
        assert!(begin.elapsed() < Duration::from_mins(1), "{before:?} {after:?}");
    }
}

/// Every service with what it has in each field, and what is its own.
fn services(lines: &[Line]) -> BTreeMap<String, Vec<u64>> {
    let mut services = BTreeMap::new();
    for line in of(lines, "ipvs_virtual_server") {
        let own = ["entries_orphaned", "entries_unattributed"].map(|field| line.number_if_any(field));
        services.insert(service(line, ""), [[0; 5].as_slice(), &own].concat());
    }
    for line in of(lines, "ipvs_real_server") {
        let sums = services.get_mut(&service(line, "virtual_")).expect("its service");
        for (sum, field) in sums.iter_mut().zip(FIELDS) {
            *sum += line.number(field);
        }
    }
    services
}

/// A clean table, whose entries are all of this test.
fn fresh(rules: &str) {
    states::unload();
    shell("modprobe ip_vs");
    scheduler::real_servers();
    ipvsadm::restore(rules);
}

/// A SYN that nobody answers, from each of so many ports.
fn half_open(to: &str, count: u16) {
    let to: SocketAddrV4 = to.parse().expect("an address");
    for port in 0..count {
        let from = SocketAddrV4::new(*to.ip(), 30_000 + port);
        packets::segment(from, to, packets::SYN);
    }
}

/// Connections of each kind, and what becomes of a server that is removed under them.
const RULES: &str = "
-A -t 10.9.0.1:7201 -s rr
-a -t 10.9.0.1:7201 -r 10.8.0.1:7000 -m
-a -t 10.9.0.1:7201 -r 10.8.0.2:7000 -m
-A -u 10.9.0.1:7201 -s rr
-a -u 10.9.0.1:7201 -r 10.8.0.1:7000 -m
-a -u 10.9.0.1:7201 -r 10.8.0.2:7000 -m
-A -t 10.9.0.1:7202 -s rr -p 300 -M 255.255.255.0
-a -t 10.9.0.1:7202 -r 10.8.0.3:7000 -m
-A -t 10.9.0.1:7203 -s rr
-a -t 10.9.0.1:7203 -r 10.8.0.77:7000 -m
-A -u [fd00:9::1]:7201 -s rr -p 300
-a -u [fd00:9::1]:7201 -r [fd00:8::1]:7000 -m
-A -u 10.9.0.2:0 -s rr -p 300
-a -u 10.9.0.2:0 -r 10.8.0.3:0 -m
-A -u 10.9.0.3:7201 -s rr -o
-a -u 10.9.0.3:7201 -r 10.8.0.3:7000 -m
-A -f 7201 -s rr -p 300
-a -f 7201 -r 10.8.0.2:7201 -m
-A -f 7202 -s rr
-a -f 7202 -r 10.8.0.3:7202 -m
-A -f 7203 -s rr
-a -f 7203 -r 10.8.0.3:7202 -m
-A -t 10.9.0.4:21 -s rr -p 300
-a -t 10.9.0.4:21 -r 10.8.0.1:21 -m
";

/// Makes them; the connections that it returns stay open.
fn connections() -> Vec<TcpStream> {
    let open = (0..5).map(|_| traffic::connect("10.9.0.1:7201")).collect();
    for _ in 0..4 {
        drop(traffic::connect("10.9.0.1:7201"));
    }
    for _ in 0..3 {
        drop(traffic::connect("10.9.0.1:7202"));
    }
    for service in ["10.9.0.1:7201", "[fd00:9::1]:7201", "10.9.0.2:7000"] {
        (0..6).for_each(|_| traffic::ask(service));
    }
    let client = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    client.send_to(b"one way", "10.9.0.3:7201").expect("sending");
    half_open("10.9.0.1:7203", 7);
    for (mark, count) in [(7201, 3), (7203, 2)] {
        (0..count).for_each(|_| packets::marked("10.9.0.3:7204", mark));
    }
    // A port that FTP may have given out.
    half_open("10.9.0.4:7205", 2);
    ipvsadm::run(&["-d", "-u", "10.9.0.1:7201", "-r", "10.8.0.2:7000"]);
    open
}

#[test]
fn the_entries_of_a_table_at_rest_are_ipvsadms_by_service_real_server_and_state() {
    fresh(RULES);
    let open = connections();
    let (lines, table) = at_rest(|| observer::gather(&["--connections", "60s"]));
    drop(open);
    let services = services(&lines);
    // Established, SYN_RECV, TIME_WAIT, other, templates; orphaned, unattributed.
    let sums = |name: &str| services[name].as_slice();
    assert_eq!(sums("TCP 10.9.0.1:7201")[0], 5);
    assert_eq!(sums("TCP 10.9.0.1:7201")[..4].iter().sum::<u64>(), 9);
    assert_eq!(sums("UDP 10.9.0.1:7201"), [0, 0, 0, 3, 0, 3, 0]);
    assert_eq!(sums("TCP 10.9.0.1:7202")[4], 1);
    assert_eq!(sums("TCP 10.9.0.1:7203"), [0, 7, 0, 0, 0, 0, 0]);
    assert_eq!(sums("UDP [fd00:9::1]:7201"), [0, 0, 0, 6, 1, 0, 0]);
    assert_eq!(sums("UDP 10.9.0.2:0"), [0, 0, 0, 6, 1, 0, 0]);
    assert_eq!(
        sums("UDP 10.9.0.3:7201"),
        [0; 7],
        "one-packet connections leave no entry"
    );
    assert_eq!(sums("FWM 7201"), [0, 0, 0, 3, 1, 0, 0]);
    assert_eq!(sums("FWM 7202"), [0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(sums("FWM 7203"), [0, 0, 0, 0, 0, 0, 2], "whichever mark it was");
    let ftp = sums("TCP 10.9.0.4:21");
    assert_eq!((ftp[..4].iter().sum::<u64>(), ftp[4]), (2, 1));

    let orphaned: u64 = services.values().map(|sums| sums[5]).sum();
    let unattributed = sums("FWM 7202")[6];
    let counted: u64 = services.values().flat_map(|sums| &sums[..5]).sum();
    assert_eq!(counted + orphaned + unattributed, table.len() as u64, "{table:?}");
    assert!(!only(&lines, "ipvs").fields.contains_key("entries_unattributed"));
    for (place, name) in FIELDS.into_iter().enumerate() {
        let here = |entry: &&Row| field(entry) == name;
        let shown = table.iter().filter(here).count() as u64;
        let counted: u64 = services.values().map(|sums| sums[place]).sum();
        // The orphans and those of either mark are all of UDP.
        let others = if name == "entries_other" {
            orphaned + unattributed
        } else {
            0
        };
        assert_eq!(counted + others, shown, "{name}: {table:?}");
    }
    for line in of(&lines, "ipvs_real_server") {
        let marked = ["7202", "7203"].contains(&line.tag("virtual_fwmark"));
        let connections = line.number("active_connections") + line.number("inactive_connections");
        let counted = FIELDS[..4].iter().map(|field| line.number(field)).sum::<u64>();
        assert!(marked || counted == connections, "{line:?}");
        assert_eq!(
            line.number("entries_templates"),
            line.number("persistent_connections"),
            "{line:?}"
        );
    }

    // One service alone has the same, and of a mark it is not known whether others have its real server.
    for name in ["tcp://10.9.0.1:7201", "udp://10.9.0.1:7201", "udp://10.9.0.2:0"] {
        let (lines, _) = at_rest(|| observer::gather(&["--connections", "60s", "--service", name]));
        for (name, sums) in self::services(&lines) {
            assert_eq!(
                sums.iter().sum::<u64>(),
                services[&name].iter().sum::<u64>(),
                "{name}"
            );
        }
    }
    let (lines, _) = at_rest(|| observer::gather(&["--connections", "60s", "--service", "fwmark:7201"]));
    assert_eq!(self::services(&lines)["FWM 7201"], [0, 0, 0, 0, 1, 0, 3]);
    // And a deleted one leaves entries that are nobody's.
    ipvsadm::run(&["-D", "-t", "10.9.0.1:7203"]);
    let (lines, _) = at_rest(|| observer::gather(&["--connections", "60s"]));
    assert_eq!(only(&lines, "ipvs").number("entries_unattributed"), 7);
    ipvsadm::run(&["-C"]);
}

#[test]
fn the_table_is_written_once_after_each_reading_and_only_in_the_full_schema() {
    fresh("-A -u 10.9.0.1:7206 -s rr\n-a -u 10.9.0.1:7206 -r 10.8.0.1:7000 -m\n");
    (0..3).for_each(|_| traffic::ask("10.9.0.1:7206"));
    let read = |lines: &[Line]| only(lines, "ipvs_real_server").fields.contains_key(FIELDS[3]);
    let watched = Watched::start(&["--interval", "200ms", "--probes", "off", "--connections", "1s"]);
    watched.shown("a second reading", |lines| read(lines) && watched.count() > 10);
    let all = watched.all();
    assert!(!read(&all[0]), "there was nothing to attribute it to");
    let places: Vec<_> = (0..all.len()).filter(|&place| read(&all[place])).collect();
    assert!(places.len() > 1 && places[0] < 4, "{places:?}");
    assert!(
        places
            .windows(2)
            .all(|pair| (4..=7).contains(&(pair[1] - pair[0]))),
        "{places:?}"
    );
    assert_eq!(only(&all[places[0]], "ipvs_real_server").number(FIELDS[3]), 3);
    assert_eq!(watched.end(), "");
    for args in [["--schema", "telegraf"], ["--probes", "off"]] {
        let lines = observer::gather(&args);
        assert!(
            lines
                .iter()
                .all(|line| line.fields.keys().all(|name| !name.starts_with("entries_")))
        );
    }
    ipvsadm::run(&["-C"]);
}

fn gathered(output: &Output) -> Vec<Line> {
    assert!(output.status.success(), "{output:?}");
    lines::parse(std::str::from_utf8(&output.stdout).expect("text"))
}

#[test]
fn a_user_of_its_own_and_another_namespace_have_the_same() {
    fresh("-A -u 10.9.0.1:7207 -s rr\n-a -u 10.9.0.1:7207 -r 10.8.0.1:7000 -m\n");
    (0..4).for_each(|_| traffic::ask("10.9.0.1:7207"));
    let args = ["collect", "--once", "--connections", "60s"];
    let output = as_user(&THREE, &args).output().expect("setpriv is in the lab");
    let lines = gathered(&output);
    assert_eq!(only(&lines, "ipvs_real_server").number(FIELDS[3]), 4);
    let named = Named::new("table");
    named.traffic(5);
    let four = [THREE.as_slice(), &["sys_admin"]].concat();
    let output = as_user(&four, &[args.as_slice(), &["--netns", "table"]].concat())
        .output()
        .expect("setpriv is in the lab");
    let lines = gathered(&output);
    assert_eq!(only(&lines, "ipvs_real_server").number(FIELDS[3]), 5);
    assert_eq!(only(&lines, "ipvs_observer").text("status"), "ok");
    named.delete();
    ipvsadm::run(&["-C"]);
}

/// Makes a table with so many entries.
fn large(port: u16, entries: u16) {
    fresh(&format!(
        "-A -u 10.9.0.1:{port} -s rr\n-a -u 10.9.0.1:{port} -r 10.8.0.88:7000 -m\n"
    ));
    packets::from_many(entries, 20_000, &format!("10.9.0.1:{port}"));
    // From Linux 7.1 the kernel moves entries to larger tables as these grow, and shows some of them meanwhile.
    let begin = Instant::now();
    while ipvsadm::entries().len() != usize::from(entries) {
        assert!(
            begin.elapsed() < Duration::from_mins(1),
            "{} entries",
            ipvsadm::entries().len()
        );
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_reading_that_takes_too_long_is_given_up_which_is_said_once_and_delays_no_gather() {
    large(7208, 40_000);
    let watched = Watched::start(&["--interval", "200ms", "--probes", "off", "--connections", "200ms"]);
    let (_, _) = watched.shown("what was given up", |lines| {
        let state = only(lines, "ipvs_observer");
        (state.text("status"), state.text("reason")) == ("degraded", "connection table not read in time")
    });
    thread::sleep(Duration::from_secs(2));
    let all = watched.all();
    for lines in &all {
        assert!(
            !only(lines, "ipvs_real_server").fields.contains_key(FIELDS[3]),
            "{lines:?}"
        );
    }
    fresh("-A -u 10.9.0.1:7209 -s rr\n-a -u 10.9.0.1:7209 -r 10.8.0.1:7000 -m\n");
    watched.shown("a table that is read in time", |lines| {
        of(lines, "ipvs_real_server").any(|line| line.fields.contains_key(FIELDS[3]))
    });
    let said = watched.end();
    assert_eq!(said.matches("was given up").count(), 1, "{said}");
    assert_eq!(
        said.matches("the connection table is read again").count(),
        1,
        "{said}"
    );
    ipvsadm::run(&["-C"]);
}

#[test]
fn gathers_keep_their_time_while_a_large_table_is_read() {
    const ENTRIES: u16 = 40_000;
    large(7210, ENTRIES);
    let interval = Duration::from_millis(100);
    let watched = Watched::start(&["--interval", "100ms", "--probes", "off", "--connections", "100s"]);
    let read = |lines: &[Line]| only(lines, "ipvs_real_server").fields.contains_key(FIELDS[3]);
    let (lines, _) = watched.shown("the entries", read);
    assert_eq!(
        only(&lines, "ipvs_real_server").number(FIELDS[3]),
        u64::from(ENTRIES)
    );
    let all = watched.all();
    let gathers = all.iter().position(|lines| read(lines)).expect("it was shown");
    let time = |lines: &[Line]| only(lines, "ipvs").timestamp;
    let took = Duration::from_nanos(time(&all[gathers]) - time(&all[0]));
    println!("{ENTRIES} entries were read in {took:?}, with {gathers} gathers");
    let ticks = took.as_secs_f64() / interval.as_secs_f64();
    assert!(ticks > 2.5, "it was read before there was a gather to delay");
    // Other work of the machine below this one may have one left out.
    assert!(gathers as f64 > ticks * 0.8, "{gathers} of {ticks}");
    assert_eq!(watched.end(), "");
    // The word to stop is heard during a reading too.
    let busy = Watched::start(&["--interval", "100ms", "--probes", "off", "--connections", "1h"]);
    busy.shown("a gather", |_| true);
    let begin = Instant::now();
    busy.end();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    ipvsadm::run(&["-C"]);
}
