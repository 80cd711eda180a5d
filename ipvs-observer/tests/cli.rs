//! The program from outside, where no kernel with IPVS is needed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod support;

use std::{
    io::Write,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use support::child::{self, program, run};

#[test]
fn a_wrong_value_ends_with_2_before_anything_starts_and_shows_a_right_one() {
    for (args, example) in [
        (["--interval", "0s"], "10s, 500ms or 1m"),
        (["--interval", "-1s"], "10s, 500ms or 1m"),
        (["--interval", "lots"], "10s, 500ms or 1m"),
        (["--count", "0"], "--count 3"),
        (["--count", "-1"], "--count 3"),
        (["--service", "tcp:/bad"], "tcp://10.0.0.1:80"),
        (["--service", "tcp://x:80"], "tcp://10.0.0.1:80"),
        (["--output", "tcp://x"], "unix:///run/telegraf.sock"),
        (["--output", "unix://x"], "unix:///run/telegraf.sock"),
        (
            ["--trigger", "sigkill"],
            "interval, stdin, sighup, sigusr1, sigusr2",
        ),
        (["--backlog", "lots"], "16MiB"),
        (["--schema", "x"], "full, telegraf"),
        (["--precision", "m"], "ns, us, ms, s"),
        (["--probes", "maybe"], "auto, on, off"),
    ] {
        let (code, lines, message) = run(&["collect", args[0], args[1]], &[]);
        assert_eq!((code, lines.as_str()), (Some(2), ""), "{args:?}: {message}");
        assert!(message.starts_with("E! "), "{message}");
        assert_eq!(
            message.lines().count(),
            1,
            "Telegraf reads stderr by lines: {message}"
        );
        assert!(
            message.contains(args[0]) && message.contains(example),
            "{args:?}: {message}"
        );
    }
}

#[test]
fn a_count_of_nothing_is_refused_in_the_verbs_own_words() {
    for (verb, words, others) in [
        ("collect", "no gather would be made", "decision"),
        ("trace", "nothing would be shown", "gather"),
    ] {
        let (code, _, message) = run(&[verb, "--count", "0"], &[]);
        assert_eq!(code, Some(2));
        assert!(message.contains(words) && !message.contains(others), "{message}");
    }
}

#[test]
fn an_output_of_another_kind_is_refused_with_the_kinds_that_there_are() {
    for verb in ["collect", "trace"] {
        for output in [
            "tcp://127.0.0.1:8094",
            "http:///x",
            "file:///tmp/x",
            "unix:/run/x",
            "stderr",
        ] {
            let (code, _, message) = run(&[verb, "--output", output], &[]);
            assert_eq!(code, Some(2));
            for scheme in ["stdout", "unix://", "unixgram://"] {
                assert!(message.contains(scheme), "{message}");
            }
            assert!(!message.contains("not absolute"), "{message}");
        }
    }
}

#[test]
fn a_namespace_that_is_absent_or_none_ends_what_cannot_wait_for_it() {
    for (args, code) in [
        (&["collect", "--once", "--netns", "nowhere"][..], 1),
        (&["collect", "--count", "3", "--netns", "nowhere"], 1),
        (&["trace", "--count", "3", "--netns", "nowhere"], 1),
        (&["collect", "--once", "--netns", "/proc/self/status"], 2),
        (&["collect", "--netns", "/proc/self/ns/mnt"], 2),
        (&["trace", "--netns", "/proc/self/status"], 2),
    ] {
        let (ended, lines, message) = run(args, &[]);
        assert_eq!((ended, lines.as_str()), (Some(code), ""), "{args:?}: {message}");
        assert!(message.contains("network namespace"), "{args:?}: {message}");
        assert!(message.contains("`ip netns`"), "{args:?}: {message}");
    }
}

#[test]
fn an_unknown_flag_and_flags_that_contradict_end_with_2() {
    for args in [
        &["collect", "--nope"][..],
        &["collect", "--once", "--count", "2"],
        &["nope"],
        &[],
    ] {
        let (code, lines, message) = run(args, &[]);
        assert_eq!((code, lines.as_str()), (Some(2), ""), "{args:?}");
        assert!(!message.is_empty(), "{args:?}");
    }
}

#[test]
fn the_environment_sets_what_flags_set_and_is_checked_like_them() {
    let (code, _, message) = run(&["collect"], &[("IPVS_OBSERVER_INTERVAL", "soon")]);
    assert_eq!(code, Some(2));
    assert!(
        message.contains("--interval") && message.contains("'soon'"),
        "{message}"
    );
    let (code, lines, _) = run(
        &["collect"],
        &[("IPVS_OBSERVER_ONCE", "true"), ("IPVS_OBSERVER_SCHEMA", "full")],
    );
    assert_eq!(code, Some(0));
    assert_eq!(lines.lines().count(), 1, "a machine without IPVS");
}

#[test]
fn help_and_version_go_to_stdout_and_end_with_0() {
    for args in [&["--help"][..], &["--version"], &["collect", "--help"]] {
        let (code, text, message) = run(args, &[]);
        assert_eq!((code, message.as_str()), (Some(0), ""), "{args:?}");
        assert!(!text.is_empty(), "{args:?}");
    }
}

#[test]
fn a_reader_of_standard_output_that_is_gone_is_a_quiet_end() {
    for args in [
        &["check"][..],
        &["man"],
        &["completions", "bash"],
        &["collect", "--once", "--probes", "off"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = program()
            .args(args)
            .stdout(writer)
            .output()
            .expect("the program starts");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(
            !said.contains("written") && !said.contains("pipe"),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn a_full_disk_is_said_and_ends_with_1() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let output = program()
        .args(["collect", "--once"])
        .stdout(full)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).expect("text");
    assert!(
        message.contains("1 line could not be written to stdout and is lost"),
        "{message}"
    );
}

/// The program, started with a trigger, and the lines that it writes.
struct Triggered {
    child: Child,
    lines: Receiver<String>,
}

impl Triggered {
    fn start(args: &[&str]) -> Self {
        let mut command = program();
        command.args(["collect", "--probes", "off"]).args(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let lines = child::lines(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill").success());
    }

    /// How many gathers come until nothing comes for a while.
    fn gathers(&self) -> usize {
        let mut count = 0;
        while self.lines.recv_timeout(Duration::from_millis(700)).is_ok() {
            count += 1;
        }
        count
    }

    fn end(mut self) -> (Option<i32>, Duration) {
        let begin = Instant::now();
        let status = self.child.wait().expect("it ends");
        (status.code(), begin.elapsed())
    }
}

#[test]
fn each_newline_on_stdin_is_one_gather_and_its_end_is_the_end() {
    let mut running = Triggered::start(&["--trigger", "stdin"]);
    let mut stdin = running.child.stdin.take().expect("piped");
    assert_eq!(running.gathers(), 0, "nothing without a newline");
    for _ in 0..3 {
        stdin.write_all(b"\n").expect("it reads");
        assert_eq!(running.gathers(), 1);
    }
    drop(stdin);
    let (code, took) = running.end();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_newline_right_before_the_end_of_stdin_is_still_a_gather() {
    let mut running = Triggered::start(&["--trigger", "stdin"]);
    running
        .child
        .stdin
        .take()
        .expect("piped")
        .write_all(b"\n")
        .expect("it reads");
    assert_eq!(running.gathers(), 1);
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn each_signal_is_one_gather_and_sigterm_is_the_end() {
    let mut ends = Vec::new();
    for (trigger, signal) in [("sighup", "-HUP"), ("sigusr1", "-USR1"), ("sigusr2", "-USR2")] {
        let running = Triggered::start(&["--trigger", trigger]);
        assert_eq!(running.gathers(), 0, "nothing without a signal");
        for _ in 0..2 {
            running.signal(signal);
            assert_eq!(running.gathers(), 1, "{trigger}");
        }
        running.signal("-TERM");
        let (code, took) = running.end();
        assert_eq!(code, Some(0), "{trigger}");
        ends.push(took);
    }
    // The least of them: this machine may have much else to do.
    assert!(ends.iter().min() < Some(&Duration::from_secs(1)), "{ends:?}");
}

#[test]
fn a_burst_of_newlines_is_not_a_queue_of_gathers() {
    let mut running = Triggered::start(&["--trigger", "stdin"]);
    let mut stdin = running.child.stdin.take().expect("piped");
    stdin.write_all(&[b'\n'; 1000]).expect("it reads");
    let gathers = running.gathers();
    assert!((1..100).contains(&gathers), "{gathers} gathers for one burst");
}

/// Starts a gather by a signal, with something else than its own pipe on standard input.
fn signalled(trigger: &str, stdin: impl Into<Stdio>) -> Child {
    program()
        .args(["collect", "--probes", "off", "--trigger", trigger])
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

/// Whether its event loop has standard input among what it waits for, as the kernel lists that.
fn watches_stdin(child: &Child) -> bool {
    let list = std::fs::read_dir(format!("/proc/{}/fdinfo", child.id())).expect("it runs");
    list.flatten()
        .filter_map(|descriptor| std::fs::read_to_string(descriptor.path()).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .any(|line| line.split_whitespace().take(2).eq(["tfd:", "0"]))
}

/// How it ended, if it did within this time.
fn ended_within(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    let begin = Instant::now();
    while begin.elapsed() < time {
        if let Some(status) = child.try_wait().expect("a child") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

#[test]
fn under_a_signal_trigger_the_end_of_the_pipe_on_stdin_is_the_end_as_telegraf_stops_a_child() {
    for (trigger, signal) in [("sighup", "-HUP"), ("sigusr1", "-USR1"), ("sigusr2", "-USR2")] {
        let mut running = Triggered::start(&["--trigger", trigger]);
        assert_eq!(running.gathers(), 0);
        let mut stdin = running.child.stdin.take().expect("piped");
        // What is written is nobody's word to stop.
        stdin.write_all(b"\n").expect("there is room");
        running.signal(signal);
        assert_eq!(running.gathers(), 1, "{trigger}");
        drop(stdin);
        let status = ended_within(&mut running.child, Duration::from_secs(2));
        assert!(
            status.is_some_and(|status| status.success()),
            "{trigger}: {status:?}"
        );
    }
}

#[test]
fn nothing_is_read_from_the_pipe_on_stdin_under_a_signal_trigger() {
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut child = signalled("sighup", reader.try_clone().expect("its other end once more"));
    writer.write_all(b"for another").expect("there is room");
    // One that is closed before is closed at the start.
    while !watches_stdin(&child) {
        assert_eq!(child.try_wait().expect("a child"), None);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(writer);
    let status = ended_within(&mut child, Duration::from_secs(10));
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    let mut left = String::new();
    std::io::Read::read_to_string(&mut reader, &mut left).expect("text");
    assert_eq!(left, "for another");
}

#[test]
fn a_stdin_that_is_no_open_pipe_ends_nothing_under_a_signal_trigger() {
    let (closed, writer) = std::io::pipe().expect("a pipe");
    drop(writer);
    let (socket, other) = std::os::unix::net::UnixStream::pair().expect("sockets");
    drop(other);
    let kinds: [(&str, Stdio); 4] = [
        ("/dev/null", Stdio::null()),
        ("a pipe closed at the start", closed.into()),
        (
            "a file",
            std::fs::File::open("Cargo.toml").expect("a file").into(),
        ),
        ("a socket", std::os::fd::OwnedFd::from(socket).into()),
    ];
    let mut children: Vec<_> = kinds
        .into_iter()
        .map(|(kind, stdin)| (kind, signalled("sighup", stdin)))
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    for (kind, child) in &mut children {
        assert_eq!(child.try_wait().expect("a child"), None, "{kind}");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}
