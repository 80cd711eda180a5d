//! Processes of a test: scripts, and what a process writes.

use std::{
    io::{BufRead, BufReader, Read},
    process::Command,
    sync::mpsc::{Receiver, channel},
    thread,
};

/// The lines of a process, as they come. The receiver is told of the end by an error.
pub fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    lines
}

/// Runs a script that must succeed, and returns what it prints.
pub fn printed(script: &str) -> String {
    let output = Command::new("sh").args(["-euc", script]).output().expect("sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a script that must succeed.
pub fn shell(script: &str) {
    let status = Command::new("sh").args(["-euc", script]).status();
    assert!(status.expect("sh").success(), "{script}");
}
