//! Traces, held against connections that were really made.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::{
    model::{Decision, Outcome, Traced},
    probe::{ProbeSettings, Probes, Tell},
};
use serde_json::Value as Json;

use crate::{ipvsadm, observer, traffic};

const PATIENCE: Duration = Duration::from_secs(90);

/// Whether this kernel tells of its modules' structures; without, there is no trace.
fn traceable() -> bool {
    assert!(
        Command::new("modprobe")
            .arg("ip_vs")
            .status()
            .expect("modprobe")
            .success()
    );
    Path::new("/sys/kernel/btf/ip_vs").exists()
}

/// The first two numbers of the kernel's version.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut next = || {
        numbers
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number")
    };
    (next(), next())
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

/// A trace that runs, and the objects that it writes.
struct Trace {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Trace {
    fn start(args: &[&str]) -> Self {
        let mut command = observer::command(&[&["trace"], args].concat());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
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
        self.child
            .stderr
            .take()
            .expect("piped")
            .read_to_string(&mut messages)
            .expect("text");
        assert!(self.child.wait().expect("it ends").success(), "{messages}");
        (lines, messages)
    }
}

fn decisions(objects: &[Json]) -> impl Iterator<Item = &Json> {
    objects.iter().filter(|object| object["kind"] == "decision")
}

#[test]
fn each_of_a_thousand_connections_is_traced_once_with_client_destination_and_weight() {
    if !traceable() {
        return;
    }
    traffic::addresses();
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

/// Asks for the entries of a large empty map, over and over, until it is dropped: what another program may do.
struct Asking {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Asking {
    fn start(threads: usize) -> Self {
        const MAP_CREATE: libc::c_int = 0;
        const LOOKUP_BATCH: libc::c_int = 24;
        const HASH: u32 = 1;
        const NO_PREALLOCATION: u32 = 1;
        let bpf = |command: libc::c_int, attributes: &mut [u32]| {
            // SAFETY: the attributes are as long as is said, and what they point to outlives the call.
            unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    command,
                    attributes.as_mut_ptr(),
                    size_of_val(attributes),
                )
            }
        };
        let map = bpf(MAP_CREATE, &mut [HASH, 8, 8, 1 << 20, NO_PREALLOCATION]);
        let map = u32::try_from(map).expect("a map");
        let stop = Arc::new(AtomicBool::new(false));
        let ask = || {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let (mut keys, mut values, mut next) = ([0_u64; 8], [0_u64; 8], 0_u64);
                let halves = |pointer: u64| [pointer as u32, (pointer >> 32) as u32];
                while !stop.load(Ordering::Relaxed) {
                    let [next, next_high] = halves((&raw mut next) as u64);
                    let [keys, keys_high] = halves(keys.as_mut_ptr() as u64);
                    let [values, values_high] = halves(values.as_mut_ptr() as u64);
                    let mut attributes = [
                        0,
                        0,
                        next,
                        next_high,
                        keys,
                        keys_high,
                        values,
                        values_high,
                        8,
                        map,
                        0,
                        0,
                        0,
                        0,
                    ];
                    let read = bpf(LOOKUP_BATCH, &mut attributes);
                    let error = std::io::Error::last_os_error();
                    assert!(
                        read < 0 && error.raw_os_error() == Some(libc::ENOENT),
                        "an empty map: {error}"
                    );
                }
            })
        };
        Self {
            threads: (0..threads).map(|_| ask()).collect(),
            stop,
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("it asks, and that is all");
        }
    }
}

#[test]
fn what_the_kernel_skips_for_another_programs_sake_is_told_as_lost() {
    const MADE: usize = 5000;
    if !traceable() {
        return;
    }
    traffic::addresses();
    ipvsadm::restore("-A -u 10.9.0.1:7067 -s rr -o\n-a -u 10.9.0.1:7067 -r 10.8.0.1:7167 -m -w 1\n");
    let server = UdpSocket::bind("10.8.0.1:7167").expect("a socket that nobody reads");
    let client = UdpSocket::bind("10.9.0.2:0").expect("a socket");
    let send = || {
        client.send_to(b"x", "10.9.0.1:7067").expect("sending");
    };
    let service = ["--service", "udp://10.9.0.1:7067"];
    let trace = Trace::start(&[&["--format", "json", "--ring", "16MiB"], &service[..]].concat());
    trace.wait_until_attached(send);
    let asking = Asking::start(6);
    (0..MADE).for_each(|_| send());
    asking.stop();
    thread::sleep(Duration::from_secs(2));
    let (objects, messages) = trace.stop();
    drop(server);
    let shown = decisions(&objects).count();
    let lost: u64 = objects
        .iter()
        .filter(|object| object["kind"] == "lost")
        .map(|object| object["decisions"].as_u64().expect("a number"))
        .sum();
    println!("{shown} shown, {lost} lost: {messages}");
    if kernel() >= (6, 7) {
        assert_eq!(shown + lost as usize, MADE, "{messages}");
        assert!(
            lost == 0 || messages.contains(&format!("the kernel ran no probe for {lost} of the decisions")),
            "{messages}"
        );
    }
    // A kernel that lets a reader be preempted anywhere is one that shows it here.
    if kernel() >= (7, 0) {
        assert!(lost > 0, "nothing was skipped, and nothing was tried");
    }
}

fn text(json: &Json) -> &str {
    json.as_str().expect("text")
}

#[test]
fn a_flood_loses_events_and_says_exactly_how_many() {
    const MADE: u64 = 20_000;
    if !traceable() {
        return;
    }
    traffic::addresses();
    ipvsadm::restore("-A -u 10.9.0.1:7002 -s rr -o\n-a -u 10.9.0.1:7002 -r 10.8.0.1:7102 -m -w 1\n");
    let server = UdpSocket::bind("10.8.0.1:7102").expect("a socket that nobody reads");
    let client = UdpSocket::bind("10.9.0.2:0").expect("a socket");
    let send = || {
        client.send_to(b"x", "10.9.0.1:7002").expect("sending");
    };
    let trace = Trace::start(&["--format", "json", "--ring", "4KiB"]);
    trace.wait_until_attached(send);
    // On some kernels counters reach the table with the next estimation, every two seconds.
    let counted = || {
        thread::sleep(Duration::from_secs(5));
        ipvsadm::list(&["--stats", "--exact"])["UDP 10.9.0.1:7002"].numbers()[0]
    };
    let before = counted();
    (0..MADE).for_each(|_| send());
    let made = counted() - before;
    let (objects, messages) = trace.stop();
    drop(server);
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
        messages.contains(&format!("lost: {lost} decisions")),
        "{messages}"
    );
    assert_eq!(made, MADE, "the kernel counted what was made");
}

/// Decisions traced in this process, with what the scheduler had before it.
struct Explained {
    probes: Probes,
}

impl Explained {
    fn attach() -> Self {
        let settings = ProbeSettings {
            tell: Tell::Candidates,
            ..ProbeSettings::default()
        };
        Self {
            probes: Probes::attach(&settings),
        }
    }

    /// The decisions of what is made meanwhile.
    fn during(&mut self, make: impl FnOnce()) -> Vec<Decision> {
        let mut decisions = Vec::new();
        self.probes.refresh();
        self.probes.events(|_| {});
        make();
        while self
            .probes
            .wait(Duration::from_millis(300))
            .expect("the kernel waits")
        {
            self.probes.events(|event| {
                if let Traced::Decision(decision) = event {
                    decisions.push(*decision);
                }
            });
        }
        decisions
    }
}

#[test]
fn the_computed_winner_is_the_chosen_one_for_every_rule_that_can_be_computed() {
    if !traceable() {
        return;
    }
    traffic::addresses();
    let seen = Arc::default();
    for host in 1..=4 {
        noting_server(&format!("10.8.0.{host}:7103"), &seen);
    }
    let mut explained = Explained::attach();
    for scheduler in ["wlc", "lc", "rr", "wrr", "sed", "nq", "fo", "ovf"] {
        if !Command::new("modprobe")
            .arg(format!("ip_vs_{scheduler}"))
            .status()
            .expect("modprobe")
            .success()
        {
            panic!("{scheduler} is in every kernel of the matrix");
        }
        ipvsadm::restore(&format!(
            "-A -t 10.9.0.1:7003 -s {scheduler}
             -a -t 10.9.0.1:7003 -r 10.8.0.1:7103 -m -w 3
             -a -t 10.9.0.1:7003 -r 10.8.0.2:7103 -m -w 7
             -a -t 10.9.0.1:7003 -r 10.8.0.3:7103 -m -w 0
             -a -t 10.9.0.1:7003 -r 10.8.0.4:7103 -m -w 40\n",
        ));
        let mut held = Vec::new();
        let decisions = explained.during(|| {
            for turn in 0..100 {
                let stream = TcpStream::connect("10.9.0.1:7003").expect("a connection");
                // Some stay and some go, so that active and inactive connections mix.
                if turn % 3 > 0 {
                    held.push(stream);
                }
                if turn % 7 == 0 {
                    held.pop();
                }
                if turn == 50 {
                    ipvsadm::run(&[
                        "-e",
                        "-t",
                        "10.9.0.1:7003",
                        "-r",
                        "10.8.0.1:7103",
                        "-m",
                        "-w",
                        "9",
                    ]);
                }
            }
        });
        assert_eq!(decisions.len(), 100, "{scheduler}");
        for (turn, decision) in decisions.iter().enumerate() {
            let candidates = decision
                .candidates
                .as_ref()
                .expect("what the scheduler had before it");
            assert_eq!(candidates.list.len(), 4);
            let chosen = candidates.list.iter().position(|candidate| candidate.chosen);
            assert!(
                chosen.is_some() && decision.outcome == Outcome::Scheduled,
                "{decision:?}"
            );
            assert_eq!(
                candidates.computed, chosen,
                "{scheduler}, decision {turn}: {decision:?}"
            );
        }
    }
}

#[test]
fn persistence_and_an_empty_choice_are_said_in_words() {
    if !traceable() {
        return;
    }
    traffic::addresses();
    ipvsadm::restore("-A -t 10.9.0.1:7004 -s rr -p 100\n-a -t 10.9.0.1:7004 -r 10.8.0.1:7104 -m -w 1\n");
    let seen = Arc::default();
    noting_server("10.8.0.1:7104", &seen);
    let mut explained = Explained::attach();
    let connect = || {
        TcpStream::connect_timeout(
            &"10.9.0.1:7004".parse().expect("an address"),
            Duration::from_secs(2),
        )
    };
    let decisions = explained.during(|| {
        for _ in 0..3 {
            connect().expect("a connection");
        }
    });
    let outcomes: Vec<_> = decisions.iter().map(|decision| decision.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Scheduled, Outcome::Template, Outcome::Template]
    );

    let reasons = |explained: &mut Explained, rules: &str| {
        ipvsadm::restore(rules);
        let decisions = explained.during(|| assert!(connect().is_err(), "there is nobody to connect to"));
        assert!(!decisions.is_empty(), "{rules}");
        (decisions[0].outcome, decisions[0].reason.clone())
    };
    let drained = reasons(
        &mut explained,
        "-A -t 10.9.0.1:7004 -s wlc\n-a -t 10.9.0.1:7004 -r 10.8.0.1:7104 -m -w 0\n",
    );
    assert_eq!(drained, (Outcome::None, "all weights are 0".to_owned()));
    let empty = reasons(&mut explained, "-A -t 10.9.0.1:7004 -s wlc\n");
    assert_eq!(
        empty,
        (Outcome::None, "the service has no real servers".to_owned())
    );

    ipvsadm::restore("-A -t 10.9.0.1:7004 -s wlc\n-a -t 10.9.0.1:7004 -r 10.8.0.2:7104 -m -w 1 -x 2 -y 1\n");
    noting_server("10.8.0.2:7104", &seen);
    let held: Vec<_> = (0..2).map(|_| connect().expect("below the threshold")).collect();
    let decisions = explained.during(|| assert!(connect().is_err(), "above the threshold"));
    assert_eq!(decisions[0].outcome, Outcome::Overloaded, "{decisions:?}");
    assert_eq!(decisions[0].reason, "1 of 1 real servers are overloaded");
    drop(held);
}

#[test]
fn check_says_what_this_kernel_allows_and_a_trace_without_it_fails_with_the_reason() {
    let whole = traceable();
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
