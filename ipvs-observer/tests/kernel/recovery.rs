//! What befell is over: everything is as it was, without a restart, and what is counted from then on is what the kernel
//! counts.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    abilities::telling,
    faults::{RULES, at_rest, connections, counts, picks, prepare, remove, state},
    ipvsadm,
    observer::{self, of},
    support::child::shell,
    watched::{PATIENCE, Process, Watched},
};

#[test]
fn ip_vs_can_be_removed_under_collect_and_trace_and_is_probed_again_when_it_comes() {
    prepare();
    let watched = Watched::start(&["--interval", "500ms"]);
    let mut trace = telling().then(Trace::start);
    for turn in 1..=2 {
        watched.until("the table", |gather| {
            of(gather, "ipvs_real_server").count() == 2 && (!telling() || picks(gather).is_some())
        });
        if let Some(trace) = &trace {
            trace.until_attached();
        }
        // What was made until it was attached is counted by and by.
        let (before, traced) = (at_rest(), trace.as_ref().map(Trace::count));
        let (gather, _) = watched.until("rest", |_| true);
        let seen = picks(&gather);
        connections(20);
        counts(before + 20);
        if let (Some(seen), Some(trace), Some(traced)) = (seen, &trace, traced) {
            watched.until("all picks", |gather| picks(gather) == Some(seen + 20));
            assert_eq!(trace.count(), traced + 20, "the life of the module number {turn}");
        }
        if turn == 2 {
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
    assert_eq!(said.matches("IPVS is not loaded").count(), 1, "{said}");
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
