//! Tables of the size that large sites have.

use std::{
    collections::BTreeSet,
    fmt::Write,
    time::{Duration, Instant},
};

use ipvs_observer::{
    line::Encoder,
    model::Snapshot,
    netlink::{Kernel, Reader, Running},
    points::{Points, Schema},
};

use crate::{
    ipvsadm,
    observer::{self, of, only},
    support::lines::Line,
};

const SERVICES: usize = 4000;
const DESTINATIONS: usize = 10;

fn rules() -> String {
    let mut rules = String::new();
    for service in 0..SERVICES {
        let (high, low) = (service / 250, service % 250);
        writeln!(rules, "-A -t 10.100.{high}.{low}:80 -s wlc").expect("memory");
        for destination in 0..DESTINATIONS {
            writeln!(
                rules,
                "-a -t 10.100.{high}.{low}:80 -r 10.200.{high}.{destination}:8080 -m -w {low}"
            )
            .expect("memory");
        }
    }
    rules
}

/// The floor: a raw dump of the same tables over one socket, one request after the other, nothing decoded.
fn raw_dump(selectors: &[Vec<u8>]) -> Duration {
    let begin = Instant::now();
    let mut channel = Running.open(Duration::from_secs(5)).expect("a socket");
    let mut buffer = vec![0; 64 * 1024];
    for request in selectors {
        channel.send(request).expect("sending");
        'answers: loop {
            let length = channel.receive(&mut buffer).expect("an answer");
            let mut at = 0;
            while at < length {
                let size = u32::from_ne_bytes(buffer[at..at + 4].try_into().expect("four bytes")) as usize;
                if u16::from_ne_bytes([buffer[at + 4], buffer[at + 5]]) == 3 {
                    break 'answers;
                }
                at += (size + 3) & !3;
            }
        }
    }
    begin.elapsed()
}

/// The requests that a gather of this table makes, as recorded from one.
fn requests() -> Vec<Vec<u8>> {
    let output = observer::run(&["record"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    let dumps = text
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .map(|line| {
            (0..line.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal"))
                .collect()
        });
    // Only dumps: flags 0x301.
    dumps
        .filter(|request: &Vec<u8>| request[6..8] == [1, 3])
        .collect()
}

#[test]
fn forty_four_thousand_lines_come_whole_at_one_time_and_close_to_the_floor() {
    ipvsadm::restore(&rules());
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

    let requests = requests();
    assert_eq!(
        requests.len(),
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
        floor.push(raw_dump(&requests));
        let begin = Instant::now();
        reader.read(&mut snapshot, &|_| true).expect("a whole table");
        read.push(begin.elapsed());
        points.snapshot(&mut encoder, &snapshot, None, false, 1_700_000_000_000_000_000);
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
