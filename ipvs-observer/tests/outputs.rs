//! Outputs over real sockets: readers that are absent, come, go, come back, or stop reading.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ipvs_observer::output::{Outputs, Pending, Target};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const LIMIT: usize = 100_000;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A batch of numbered lines.
fn batch(numbers: std::ops::Range<usize>) -> Bytes {
    let padding = "0".repeat(100);
    let lines: Vec<_> = numbers
        .map(|number| format!("m n={number}i,padding=\"{padding}\" 1\n"))
        .collect();
    lines.concat().into()
}

/// The numbers of lines, each of which must be whole.
fn numbers(text: &str) -> Vec<usize> {
    let number = |line: &str| {
        assert!(line.ends_with("\" 1"), "a line that is not whole: {line:?}");
        let (number, _) = line
            .strip_prefix("m n=")
            .and_then(|rest| rest.split_once('i'))
            .expect("a number");
        number.parse().expect("a number")
    };
    text.lines().map(number).collect()
}

fn accept(path: &Path) -> UnixStream {
    let listener = UnixListener::bind(path).expect("a listener");
    let (stream, _) = listener.accept().expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    stream
}

fn read_lines(reader: &mut impl BufRead, count: usize) -> Vec<usize> {
    let mut text = String::new();
    for _ in 0..count {
        assert!(
            reader.read_line(&mut text).expect("a line") > 0,
            "the connection ended"
        );
    }
    numbers(&text)
}

fn start(targets: &[Target]) -> Outputs {
    Outputs::start(targets, LIMIT).expect("threads")
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_listener_that_comes_late_gets_every_line() {
    let folder = folder();
    let path = folder.path().join("socket");
    let outputs = start(&[Target::Stream(path.clone())]);
    for turn in 0..5 {
        outputs.send(&batch(turn * 10..turn * 10 + 10));
        thread::sleep(Duration::from_millis(30));
    }
    let mut reader = BufReader::new(accept(&path));
    assert_eq!(read_lines(&mut reader, 50), (0..50).collect::<Vec<_>>());
    wait_until("all is written", || outputs.pending() == Pending::Nothing);
    assert_eq!(
        (outputs.counters().dropped, outputs.counters().reconnects),
        (0, 1)
    );
}

#[test]
fn a_listener_that_restarts_gets_no_line_twice_and_none_in_part() {
    let folder = folder();
    let path = folder.path().join("socket");
    let outputs = start(&[Target::Stream(path.clone())]);
    let mut seen = Vec::new();
    for life in 0..4 {
        outputs.send(&batch(life * 100..life * 100 + 100));
        let stream = accept(&path);
        let mut reader = BufReader::new(stream);
        // What came of the lives before was read whole, so nothing is lost with a connection.
        seen.extend(read_lines(&mut reader, 100));
        drop(reader);
        fs::remove_file(&path).expect("as Telegraf does");
    }
    assert_eq!(seen, (0..400).collect::<Vec<_>>());
}

#[test]
fn a_reader_that_stops_costs_the_oldest_lines_and_they_are_counted_exactly() {
    let folder = folder();
    let path = folder.path().join("socket");
    let outputs = start(&[Target::Stream(path.clone())]);
    outputs.send(&batch(0..10));
    let stream = accept(&path);
    let sent = 20_000;
    for turn in 0..sent / 100 {
        outputs.send(&batch(10 + turn * 100..10 + turn * 100 + 100));
    }
    assert!(outputs.counters().dropped > 0, "more was sent than fits");
    let mut text = String::new();
    let reader = thread::spawn(move || {
        let mut stream = stream;
        stream.read_to_string(&mut text).expect("text");
        text
    });
    wait_until("all is written", || outputs.pending() == Pending::Nothing);
    let dropped = outputs.counters().dropped as usize;
    drop(outputs);
    let seen = numbers(&reader.join().expect("a reader"));
    assert!(
        seen.is_sorted_by(|one, next| one < next),
        "in order, and none twice"
    );
    assert_eq!(seen.len() + dropped, sent + 10);
    assert_eq!(seen.last(), Some(&(sent + 9)), "the newest is kept");
}

#[test]
fn an_end_while_the_reader_stalls_cuts_no_line_and_what_is_unsent_is_counted() {
    const SENT: usize = 3000;
    let folder = folder();
    let path = folder.path().join("socket");
    // Everything waits: nothing is dropped.
    let outputs = Outputs::start(&[Target::Stream(path.clone())], 1 << 20).expect("a thread");
    outputs.send(&batch(0..SENT));
    let mut stream = accept(&path);
    let mut written = 0;
    wait_until("the socket is full", || {
        let before = written;
        thread::sleep(Duration::from_millis(500));
        written = outputs.counters().bytes;
        written > 0 && written == before
    });
    let unsent: usize = outputs.left()[0]
        .to_string()
        .split(' ')
        .find_map(|word| word.parse().ok())
        .expect("a number of lines");
    drop(outputs);
    // The end of the connection is seen before a byte of it is read: reading makes room.
    let closed = || {
        let mut poll_for = [PollFd::new(&stream, PollFlags::RDHUP)];
        poll(&mut poll_for, Some(&Timespec::default())).expect("a socket") > 0
    };
    wait_until("it ends", closed);
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    assert!(text.ends_with('\n'), "a line in part at the end");
    assert_eq!(numbers(&text), (0..SENT - unsent).collect::<Vec<_>>());
}

#[test]
fn datagrams_hold_whole_lines_and_no_more_than_telegraf_reads() {
    let folder = folder();
    let path = folder.path().join("socket");
    let outputs = start(&[Target::Datagram(path.clone())]);
    outputs.send(&batch(0..3000));
    thread::sleep(Duration::from_millis(250));
    let receiver = UnixDatagram::bind(&path).expect("a receiver");
    receiver
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let mut seen = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    while seen.len() < 3000 {
        let length = receiver.recv(&mut buffer).expect("a datagram");
        assert!(length <= 64 * 1024, "{length}");
        let text = std::str::from_utf8(&buffer[..length]).expect("text");
        assert!(text.ends_with('\n'));
        seen.extend(numbers(text));
    }
    assert_eq!(seen, (0..3000).collect::<Vec<_>>());
    assert_eq!(outputs.counters().dropped, 0);
}

#[test]
fn an_output_that_is_away_delays_no_other() {
    let folder = folder();
    let [here, away, silent] = ["here", "away", "silent"].map(|name| folder.path().join(name));
    let targets = [&here, &away, &silent].map(|path: &PathBuf| Target::Stream(path.clone()));
    let silent = UnixListener::bind(&silent).expect("a listener that never reads");
    let outputs = start(&targets);
    outputs.send(&batch(0..1));
    let mut reader = BufReader::new(accept(&here));
    assert_eq!(read_lines(&mut reader, 1), [0]);
    for turn in 1..200 {
        let begin = Instant::now();
        outputs.send(&batch(turn * 50..turn * 50 + 50));
        assert!(
            begin.elapsed() < Duration::from_secs(1),
            "sending waits for nobody"
        );
        assert_eq!(read_lines(&mut reader, 50).first(), Some(&(turn * 50)));
    }
    wait_until("the others dropped lines", || outputs.counters().dropped > 0);
    let left: Vec<_> = outputs.left().iter().map(ToString::to_string).collect();
    assert_eq!(left.len(), 2, "each output tells of its own: {left:?}");
    assert_eq!(outputs.pending(), Pending::Slow, "one may still read");
    drop(silent);
}
