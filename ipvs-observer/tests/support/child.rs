//! Processes of a test: the program, scripts, and what a process writes.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

/// The program, with no variable of ours but those that a test sets.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipvs-observer"));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("IPVS_OBSERVER_") {
            command.env_remove(name);
        }
    }
    command
}

/// How the program ends with these arguments and variables, and what it writes to stdout and stderr.
pub fn run(args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = program()
        .args(args)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

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
