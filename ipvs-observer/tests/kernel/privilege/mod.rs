//! Least privilege: a user of its own with three capabilities does what root does, what is not needed is given up in
//! every thread, and what is missing is told by its name.

mod fence;
mod given_up;
mod missing;
mod user;

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

use crate::{
    abilities::telling,
    ipvsadm,
    netns::Collect,
    observer,
    support::{child::shell, lines::Line},
    traffic,
    watched::PATIENCE,
};

const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// All that the program asks for.
pub const THREE: [&str; 3] = ["net_admin", "bpf", "perfmon"];

/// A user whom nothing in the lab belongs to.
const USER: u32 = 1234;

/// The program as the user, with these capabilities and no way to others.
pub fn as_user(capabilities: &[&str], args: &[&str]) -> Command {
    let listed = [&["-all"], capabilities].concat().join(",+");
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={USER}"), format!("--regid={USER}")])
        .arg("--clear-groups")
        .args(["--bounding-set", "--inh-caps", "--ambient-caps"].map(|set| format!("{set}={listed}")))
        .arg("ipvs-observer")
        .args(args)
        .stdin(std::process::Stdio::null());
    // Before 5.11 maps are taken from the locked memory, as LimitMEMLOCK=infinity allows in a unit.
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    setrlimit(Resource::Memlock, unlimited).expect("root may");
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("setpriv is in the lab")
}

fn gathering(capabilities: &[&str], args: &[&str]) -> Collect {
    Collect::of(as_user(
        capabilities,
        &[&["collect", "--trigger", "stdin"], args].concat(),
    ))
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// `kernel.perf_event_paranoid` for as long as it is held. Debian's is 3, others' 2.
pub struct Paranoid(String);

impl Paranoid {
    pub const SETTING: &str = "/proc/sys/kernel/perf_event_paranoid";

    pub fn at(level: &str) -> Self {
        let before = fs::read_to_string(Self::SETTING).expect("the setting");
        fs::write(Self::SETTING, level).expect("root may");
        Self(before)
    }
}

impl Drop for Paranoid {
    fn drop(&mut self) {
        fs::write(Self::SETTING, &self.0).expect("root may");
    }
}

/// What a thread says of itself.
struct Thread(BTreeMap<String, String>);

impl Thread {
    fn set(&self, name: &str) -> u64 {
        u64::from_str_radix(&self.0[name], 16).expect("a set of capabilities")
    }
}

/// Every thread of a process.
fn threads(process: u32) -> Vec<Thread> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    threads
        .flatten()
        // One that has ended meanwhile has nothing to say.
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .map(|status| {
            let pairs = status.lines().filter_map(|line| line.split_once(':'));
            let pairs = pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
            Thread(pairs.collect())
        })
        .collect()
}

/// Holds that the threads of a process have at most `working`, and some have it, with nothing beside it that could
/// come back, behind the fence.
fn assert_reduced(process: u32, working: u64, bounding: u64) {
    // A gather's last line is out a moment before the thread that waits for the gather gives up what that did.
    soon(|| {
        threads(process)
            .iter()
            .all(|thread| thread.set("CapEff") & !working == 0)
    });
    let threads = threads(process);
    let held: Vec<u64> = threads.iter().map(|thread| thread.set("CapEff")).collect();
    assert!(held.contains(&working), "{held:x?}");
    for thread in threads {
        let name = &thread.0["Name"];
        let effective = thread.set("CapEff");
        // The threads that only write have nothing.
        assert!(effective == working || effective == 0, "{name}: {effective:x}");
        assert_eq!(thread.set("CapPrm"), effective, "{name}");
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(thread.set(set), 0, "{name}: {set}");
        }
        assert_eq!(thread.set("CapBnd"), bounding, "{name}");
        assert_eq!(
            (thread.0["NoNewPrivs"].as_str(), thread.0["Seccomp"].as_str()),
            ("1", "2")
        );
    }
}

/// A virtual server on a port with one real server.
fn serve(port: u16) {
    traffic::addresses();
    ipvsadm::restore(&format!(
        "-A -u 10.9.0.1:{port} -s rr\n-a -u 10.9.0.1:{port} -r 10.8.0.1:7000 -m -w 3\n"
    ));
}

/// So many new connections. Nobody answers: what counts is that they were scheduled.
fn connect(port: u16, connections: usize) {
    for _ in 0..connections {
        let client = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        client.send_to(b"one way", ("10.9.0.1", port)).expect("sending");
    }
}

/// Gathers until the probes of a module that came are attached, which is done beside the gathers.
fn attached(collect: &mut Collect) -> Vec<Line> {
    let mut lines = Vec::new();
    let done = soon(|| {
        lines = collect.gather(1);
        let state = observer::only(&lines, "ipvs_observer");
        state.fields.contains_key("probe_runs") && state.number("probes") > 0
    });
    assert!(done, "{lines:?}");
    lines
}

/// Sends so many connections and holds that as many picks are told, if this kernel tells of services.
fn assert_picks(collect: &mut Collect, port: u16, connections: usize) -> Vec<Line> {
    attached(collect);
    connect(port, connections);
    ipvsadm::counts(&format!("UDP 10.9.0.1:{port}"), connections as u64);
    let lines = collect.gather(1);
    let server = observer::only(&lines, "ipvs_virtual_server");
    assert_eq!(server.number("connections"), connections as u64);
    if telling() {
        assert_eq!(server.number("schedule_picks"), connections as u64);
        // Durations come from the probe of the scheduler's own module.
        assert!(server.number("schedule_ns_p50") > 0);
    }
    lines
}

/// Waits until something holds.
fn soon(mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Ends a process as a service manager does, and holds that it ends well and at once.
fn terminate(mut collect: Collect) {
    let process = Pid::from_child(&collect.child);
    let begin = Instant::now();
    kill_process(process, Signal::TERM).expect("it runs");
    let status = collect.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
