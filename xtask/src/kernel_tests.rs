//! The tests that need root and a kernel with IPVS, run in the lab on each kernel of the matrix.
//!
//! They are one libtest binary of the program's package. What is to be run waits in a queue, and each guest takes the
//! next.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    fs,
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError, mpsc::Sender},
    thread,
    time::Duration,
};

use crate::{
    lab::{
        kernel,
        ports::{Printed, Streams},
        run::{MEMORY, Run},
        series::Series,
    },
    outcome::Outcome,
    workspace::Workspace,
};

/// The test target, in ipvs-observer/Cargo.toml.
pub(crate) const TARGET: &str = "kernel";
/// Tests of the program's own patience, the same on any kernel: they run on the lab's usual one, in a guest of their
/// own.
const ONCE: &str = "once::";
/// Where the guest has it.
pub(crate) const GUEST_PATH: &str = "/usr/local/bin/kernel-tests";
/// MiB that qemu takes beside the guest's.
const OVERHEAD: u64 = 300;

/// Which of the tests a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Those that need one kernel only.
    Once,
    /// Those that each kernel is tested with.
    Each,
}

/// The kernels that wait for a guest, and what is run there.
pub(crate) struct Queue<'a> {
    workspace: &'a Workspace,
    binary: &'a Path,
    limit: Duration,
    waiting: Mutex<VecDeque<(Series, Part)>>,
}

/// What became of the tests on one kernel, and what they printed.
pub(crate) struct Tested {
    pub(crate) outcome: Outcome,
    printed: Vec<u8>,
}

impl<'a> Queue<'a> {
    /// What takes longest comes first: the tests that run once, then the usual kernel, and then from the newest to the
    /// oldest, which leaves most of them out.
    pub(crate) fn new(
        workspace: &'a Workspace,
        binary: &'a Path,
        mut kernels: Vec<Series>,
        limit: Duration,
    ) -> Self {
        kernels.sort_by_key(|series| (!series.is_usual(), Reverse(series.clone())));
        let once = kernels.iter().filter(|series| series.is_usual());
        let once = once.map(|series| (series.clone(), Part::Once));
        let each = kernels.iter().map(|series| (series.clone(), Part::Each));
        Self {
            workspace,
            binary,
            limit,
            waiting: Mutex::new(once.chain(each).collect()),
        }
    }

    /// Tests one kernel after another until none waits.
    pub(crate) fn work(&self, done: &Sender<Tested>) {
        while let Some((series, part)) = self.next() {
            // The receiver is gone only with the task.
            let _ = done.send(self.test(&series, part));
        }
    }

    fn next(&self) -> Option<(Series, Part)> {
        // A panic of another guest's thread has left the queue as it was.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    }

    fn test(&self, series: &Series, part: Part) -> Tested {
        let printed = Printed::default();
        let mut version = "none".to_owned();
        let mut outcome = Outcome::of("", || {
            let kernel = kernel::ensure(&self.workspace.lab(), series, false)?;
            version.clone_from(&kernel.version);
            let mut command = vec![GUEST_PATH, "--test-threads=1"];
            command.extend(match part {
                Part::Once => &[ONCE][..],
                Part::Each => &["--skip", ONCE],
            });
            let run = Run::new(kernel, self.limit, &command).add(self.binary, GUEST_PATH);
            let streams = Streams {
                stdout: Box::new(printed.clone()),
                stderr: Box::new(printed.clone()),
                ..Streams::output()
            };
            run.succeed(self.workspace, streams, "the tests")
        });
        let once = if part == Part::Once {
            ", what is run once"
        } else {
            ""
        };
        outcome.stage = format!("kernel {series} ({version}){once}");
        if let Some(failure) = &mut outcome.failure {
            failure.push_str(&failures(&String::from_utf8_lossy(&printed.bytes())));
        }
        Tested {
            outcome,
            printed: printed.bytes(),
        }
    }
}

/// What the tests that failed printed, on lines of its own; nothing where none came that far.
fn failures(printed: &str) -> String {
    let said = printed
        .split_once("\nfailures:\n")
        .and_then(|(_, rest)| rest.split_once("\nfailures:\n"));
    said.map_or_else(String::new, |(said, _)| format!("\n{}", said.trim()))
}

impl Tested {
    /// Prints what the tests printed, all at once: two kernels' lines do not mix.
    pub(crate) fn report(self) -> Outcome {
        let mut out = io::stdout().lock();
        // Stdout gone is noticed at the summary.
        let _ = writeln!(out, "\n== {}", self.outcome.stage)
            .and_then(|()| out.write_all(&self.printed))
            .and_then(|()| out.flush());
        self.outcome
    }
}

/// How many guests may run beside each other.
pub(crate) fn at_once() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| available(&text));
    let guests = memory.map_or(1, |mib| mib / (u64::from(MEMORY) + OVERHEAD));
    processors.min(usize::try_from(guests).unwrap_or(1)).max(1)
}

/// MiB available, out of /proc/meminfo.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use std::{iter, path::PathBuf};

    use super::*;

    #[test]
    fn what_runs_once_comes_first_then_the_usual_kernel_and_the_others_from_the_newest_to_the_oldest() {
        let workspace = Workspace {
            root: PathBuf::new(),
            target: PathBuf::new(),
        };
        let queue = Queue::new(&workspace, Path::new(""), crate::lab::matrix(), Duration::ZERO);
        let order: Vec<_> = iter::from_fn(|| queue.next())
            .map(|(series, part)| format!("{series} {part:?}"))
            .collect();
        assert_eq!(
            order,
            [
                "6.12 Once",
                "6.12 Each",
                "7 Each",
                "6.18 Each",
                "6.1 Each",
                "5.10 Each"
            ]
        );
    }

    #[test]
    fn what_failed_tests_printed_is_what_the_test_program_lists_of_them() {
        let printed = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nleft: 1\n\n\nfailures:\n    b\n";
        assert_eq!(failures(printed), "\n---- b stdout ----\nleft: 1");
        assert_eq!(failures("test a ... ok\nkernel panic"), "");
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
