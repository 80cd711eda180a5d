//! Traces, held against connections that were really made.

mod destination;
mod filters;
mod skipped;
mod waiting;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::log;
use serde_json::Value as Json;

use crate::{
    abilities::{lacking_btf, telling},
    ipvsadm, observer,
    support::child::{self, shell},
    traffic,
    watched::PATIENCE,
};

/// Whether nothing can be traced here, where the test passes.
fn untraceable() -> bool {
    shell("modprobe ip_vs");
    lacking_btf()
}

/// A real server that notes who connected to it, and keeps the connections.
fn noting_server(address: &str, seen: &Arc<Mutex<BTreeMap<SocketAddr, String>>>) {
    let listener = TcpListener::bind(address).expect("a listener");
    let (seen, address) = (Arc::clone(seen), address.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().expect("a peer");
            seen.lock()
                .expect("no test panics here")
                .insert(peer, address.clone());
            thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 1]);
            });
        }
    });
}

/// A one-packet service whose real server reads nothing, and its client: what a flood takes least for.
struct Datagrams {
    _server: UdpSocket,
    client: UdpSocket,
    service: String,
}

impl Datagrams {
    fn to(port: u16) -> Self {
        let service = format!("10.9.0.1:{port}");
        let server = format!("10.8.0.1:{}", port + 100);
        traffic::addresses();
        ipvsadm::restore(&format!(
            "-A -u {service} -s rr -o\n-a -u {service} -r {server} -m -w 1\n"
        ));
        Self {
            _server: UdpSocket::bind(server).expect("a socket that nobody reads"),
            client: UdpSocket::bind("10.9.0.2:0").expect("a socket"),
            service,
        }
    }

    fn send(&self) {
        self.client.send_to(b"x", &self.service).expect("sending");
    }
}

/// A trace that runs, and the objects that it writes.
struct Trace {
    child: Child,
    lines: Receiver<String>,
    messages: BufReader<ChildStderr>,
}

impl Trace {
    fn start(args: &[&str]) -> Self {
        let mut command = observer::command(&[&["trace"], args].concat());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = child::lines(child.stdout.take().expect("piped"));
        let messages = BufReader::new(child.stderr.take().expect("piped"));
        Self {
            child,
            lines,
            messages,
        }
    }

    /// Has connections made until one is traced with the time that its scheduler took: all probes are there.
    fn wait_until_attached(&self, connect: impl Fn()) {
        let begin = Instant::now();
        loop {
            connect();
            while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(300)) {
                let json: Json = serde_json::from_str(&line).expect("JSON");
                if json["kind"] == "decision" && !json["ns"].is_null() {
                    // What was made meanwhile comes too, before the test begins.
                    while self.lines.recv_timeout(Duration::from_millis(500)).is_ok() {}
                    return;
                }
            }
            assert!(begin.elapsed() < PATIENCE, "no decision was traced");
        }
    }

    /// Has something made until one is traced: the probes that it needs are there.
    fn wait_until_any(&self, make: impl Fn()) {
        let begin = Instant::now();
        loop {
            make();
            if self.lines.recv_timeout(Duration::from_millis(300)).is_ok() {
                while self.lines.recv_timeout(Duration::from_millis(500)).is_ok() {}
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "nothing was traced");
        }
    }

    /// Waits until all that happens is traced.
    fn wait_until_said(&mut self) {
        let mut line = String::new();
        while !line.contains("probes attached") {
            line.clear();
            assert_ne!(self.messages.read_line(&mut line).expect("text"), 0, "it ended");
        }
    }

    /// Stops it, and returns the objects since the last that was read, and its messages.
    fn stop(mut self) -> (Vec<Json>, String) {
        let sent = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill").success());
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| serde_json::from_str(&line).expect("JSON"))
            .collect();
        let mut messages = String::new();
        self.messages.read_to_string(&mut messages).expect("text");
        assert!(self.child.wait().expect("it ends").success(), "{messages}");
        (lines, messages)
    }
}

fn decisions(objects: &[Json]) -> impl Iterator<Item = &Json> {
    objects.iter().filter(|object| object["kind"] == "decision")
}

#[test]
fn each_of_a_thousand_connections_is_traced_once_with_client_destination_and_weight() {
    if untraceable() {
        return;
    }
    traffic::addresses();
    // On loopback a port is used again a second after its connection's end, and a client would come twice.
    shell("echo 0 >/proc/sys/net/ipv4/tcp_tw_reuse");
    ipvsadm::restore(
        "-A -t 10.9.0.1:7001 -s wrr
         -a -t 10.9.0.1:7001 -r 10.8.0.1:7101 -m -w 1
         -a -t 10.9.0.1:7001 -r 10.8.0.2:7101 -m -w 3\n",
    );
    let seen = Arc::default();
    noting_server("10.8.0.1:7101", &seen);
    noting_server("10.8.0.2:7101", &seen);
    let mut collect = observer::command(&["collect", "--interval", "1s"]);
    let mut collect = collect
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let trace = Trace::start(&["--format", "json", "--service", "tcp://10.9.0.1:7001"]);
    trace.wait_until_attached(|| drop(TcpStream::connect("10.9.0.1:7001").expect("a connection")));
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let stream = TcpStream::connect("10.9.0.1:7001").expect("a connection");
        clients.push(stream.local_addr().expect("an address"));
    }
    thread::sleep(Duration::from_secs(2));
    let (objects, messages) = trace.stop();
    collect.kill().expect("it runs");
    collect.wait().expect("it ends");
    let seen = seen.lock().expect("no test panics here");
    let mut traced = BTreeMap::new();
    for decision in decisions(&objects) {
        let client = format!(
            "{}:{}",
            text(&decision["client"]["address"]),
            decision["client"]["port"]
        );
        let destination = &decision["destination"];
        let server = format!("{}:{}", text(&destination["address"]), destination["port"]);
        assert!(
            traced.insert(client.clone(), server.clone()).is_none(),
            "{client} twice"
        );
        assert_eq!(decision["outcome"], "scheduled");
        assert_eq!(decision["scheduler"], "wrr");
        let weight = if server.starts_with("10.8.0.1") { 1 } else { 3 };
        assert_eq!(destination["weight"], weight, "{server}");
    }
    assert_eq!(traced.len(), clients.len(), "{messages}");
    for client in &clients {
        assert_eq!(traced.get(&client.to_string()), seen.get(client), "{client}");
    }
    assert!(
        messages.contains("lost: 0 decisions, 0 changes, 0 lists of candidates, 0 lines"),
        "{messages}"
    );
}

fn text(json: &Json) -> &str {
    json.as_str().expect("text")
}

#[test]
fn a_flood_loses_events_and_says_exactly_how_many() {
    const MADE: u64 = 20_000;
    if untraceable() {
        return;
    }
    let datagrams = Datagrams::to(7002);
    let send = || datagrams.send();
    let trace = Trace::start(&["--format", "json", "--ring", "4KiB"]);
    trace.wait_until_attached(send);
    // On some kernels counters reach the table with the next estimation, every two seconds.
    thread::sleep(Duration::from_millis(2500));
    let before = ipvsadm::list(&["--stats", "--exact"])["UDP 10.9.0.1:7002"].numbers()[0];
    (0..MADE).for_each(|_| send());
    ipvsadm::counts("UDP 10.9.0.1:7002", before + MADE);
    let (objects, messages) = trace.stop();
    let shown = decisions(&objects).count() as u64;
    let lost: u64 = objects
        .iter()
        .filter(|object| object["kind"] == "lost")
        .map(|object| object["decisions"].as_u64().expect("a number"))
        .sum();
    assert!(
        lost > 0,
        "a ring of a page holds them all? {shown} shown; {messages}"
    );
    assert_eq!(shown + lost, MADE, "{shown} shown, {lost} lost; {messages}");
    assert!(
        messages.contains(&format!("lost: {}", log::counted(lost, "decision"))),
        "{messages}"
    );
}

#[test]
fn check_says_what_this_kernel_allows_and_a_trace_without_it_fails_with_the_reason() {
    shell("modprobe ip_vs");
    let whole = telling();
    let output = observer::run(&["check", "--format", "json"]);
    let rows: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let missing: Vec<_> = rows
        .as_array()
        .expect("rows")
        .iter()
        .filter(|row| row["state"] == "missing")
        .cloned()
        .collect();
    assert_eq!(missing.is_empty(), whole, "{missing:?}");
    assert_eq!(output.status.code(), Some(i32::from(!whole)));
    for row in &missing {
        assert!(
            !text(&row["consequence"]).is_empty() && !text(&row["remedy"]).is_empty(),
            "{row}"
        );
    }
    if !whole {
        let output = observer::run(&["trace", "--duration", "1s"]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("BTF"), "{message}");
    }
}
