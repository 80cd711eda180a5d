//! `test`: every check there is, and what became of each.
//!
//! The kernel tests begin as soon as they are compiled, in guests of their own: one guest per processor. All other
//! stages run beside them, one after another, in place of one guest. What a guest printed comes between two stages. A
//! stage that fails does not keep the others from running, except that nothing can be said without the eBPF object. A
//! kernel that cannot be had is a failure like any other.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    build, dependencies, dist, end_to_end, fuzz,
    kernel_tests::{self, Queue, Tested},
    lab::{self, series::Series},
    needs::{self, Purpose},
    outcome::Outcome,
    package, process, soak,
    workspace::Workspace,
};

/// `test`'s arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only this kernel of the lab; repeatable. The long run and the one from end to end are made on 6.12
    #[arg(long, value_name = "SERIES", conflicts_with = "no_lab")]
    kernel: Vec<Series>,
    /// Everything but the lab
    #[arg(long)]
    no_lab: bool,
    /// End the tests on a kernel that take longer, with what its console said
    #[arg(long, value_name = "SECONDS", default_value_t = 2700)]
    timeout: u64,
    #[command(flatten)]
    needs: needs::Install,
}

/// For how long each target gets hostile bytes: `cargo xtask fuzz` is for longer.
const FUZZING: fuzz::Bound = fuzz::Bound::Seconds(12);

/// The verb.
pub(crate) fn all(args: &Args) -> Result<ExitCode> {
    let started = Instant::now();
    let workspace = Workspace::find()?;
    let mut purposes = vec![Purpose::Build, Purpose::Test, Purpose::Fuzz];
    if !args.no_lab {
        purposes.extend([Purpose::Lab, Purpose::Debian, Purpose::Package]);
    }
    needs::ensure(&workspace, &purposes, args.needs)?;
    let mut outcomes = vec![
        stage("format", || {
            process::run(workspace.cargo().args(["fmt", "--all", "--check"]))
        }),
        stage("no object, no program", || refusal(&workspace)),
        stage("object", || build::ebpf(args.needs).map(drop)),
    ];
    if outcomes.last().is_some_and(Outcome::failed) {
        return Ok(summary(&outcomes, started));
    }
    if args.no_lab {
        on_host(&workspace, &mut |name, work| outcomes.push(stage(name, work)));
        outcomes.push(stage("program", || build::program(args.needs).map(drop)));
        return Ok(summary(&outcomes, started));
    }
    let kernels = if args.kernel.is_empty() {
        lab::matrix()
    } else {
        args.kernel.clone()
    };
    // On one kernel: what the others do differently has tests of its own.
    let usual = kernels.iter().find(|series| series.is_usual()).cloned();
    let limit = Duration::from_secs(args.timeout);
    let mut binary = PathBuf::new();
    outcomes.push(stage("kernel tests, compiled", || {
        binary = build::for_lab(&workspace, "test", kernel_tests::TARGET)?;
        Ok(())
    }));
    // Without the tests no kernel is booted, and the rest goes on.
    let kernels = if outcomes.last().is_some_and(Outcome::failed) {
        Vec::new()
    } else {
        kernels
    };
    let queue = Queue::new(&workspace, &binary, kernels, limit);
    thread::scope(|scope| {
        let (done, tested) = mpsc::channel();
        let guests = |count: usize| {
            for _ in 0..count {
                let (queue, done) = (&queue, done.clone());
                scope.spawn(move || queue.work(&done));
            }
        };
        let at_once = kernel_tests::at_once();
        // The other stages take the place of one: of them, some boot a guest themselves.
        guests(at_once - 1);
        let mut also = |name: &str, work: Work<'_>| {
            outcomes.push(stage(name, work));
            outcomes.extend(tested.try_iter().map(Tested::report));
        };
        on_host(&workspace, &mut also);
        if let Some(series) = &usual {
            also("package", &mut || {
                let packages = dist::packages(&workspace, args.needs)?;
                package::live(&workspace, &packages.deb, &packages.tarball)
            });
            also("a long run, for two minutes", &mut || {
                soak::stage(&workspace, series)
            });
            also("end to end, with InfluxDB and dashboard", &mut || {
                end_to_end::run(&workspace, series, limit)
            });
        }
        guests(1);
        drop(done);
        outcomes.extend(tested.iter().map(Tested::report));
    });
    Ok(summary(&outcomes, started))
}

/// What a stage does.
type Work<'a> = &'a mut dyn FnMut() -> Result<()>;

/// The stages that take the machine as it is, each given to `stage`.
fn on_host(workspace: &Workspace, stage: &mut dyn FnMut(&str, Work<'_>)) {
    stage("clippy, host", &mut || clippy(workspace));
    stage("clippy, eBPF", &mut || clippy_ebpf(workspace));
    stage("unit and integration tests", &mut || {
        process::run(
            workspace
                .cargo()
                .args(["test", "--workspace", "--exclude", "ipvs-observer-ebpf"])
                .args(["--exclude", fuzz::PACKAGE]),
        )
    });
    stage("verifier of this machine's kernel", &mut || verifier(workspace));
    stage("hostile bytes, some seconds", &mut || {
        fuzz::stage(workspace, FUZZING)
    });
    stage("dependencies", &mut || dependencies::check(workspace));
}

fn stage(name: &str, work: impl FnOnce() -> Result<()>) -> Outcome {
    println!("== {name}");
    Outcome::of(name, work)
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--exclude",
        "ipvs-observer-ebpf",
        "--all-targets",
    ]);
    process::run(cargo.args(["--features", "ipvs-observer/lab-tests", "--", "-D", "warnings"]))
}

/// The eBPF programs, linted as if they were for this machine: the toolchains that can build core for
/// their own target have no clippy. Without unwinding, as there, or the compiler asks for the standard library.
fn clippy_ebpf(workspace: &Workspace) -> Result<()> {
    let host = process::host()?;
    let mut cargo = workspace.cargo();
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", "-Cpanic=abort")
        // They name features of the compiler that only their own target has a use for.
        .env("RUSTC_BOOTSTRAP", "1")
        .args([
            "clippy",
            "--quiet",
            "-p",
            "ipvs-observer-ebpf",
            "--target",
            &host,
            "--target-dir",
        ])
        .arg(workspace.target.join("ebpf-clippy"));
    process::run(cargo.args(["--", "-D", "warnings"]))
}

/// The kernel below takes every program, with the layout of each kernel of the matrix and without one: neither
/// IPVS nor kprobes are needed for that, only root.
fn verifier(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.args([
        "test",
        "--package",
        "ipvs-observer",
        "--lib",
        "--",
        "--ignored",
        "passes_the_verifier",
    ]);
    if !process::is_root() {
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo");
    }
    process::run(&mut command)
}

/// A plain `cargo build` without the eBPF object must fail with one line that names the remedy. The program's
/// build script is what does it, so it is run by itself where no object can be.
fn refusal(workspace: &Workspace) -> Result<()> {
    let folder = workspace.target.join("refusal");
    fs::create_dir_all(&folder)?;
    let script = folder.join("build-script");
    let source = workspace.root.join("ipvs-observer/build.rs");
    process::run(
        Command::new("rustc")
            .args(["--edition", "2024", "-o"])
            .arg(&script)
            .arg(source),
    )?;
    let output = Command::new(&script)
        .env("OUT_DIR", PathBuf::from("/nonexistent/out"))
        .env("CARGO_MANIFEST_DIR", workspace.root.join("ipvs-observer"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("cargo::error="))
        .collect();
    if output.status.success() || errors.len() != 1 || !errors[0].contains("`cargo xtask build-ebpf`") {
        bail!(
            "without the object the program's build script said, and exited with {}:\n{said}",
            output.status
        );
    }
    Ok(())
}

/// Prints a row per stage, in the order of their ends, and after them what is known of each failure: that is far above
/// by then. The exit is a failure if any of them failed.
fn summary(outcomes: &[Outcome], started: Instant) -> ExitCode {
    println!("\n{:<44} {:>6}  result", "stage", "time");
    for outcome in outcomes {
        let result = match &outcome.failure {
            None => "ok",
            Some(failure) => failure.lines().next().unwrap_or("failed"),
        };
        let result = if outcome.failed() {
            format!("FAILED: {result}")
        } else {
            result.to_owned()
        };
        println!("{:<44} {:>4} s  {result}", outcome.stage, outcome.time.as_secs());
    }
    println!("{:<44} {:>4} s", "from begin to end", started.elapsed().as_secs());
    for outcome in outcomes {
        let failure = outcome.failure.as_deref().unwrap_or_default();
        if let Some((_, rest)) = failure.split_once('\n') {
            println!("\n{}:\n{rest}", outcome.stage);
        }
    }
    let failed = outcomes.iter().filter(|outcome| outcome.failed()).count();
    if failed > 0 {
        println!("\n{failed} of {} stages failed", outcomes.len());
        return ExitCode::FAILURE;
    }
    println!("\nall {} stages passed", outcomes.len());
    ExitCode::SUCCESS
}
