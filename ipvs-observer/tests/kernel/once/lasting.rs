//! States that last: none of them keeps a processor busy.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    abilities::telling,
    faults::{connections, prepare, remove},
    ipvsadm, observer,
    watched::{Process, Watched},
};

/// Less than 5 % of a processor, from now on.
fn idles(name: &str, process: &Process) {
    let (before, begin) = (process.processor(), Instant::now());
    thread::sleep(Duration::from_secs(6));
    let part = process.processor().saturating_sub(before).as_secs_f64() / begin.elapsed().as_secs_f64();
    println!("{name}: {:.1} % of a processor", part * 100.0);
    assert!(part < 0.05, "{name}: {part}");
}

#[test]
fn a_state_that_lasts_takes_no_processor_time() {
    let idle = |name: &str, watched: Watched| {
        watched.until("the first gather", |_| true);
        idles(name, &watched.process);
        watched.end();
    };
    let gathering = |args: &[&str]| Watched::start(&[&["--interval", "1s"], args].concat());
    let limited = |words: &str| {
        let mut command = Command::new("sh");
        let all = format!("{words} ipvs-observer collect --interval 1s --output stdout");
        command.args(["-c", &all]);
        Watched::of(command)
    };
    remove();
    idle("ip_vs absent", gathering(&[]));
    idle_trace("ip_vs absent", |trace| trace);
    prepare();
    idle(
        "an output away",
        gathering(&["--output", "stdout", "--output", "unix:///nowhere"]),
    );
    idle(
        "a namespace gone",
        gathering(&["--netns", "nowhere", "--probes", "off"]),
    );
    idle("no BTF", gathering(&["--btf", "/nowhere"]));
    idle("few descriptors", limited("ulimit -n 40; exec"));
    idle(
        "no capability",
        limited("exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all"),
    );
    if telling() {
        idle_trace("a full disk", |trace| {
            trace.args(["--format", "line"]);
            let full = File::options().write(true).open("/dev/full").expect("a device");
            trace.stdout(full)
        });
    }
    ipvsadm::run(&["-C"]);
}

/// The same of a trace, which is told of something first.
fn idle_trace(name: &str, prepare: impl Fn(&mut Command) -> &mut Command) {
    let mut trace = observer::command(&["trace"]);
    trace.stdout(Stdio::null()).stderr(Stdio::null());
    let mut trace = Process(
        prepare(&mut trace)
            .spawn()
            .expect("ipvs-observer is in the lab's PATH"),
    );
    // Attaching is no state that lasts.
    thread::sleep(Duration::from_secs(8));
    if Path::new("/proc/net/ip_vs").exists() {
        connections(20);
    }
    idles(&format!("a trace, {name}"), &trace);
    assert!(trace.0.try_wait().expect("a child").is_none(), "it has ended");
    trace.signal(Signal::TERM);
    trace.wait();
}
