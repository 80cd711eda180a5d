//! `fuzz`: the targets in `fuzz/` under libFuzzer, for a bounded time.
//!
//! The flags are those that `cargo fuzz` gives to a nightly: the machine's own compiler takes them too, and only what is
//! written here is compiled with them. `cargo fuzz` compiles every dependency again: 200 to 230 s of processor time and
//! 50 for itself, where this takes 100. AddressSanitizer is the judge of the few unsafe lines on these ways.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    needs::{self, Purpose},
    process,
    workspace::Workspace,
};

/// The package.
pub(crate) const PACKAGE: &str = "ipvs-observer-fuzz";
/// The targets, each a program of that package.
const TARGETS: [&str; 5] = ["netlink", "btf", "events", "lines", "settings"];
/// What makes a program one for libFuzzer: counters at every edge, and what is compared with what.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "-Cforce-frame-pointers=yes",
];
/// AddressSanitizer with GCC's runtime library, for a compiler without one of its own, such as Debian's.
const GCC_RUNTIME: &str = " -Zexternal-clangrt -Cdefault-linker-libraries=yes -Clink-arg=-fsanitize=address";

/// `fuzz`'s arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only this target; repeatable
    #[arg(long, value_name = "NAME", value_parser = TARGETS)]
    target: Vec<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60, conflicts_with = "runs")]
    seconds: u64,
    /// How many inputs each target gets, however long it takes
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Give a target this one input, such as one that was found
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with_all = ["seconds", "runs"])]
    input: Option<PathBuf>,
    #[command(flatten)]
    needs: needs::Install,
}

/// How long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    Seconds(u64),
    Runs(u64),
}

/// The verb.
pub(crate) fn command(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    needs::ensure(&workspace, &[Purpose::Build, Purpose::Fuzz], args.needs)?;
    build::ebpf(args.needs)?;
    let wanted: Vec<_> = TARGETS
        .into_iter()
        .filter(|target| args.target.is_empty() || args.target.iter().any(|name| name == target))
        .collect();
    let programs = programs(&workspace)?;
    if let Some(input) = &args.input {
        for target in &wanted {
            process::run(Command::new(programs.join(target)).arg(input))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let bound = args.runs.map_or(Bound::Seconds(args.seconds), Bound::Runs);
    run(&workspace, &programs, &wanted, bound)?;
    Ok(ExitCode::SUCCESS)
}

/// Every target for so long: the stage of `test`, after which nothing is built again.
pub(crate) fn stage(workspace: &Workspace, bound: Bound) -> Result<()> {
    process::run(workspace.cargo().args(["test", "--quiet", "-p", PACKAGE]))?;
    run(workspace, &programs(workspace)?, &TARGETS, bound)
}

/// Builds the programs, and says where they are.
///
/// What is written here is compiled for the fuzzer, optimised and with every overflow looked at. What it depends on is
/// as the tests have it, and is not built again: it stays out of the way by which the fuzzer finds new inputs.
fn programs(workspace: &Workspace) -> Result<PathBuf> {
    let mut flags = COVERAGE.join(" ") + " -Zsanitizer=address";
    if !has_address_sanitizer(&process::host()?)? {
        flags += GCC_RUNTIME;
    }
    let mut cargo = workspace.cargo();
    cargo
        .env("RUSTC_WORKSPACE_WRAPPER", wrapper(workspace, &flags)?)
        .env("CARGO_INCREMENTAL", "0")
        .args(["build", "-p", PACKAGE, "--bins", "--features", "libfuzzer"]);
    // The fuzzer itself among them: it looks at every comparison.
    for package in [PACKAGE, "ipvs-observer", "ipvs-observer-common", "libfuzzer-sys"] {
        for setting in ["opt-level=3", "codegen-units=4", "debug=\"line-tables-only\""] {
            cargo.args(["--config", &format!("profile.dev.package.{package}.{setting}")]);
        }
    }
    build::build(&mut cargo, "building the fuzz targets")?;
    Ok(workspace.target.join("debug"))
}

/// A compiler for the packages of this workspace that adds flags, also such as a nightly alone would take. Build
/// scripts are programs for nobody but cargo.
fn wrapper(workspace: &Workspace, flags: &str) -> Result<PathBuf> {
    let folder = workspace.target.join("fuzz");
    fs::create_dir_all(&folder)?;
    let wrapper = folder.join("rustc");
    let script = format!(
        "#!/bin/sh\n\
         case \"$*\" in *'--crate-name build_script_'*) exec \"$@\" ;; esac\n\
         RUSTC_BOOTSTRAP=1 exec \"$@\" {flags}\n"
    );
    // Written only where it is another: to cargo a new wrapper is a new compiler.
    if fs::read_to_string(&wrapper).ok().as_ref() != Some(&script) {
        fs::write(&wrapper, script)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    }
    Ok(wrapper)
}

/// Whether the compiler's library has the runtime of AddressSanitizer.
fn has_address_sanitizer(host: &str) -> Result<bool> {
    let sysroot = process::capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(host)
        .join("lib");
    Ok(fs::read_dir(library)?.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().ends_with("_rt.asan.a")
    }))
}

/// Runs targets, as many at a time as there are processors. Whatever was found is the error.
fn run(workspace: &Workspace, programs: &Path, targets: &[&str], bound: Bound) -> Result<()> {
    println!(
        "{:<10} {:>12} {:>8} {:>10}  result",
        "target", "executions", "time", "a second"
    );
    let next = Mutex::new(targets.iter());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(target) = take() {
                    let failure = one(workspace, &programs.join(target), target, bound);
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(failure);
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(())
}

/// Runs a target, prints its row, and returns what was found.
fn one(workspace: &Workspace, program: &Path, target: &str, bound: Bound) -> Option<String> {
    let started = Instant::now();
    let (executions, failure) = fuzz(workspace, program, target, bound)
        .unwrap_or_else(|error| (0, Some(format!("{target}: {error:#}"))));
    let time = started.elapsed();
    println!(
        "{target:<10} {executions:>12} {:>6} s {:>10.0}  {}",
        time.as_secs(),
        executions as f64 / time.as_secs_f64(),
        if failure.is_some() {
            "FOUND SOMETHING"
        } else {
            "nothing found"
        }
    );
    failure
}

/// Executions, and what was found.
fn fuzz(workspace: &Workspace, program: &Path, target: &str, bound: Bound) -> Result<(u64, Option<String>)> {
    let folder = workspace.target.join("fuzz");
    let place = |kind: &str| -> Result<PathBuf> {
        let place = folder.join(kind).join(target);
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        Ok(place)
    };
    let (corpus, seeds, found) = (place("corpus")?, place("seeds")?, place("found")?);
    process::run(Command::new(program).env("IPVS_OBSERVER_SEEDS", &seeds))?;
    let log = found.with_extension("log");
    let status = Command::new(program)
        .args([&corpus, &seeds])
        .arg(format!("-artifact_prefix={}/", found.display()))
        // An input that takes this long, or this much, is a finding.
        .args(["-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=512"])
        .args(["-print_final_stats=1", "-verbosity=1"])
        .arg(match bound {
            Bound::Seconds(seconds) => format!("-max_total_time={seconds}"),
            Bound::Runs(runs) => format!("-runs={runs}"),
        })
        .env_remove("RUST_BACKTRACE")
        // References outlive no stack frame where the compiler looks at them, and what is freed need not be kept long.
        .env(
            "ASAN_OPTIONS",
            "detect_stack_use_after_return=0:quarantine_size_mb=16",
        )
        .stderr(File::create(&log)?)
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    // Also a target that found something ends with its statistics.
    let executions = said.lines().find_map(|line| {
        line.strip_prefix("stat::number_of_executed_units:")?
            .trim()
            .parse()
            .ok()
    });
    if status.success() {
        return Ok((executions.context("libFuzzer counted no executions")?, None));
    }
    let input = said
        .lines()
        .find_map(|line| line.split_once("Test unit written to "))
        .map_or("none", |(_, path)| path.trim());
    let words: Vec<_> = said
        .lines()
        .filter(|line| line.contains("panicked at") || line.contains("ERROR: ") || line.contains("ALARM"))
        .collect();
    let failure = format!(
        "{target} ended with {status}: {}\n  all that was said: {}\n  again: cargo xtask fuzz --target {target} \
         --input {input}",
        words.join("; "),
        log.display()
    );
    Ok((executions.unwrap_or(0), Some(failure)))
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn every_target_of_the_package_is_run() {
        let manifest = include_str!("../../fuzz/Cargo.toml");
        let programs: Vec<_> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
            .collect();
        assert_eq!(programs, TARGETS);
    }
}
