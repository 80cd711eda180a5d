//! `collect`, and its lines by two ways: standard output, which is always read and so tells what was made, and a
//! socket whose reader is away, stalls and restarts.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    fs,
    hash::{Hash, Hasher},
    io::{BufRead, BufReader, ErrorKind, Read},
    os::unix::net::UnixListener,
    process::{ChildStdout, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    observer::{self, of, only},
    support::lines::{self, Line},
    watched::{PATIENCE, Process},
};

const SOCKET: &str = "/tmp/soak.sock";
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What the socket's reader is told.
pub enum Order {
    Stall(Duration),
    /// Nobody listens for so long; for no time at all, it restarts.
    Absent(Duration),
}

/// What was told so far.
#[derive(Clone, Default)]
struct Told {
    gathers: usize,
    /// The last gather.
    last: Vec<Line>,
    changes: u64,
    /// Events that the probes of now have lost, all of them changes.
    lost: u64,
}

pub struct Collected {
    pub process: Process,
    told: Arc<Mutex<Told>>,
    orders: Sender<Order>,
    ending: Arc<AtomicBool>,
    made: JoinHandle<Vec<u64>>,
    seen: JoinHandle<Seen>,
    said: JoinHandle<String>,
}

/// What came through the socket: each line by its number.
#[derive(Default)]
struct Seen {
    lines: Vec<u64>,
    accepted: u64,
}

fn number(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

impl Collected {
    pub fn start() -> Self {
        let interval = format!("{}s", INTERVAL.as_secs());
        let target = format!("unix://{SOCKET}");
        let mut command = observer::command(&["collect", "--interval", &interval, "--backlog", "64KiB"]);
        let mut child = command
            .args(["--output", "stdout", "--output", &target])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ipvs-observer is in the lab's PATH");
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let told = Arc::<Mutex<Told>>::default();
        let (orders, given) = mpsc::channel();
        let ending = Arc::new(AtomicBool::new(false));
        let (newest, end) = (Arc::clone(&told), Arc::clone(&ending));
        Self {
            process: Process(child),
            told,
            orders,
            ending,
            made: thread::spawn(move || whole(stdout, &newest)),
            seen: thread::spawn(move || read(&given, &end)),
            said: thread::spawn(move || std::io::read_to_string(stderr).expect("text")),
        }
    }

    pub fn order(&self, order: Order) {
        self.orders.send(order).expect("the reader goes on");
    }

    fn told(&self) -> Told {
        assert!(
            !self.made.is_finished() && !self.seen.is_finished(),
            "a reader of collect's lines has ended"
        );
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes that were told, and those that the probes of now have lost.
    pub fn changes(&self) -> (u64, u64) {
        let told = self.told();
        (told.changes, told.lost)
    }

    /// Waits for a gather, begun from now on, that is as wanted.
    pub fn until(&self, what: &str, wanted: impl Fn(&[Line]) -> bool) -> Vec<Line> {
        // One may be under way.
        self.from(self.told().gathers + 2, what, wanted)
    }

    /// How long it is until a gather has what was not there before.
    pub fn shown(&self, what: &str, wanted: impl Fn(&[Line]) -> bool) -> Duration {
        let begin = Instant::now();
        self.from(self.told().gathers + 1, what, wanted);
        begin.elapsed()
    }

    fn from(&self, first: usize, what: &str, wanted: impl Fn(&[Line]) -> bool) -> Vec<Line> {
        let begin = Instant::now();
        loop {
            let Told { gathers, last, .. } = self.told();
            if gathers >= first && wanted(&last) {
                return last;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: {last:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it well, and accounts for every line that it made.
    pub fn end(mut self) -> String {
        let Told { gathers, last, .. } = self.told();
        self.ending.store(true, Ordering::Relaxed);
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        let said = self.said.join().expect("a reader");
        assert!(status.success() && !said.contains("panicked"), "{status}: {said}");
        let made = self.made.join().expect("a reader");
        let seen = self.seen.join().expect("a reader");
        let mut left = made.iter();
        assert!(
            seen.lines.iter().all(|line| left.any(|made| made == line)),
            "a line that was never made, came twice, or out of order"
        );
        let last = only(&last, "ipvs_observer");
        let dropped = last.number("lines_dropped");
        assert!(dropped > 0, "the backlog was never full");
        assert_eq!(last.number("output_reconnects") + 1, seen.accepted);
        let unsent: u64 = said
            .lines()
            .filter(|line| line.contains("could not be written"))
            .filter_map(|line| line.split_whitespace().find_map(|word| word.parse::<u64>().ok()))
            .sum();
        let missing = (made.len() - seen.lines.len()) as u64;
        // The reader reads at the end, so that no gather pushes out another after it was told.
        assert_eq!(
            missing,
            dropped + unsent,
            "{dropped} dropped, {unsent} unsent; {said}"
        );
        format!(
            "{gathers} gathers, {} lines; of the socket's {} were read, {dropped} dropped and {unsent} unsent, by {} \
             readers; {} gathers skipped",
            made.len(),
            seen.lines.len(),
            seen.accepted,
            last.number("gathers_skipped"),
        )
    }
}

/// Reads what was made, and looks at each gather.
fn whole(stdout: ChildStdout, told: &Mutex<Told>) -> Vec<u64> {
    let (mut made, mut gather) = (Vec::new(), Vec::new());
    let mut time = 0;
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    while stdout.read_line(&mut line).expect("text") > 0 {
        made.push(number(line.trim_end_matches('\n')));
        gather.extend(lines::parse(&line));
        line.clear();
        let Some(end) = gather.last().filter(|line| line.measurement == "ipvs_observer") else {
            continue;
        };
        assert_eq!(end.number("lines"), made.len() as u64, "a line is missing");
        assert!(end.timestamp > time, "out of order: {end:?}");
        time = end.timestamp;
        let series: HashSet<_> = gather
            .iter()
            .map(|line| (line.series(), line.timestamp))
            .collect();
        assert_eq!(series.len(), gather.len(), "a series came twice");
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.gathers += 1;
        told.changes += of(&gather, "ipvs_change").count() as u64;
        // While the probes are away nobody says.
        if end.fields.contains_key("events_lost") {
            told.lost = end.number("events_lost");
        }
        told.last = std::mem::take(&mut gather);
    }
    assert!(gather.is_empty(), "half a gather at the end: {gather:?}");
    made
}

/// The socket's reader, until the program ends.
fn read(orders: &Receiver<Order>, ending: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    loop {
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET).expect("a listener");
        let (mut stream, _) = listener.accept().expect("it comes back by itself");
        // Nothing may wait in a queue of which nobody reads.
        drop(listener);
        seen.accepted += 1;
        let patience = Some(Duration::from_millis(60));
        stream.set_read_timeout(patience).expect("a timeout");
        let mut rest = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        let mut whole = true;
        let away = loop {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(ending.load(Ordering::Relaxed), "it closed the connection");
                    assert!(rest.is_empty(), "a line in part at the end");
                    return seen;
                }
                Ok(length) => {
                    rest.extend_from_slice(&buffer[..length]);
                    let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
                        continue;
                    };
                    let text = std::str::from_utf8(&rest[..end]).expect("text");
                    whole = rest.len() == end + 1
                        && text
                            .lines()
                            .last()
                            .is_some_and(|line| line.starts_with("ipvs_observer"));
                    seen.lines.extend(text.lines().map(number));
                    rest.drain(..=end);
                }
                // Between two gathers nothing is under way that could be lost with the socket.
                Err(error) if error.kind() == ErrorKind::WouldBlock => match orders.try_recv() {
                    Ok(Order::Stall(time)) => thread::sleep(time),
                    Ok(Order::Absent(time)) if whole => break time,
                    Ok(Order::Absent(_)) | Err(_) => {}
                },
                Err(error) => panic!("{error}"),
            }
        };
        drop(stream);
        fs::remove_file(SOCKET).expect("it was there");
        thread::sleep(away);
    }
}
