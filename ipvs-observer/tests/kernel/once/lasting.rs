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
    watched::{Process, Speaking, Watched},
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
    idle_trace("ip_vs absent", "IPVS is not loaded", Stdio::null());
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
        let full = File::options().write(true).open("/dev/full").expect("a device");
        idle_trace("a full disk", "probes attached", full.into());
    }
    ipvsadm::run(&["-C"]);
}

/// The same of a trace that says `state`, which is told of something first.
fn idle_trace(name: &str, state: &str, output: Stdio) {
    let mut trace = Speaking::writing_to(output, observer::command(&["trace", "--format", "line"]));
    trace.until(state);
    if Path::new("/proc/net/ip_vs").exists() {
        connections(20);
    }
    let mut trace = trace.process;
    idles(&format!("a trace, {name}"), &trace);
    assert!(trace.0.try_wait().expect("a child").is_none(), "it has ended");
    trace.signal(Signal::TERM);
    trace.wait();
}
