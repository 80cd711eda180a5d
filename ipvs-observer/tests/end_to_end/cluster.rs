//! Runs in the lab, as a program of its own: a small cluster with traffic, and `collect` beside it that writes to a
//! listening stream socket as Telegraf's `socket_listener` opens one. Says what the host holds against each other:
//! what `ipvsadm` counted at the end, and every byte that came out of the socket, unchanged.
//!
//! What happens here is what the dashboard has panels for: weights, a template, a drained and an overloaded real
//! server, refusals, changes of configuration, a counter that starts again, both families and a firewall mark.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a run that cannot go on fails by it"
)]

#[path = "../kernel/scheduler/client.rs"]
#[allow(dead_code, reason = "the kernel tests use the rest")]
mod client;
#[path = "../kernel/ipvsadm.rs"]
#[allow(dead_code, reason = "the kernel tests use the rest")]
mod ipvsadm;
#[path = "../support/mod.rs"]
mod support;
#[path = "../kernel/traffic.rs"]
#[allow(dead_code, reason = "the kernel tests use the rest")]
mod traffic;

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use support::child::shell;

const SOCKET: &str = "/run/telegraf.sock";
/// What Telegraf's `socket_listener` takes of a line before it gives the connection up.
const LONGEST: usize = 64 * 1024;
const ROUNDS: usize = 16;
const MARK: u32 = 47;

/// The table at the start. 10.8.0.3 is drained from the beginning, 10.9.0.1:9 has nobody behind it.
const TABLE: &str = "
-A -t 10.9.0.1:80 -s wrr
-a -t 10.9.0.1:80 -r 10.8.0.1:7000 -m -w 1
-a -t 10.9.0.1:80 -r 10.8.0.2:7000 -m -w 3
-a -t 10.9.0.1:80 -r 10.8.0.3:7000 -m -w 0
-A -t 10.9.0.1:443 -s wlc -p 300
-a -t 10.9.0.1:443 -r 10.8.0.1:7000 -m -w 2
-a -t 10.9.0.1:443 -r 10.8.0.2:7000 -m -w 1
-A -t 10.9.0.1:8080 -s rr
-a -t 10.9.0.1:8080 -r 10.8.0.1:7000 -m -x 2
-a -t 10.9.0.1:8080 -r 10.8.0.2:7000 -m -x 3
-A -u 10.9.0.1:53 -s rr
-a -u 10.9.0.1:53 -r 10.8.0.1:7000 -m -w 1
-a -u 10.9.0.1:53 -r 10.8.0.2:7000 -m -w 1
-A -u 10.9.0.1:123 -s rr
-a -u 10.9.0.1:123 -r 10.8.0.3:7000 -m -w 1
-A -u 10.9.0.1:9 -s rr
-A -t [fd00:9::1]:80 -s wrr
-a -t [fd00:9::1]:80 -r [fd00:8::1]:7000 -m -w 1
-a -t [fd00:9::1]:80 -r [fd00:8::2]:7000 -m -w 2
-A -f 47 -s rr
-a -f 47 -r 10.8.0.1:0 -m -w 1
-a -f 47 -r 10.8.0.2:0 -m -w 1
";

fn main() {
    assert!(
        Path::new("/lab/command").exists(),
        "this sets up and empties tables of IPVS, so it runs in the lab alone: `cargo xtask test`"
    );
    for module in ["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_wlc"] {
        shell(&format!("modprobe {module}"));
    }
    // So that the time that the probes take is among the fields.
    shell("echo 1 >/proc/sys/kernel/bpf_stats_enabled");
    traffic::addresses();
    for n in 1..=3 {
        for address in [format!("10.8.0.{n}:7000"), format!("[fd00:8::{n}]:7000")] {
            traffic::serve_tcp(&address);
            traffic::serve_udp(&address);
        }
    }
    ipvsadm::restore(TABLE);
    let listener = Listener::start();
    let mut collect = collect();
    listener.wait_for("gathers with every probe", |lines| {
        let of_itself = |line: &&str| line.starts_with("ipvs_observer ");
        lines
            .lines()
            .filter(of_itself)
            .filter(|line| line.contains(",probes_missing=0i,"))
            .count()
            >= 2
    });
    let held = (0..ROUNDS).flat_map(round).collect::<Vec<_>>();
    let table = at_rest();
    // What the table says now is what the gathers from now on say.
    let gathers = listener.gathers();
    listener.wait_for("two gathers of the table at rest", |_| {
        listener.gathers() > gathers + 2
    });
    end(&mut collect);
    assert_eq!(at_rest(), table, "the table changed while it was read");
    drop(held);
    let lines = listener.finish();
    let mut out = io::stdout().lock();
    out.write_all(table.as_bytes())
        .and_then(|()| out.write_all(b"= lines\n"))
        .and_then(|()| out.write_all(&lines))
        .expect("the host reads");
}

/// Some connections to everything, and in some rounds something else. What is returned stays open.
fn round(turn: usize) -> Vec<TcpStream> {
    let begin = Instant::now();
    let mut held = Vec::new();
    for service in ["10.9.0.1:80", "10.9.0.1:443", "[fd00:9::1]:80"] {
        let mut streams = client::connect(service, 3);
        held.extend(streams.pop().filter(|_| turn.is_multiple_of(4)));
    }
    client::ask("10.9.0.1:53", 2);
    client::ask("10.9.0.1:123", 1);
    client::send("10.9.0.1:9", 1);
    ask_marked("10.9.0.2:7000", 20000 + turn as u16);
    match turn {
        // Both real servers full, and then one client too many.
        4 => {
            held.extend(client::connect("10.9.0.1:8080", 5));
            client::run(|| TcpStream::connect("10.9.0.1:8080").expect_err("both are full"));
        }
        6 => change(&["-e", "-t", "10.9.0.1:80", "-r", "10.8.0.1:7000", "-m", "-w", "2"]),
        7 => change(&["-a", "-u", "10.9.0.1:53", "-r", "10.8.0.3:7000", "-m", "-w", "1"]),
        // Drained: it had connections.
        8 => change(&[
            "-e",
            "-t",
            "[fd00:9::1]:80",
            "-r",
            "[fd00:8::2]:7000",
            "-m",
            "-w",
            "0",
        ]),
        // The counters of one service start again.
        9 => change(&["-Z", "-u", "10.9.0.1:123"]),
        // Full no longer: one of the two has no threshold any more.
        10 => change(&[
            "-e",
            "-t",
            "10.9.0.1:8080",
            "-r",
            "10.8.0.1:7000",
            "-m",
            "-x",
            "0",
        ]),
        11 => change(&["-A", "-u", "10.9.0.1:7", "-s", "rr"]),
        12 => change(&["-e", "-f", "47", "-r", "10.8.0.2:0", "-m", "-w", "2"]),
        14 => change(&["-D", "-u", "10.9.0.1:7"]),
        _ => {}
    }
    thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
    held
}

fn change(arguments: &[&str]) {
    ipvsadm::run(arguments);
}

/// A datagram there and back that the firewall mark sends through IPVS, from the director itself.
fn ask_marked(address: &str, port: u16) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.set_mark(MARK).expect("root may mark");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let any: std::net::SocketAddr = ([0, 0, 0, 0], port).into();
    socket.bind(&any.into()).expect("a port");
    let to: std::net::SocketAddr = address.parse().expect("an address");
    socket.send_to(b"there and back", &to.into()).expect("sending");
    let socket = std::net::UdpSocket::from(socket);
    socket
        .recv(&mut [0; 64])
        .unwrap_or_else(|error| panic!("no answer through the mark: {error}"));
}

/// The listings that the host reads, once all of a table's counters have stood still for longer than the kernel
/// takes to copy them.
fn at_rest() -> String {
    let listings = || {
        let stats = ipvsadm::run(&["-L", "-n", "--stats", "--exact"]);
        format!(
            "= stats\n{stats}= table\n{}",
            weights(&ipvsadm::run(&["-L", "-n"]))
        )
    };
    let mut before = listings();
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(2500));
        let now = listings();
        if now == before {
            return now;
        }
        before = now;
    }
    panic!("the table did not come to rest:\n{before}");
}

/// A listing without its last columns: connections end by themselves.
fn weights(listing: &str) -> String {
    let cut = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let kept = if words.first() == Some(&"->") {
            4
        } else {
            words.len()
        };
        words[..kept.min(words.len())].join(" ") + "\n"
    };
    listing.lines().map(cut).collect()
}

fn collect() -> Child {
    Command::new("ipvs-observer")
        .args(["collect", "--interval", "1s", "--probes", "on", "--output"])
        .arg(format!("unix://{SOCKET}"))
        .stdin(Stdio::null())
        .spawn()
        .expect("ipvs-observer is in the lab's PATH")
}

fn end(collect: &mut Child) {
    let process = collect.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &process]).status();
    assert!(sent.expect("kill").success());
    let status = collect.wait().expect("it ends");
    assert!(status.success(), "collect ended with {status}");
}

/// The listening end of the stream, and what came so far.
struct Listener {
    lines: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Listener {
    fn start() -> Self {
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET).expect("a socket");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).expect("reading") > 0 {
                assert!(line.len() <= LONGEST, "a line that Telegraf would not take");
                taken
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .append(&mut line);
            }
        });
        Self { lines, reader }
    }

    fn text(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(lines.clone()).expect("text")
    }

    fn gathers(&self) -> usize {
        let text = self.text();
        text.lines()
            .filter(|line| line.starts_with("ipvs_observer "))
            .count()
    }

    fn wait_for(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let begin = Instant::now();
        while !holds(&self.text()) {
            assert!(
                begin.elapsed() < Duration::from_mins(1),
                "no {what} within a minute; the socket brought:\n{}",
                self.text()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Everything that came, once the writer has closed.
    fn finish(self) -> Vec<u8> {
        self.reader.join().expect("the reader ends");
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut lines)
    }
}
