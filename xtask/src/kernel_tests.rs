//! The tests that need root and a kernel with IPVS, run in the lab on each kernel of the matrix.
//!
//! They are one libtest binary of the program's package, compiled here, run there. As many kernels at a
//! time as processors and memory allow: an emulated machine takes one processor of the host.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    build,
    lab::{
        kernel,
        ports::{Printed, Streams},
        run::{MEMORY, Run},
        series::Series,
    },
    outcome::Outcome,
    progress::say,
    workspace::Workspace,
};

/// The test target, in ipvs-observer/Cargo.toml.
pub(crate) const TARGET: &str = "kernel";
/// Tests of the program's own patience, the same on any kernel: they run on the lab's usual one.
const ONCE: &str = "once::";
/// Where the guest has it.
pub(crate) const GUEST_PATH: &str = "/usr/local/bin/kernel-tests";
/// MiB that qemu takes beside the guest's.
const OVERHEAD: u64 = 300;

/// Compiles the tests and runs them on each kernel; an outcome for the compilation and one per kernel.
pub(crate) fn run(workspace: &Workspace, kernels: &[Series], limit: Duration) -> Vec<Outcome> {
    println!("== kernel tests");
    let started = Instant::now();
    let binary = match build::for_lab(workspace, "test", TARGET) {
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
        Ok(kernel) => (kernel.version.clone(), {
            let mut run = Run::new(kernel, limit, &[GUEST_PATH, "--test-threads=1"]).add(binary, GUEST_PATH);
            if !series.is_usual() {
                run.command.extend(["--skip", ONCE].map(str::to_owned));
            }
            let streams = Streams {
                stdout: Box::new(printed.clone()),
                stderr: Box::new(printed.clone()),
                ..Streams::output()
            };
            run.succeed(workspace, streams, "the tests")
        }),
        Err(error) => ("none".to_owned(), Err(error)),
    };
    let stage = format!("kernel {series} ({version})");
    // One writer at a time, so that the kernels' lines do not mix.
    let mut out = io::stdout().lock();
    // Stdout gone is noticed at the summary.
    let _ = writeln!(out, "\n== {stage}")
        .and_then(|()| out.write_all(&printed.bytes()))
        .and_then(|()| out.flush());
    drop(out);
    Outcome {
        time: started.elapsed(),
        ..Outcome::of(&stage, || result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_mib() {
        assert_eq!(
            available("MemTotal: 9 kB\nMemAvailable:   2097152 kB\n"),
            Some(2048)
        );
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }
}
