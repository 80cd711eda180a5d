//! What happens to a server while the program runs: nothing of it ends the program, or holds anything up, or is
//! counted wrongly.

use std::{
    collections::{BTreeSet, HashSet},
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::{
    abilities::telling,
    ipvsadm,
    observer::{self, of, only},
    states::try_unload,
    support::{child::shell, lines::Line},
    traffic,
    watched::{PATIENCE, Watched},
};

/// The service, by UDP.
pub const SERVICE: &str = "10.9.0.1:7100";
/// Its table.
pub const RULES: &str = "-A -u 10.9.0.1:7100 -s rr
-a -u 10.9.0.1:7100 -r 10.8.0.1:7100 -m -w 1
-a -u 10.9.0.1:7100 -r 10.8.0.2:7100 -m -w 1\n";

/// The service and nothing else.
pub fn prepare() {
    shell("modprobe ip_vs");
    traffic::addresses();
    ipvsadm::restore(RULES);
}

/// So many new connections. Nobody answers: what counts is that they are scheduled.
pub fn connections(count: usize) {
    // A port that comes twice within minutes would be a connection that is there already.
    static PORT: AtomicU16 = AtomicU16::new(10_000);
    for _ in 0..count {
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let client = std::net::UdpSocket::bind(("0.0.0.0", port)).expect("a socket");
        client.send_to(b"one way", SERVICE).expect("sending");
    }
}

/// Connections as the kernel has counted them, once none is left to be counted: some kernels sum up every two seconds.
pub fn at_rest() -> u64 {
    thread::sleep(Duration::from_millis(2500));
    ipvsadm::list(&["--stats", "--exact"])[&format!("UDP {SERVICE}")].numbers()[0]
}

/// Holds that the kernel counts so many connections.
pub fn counts(connections: u64) {
    ipvsadm::counts(&format!("UDP {SERVICE}"), connections);
}

/// Picks of the service, if they are told.
pub fn picks(gather: &[Line]) -> Option<u64> {
    let server = of(gather, "ipvs_virtual_server").next()?;
    server
        .fields
        .contains_key("schedule_picks")
        .then(|| server.number("schedule_picks"))
}

/// How well the work goes, and why not better.
pub fn state(gather: &[Line]) -> (&str, &str) {
    let line = only(gather, "ipvs_observer");
    (line.text("status"), line.text("reason"))
}

/// Takes IPVS away. While probes are being attached, each for a moment has a reference of the module.
pub fn remove() {
    let begin = Instant::now();
    while !try_unload() {
        assert!(begin.elapsed() < Duration::from_secs(30), "something holds it");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_table_that_is_rebuilt_all_the_time_is_gathered_whole_and_without_a_series_twice() {
    prepare();
    let watched = Watched::start(&["--interval", "100ms", "--probes", "off"]);
    let begin = Instant::now();
    let mut changes = 0;
    ipvsadm::change_for(Duration::from_secs(8), |rules| {
        for service in 0..50 {
            let service = format!("-t 10.101.0.{service}:80");
            writeln!(rules, "-A {service} -s wlc")?;
            for real in 0..8 {
                writeln!(rules, "-a {service} -r 10.102.0.{real}:80 -m -w {real}")?;
            }
            writeln!(rules, "-d {service} -r 10.102.0.3:80")?;
            changes += 10;
        }
        for service in 0..50 {
            writeln!(rules, "-D -t 10.101.0.{service}:80")?;
            changes += 1;
        }
        Ok(())
    });
    let rate = f64::from(changes) / begin.elapsed().as_secs_f64();
    println!("{rate:.0} changes a second");
    // More than this on a processor of its own, and it is emulated.
    assert!(rate > 100.0, "{rate}");
    let (last, _) = watched.until("rest", |gather| of(gather, "ipvs_virtual_server").count() == 1);
    assert_eq!(state(&last), ("ok", ""));
    let all = watched.all();
    for gather in &all {
        let series: HashSet<_> = gather.iter().map(Line::series).collect();
        assert_eq!(series.len(), gather.len(), "a series came twice");
        let times: BTreeSet<_> = gather.iter().map(|line| line.timestamp).collect();
        assert_eq!(times.len(), 1);
        // What was there all the time is there in every gather that was complete.
        if state(gather).0 == "ok" {
            let lasting = of(gather, "ipvs_real_server").filter(|line| line.tag("virtual_port") == "7100");
            assert_eq!(lasting.count(), 2, "{gather:?}");
        }
    }
    let moved = all
        .iter()
        .filter(|gather| of(gather, "ipvs_virtual_server").count() > 1)
        .count();
    assert!(moved > 5, "the table did not change under the gathers");
    let line = only(&last, "ipvs_observer");
    println!(
        "{} gathers, {} repeats, {} vanished, {} twice, {} errors",
        all.len(),
        line.number("dump_repeats"),
        line.number("dump_vanished"),
        line.number("dump_duplicates"),
        line.number("dump_errors")
    );
    watched.end();
    ipvsadm::run(&["-C"]);
}

#[test]
fn zeroed_counters_are_the_kernels_business_and_picks_go_on() {
    prepare();
    let watched = Watched::start(&["--interval", "200ms"]);
    watched.until("the first gather", |gather| !telling() || picks(gather).is_some());
    connections(10);
    counts(10);
    ipvsadm::run(&["-Z"]);
    connections(5);
    counts(5);
    let (gather, _) = watched.until("zeroed", |gather| {
        of(gather, "ipvs_virtual_server").all(|line| line.number("connections") == 5)
    });
    if telling() {
        assert_eq!(picks(&gather), Some(15));
    }
    watched.end();
    ipvsadm::run(&["-C"]);
}

#[test]
fn without_descriptors_it_goes_on_and_says_so_and_recovers() {
    prepare();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 4; exec ipvs-observer collect --once"])
        .stdin(Stdio::null());
    let output = command.output().expect("sh");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("limits on descriptors"), "{said}");

    let watched = Watched::start(&["--interval", "200ms", "--probes", "off"]);
    watched.until("the first gather", |gather| state(gather).0 == "ok");
    let limit = |current| {
        let wanted = Rlimit {
            current: Some(current),
            maximum: Some(4096),
        };
        prlimit(Some(watched.process.pid()), Resource::Nofile, wanted).expect("root may");
    };
    limit(3);
    // A gather without the module closes the socket, so that a new one is needed, for which there is no room. Where the
    // module came back between two gathers, the old socket would do.
    remove();
    watched.until("the absence", |gather| state(gather).0 == "unavailable");
    shell("modprobe ip_vs");
    let (gather, _) = watched.until("the lack", |gather| state(gather).1 == "netlink socket failed");
    assert_eq!(state(&gather).0, "unavailable");
    limit(1024);
    let (_, took) = watched.until("recovery", |gather| state(gather).0 == "ok");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let said = watched.end();
    assert!(said.contains("Too many open files"), "{said}");
    ipvsadm::run(&["-C"]);
}

/// Kprobes that are in place, and BPF programs and maps that are loaded.
pub fn in_the_kernel() -> (usize, usize, usize) {
    let count = |script: &str| -> usize {
        let output = Command::new("sh").args(["-c", script]).output().expect("sh");
        let text = String::from_utf8(output.stdout).expect("text");
        text.trim()
            .parse()
            .unwrap_or_else(|_| panic!("{script}: {text:?}"))
    };
    shell("test -e /sys/kernel/debug/kprobes || mount -t debugfs debugfs /sys/kernel/debug");
    (
        count("grep -c 'ip_vs' /sys/kernel/debug/kprobes/list || :"),
        count("bpftool prog show | grep -c '^[0-9]*: kprobe' || :"),
        count("bpftool map show | grep -c '^[0-9]*:' || :"),
    )
}

#[test]
fn nothing_of_a_killed_process_stays_in_the_kernel() {
    prepare();
    let begin = Instant::now();
    // What ended before this is taken away by and by.
    while in_the_kernel().0 > 0 {
        assert!(
            begin.elapsed() < PATIENCE,
            "of earlier tests: {:?}",
            in_the_kernel()
        );
        thread::sleep(Duration::from_millis(100));
    }
    let before = in_the_kernel();
    let mut watched = Watched::start(&["--interval", "500ms"]);
    watched.until("the first gather", |_| true);
    let during = in_the_kernel();
    println!("before {before:?}, during {during:?}");
    assert!(during.0 > before.0 && during.1 > before.1 && during.2 > before.2);
    watched.process.signal(Signal::KILL);
    watched.process.wait();
    let begin = Instant::now();
    while in_the_kernel() != before {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{:?} where there was {before:?}",
            in_the_kernel()
        );
        thread::sleep(Duration::from_millis(100));
    }
    println!("gone after {:?}", begin.elapsed());
    ipvsadm::run(&["-C"]);
}

#[test]
fn a_small_receive_buffer_costs_no_record() {
    prepare();
    ipvsadm::restore(&ipvsadm::many("-t", 103, "-s rr", 60, 200));
    let setting = "/proc/sys/net/core/rmem_default";
    let usual = std::fs::read_to_string(setting).expect("a setting");
    std::fs::write(setting, "2304").expect("the least that the kernel takes");
    let lines = observer::gather(&["--probes", "off"]);
    std::fs::write(setting, usual.trim()).expect("the setting is put back");
    assert_eq!(of(&lines, "ipvs_real_server").count(), 60 * 200);
    assert_eq!(state(&lines), ("ok", ""));
    ipvsadm::run(&["-C"]);
}
