//! Other network namespaces: each with its own numbers, none of them kept.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::UdpSocket,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::netlink;

use crate::{
    abilities::lacking_btf,
    ipvsadm,
    observer::{self, of, only},
    support::{
        child::{printed, shell},
        lines::{self, Line},
    },
    traffic,
    watched::Speaking,
};

const RULES: &str = "ipvsadm -A -u 10.9.0.1:7070 -s rr
                     ipvsadm -a -u 10.9.0.1:7070 -r 10.8.0.1:7000 -m -w 3";

/// A namespace with a name and a table. A pair of links has its other end here: that goes when it goes.
pub struct Named(&'static str);

impl Named {
    pub fn new(name: &'static str) -> Self {
        let named = Self(name);
        shell(&format!(
            "ip netns add {name}
             ip link add end-{name} type veth peer name eth0 netns {name}"
        ));
        named.inside(|| {
            shell("ip link set lo up");
            traffic::addresses();
            shell(RULES);
        });
        named
    }

    /// Does something in it, in a thread that ends.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                netlink::enter(self.0).expect("root may");
                work()
            });
            there.join().expect("the work there")
        })
    }

    /// So many new connections through its virtual server, until the kernel has counted them. Nobody answers: what
    /// counts is that they were scheduled.
    pub fn traffic(&self, connections: u64) {
        self.inside(|| {
            for _ in 0..connections {
                let client = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                client.send_to(b"one way", "10.9.0.1:7070").expect("sending");
            }
            ipvsadm::counts("UDP 10.9.0.1:7070", connections);
        });
    }

    /// Connections as `ipvsadm` has them there.
    fn connections(&self) -> u64 {
        let stats = printed(&format!("ip netns exec {} ipvsadm -Ln --stats --exact", self.0));
        let line = stats.lines().find(|line| line.starts_with("UDP"));
        let words: Vec<_> = line.expect("its service").split_whitespace().collect();
        words[2].parse().expect("a number")
    }

    pub fn delete(&self) {
        shell(&format!("ip netns del {}", self.0));
    }

    /// Whether it is destroyed soon, and its end of the links with it.
    fn goes(&self) -> bool {
        let end = format!("/sys/class/net/end-{}", self.0);
        let until = Instant::now() + Duration::from_secs(5);
        while Path::new(&end).exists() {
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

/// `collect` that gathers when it is told to.
pub struct Collect {
    pub child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Collect {
    pub fn start(args: &[&str]) -> Self {
        Self::of(observer::command(
            &[&["collect", "--trigger", "stdin"], args].concat(),
        ))
    }

    /// Runs a command that becomes one.
    pub fn of(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ipvs-observer is in the lab's PATH");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    /// The lines of one gather, up to the last of the namespaces' lines about the program.
    pub fn gather(&mut self, namespaces: usize) -> Vec<Line> {
        self.stdin.write_all(b"\n").expect("it reads");
        let mut found = Vec::new();
        while of(&found, "ipvs_observer").count() < namespaces {
            let mut text = String::new();
            assert!(
                self.stdout.read_line(&mut text).expect("reading") > 0,
                "it ended: {found:?}"
            );
            found.extend(lines::parse(&text));
        }
        found
    }

    /// Ends it and returns what it said.
    pub fn end(self) -> String {
        drop(self.stdin);
        let output = self.child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

fn in_netns(lines: &[Line], netns: &str) -> Vec<Line> {
    let of_netns = lines.iter().filter(|line| line.tag("netns") == netns);
    of_netns.cloned().collect()
}

#[test]
fn each_namespace_has_its_own_lines_and_its_own_picks() {
    let (blue, red) = (Named::new("blue"), Named::new("red"));
    // The third is blue once more, by a path.
    let path = "/run/netns/blue";
    let mut collect = Collect::start(&["--netns", "blue,red", "--netns", path]);
    collect.gather(3);
    blue.traffic(3);
    red.traffic(7);
    let lines = collect.gather(3);
    for line in &lines {
        assert!(!line.tag("netns").is_empty(), "{line:?}");
    }
    let series: HashSet<_> = lines.iter().map(Line::series).collect();
    assert_eq!(series.len(), lines.len(), "a series came twice: {lines:?}");
    for (netns, named, connections) in [("blue", &blue, 3), ("red", &red, 7), (path, &blue, 3)] {
        let lines = in_netns(&lines, netns);
        assert_eq!(named.connections(), connections);
        let server = only(&lines, "ipvs_virtual_server");
        assert_eq!(server.number("connections"), connections);
        let real = only(&lines, "ipvs_real_server");
        assert_eq!((real.tag("netns"), real.number("weight")), (netns, 3));
        assert_eq!(only(&lines, "ipvs").number("connections"), connections);
        let state = only(&lines, "ipvs_observer");
        if state.fields.contains_key("probes") && server.fields.contains_key("schedule_picks") {
            assert_eq!(server.number("schedule_picks"), connections);
            assert_eq!(real.number("picks"), connections);
        } else {
            assert_eq!(state.text("status"), "degraded", "{state:?}");
        }
    }
    collect.end();
    for named in [blue, red] {
        named.delete();
        assert!(named.goes(), "{} is still there", named.0);
    }
}

#[test]
fn a_namespace_that_is_deleted_goes_at_once_and_is_gathered_when_it_comes_again() {
    let green = Named::new("green");
    let mut collect = Collect::start(&["--netns", "green"]);
    let first = collect.gather(1);
    assert_eq!(of(&first, "ipvs_virtual_server").count(), 1, "{first:?}");
    let probed = first[0].fields.contains_key("schedule_picks");
    green.delete();
    assert!(green.goes(), "the program keeps it");
    for _ in 0..2 {
        let gone = collect.gather(1);
        let state = only(&gone, "ipvs_observer");
        assert_eq!(
            (state.text("status"), state.text("reason"), state.tag("netns")),
            ("unavailable", "no such network namespace", "green")
        );
        assert!(of(&gone, "ipvs_virtual_server").next().is_none(), "{gone:?}");
    }
    let green = Named::new("green");
    collect.gather(1);
    green.traffic(4);
    let again = collect.gather(1);
    assert_ne!(only(&again, "ipvs_observer").text("status"), "unavailable");
    let server = only(&again, "ipvs_virtual_server");
    assert_eq!(server.number("connections"), 4);
    if probed {
        assert_eq!(server.number("schedule_picks"), 4);
    }
    let said = collect.end();
    let message = "E! network namespace green: there is no such network namespace";
    assert_eq!(said.matches(message).count(), 1, "{said}");
    assert!(
        said.contains("network namespace green: everything is gathered again") || !probed,
        "{said}"
    );
    green.delete();
    assert!(green.goes());
}

#[test]
fn a_namespace_that_is_not_there_yet_is_a_state_and_comes() {
    let mut collect = Collect::start(&["--netns", "late,/proc/self/ns/net"]);
    let lines = collect.gather(2);
    let state = only(&in_netns(&lines, "late"), "ipvs_observer").clone();
    assert_eq!(state.text("status"), "unavailable");
    assert_eq!(state.text("reason"), "no such network namespace");
    let own = in_netns(&lines, "/proc/self/ns/net");
    assert_ne!(only(&own, "ipvs_observer").text("status"), "unavailable");
    assert!(only(&own, "ipvs").fields.contains_key("virtual_servers"));
    let late = Named::new("late");
    let lines = in_netns(&collect.gather(2), "late");
    assert_ne!(only(&lines, "ipvs_observer").text("status"), "unavailable");
    assert_eq!(of(&lines, "ipvs_virtual_server").count(), 1, "{lines:?}");
    let said = collect.end();
    assert_eq!(
        said.matches("E! network namespace late: there is no such")
            .count(),
        1,
        "{said}"
    );
    late.delete();
}

#[test]
fn a_trace_waits_for_a_namespace_that_is_not_there_yet() {
    shell("modprobe ip_vs");
    let mut trace = Speaking::start(observer::command(&["trace", "--netns", "later"]));
    if lacking_btf() {
        let (code, messages) = trace.ends();
        assert_eq!(code, Some(1), "{messages}");
        assert!(messages.contains("cannot be traced here"), "{messages}");
        return;
    }
    trace.until("W! network namespace later is not there");
    trace.until("probes attached");
    let later = Named::new("later");
    trace.until("network namespace later came");
    later.inside(|| shell("ipvsadm -A -u 10.9.0.1:7079 -s rr"));
    let shown = trace.stop();
    assert!(
        shown.contains("udp://10.9.0.1:7079") && shown.contains("add service"),
        "{shown}"
    );
    later.delete();
}

#[test]
fn a_run_that_ends_by_itself_does_not_wait_for_a_namespace_and_what_is_none_is_wrong_usage() {
    for (args, code) in [
        (&["collect", "--once"][..], 1),
        (&["collect", "--count", "2", "--interval", "100ms"], 1),
        (&["trace", "--count", "1"], 1),
    ] {
        let output = observer::run(&[args, &["--netns", "/proc/self/ns/net,nowhere"]].concat());
        let messages = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {messages}");
        assert!(
            output.stdout.is_empty() && messages.contains("'nowhere'"),
            "{args:?}: {messages}"
        );
    }
    fs::write("/tmp/no-namespace", "").expect("a file");
    for netns in ["/tmp/no-namespace", "/proc/self/ns/mnt", "/tmp"] {
        for args in [
            &["collect", "--once"][..],
            &["collect"],
            &["trace"],
            &["trace", "--count", "1"],
        ] {
            let output = observer::run(&[args, &["--netns", netns]].concat());
            let messages = String::from_utf8(output.stderr).expect("text");
            assert_eq!(output.status.code(), Some(2), "{args:?} {netns}: {messages}");
            assert!(messages.contains("no network namespace"), "{messages}");
        }
    }
}

#[test]
fn a_namespace_can_be_named_by_its_number_as_json_shows_it() {
    let numbered = Named::new("numbered");
    let number = netlink::namespace_of("numbered")
        .expect("it is there")
        .0
        .to_string();
    let lines = observer::gather(&["--netns", &number]);
    let server = only(&lines, "ipvs_virtual_server");
    assert_eq!(
        (server.tag("netns"), server.tag("port")),
        (number.as_str(), "7070")
    );
    numbered.delete();
    assert!(numbered.goes());
}

#[test]
fn a_service_that_is_in_no_table_is_told_once_and_is_a_state_until_it_comes() {
    let (blue, red) = (Named::new("blue"), Named::new("red"));
    let mut collect = Collect::start(&[
        "--netns",
        "blue,red",
        "--probes",
        "off",
        "--service",
        "udp://10.9.0.1:7070,fwmark:9",
        "--service",
        "tcp://10.9.0.1:7071",
    ]);
    let states = |collect: &mut Collect| {
        let lines = collect.gather(2);
        let states = of(&lines, "ipvs_observer");
        let states: Vec<_> = states
            .map(|line| format!("{}: {}", line.text("status"), line.text("reason")))
            .collect();
        assert_eq!(states[0], states[1]);
        states[0].clone()
    };
    for _ in 0..3 {
        assert_eq!(states(&mut collect), "degraded: no service fwmark:9 and 1 more");
    }
    // In one of the namespaces, and of one of the families.
    red.inside(|| shell("ipvsadm -A -f 9 -6 -s rr"));
    assert_eq!(states(&mut collect), "degraded: no service tcp://10.9.0.1:7071");
    blue.inside(|| shell("ipvsadm -A -t 10.9.0.1:7071 -s rr"));
    assert_eq!(states(&mut collect), "ok: ");
    red.inside(|| shell("ipvsadm -D -f 9 -6"));
    assert_eq!(states(&mut collect), "degraded: no service fwmark:9");
    let said = collect.end();
    for (message, times) in [
        ("W! there is no service fwmark:9,", 2),
        ("W! there is no service tcp://10.9.0.1:7071,", 1),
        ("I! service fwmark:9 was added", 1),
        ("I! service tcp://10.9.0.1:7071 was added", 1),
        ("udp://10.9.0.1:7070", 0),
    ] {
        assert_eq!(said.matches(message).count(), times, "{message}: {said}");
    }
    let args = ["collect", "--once", "--service", "tcp://10.9.0.1:7099"];
    let output = observer::run(&args);
    let messages = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{messages}");
    assert!(
        messages.contains("W! there is no service tcp://10.9.0.1:7099"),
        "{messages}"
    );
    for named in [blue, red] {
        named.delete();
    }
}
