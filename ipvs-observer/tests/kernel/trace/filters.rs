//! Filters work in the kernel: what is not asked for takes no room from what is.

use std::{net::UdpSocket, thread};

use super::{Datagrams, Trace, decisions, untraceable};
use crate::{ipvsadm, observer};

/// What is asked for.
const TIMES: usize = 10;

#[test]
fn only_what_matches_each_filter_is_shown() {
    if untraceable() {
        return;
    }
    let asked = Datagrams::to(7113);
    for (filter, shown) in [
        (
            &[
                "--client=10.9.0.0/24",
                "--destination=10.8.0.1",
                "--service=udp://10.9.0.1:7113",
                "--outcome=scheduled,fatal",
                "--slower-than=1ns",
            ][..],
            true,
        ),
        (&["--client=10.9.1.0/24,fd00::/8"], false),
        (&["--slower-than=1h"], false),
        (&["--outcome=template"], false),
    ] {
        let mut trace = Trace::start(&[&["--format", "json"], filter].concat());
        trace.wait_until_said();
        (0..TIMES).for_each(|_| asked.send());
        ipvsadm::run(&["-E", "-u", "10.9.0.1:7113", "-s", "rr", "-o"]);
        let (objects, messages) = trace.stop();
        let expected = if shown { TIMES } else { 0 };
        assert_eq!(objects.len(), expected, "{filter:?}: {objects:?} {messages}");
    }
    ipvsadm::run(&["-C"]);
}

#[test]
fn what_can_match_nothing_is_wrong_usage() {
    for filter in [
        &["--outcome", "none", "--only", "changes"][..],
        &["--slower-than", "1ms", "--only", "drops,ends"],
        &["--client", "10.0.0.1", "--only", "changes"],
    ] {
        let output = observer::run(&[&["trace"], filter].concat());
        assert_eq!(output.status.code(), Some(2), "{filter:?}");
    }
}

/// What is the same on every kernel that runs the filters, and takes long.
mod once {
    use super::*;

    /// Sends ten of what a trace with a small ring asks for beside a flood of others: all of them are shown, and nothing
    /// else, and none is lost.
    fn shows_ten_of_ten(filter: &[&str], others: usize, flood: &Datagrams, asked: &UdpSocket, to: &str) {
        // One that is refused comes back as an error.
        let send = || {
            let _ = asked.send_to(b"x", to);
        };
        let trace = Trace::start(
            &[
                &["--format", "json", "--ring", "4KiB", "--only", "decisions"],
                filter,
            ]
            .concat(),
        );
        trace.wait_until_any(send);
        thread::scope(|scope| {
            scope.spawn(|| (0..others).for_each(|_| flood.send()));
            for _ in 0..TIMES {
                send();
                thread::yield_now();
            }
        });
        let (objects, messages) = trace.stop();
        assert_eq!(decisions(&objects).count(), TIMES, "{filter:?}: {messages}");
        assert_eq!(objects.len(), TIMES, "{filter:?}: {objects:?}");
        assert!(messages.contains("lost: 0 decisions"), "{filter:?}: {messages}");
    }

    #[test]
    fn what_is_asked_for_is_shown_and_not_lost_beside_a_flood_of_others() {
        if untraceable() {
            return;
        }
        let flood = Datagrams::to(7110);
        let address = |port: u16| format!("10.9.0.1:{port}");
        ipvsadm::run(&["-A", "-u", &address(7111), "-s", "rr", "-o"]);
        ipvsadm::run(&["-a", "-u", &address(7111), "-r", "10.8.0.2:7211", "-m"]);
        ipvsadm::run(&["-A", "-u", &address(7112), "-s", "rr", "-o"]);
        let asked = UdpSocket::bind("10.9.0.2:0").expect("a socket");
        let client = asked.local_addr().expect("it is bound").to_string();
        for (filter, others, port) in [
            (["--client", client.as_str()], 150_000, 7110),
            (["--service", "udp://10.9.0.1:7111"], 10_000, 7111),
            (["--destination", "10.8.0.2:7211"], 10_000, 7111),
            (["--outcome", "none"], 10_000, 7112),
        ] {
            shows_ten_of_ten(&filter, others, &flood, &asked, &address(port));
        }
        ipvsadm::run(&["-C"]);
    }
}
