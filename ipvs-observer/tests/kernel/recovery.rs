//! What befell is over: everything is as it was within two intervals, without a restart, and what is counted from then
//! on is what the kernel counts.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    abilities::{lacking_btf, telling},
    faults::{RULES, connections, counted, in_the_kernel, picks, prepare, remove, state},
    ipvsadm,
    observer::{self, of, only, service},
    scheduler,
    support::{child::shell, lines::Line},
    watched::{PATIENCE, Process, Watched},
};

/// The interval where none is asked for.
const USUAL: Duration = Duration::from_secs(10);
/// What a gather and the way of its lines take at most, beside the intervals.
const GATHER: Duration = Duration::from_secs(1);

#[test]
fn ip_vs_can_be_removed_under_collect_and_trace_and_is_probed_again_when_it_comes() {
    prepare();
    let watched = Watched::start(&["--interval", "500ms"]);
    let mut trace = telling().then(Trace::start);
    for turn in 1..=3 {
        watched.until("the table", |gather| {
            of(gather, "ipvs_real_server").count() == 2 && (!telling() || picks(gather).is_some())
        });
        if let Some(trace) = &trace {
            trace.until_attached();
        }
        let (before, traced) = (counted(), trace.as_ref().map(Trace::count));
        let (gather, _) = watched.until("rest", |_| true);
        let seen = picks(&gather);
        connections(20);
        assert_eq!(counted() - before, 20);
        if let (Some(seen), Some(trace), Some(traced)) = (seen, &trace, traced) {
            watched.until("all picks", |gather| picks(gather) == Some(seen + 20));
            assert_eq!(trace.count(), traced + 20, "the life of the module number {turn}");
        }
        if turn == 3 {
            break;
        }
        let begin = Instant::now();
        remove();
        println!("removed after {:?}", begin.elapsed());
        let (_, took) = watched.until("its absence", |gather| state(gather).0 == "unavailable");
        println!("absence told after {took:?}");
        shell("modprobe ip_vs");
        ipvsadm::restore(RULES);
        let (_, took) = watched.until("the table", |gather| of(gather, "ipvs_real_server").count() == 2);
        println!("gathered again after {took:?}");
        assert!(
            took < Duration::from_secs(2),
            "{took:?}, where two intervals are 1 s"
        );
    }
    let said = watched.end();
    assert_eq!(said.matches("IPVS is not loaded").count(), 2, "{said}");
    if let Some(trace) = &mut trace {
        trace.process.signal(Signal::TERM);
        assert!(trace.process.wait().success());
    }
    ipvsadm::run(&["-C"]);
}

/// A trace, and its decisions.
struct Trace {
    process: Process,
    decisions: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    fn start() -> Self {
        let mut command = observer::command(&["trace", "--format", "json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let decisions = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&decisions);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if line.contains(r#""kind":"decision""#) {
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        });
        Self {
            process: Process(child),
            decisions,
        }
    }

    fn count(&self) -> usize {
        self.decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Makes connections until one is traced: its probes are there.
    fn until_attached(&self) {
        let (begin, count) = (Instant::now(), self.count());
        while self.count() == count {
            assert!(begin.elapsed() < PATIENCE, "nothing is traced");
            connections(1);
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Everything there is: the table, and all that this kernel allows of the probes.
fn everything(gather: &[Line], before: &[Line]) -> bool {
    let probes = |gather: &[Line]| {
        let line = only(gather, "ipvs_observer");
        line.fields
            .contains_key("probes")
            .then(|| (line.number("probes"), line.number("probes_missing")))
    };
    state(gather) == state(before)
        && probes(gather) == probes(before)
        && of(gather, "ipvs_real_server").count() == of(before, "ipvs_real_server").count()
}

/// Connections of each service and each real server, and their picks, from the next gather that has these.
fn agrees(watched: &Watched) {
    thread::sleep(Duration::from_millis(2500));
    let table = ipvsadm::list(&["--stats", "--exact"]);
    let told = |gather: &[Line]| {
        table.iter().all(|(name, entry)| {
            of(gather, "ipvs_virtual_server")
                .any(|line| service(line, "") == *name && line.number("schedule_picks") == entry.numbers()[0])
                && of(gather, "ipvs_real_server")
                    .filter(|line| service(line, "virtual_") == *name)
                    .all(|line| {
                        let to = format!("{}:{}", line.tag("address"), line.tag("port"));
                        line.number("picks") == ipvsadm::numbers(&entry.destinations[&to])[0]
                    })
        })
    };
    assert!(table.values().any(|entry| entry.numbers()[0] > 0));
    watched.shown("ipvsadm's numbers", told);
}

#[test]
fn at_the_usual_interval_everything_is_back_within_two_after_a_module_came() {
    const WEIGHTED: [&str; 2] = [
        "-A -u 10.9.0.1:7101 -s wrr",
        "-a -u 10.9.0.1:7101 -r 10.8.0.1:7101 -m -w 3",
    ];
    let add = || {
        for rule in WEIGHTED {
            ipvsadm::run(&rule.split(' ').collect::<Vec<_>>());
        }
    };
    // The modules of the two schedulers and no others come with their services, now and later.
    remove();
    prepare();
    add();
    let watched = Watched::start(&[]);
    let (before, _) = watched.shown("the probes", |gather| {
        of(gather, "ipvs_real_server").count() == 3 && (!telling() || picks(gather).is_some())
    });
    if telling() {
        assert_eq!(state(&before), ("ok", ""));
    }
    remove();
    watched.shown("its absence", |gather| state(gather).0 == "unavailable");
    let probes = |there: bool| {
        let begin = Instant::now();
        while (in_the_kernel().0 > 0) != there {
            assert!(begin.elapsed() < PATIENCE, "probes are there, or not: {}", !there);
            thread::sleep(Duration::from_millis(100));
        }
        begin.elapsed()
    };
    probes(false);
    // A gather has been a moment ago: the next two are far.
    let (begin, gathers) = (Instant::now(), watched.count());
    shell("modprobe ip_vs");
    ipvsadm::restore(RULES);
    add();
    println!("the first probe {:?} after the table", probes(true));
    assert_eq!(watched.count(), gathers, "the probes waited for a gather");
    let back = |what: &str, begin: Instant| {
        watched.shown(what, |gather| everything(gather, &before));
        let took = begin.elapsed();
        println!("{what} after {took:?}");
        assert!(took < 2 * USUAL + GATHER, "{took:?}");
    };
    back("everything", begin);
    if lacking_btf() {
        watched.end();
        ipvsadm::run(&["-C"]);
        return;
    }
    connections(20);
    agrees(&watched);

    // A scheduler's module.
    ipvsadm::run(&["-D", "-u", "10.9.0.1:7101"]);
    let begin = Instant::now();
    while !scheduler::rmmod("ip_vs_wrr") {
        assert!(begin.elapsed() < PATIENCE, "something holds it");
        thread::sleep(Duration::from_millis(200));
    }
    let begin = Instant::now();
    assert!(scheduler::modprobe("ip_vs_wrr"));
    add();
    back("the scheduler", begin);
    let weighted = |gather: &[Line]| {
        of(gather, "ipvs_virtual_server")
            .find(|line| line.tag("port") == "7101")
            .cloned()
    };
    for port in 1..=20 {
        let client = std::net::UdpSocket::bind(("0.0.0.0", 20_000 + port)).expect("a socket");
        client.send_to(b"one way", "10.9.0.1:7101").expect("sending");
    }
    let (gather, _) = watched.shown("its picks", |gather| {
        weighted(gather).is_some_and(|line| line.number("schedule_picks") == 20)
    });
    let line = weighted(&gather).expect("it was there");
    assert!(
        line.fields.contains_key("schedule_ns_p50"),
        "its probes are not there: {line:?}"
    );
    agrees(&watched);
    watched.end();
    ipvsadm::run(&["-C"]);
}
