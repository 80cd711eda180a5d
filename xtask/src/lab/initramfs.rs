//! The guest's file system: three archives one after another, which the kernel unpacks over each other.
//!
//! Modules (made once per kernel) and userland (once per state of the host's tools) are cached; what
//! changes from run to run, the programs under test and the command, comes last and is small. None of it
//! is compressed: unpacking under emulation costs more than reading.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    Added,
    archive::{self, Archive},
    debian,
    guest::{self, Topology},
    kernel::Kernel,
    modules,
};
use crate::{process, progress::step, workspace::Workspace};

/// Programs of the host that come before busybox's applets of the same names. The shell is among them
/// because busybox's own prefers its applets to whatever PATH says, and dd because it counts bytes.
const TOOLS: [&str; 7] = ["bash", "dd", "ip", "ipvsadm", "kmod", "bpftool", "setpriv"];
/// The names that kmod goes by. The kernel itself calls /sbin/modprobe.
const KMOD: [&str; 5] = ["modprobe", "insmod", "rmmod", "lsmod", "modinfo"];
/// Files of the host that name protocols and ports, as ipvsadm prints them.
const NAMES: [&str; 2] = ["/etc/protocols", "/etc/services"];

/// This file: what it puts where is part of the archives' state.
const THIS: &str = include_str!("initramfs.rs");

/// What one run brings along.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// What is set up before the command.
    pub(crate) topology: Topology,
    /// The command; empty for a shell.
    pub(crate) command: Vec<String>,
    /// Files from the host.
    pub(crate) added: Vec<Added>,
}

/// The programs of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Userland {
    /// The host's own tools and busybox, and the program under test.
    Tools,
    /// A Debian of its own, with systemd as the first process.
    Debian,
}

/// Writes the initramfs of one run to `out`.
pub(crate) fn write(
    workspace: &Workspace,
    kernel: &Kernel,
    userland: Userland,
    load: &Load,
    out: &Path,
) -> Result<()> {
    let system = match userland {
        Userland::Tools => None,
        Userland::Debian => Some(debian::packed(&workspace.lab())?),
    };
    let lock = File::create(workspace.lab().join("lock"))?;
    lock.lock()?;
    let modules = modules::packed(kernel)?;
    let parts = match &system {
        None => [modules, tools(&workspace.lab())?],
        Some(system) => [system.clone(), modules],
    };
    let mut file = File::create(out).with_context(|| format!("cannot write {}", out.display()))?;
    for part in parts {
        std::io::copy(&mut File::open(&part)?, &mut file)?;
    }
    // Not before: another run may put newer parts in the place of these.
    drop(lock);
    let mut archive = Archive::new(BufWriter::new(file));
    archive.file("/lab/topology", 0o755, load.topology.script().as_bytes())?;
    if !load.command.is_empty() {
        archive.file("/lab/command", 0o755, guest::script(&load.command).as_bytes())?;
    }
    if system.is_some() {
        // What is added brings no libraries: it is for this system.
        for added in &load.added {
            archive.copy(&added.guest, &added.host)?;
        }
        system_files(&mut archive)?;
        archive.finish()?;
        return Ok(());
    }
    let mut libraries = BTreeSet::new();
    let program = workspace.program();
    if program.is_file() {
        program_file(
            &mut archive,
            "/usr/local/bin/ipvs-observer",
            &program,
            &mut libraries,
        )?;
    }
    for added in &load.added {
        program_file(&mut archive, &added.guest, &added.host, &mut libraries)?;
    }
    for library in libraries {
        archive.copy(&library, Path::new(&library))?;
    }
    archive.finish()?;
    Ok(())
}

/// What makes a Debian the lab's guest.
fn system_files<W: std::io::Write>(archive: &mut Archive<W>) -> Result<()> {
    let [unit, program] = guest::SYSTEM;
    archive.link("/init", "/usr/lib/systemd/systemd")?;
    archive.file("/lab/session", 0o644, guest::SESSION.as_bytes())?;
    archive.file("/lab/start", 0o644, program.as_bytes())?;
    archive.file("/etc/systemd/system/lab.service", 0o644, unit.as_bytes())?;
    archive.link(
        "/etc/systemd/system/multi-user.target.wants/lab.service",
        "/etc/systemd/system/lab.service",
    )?;
    // They wait a minute and a half for terminals that nobody announces here.
    for unit in ["serial-getty@ttyS0.service", "getty@tty1.service"] {
        archive.link(&format!("/etc/systemd/system/{unit}"), "/dev/null")?;
    }
    // Without one this is a first boot, at which systemd asks questions on the console.
    archive.file("/etc/machine-id", 0o444, b"00000000000000000000000000000001\n")?;
    archive.file("/etc/hostname", 0o644, b"lab\n")?;
    Ok(())
}

/// A program with its libraries noted, or any other file.
fn program_file<W: std::io::Write>(
    archive: &mut Archive<W>,
    guest: &str,
    host: &Path,
    libraries: &mut BTreeSet<String>,
) -> Result<()> {
    archive.copy(guest, host)?;
    libraries.extend(self::libraries(host)?);
    Ok(())
}

/// The libraries that a file is linked with; none if it is no dynamic program.
fn libraries(file: &Path) -> Result<Vec<String>> {
    // Not by `process::capture`: ldd fails on what is not dynamic, which is no failure here.
    let output = process::command("ldd")
        .arg(file)
        .output()
        .context("cannot run ldd")?;
    if !output.status.success() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!(
            "{} would not start in the guest, for this machine lacks a library: {}",
            file.display(),
            line.trim()
        );
    }
    Ok(paths_in_ldd(&text))
}

/// `name => /path (address)` and, for the loader, `/path (address)`.
fn paths_in_ldd(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

/// The archive of the userland, made if the host's tools or the guest's scripts have changed.
fn tools(lab: &Path) -> Result<PathBuf> {
    let mut tools = Vec::new();
    for name in TOOLS.iter().chain(&["busybox"]) {
        let path = process::find(name).with_context(|| format!("no {name} for the guest on this machine"))?;
        tools.push((*name, fs::canonicalize(path)?));
    }
    let mut libraries = BTreeSet::new();
    for (_, path) in &tools {
        libraries.extend(self::libraries(path)?);
    }
    let mut state = Vec::new();
    for path in tools
        .iter()
        .map(|(_, path)| path.clone())
        .chain(libraries.iter().map(PathBuf::from))
    {
        let meta = fs::metadata(&path)?;
        state.push((path, meta.len(), meta.modified()?));
    }
    let path = lab.join(format!(
        "userland-{:016x}.cpio",
        archive::hash(&(state, THIS, guest::INIT, guest::SESSION, guest::PROFILE))
    ));
    if path.is_file() {
        return Ok(path);
    }
    step("gathering the guest's userland", || {
        write_userland(&tools, &libraries, &path)
    })?;
    Ok(path)
}

fn write_userland(tools: &[(&str, PathBuf)], libraries: &BTreeSet<String>, path: &Path) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut archive = Archive::new(BufWriter::new(File::create(&fresh)?));
    for folder in [
        "/dev",
        "/proc",
        "/sys",
        "/run",
        "/tmp",
        "/root",
        "/mnt",
        "/etc/iproute2",
        "/var",
    ] {
        archive.folder(folder)?;
    }
    archive.link("/var/run", "../run")?;
    archive.link("/lib/modules", modules::FOLDER)?;
    for (name, host) in tools {
        archive.copy(&format!("/usr/sbin/{name}"), host)?;
        if *name == "busybox" {
            let applets = process::capture(process::command("busybox").arg("--list"))?;
            for applet in applets.lines() {
                archive.link(&format!("/usr/lib/busybox/{applet}"), "/usr/sbin/busybox")?;
            }
        }
    }
    for name in KMOD {
        archive.link(&format!("/sbin/{name}"), "/usr/sbin/kmod")?;
    }
    for (link, to) in [
        ("/bin/sh", "bash"),
        ("/bin/bash", "bash"),
        ("/usr/bin/env", "busybox"),
    ] {
        archive.link(link, &format!("/usr/sbin/{to}"))?;
    }
    for library in libraries {
        archive.copy(library, Path::new(library))?;
    }
    for name in NAMES.iter().filter(|name| Path::new(name).is_file()) {
        archive.copy(name, Path::new(name))?;
    }
    archive.file(
        "/etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    )?;
    archive.file("/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    archive.file("/etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n")?;
    archive.file("/etc/profile", 0o644, guest::PROFILE.as_bytes())?;
    archive.file("/init", 0o755, guest::INIT.as_bytes())?;
    archive.file("/lab/session", 0o644, guest::SESSION.as_bytes())?;
    archive.finish()?;
    archive::replace(&fresh, path, "userland-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_libraries_are_found_in_what_ldd_prints() {
        let text =
            "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld-linux.so.2 (0x3)\n";
        assert_eq!(paths_in_ldd(text), ["/lib/libc.so.6", "/lib64/ld-linux.so.2"]);
    }
}
