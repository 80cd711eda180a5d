//! A reader that comes and goes.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    io::{BufRead, BufReader, ErrorKind, Read},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    process::Stdio,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::endurance::{signal, table};
use crate::{ipvsadm, observer, support::lines};

const SOCKET: &str = "/tmp/endurance.sock";
const BACKLOG: u64 = 1 << 20;

fn number(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

/// The reader's end of the socket, and all that came through it: each line by its number.
struct Reader {
    stream: UnixStream,
    rest: Vec<u8>,
}

impl Reader {
    fn accept() -> Self {
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET).expect("a listener");
        let (stream, _) = listener.accept().expect("it comes back by itself");
        let patience = Some(Duration::from_millis(60));
        stream.set_read_timeout(patience).expect("a timeout");
        Self {
            stream,
            rest: Vec::new(),
        }
    }

    /// Takes no more, reads what is there already, and is gone: of what it left unread no sender could tell.
    fn leave(mut self, seen: &mut Vec<u64>) {
        self.stream.shutdown(Shutdown::Read).expect("it is open");
        self.stream
            .read_to_end(&mut self.rest)
            .expect("what is there, and the end");
        // A line that is there in part is written again to the next reader.
        let whole = self
            .rest
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let text = std::str::from_utf8(&self.rest[..whole]).expect("text");
        seen.extend(text.lines().map(number));
    }

    /// Reads for a while, and on to a moment at which nothing is under way.
    fn read(&mut self, time: Duration, seen: &mut Vec<u64>) {
        let until = Instant::now() + time;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("it closed the connection"),
                Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() >= until => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        let text = std::str::from_utf8(&self.rest).expect("text");
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "a line in part: {text:?}"
        );
        seen.extend(text.lines().map(number));
        self.rest.clear();
    }
}

/// Every line in the order in which they were made, and the program's own.
type Made = (Vec<u64>, Vec<lines::Line>);

/// Reads stdout, which gets everything, and tells what was made.
fn made(stdout: impl Read + Send + 'static) -> JoinHandle<Made> {
    thread::spawn(move || {
        let (mut made, mut states) = (Vec::new(), Vec::new());
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("text");
            made.push(number(&line));
            if line.starts_with("ipvs_observer") {
                states.extend(lines::parse(&(line + "\n")));
            }
        }
        (made, states)
    })
}

/// Comes late, leaves and comes back, stalls, and leaves for good: all that was read.
fn come_and_go() -> Vec<u64> {
    let mut seen = Vec::new();
    thread::sleep(Duration::from_secs(1));
    let mut reader = Reader::accept();
    reader.read(Duration::from_secs(2), &mut seen);
    let on_time = seen.len();
    reader.leave(&mut seen);
    let mut reader = Reader::accept();
    reader.read(Duration::from_secs(2), &mut seen);
    assert!(seen.len() > on_time, "it came back");
    // Stalled for much longer than the backlog lasts: 60 services make 200 KiB a gather.
    thread::sleep(Duration::from_secs(25));
    reader.read(Duration::from_secs(2), &mut seen);
    reader.leave(&mut seen);
    fs::remove_file(SOCKET).expect("gone for good");
    thread::sleep(Duration::from_secs(8));
    seen
}

#[test]
fn a_reader_that_is_late_restarts_stalls_and_leaves_costs_only_lines_that_are_counted() {
    table(60, 10);
    let _ = fs::remove_file(SOCKET);
    let target = format!("unix://{SOCKET}");
    let mut command = observer::command(&["collect", "--probes", "off", "--interval", "250ms"]);
    command.args(["--backlog", "1MiB", "--output", "stdout", "--output", &target]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ipvs-observer is in the lab's PATH");
    let whole = made(child.stdout.take().expect("piped"));
    let seen = come_and_go();
    signal(&child, "-TERM");
    let began = Instant::now();
    let output = child.wait_with_output().expect("it ends");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("text");
    let (made, states) = whole.join().expect("a reader");
    all_accounted_for(&seen, &made, &states, &said);
    let resident = |line: &lines::Line| line.number("rss_bytes");
    let (first, most) = (
        resident(&states[2]),
        states.iter().map(resident).max().expect("gathers"),
    );
    println!("resident: {first} bytes after two gathers, {most} at most");
    assert!(most < first + 4 * BACKLOG, "{first} bytes became {most}");
    ipvsadm::run(&["-C"]);
}

/// Every line was read in its order, or counted as dropped or unsent.
fn all_accounted_for(seen: &[u64], made: &[u64], states: &[lines::Line], said: &str) {
    let mut left = made.iter();
    let in_order = seen.iter().all(|line| left.any(|made| made == line));
    assert!(
        in_order,
        "a line that was never made, came twice, or out of order"
    );
    let last = states.last().expect("gathers");
    assert_eq!(last.number("lines") as usize, made.len());
    assert_eq!(last.number("output_reconnects"), 2);
    let dropped = last.number("lines_dropped");
    assert!(dropped > 0, "the backlog was never full");
    // What no longer counts as dropped in the data is said at the end.
    let ending = said.lines().last().expect("what is left is said");
    let unsent: u64 = ending
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number in {ending:?}"));
    let missing = made.len() as u64 - seen.len() as u64;
    println!(
        "{} lines made, {dropped} dropped, {unsent} unsent; {said}",
        made.len()
    );
    // The last gather may have pushed out more after it told.
    let gather = made.len() as u64 / states.len() as u64;
    assert!(
        (dropped + unsent..=dropped + unsent + gather).contains(&missing),
        "{missing} lines are missing, {dropped} dropped and {unsent} unsent are accounted for; {said}"
    );
}
