//! `docs/scheduler-debugging.md`: its commands, run here, print what the page says.
//!
//! A block of the page that shows commands stands below `<!-- page: NAME -->` or `<!-- page: NAME, on SERIES -->`. NAME
//! is of two functions in `set-ups.sh`: `NAME_before` sets up, `NAME_during` is run once the probes of the block's
//! commands are attached. Without a series a block is run on 6.12. `update.sh` beside this file rewrites the page.

mod shape;

use std::{
    env,
    fmt::Write as _,
    fs,
    process::{Child, Command, Stdio},
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use crate::{
    states::{try_unload, unload},
    support::child::{lines, shell},
    watched::Process,
};

/// The page as it was when this was compiled, unless another is here.
const PAGE: &str = include_str!("../../../../docs/scheduler-debugging.md");
const NEWER_PAGE: &str = "/root/scheduler-debugging.md";
const SET_UPS: &str = include_str!("set-ups.sh");
const TOPOLOGY: &str = include_str!("../../../../xtask/src/lab/guest/basic.sh");
/// The kernel of blocks that name none.
const USUAL: &str = "6.12";
/// No command takes so long, nor does attaching.
const PATIENCE: Duration = Duration::from_mins(1);

/// A block that shows commands and what they print.
struct Block<'a> {
    /// Of the set-up.
    name: &'a str,
    /// Of the kernel.
    series: &'a str,
    /// Each command, and the lines below it.
    commands: Vec<(&'a str, Vec<&'a str>)>,
}

/// Every block with commands.
fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let (mut mark, mut inside) = (None, false);
    for line in page.lines() {
        if let Some(words) = line.strip_prefix("<!-- page: ") {
            let words = words.trim_end_matches(" -->");
            mark = Some(words.split_once(", on ").unwrap_or((words, USUAL)));
        } else if line.starts_with("```") {
            inside = !inside && line == "```text";
            if inside {
                let (name, series) = mark.take().unwrap_or_default();
                let commands = Vec::new();
                blocks.push(Block {
                    name,
                    series,
                    commands,
                });
            }
        } else if inside && let Some(block) = blocks.last_mut() {
            match (line.strip_prefix("$ "), block.commands.last_mut()) {
                (Some(command), _) => block.commands.push((command, Vec::new())),
                (None, Some((_, printed))) => printed.push(line),
                (None, None) => {}
            }
        }
    }
    blocks.retain(|block| !block.commands.is_empty());
    blocks
}

/// Whether this kernel is of a series.
fn runs(series: &str) -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    release
        .strip_prefix(series)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// A function of the set-ups.
fn call(function: &str) {
    fs::write("/tmp/set-ups.sh", SET_UPS).expect("/tmp");
    shell(&format!(". /tmp/set-ups.sh\n{function}"));
}

/// Takes away what the topology and the set-ups made, whatever of it is there.
struct Cleared;

impl Cleared {
    fn first() -> Self {
        drop(Self);
        Self
    }
}

impl Drop for Cleared {
    fn drop(&mut self) {
        call("clear_topology");
        assert!(try_unload() || thread::panicking(), "something holds ip_vs");
    }
}

/// A command that was started, and the lines that it prints.
struct Started {
    process: Process,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    printed: Vec<String>,
}

impl Started {
    fn new(command: &str) -> Self {
        let mut child: Child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh");
        Self {
            stdout: lines(child.stdout.take().expect("piped")),
            stderr: lines(child.stderr.take().expect("piped")),
            process: Process(child),
            printed: Vec::new(),
        }
    }

    /// Waits until its probes are attached: a trace reports it, and of a gathering each line is complete from then on.
    fn wait_for_probes(&mut self, command: &str) {
        let begin = Instant::now();
        loop {
            self.printed.extend(self.stdout.try_iter());
            if self
                .stderr
                .try_iter()
                .any(|line| line.contains("probes attached"))
                || self.printed.iter().any(|line| line.contains("status=\"ok\""))
            {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{command} attaches no probes");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end. What it printed on stdout.
    fn end(mut self, command: &str) -> String {
        let begin = Instant::now();
        while self.process.0.try_wait().expect("its state").is_none() {
            assert!(begin.elapsed() < PATIENCE, "{command} does not end");
            thread::sleep(Duration::from_millis(20));
        }
        self.printed.extend(self.stdout.iter());
        shape::text(&self.printed)
    }
}

/// Runs a block's commands: what observes before the traffic and beside each other, the rest after it in their order.
fn run(block: &Block<'_>) -> Vec<String> {
    call("anew");
    call(&format!("{}_before", block.name));
    let observes = |command: &str| {
        ["ipvs-observer trace", "ipvs-observer collect"]
            .iter()
            .any(|verb| command.starts_with(verb))
    };
    let mut printed = vec![String::new(); block.commands.len()];
    let mut observers = Vec::new();
    for (place, (command, _)) in block.commands.iter().enumerate() {
        if observes(command) {
            observers.push((place, Started::new(command)));
        }
    }
    for (place, started) in &mut observers {
        started.wait_for_probes(block.commands[*place].0);
    }
    call(&format!("{}_during", block.name));
    for (place, started) in observers {
        printed[place] = started.end(block.commands[place].0);
    }
    for (place, (command, _)) in block.commands.iter().enumerate() {
        if !observes(command) {
            printed[place] = Started::new(command).end(command);
        }
    }
    printed
}

#[test]
fn the_page_on_debugging_shows_what_its_commands_print() {
    let page = fs::read_to_string(NEWER_PAGE).unwrap_or_else(|_| PAGE.to_owned());
    let blocks = blocks(&page);
    assert!(blocks.len() > 9, "{} blocks", blocks.len());
    let only = env::var("PAGE_ONLY").unwrap_or_default();
    let mut wrong = String::new();
    let mut updated = page.clone();
    let _cleared = Cleared::first();
    if blocks.iter().any(|block| runs(block.series)) {
        unload();
        fs::write("/tmp/topology.sh", TOPOLOGY).expect("/tmp");
        shell(". /tmp/topology.sh");
    }
    for block in &blocks {
        assert!(!block.name.is_empty(), "no set-up is named: {:?}", block.commands);
        if !runs(block.series) || !block.name.contains(&only) {
            continue;
        }
        eprintln!("{}", block.name);
        for ((command, shown), printed) in block.commands.iter().zip(run(block)) {
            let printed = shape::lines(&printed);
            if !shape::fits(shown, &printed) {
                let _ = writeln!(
                    wrong,
                    "{}",
                    shape::difference(block.name, command, shown, &printed)
                );
            }
            let old = format!("$ {command}\n{}", shape::text(shown));
            let new = format!("$ {command}\n{}", shape::text(&shape::renewed(shown, &printed)));
            assert!(updated.contains(&old), "{old}");
            updated = updated.replacen(&old, &new, 1);
        }
    }
    if env::var_os("UPDATE_PAGE").is_some() {
        print!("\n<<<page\n{updated}page>>>\n");
        eprint!("{wrong}");
    } else {
        assert!(
            wrong.is_empty(),
            "what is printed is no longer what docs/scheduler-debugging.md shows (tests/kernel/page/update.sh renews \
             it):\n{wrong}"
        );
    }
}
