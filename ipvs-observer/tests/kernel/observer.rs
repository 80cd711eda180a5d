//! The program under test.

use std::{
    io::Read,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::support::lines::{self, Line};

/// The program with arguments, in the lab's PATH.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new("ipvs-observer");
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Output {
    command(args)
        .output()
        .expect("ipvs-observer is in the lab's PATH")
}

/// The lines of one gather.
pub fn gather(args: &[&str]) -> Vec<Line> {
    let output = run(&[&["collect", "--once"], args].concat());
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    lines::parse(&String::from_utf8(output.stdout).expect("text"))
}

/// The lines of one measurement.
pub fn of<'a>(lines: &'a [Line], measurement: &'a str) -> impl Iterator<Item = &'a Line> {
    lines.iter().filter(move |line| line.measurement == measurement)
}

/// The only line of one measurement.
pub fn only<'a>(lines: &'a [Line], measurement: &'a str) -> &'a Line {
    let found: Vec<_> = of(lines, measurement).collect();
    assert_eq!(found.len(), 1, "{measurement}: {found:?}");
    found[0]
}

/// The service of a line as `ipvsadm` names it.
pub fn service(line: &Line, prefix: &str) -> String {
    let tag = |name: &str| line.tag(&format!("{prefix}{name}"));
    if !tag("fwmark").is_empty() {
        let six = if line.tag("address_family") == "inet6" {
            " IPv6"
        } else {
            ""
        };
        return format!("FWM {}{six}", tag("fwmark"));
    }
    format!(
        "{} {}",
        tag("protocol").to_uppercase(),
        endpoint(tag("address"), tag("port"))
    )
}

/// An address and port as `ipvsadm` writes them.
pub fn endpoint(address: &str, port: &str) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// A program that runs until it is told not to.
pub struct Running(pub Child);

impl Running {
    pub fn start(args: &[&str]) -> Self {
        let child = command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.expect("ipvs-observer is in the lab's PATH"))
    }

    /// Sends a signal and returns how it ended, what it wrote, and how long the end took.
    pub fn stop(mut self, signal: &str) -> (Output, Duration) {
        let begin = Instant::now();
        let sent = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .status();
        assert!(sent.expect("kill").success());
        let mut output = Output {
            status: std::process::ExitStatus::default(),
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        self.0
            .stdout
            .take()
            .expect("piped")
            .read_to_end(&mut output.stdout)
            .expect("reading");
        self.0
            .stderr
            .take()
            .expect("piped")
            .read_to_end(&mut output.stderr)
            .expect("reading");
        output.status = self.0.wait().expect("it ends");
        (output, begin.elapsed())
    }
}
