//! `build-ebpf`, `build` and `run`: the eBPF object, the program that carries it, and the program as root.

use std::{
    fs::{self, File},
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    needs::{self, Purpose},
    process,
    progress::{say, step},
    toolchain::{self, Toolchain},
    workspace::Workspace,
};

/// The target of the eBPF object.
const TARGET: &str = "bpfel-unknown-none";
/// What the object is made of; the program's build script refuses an object older than these.
const SOURCES: [&str; 2] = ["ipvs-observer-ebpf/src", "ipvs-observer-common/src"];

/// `run`'s arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    needs: needs::Install,
    /// The program's own arguments
    #[arg(last = true)]
    args: Vec<String>,
}

/// The verb: builds the object and says which toolchain did.
pub(crate) fn ebpf_alone(args: needs::Install) -> Result<()> {
    let toolchain = ebpf(args)?;
    say(&format!(
        "{} by {toolchain}",
        Workspace::find()?.object().display()
    ));
    Ok(())
}

/// Builds the eBPF object and leaves it where the program's build script looks for it.
pub(crate) fn ebpf(args: needs::Install) -> Result<Toolchain> {
    let workspace = Workspace::find()?;
    needs::ensure(&workspace, &[Purpose::Build], args)?;
    let toolchain = Toolchain::find()?;
    let linker = toolchain::ensure_linker(&workspace)?;
    let folder = workspace.target.join("ebpf-build");
    let mut cargo = toolchain.cargo(&workspace);
    let mut flags = vec![
        format!("-Clinker={}", linker.display()),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    // Its debug information names files, and the program carries it to other machines.
    flags.extend(workspace.remap());
    cargo
        // Encoded, because the path of the linker may have spaces.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args([
            "build",
            "--release",
            "--locked",
            "-Zbuild-std=core",
            "--target",
            TARGET,
        ])
        .args(["-p", "ipvs-observer-ebpf", "--target-dir"])
        .arg(&folder);
    let newest = SOURCES
        .iter()
        .map(|source| newest(&workspace.root.join(source)))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .max()
        .context("the eBPF object has no sources")?;
    build(&mut cargo, &format!("building the eBPF object with {toolchain}"))?;
    let built = folder.join(TARGET).join("release/ipvs-observer-ebpf");
    publish(&built, &workspace.object(), newest)?;
    Ok(toolchain)
}

/// Builds object and program, release.
pub(crate) fn program(args: needs::Install) -> Result<PathBuf> {
    ebpf(args)?;
    let workspace = Workspace::find()?;
    build(&mut workspace.release("build"), "building ipvs-observer")?;
    Ok(workspace.program())
}

/// Compiles a target of the program's package that needs the lab, and returns where it is. `kind`: test or bench.
pub(crate) fn for_lab(workspace: &Workspace, kind: &str, target: &str) -> Result<PathBuf> {
    let mut cargo = workspace.release(if kind == "test" { "test" } else { "build" });
    if kind == "test" {
        cargo.arg("--no-run");
    }
    cargo
        .args(["--quiet", &format!("--{kind}"), target, "--features", "lab-tests"])
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

/// Builds, then runs the program as root on this machine; its exit is this task's.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let program = program(args.needs)?;
    let mut command = process::as_root(&program);
    let status = command
        .args(&args.args)
        .status()
        .with_context(|| format!("cannot run {} as root: is sudo installed?", program.display()))?;
    Ok(process::exit_code(status))
}

/// Runs a build: cargo shows its own progress on a terminal; elsewhere one line and what went wrong.
pub(crate) fn build(cargo: &mut Command, what: &str) -> Result<()> {
    if io::stderr().is_terminal() {
        say(what);
        return process::run(cargo);
    }
    step(what, || process::run(cargo.arg("--quiet")))
}

/// Puts the object in its place. One that is right already keeps its time, or the program would be
/// built again for nothing, except where its sources' times have overtaken it.
fn publish(built: &Path, object: &Path, newest: SystemTime) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("cargo left no {}", built.display()))?;
    if fs::read(object).is_ok_and(|present| present == bytes) {
        if fs::metadata(object)?.modified()? < newest {
            File::options()
                .write(true)
                .open(object)?
                .set_modified(SystemTime::now())?;
        }
        return Ok(());
    }
    if let Some(folder) = object.parent() {
        fs::create_dir_all(folder)?;
    }
    // Renamed into place, so that a build beside this one never reads half an object.
    let fresh = object.with_extension("new");
    fs::write(&fresh, bytes)?;
    fs::rename(&fresh, object).with_context(|| format!("cannot write {}", object.display()))
}

fn newest(folder: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let entry = entry?;
        let modified = if entry.file_type()?.is_dir() {
            self::newest(&entry.path())?
        } else {
            entry.metadata()?.modified()?
        };
        newest = newest.max(modified);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_binary_is_found_among_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"ipvs-observer\"},\"executable\":\"/t/program\"}\n\
                        not json\n\
                        {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"kernel\"},\"executable\":\"/t/kernel-1\"}\n";
        assert_eq!(executable(messages, "kernel"), Some(PathBuf::from("/t/kernel-1")));
        assert_eq!(executable(messages, "another"), None);
        assert_eq!(executable("", "kernel"), None);
    }
}
