//! Time that jumps, and time in which the program is stopped.

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::Signal;

use crate::{
    abilities::telling,
    faults::{connections, counts, picks, prepare},
    ipvsadm,
    observer::only,
    support::{child::shell, lines::Line},
    watched::Watched,
};

#[test]
fn a_clock_set_back_and_forward_neither_stops_the_gathers_nor_makes_more_of_them() {
    prepare();
    let watched = Watched::start(&["--interval", "250ms", "--probes", "off"]);
    watched.until("the first gather", |_| true);
    for (name, seconds) in [("back", -5000i64), ("forward", 9000), ("home", -4000)] {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        shell(&format!("date -s @{} >/dev/null", now.cast_signed() + seconds));
        let (count, begin) = (watched.count(), Instant::now());
        let (_, took) = watched.until("a gather", |_| true);
        thread::sleep(Duration::from_secs(3));
        let (made, time) = (watched.count() - count, begin.elapsed().as_secs_f64());
        println!("set {name}: a gather after {took:?}, {made} in {time:.1} s");
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
        assert!((made as f64) < time * 4.0 + 2.0, "{name}: {made} in {time}");
    }
    watched.end();
    ipvsadm::run(&["-C"]);
}

#[test]
fn a_stopped_process_leaves_gathers_out_and_counts_them_and_loses_no_pick() {
    const INTERVAL: Duration = Duration::from_millis(500);
    const STOPPED: Duration = Duration::from_secs(20);
    prepare();
    let watched = Watched::start(&["--interval", "500ms"]);
    let (before, _) = watched.until("the probes", |gather| !telling() || picks(gather).is_some());
    watched.process.signal(Signal::STOP);
    let (begin, made) = (Instant::now(), watched.count());
    connections(200);
    counts(200);
    thread::sleep(STOPPED.saturating_sub(begin.elapsed()));
    // What was on its way when the signal came, and nothing since.
    assert!(watched.count() <= made + 1, "it was not stopped");
    let stopped = begin.elapsed();
    watched.process.signal(Signal::CONT);
    let (gather, took) = watched.until("a gather after it", |_| true);
    println!("stopped for {stopped:?}, a gather after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    if telling() {
        assert_eq!(picks(&gather), Some(200));
    }
    let ticks = |time: Duration| (time.as_millis() / INTERVAL.as_millis()) as u64;
    let skipped = |gather: &[Line]| only(gather, "ipvs_observer").number("gathers_skipped");
    let left_out = skipped(&gather) - skipped(&before);
    // One of these ticks is the gather that comes late.
    assert!(left_out + 1 >= ticks(stopped), "{left_out} in {stopped:?}");
    // Each tick from the one gather to the other is a gather, or was told as left out. Where the processor is busy a
    // gather may begin as late as the next tick.
    let all = watched.all();
    let place = |wanted: &[Line]| all.iter().position(|one| one == wanted).expect("it was there") as u64;
    let gathers = place(&gather) - place(&before);
    let between = ticks(Duration::from_nanos(time(&gather) - time(&before)));
    println!("{between} ticks, {gathers} gathers, {left_out} left out");
    assert!(
        (gathers + left_out).abs_diff(between) <= 1,
        "{gathers} and {left_out} of {between}"
    );
    watched.end();
    ipvsadm::run(&["-C"]);
}

fn time(gather: &[Line]) -> u64 {
    only(gather, "ipvs_observer").timestamp
}
