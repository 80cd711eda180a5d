//! The tests that need root and a kernel with IPVS, run in the lab on each kernel of the matrix.
//!
//! They are one libtest binary of the program's package, compiled here, run there. As many kernels at a
//! time as processors and memory allow: an emulated machine takes one processor of the host.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    lab::{Added, guest::Topology, initramfs::Load, kernel, ports::Streams, qemu::Boot, series::Series},
    outcome::Outcome,
    progress::say,
    workspace::Workspace,
};

/// The test target, in ipvs-observer/Cargo.toml.
pub(crate) const TARGET: &str = "kernel";
/// Tests of the program's own patience, the same on any kernel: they run on the lab's usual one.
const ONCE: &str = "once::";
/// Where the guest has it.
const GUEST_PATH: &str = "/usr/local/bin/kernel-tests";
/// MiB of the guest, and what qemu takes beside it.
const MEMORY: u32 = 1500;
const OVERHEAD: u64 = 300;

/// Compiles the tests and runs them on each kernel; an outcome for the compilation and one per kernel.
pub(crate) fn run(workspace: &Workspace, kernels: &[Series], limit: Duration) -> Vec<Outcome> {
    println!("== kernel tests");
    let started = Instant::now();
    let binary = match compile(workspace, "test", TARGET) {
        Ok(binary) => binary,
        Err(error) => return vec![Outcome::of("kernel tests, compiled", || Err(error))],
    };
    let compiled = Outcome {
        stage: "kernel tests, compiled".to_owned(),
        failure: None,
        time: started.elapsed(),
    };
    let at_once = at_once(kernels.len());
    say(&format!(
        "kernel tests; kernels: {}, {at_once} at a time",
        kernels.len()
    ));
    let next = Mutex::new(kernels.iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let Some((index, series)) = lock(&next).next() else {
                        return;
                    };
                    let outcome = on_kernel(workspace, series, &binary, limit);
                    lock(&outcomes).push((index, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(index, _)| *index);
    [compiled]
        .into_iter()
        .chain(outcomes.into_iter().map(|(_, outcome)| outcome))
        .collect()
}

/// A panic of another worker has ended that worker, not what it counted.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compiles a target of the program's package that needs the lab, and returns where it is. `kind`: test or bench.
pub(crate) fn compile(workspace: &Workspace, kind: &str, target: &str) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    if kind == "test" {
        cargo.args(["test", "--no-run"]);
    } else {
        cargo.arg("build");
    }
    cargo
        .args(["--quiet", "--release", "-p", "ipvs-observer"])
        .args([&format!("--{kind}"), target, "--features", "lab-tests"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let output = cargo.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the {kind} `{target}` does not compile");
    }
    executable(&String::from_utf8_lossy(&output.stdout), target)
        .with_context(|| format!("cargo named no binary of the {kind} `{target}`"))
}

/// The binary's path out of cargo's messages.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// How many guests may run beside each other.
fn at_once(kernels: usize) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| available(&text));
    let guests = memory.map_or(1, |mib| mib / (u64::from(MEMORY) + OVERHEAD));
    processors
        .min(usize::try_from(guests).unwrap_or(1))
        .min(kernels)
        .max(1)
}

/// MiB available, out of /proc/meminfo.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

fn on_kernel(workspace: &Workspace, series: &Series, binary: &Path, limit: Duration) -> Outcome {
    let started = Instant::now();
    let printed = Printed::default();
    let (version, result) = match kernel::ensure(&workspace.lab(), series, false) {
        Ok(kernel) => (
            kernel.version.clone(),
            boot(workspace, series, Boot::new(kernel, limit), binary, &printed),
        ),
        Err(error) => ("none".to_owned(), Err(error)),
    };
    let stage = format!("kernel {series} ({version})");
    // One writer at a time, so that the kernels' lines do not mix.
    let mut out = io::stdout().lock();
    let text = lock(&printed.0);
    // Stdout gone is noticed at the summary.
    let _ = writeln!(out, "\n== {stage}")
        .and_then(|()| out.write_all(&text))
        .and_then(|()| out.flush());
    drop(out);
    Outcome {
        time: started.elapsed(),
        ..Outcome::of(&stage, || result)
    }
}

fn boot(workspace: &Workspace, series: &Series, boot: Boot, binary: &Path, printed: &Printed) -> Result<()> {
    let boot = Boot {
        memory: MEMORY,
        ..boot
    };
    let mut command = [GUEST_PATH, "--test-threads=1"].map(str::to_owned).to_vec();
    if !series.is(6, 12) {
        command.extend(["--skip", ONCE].map(str::to_owned));
    }
    let load = Load {
        topology: Topology::Empty,
        command,
        added: vec![Added {
            host: binary.to_owned(),
            guest: GUEST_PATH.to_owned(),
        }],
    };
    let output = || Box::new(printed.clone());
    let streams = Streams {
        stdin: Box::new(io::empty()),
        stdout: output(),
        stderr: output(),
    };
    match boot.run(workspace, &load, streams, || {})? {
        0 => Ok(()),
        status => bail!("the tests ended with status {status}"),
    }
}

/// What a guest printed on both streams, in the order it came.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_binary_is_found_among_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"ipvs-observer\"},\"executable\":\"/t/program\"}\n\
                        not json\n\
                        {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"kernel\"},\"executable\":\"/t/kernel-1\"}\n";
        assert_eq!(executable(messages, TARGET), Some(PathBuf::from("/t/kernel-1")));
        assert_eq!(executable(messages, "another"), None);
        assert_eq!(executable("", TARGET), None);
    }

    #[test]
    fn available_memory_is_read_in_mib() {
        assert_eq!(
            available("MemTotal: 9 kB\nMemAvailable:   2097152 kB\n"),
            Some(2048)
        );
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }
}
