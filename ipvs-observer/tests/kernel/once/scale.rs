//! Tables of the size that large sites have.

use std::{
    collections::BTreeSet,
    fmt::Write,
    io::Write as _,
    time::{Duration, Instant},
};

use ipvs_observer::{
    line::Encoder,
    model::Snapshot,
    netlink::{Kernel, Reader, Running},
    points::{Points, Schema},
};

use crate::{
    abilities::version,
    ipvsadm,
    observer::{self, of, only},
    support::{floor::Floor, lines::Line},
    watched::Watched,
};

const SERVICES: usize = 4000;
const DESTINATIONS: usize = 10;
/// A backlog for a test that reads slowly, as where the processor is emulated and others want it too.
const PATIENT: &str = "256MiB";

#[test]
fn forty_four_thousand_lines_come_whole_at_one_time_and_close_to_the_floor() {
    ipvsadm::restore(&ipvsadm::many("-t", 100, "-s wlc", SERVICES, DESTINATIONS));
    let lines = observer::gather(&["--probes", "off"]);
    assert_eq!(of(&lines, "ipvs_virtual_server").count(), SERVICES);
    assert_eq!(of(&lines, "ipvs_real_server").count(), SERVICES * DESTINATIONS);
    let times: BTreeSet<_> = lines.iter().map(|line| line.timestamp).collect();
    assert_eq!(times.len(), 1);
    let series: BTreeSet<_> = lines.iter().map(Line::series).collect();
    assert_eq!(series.len(), lines.len(), "no series twice");
    let state = only(&lines, "ipvs_observer");
    assert_eq!(
        state.number("dump_errors") + state.number("dump_duplicates") + state.number("dump_vanished"),
        0
    );
    drop(lines);

    let mut raw = Floor::new().expect("a socket");
    assert_eq!(
        raw.requests(),
        SERVICES + 2,
        "services, daemons, and destinations for each service"
    );
    let mut reader = Reader::default();
    let mut snapshot = Snapshot::default();
    let mut points = Points::new(Schema::Full, None);
    let mut encoder = Encoder::new(false);
    let (mut floor, mut read, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    // In turn, and the least disturbed run of each: the machine below this one has other things to do.
    for _ in 0..15 {
        let begin = Instant::now();
        raw.dump().expect("answers");
        floor.push(begin.elapsed());
        let begin = Instant::now();
        reader.read(&mut snapshot, &|_| true).expect("a whole table");
        read.push(begin.elapsed());
        points.snapshot(
            &mut encoder,
            &snapshot,
            None,
            None,
            false,
            1_700_000_000_000_000_000,
        );
        drop(encoder.take());
        whole.push(begin.elapsed());
    }
    for times in [&mut floor, &mut read, &mut whole] {
        times.sort();
    }
    let middle = floor.len() / 2;
    println!(
        "medians: raw dump {:?}, read and decoded {:?}, a gather with its lines {:?}",
        floor[middle], read[middle], whole[middle]
    );
    let (floor, whole) = (floor[0], whole[0]);
    println!("least: raw dump {floor:?}, a gather with its lines {whole:?}");
    assert!(
        whole < floor * 2,
        "a gather took {whole:?}, the raw dump {floor:?}"
    );
    ipvsadm::run(&["-C"]);
}

#[test]
fn a_table_large_enough_for_two_sockets_is_whole_while_services_come_and_go() {
    const LASTING: usize = 600;
    ipvsadm::restore(&ipvsadm::many("-t", 105, "-s wlc", LASTING, 3));
    // From then on the kernel lets dumps run in parallel.
    let sockets = if version() >= (7, 1) { 2 } else { 1 };
    assert_eq!(
        Running.side_by_side(),
        sockets,
        "of this kernel, on two processors"
    );
    let watched = Watched::start(&["--interval", "1s", "--probes", "off", "--backlog", PATIENT]);
    ipvsadm::change_for(Duration::from_secs(15), |rules| {
        for service in 0..50 {
            let service = format!("-t 10.107.0.{service}:80");
            writeln!(rules, "-A {service} -s rr\n-a {service} -r 10.106.0.9:80 -m")?;
        }
        (0..50).try_for_each(|service| writeln!(rules, "-D -t 10.107.0.{service}:80"))
    });
    watched.until("rest", |gather| {
        of(gather, "ipvs_virtual_server").count() == LASTING
    });
    let all = watched.all();
    let mut moved = 0;
    for gather in &all {
        let series: BTreeSet<_> = gather.iter().map(Line::series).collect();
        assert_eq!(series.len(), gather.len(), "a series came twice");
        let (lasting, other): (Vec<_>, Vec<_>) = of(gather, "ipvs_real_server")
            .partition(|line| line.tag("virtual_address").starts_with("10.105."));
        moved += usize::from(!other.is_empty());
        let state = only(gather, "ipvs_observer");
        assert_eq!(state.number("lines_dropped"), 0, "this test reads too slowly");
        if state.text("status") == "ok" {
            assert_eq!(lasting.len(), LASTING * 3);
        }
        for line in lasting {
            let (service, server) = (line.tag("virtual_address"), line.tag("address"));
            let third = |address: &str| address.split('.').nth(2).map(str::to_owned);
            assert_eq!(third(service), third(server), "{line:?}");
        }
    }
    let left_out = all
        .iter()
        .map(|gather| only(gather, "ipvs_observer").number("dump_skipped"))
        .max();
    println!(
        "{} gathers, {moved} with what comes and goes; the kernel left out {left_out:?} services",
        all.len()
    );
    assert!(moved > 5, "the table did not change under the gathers");
    watched.end();
    ipvsadm::run(&["-C"]);
}

#[test]
fn a_service_of_hundreds_whose_real_servers_come_and_go_is_whole_or_said_not_to_be() {
    const LASTING: usize = 400;
    const SERVICE: &str = "-t 10.108.0.1:80";
    let mut rules = format!("-A {SERVICE} -s rr\n");
    for server in 0..LASTING {
        let (high, low) = (server / 250, server % 250);
        writeln!(rules, "-a {SERVICE} -r 10.109.{high}.{low}:80 -m").expect("memory");
    }
    ipvsadm::restore(&rules);
    let watched = Watched::start(&["--interval", "500ms", "--probes", "off", "--backlog", PATIENT]);
    watched.until("the first gather", |_| true);
    ipvsadm::change_for(Duration::from_secs(10), |rules| {
        (0..100).try_for_each(|server| writeln!(rules, "-a {SERVICE} -r 10.110.0.{server}:80 -m"))?;
        (0..100).try_for_each(|server| writeln!(rules, "-d {SERVICE} -r 10.110.0.{server}:80"))
    });
    let (last, _) = watched.until("rest", |gather| {
        let whole = of(gather, "ipvs_real_server").count() == LASTING;
        whole && only(gather, "ipvs_observer").text("status") == "ok"
    });
    let (mut moved, mut in_doubt, mut fewest) = (0, 0, LASTING);
    for gather in &watched.all() {
        let series: BTreeSet<_> = gather.iter().map(Line::series).collect();
        assert_eq!(series.len(), gather.len(), "a series came twice");
        let (lasting, other): (Vec<_>, Vec<_>) =
            of(gather, "ipvs_real_server").partition(|line| line.tag("address").starts_with("10.109."));
        moved += usize::from(!other.is_empty());
        fewest = fewest.min(lasting.len());
        let state = only(gather, "ipvs_observer");
        assert_eq!(state.number("lines_dropped"), 0, "this test reads too slowly");
        if state.text("status") == "ok" {
            assert_eq!(lasting.len(), LASTING);
        } else {
            assert_eq!(state.text("reason"), "table changed while it was read");
            in_doubt += 1;
        }
    }
    println!(
        "{moved} gathers with what comes and goes, {in_doubt} in doubt, of {LASTING} never less than {fewest}; {} \
         listings repeated",
        only(&last, "ipvs_observer").number("dump_repeats")
    );
    assert!(moved > 5, "the list did not change under the gathers");
    // In doubt, and not thrown away.
    assert!(fewest > LASTING / 2);
    watched.end();
    ipvsadm::run(&["-C"]);
}
