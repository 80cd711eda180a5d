//! `test`: every check there is, one after another, and what became of each.
//!
//! A stage that fails does not keep the others from running, except that nothing can be said without the
//! eBPF object. A kernel that cannot be had is a failure like any other.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    build, dependencies, dist, end_to_end, fuzz, kernel_tests,
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
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
    #[command(flatten)]
    needs: needs::Install,
}

/// For how long each target gets hostile bytes: `cargo xtask fuzz` is for longer.
const FUZZING: fuzz::Bound = fuzz::Bound::Seconds(12);

/// The verb.
pub(crate) fn all(args: &Args) -> Result<ExitCode> {
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
        stage("dependencies", || dependencies::check(&workspace)),
        stage("no object, no program", || refusal(&workspace)),
        stage("object and program", || build::program(args.needs).map(drop)),
    ];
    if outcomes.last().is_some_and(Outcome::failed) {
        return Ok(summary(&outcomes));
    }
    outcomes.push(stage("clippy, host", || clippy(&workspace)));
    outcomes.push(stage("clippy, eBPF", || clippy_ebpf(&workspace)));
    outcomes.push(stage("unit and integration tests", || {
        process::run(
            workspace
                .cargo()
                .args(["test", "--workspace", "--exclude", "ipvs-observer-ebpf"])
                .args(["--exclude", fuzz::PACKAGE]),
        )
    }));
    outcomes.push(stage("verifier of this machine's kernel", || {
        verifier(&workspace)
    }));
    outcomes.push(stage("hostile bytes, some seconds", || {
        fuzz::stage(&workspace, FUZZING)
    }));
    if !args.no_lab {
        let kernels = if args.kernel.is_empty() {
            lab::matrix()
        } else {
            args.kernel.clone()
        };
        // On one kernel: what the others do differently has tests of its own.
        let usual = kernels.iter().find(|series| series.is_usual());
        if usual.is_some() {
            outcomes.push(stage("package", || {
                let packages = dist::packages(&workspace, args.needs)?;
                package::live(&workspace, &packages.deb, &packages.tarball)
            }));
        }
        outcomes.extend(kernel_tests::run(
            &workspace,
            &kernels,
            Duration::from_secs(args.timeout),
        ));
        if let Some(series) = usual {
            outcomes.push(stage("a long run, for two minutes", || {
                soak::stage(&workspace, series)
            }));
            outcomes.push(stage("end to end, with InfluxDB and dashboard", || {
                end_to_end::run(&workspace, series, Duration::from_secs(args.timeout))
            }));
        }
    }
    Ok(summary(&outcomes))
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

/// Prints a row per stage; the exit is a failure if any of them failed.
fn summary(outcomes: &[Outcome]) -> ExitCode {
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
    let failed = outcomes.iter().filter(|outcome| outcome.failed()).count();
    if failed > 0 {
        println!("\n{failed} of {} stages failed", outcomes.len());
        return ExitCode::FAILURE;
    }
    println!("\nall {} stages passed", outcomes.len());
    ExitCode::SUCCESS
}
