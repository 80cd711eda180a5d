//! The guest's file system: archives one after another, which the kernel unpacks over each other.
//!
//! What takes long to make, a kernel's modules and a Debian, is cached. The userland, the programs under test and the
//! command are written anew for each run: finding out whether the host's tools have changed would take as long. None of
//! it is compressed: unpacking under emulation costs more than reading.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};

use super::{
    archive::Archive,
    cache, debian, guest, modules,
    run::{Run, Userland},
};
use crate::{process, workspace::Workspace};

/// Programs of the host that come before busybox's applets of the same names. The shell is among them
/// because busybox's own prefers its applets to whatever PATH says, and dd because it counts bytes.
const TOOLS: [&str; 8] = [
    "bash", "busybox", "dd", "ip", "ipvsadm", "kmod", "bpftool", "setpriv",
];
/// Folders that are mounted on, or that programs expect.
const FOLDERS: [&str; 9] = [
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/tmp",
    "/root",
    "/mnt",
    "/etc/iproute2",
    "/var",
];
/// Links. The names that kmod goes by are among them; the kernel itself calls /sbin/modprobe.
const LINKS: [(&str, &str); 10] = [
    ("/var/run", "../run"),
    ("/lib/modules", modules::FOLDER),
    ("/sbin/modprobe", "/usr/sbin/kmod"),
    ("/sbin/insmod", "/usr/sbin/kmod"),
    ("/sbin/rmmod", "/usr/sbin/kmod"),
    ("/sbin/lsmod", "/usr/sbin/kmod"),
    ("/sbin/modinfo", "/usr/sbin/kmod"),
    ("/bin/sh", "/usr/sbin/bash"),
    ("/bin/bash", "/usr/sbin/bash"),
    ("/usr/bin/env", "/usr/sbin/busybox"),
];
/// Small files.
const FILES: [(&str, &str); 5] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    ),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("/etc/profile", guest::PROFILE),
    ("/lab/session", guest::SESSION),
];
/// Files of the host that name protocols and ports, as ipvsadm prints them.
const NAMES: [&str; 2] = ["/etc/protocols", "/etc/services"];

/// Writes the initramfs of one run to `out`.
pub(crate) fn write(workspace: &Workspace, run: &Run, out: &Path) -> Result<()> {
    let lab = workspace.lab();
    let mut file = File::create(out).with_context(|| format!("cannot write {}", out.display()))?;
    // Held while they are read: another run may put newer ones in the place of these.
    let lock = cache::lock(&lab)?;
    let mut parts = vec![modules::packed(&run.kernel)?];
    if run.userland == Userland::Debian {
        parts.insert(0, debian::packed(&lab)?);
    }
    for part in parts {
        io::copy(&mut File::open(&part)?, &mut file)?;
    }
    drop(lock);
    let mut archive = Archive::new(BufWriter::new(file));
    archive.file("/lab/topology", 0o755, run.topology.script().as_bytes())?;
    if !run.command.is_empty() {
        archive.file("/lab/command", 0o755, guest::script(&run.command).as_bytes())?;
    }
    match run.userland {
        Userland::Debian => {
            // What is added brings no libraries: it is for this system.
            for added in &run.added {
                archive.copy(&added.guest, &added.host)?;
            }
            system(&mut archive)?;
        }
        Userland::Tools => {
            userland(&mut archive)?;
            let mut programs = Vec::new();
            for name in TOOLS {
                let path = process::find(name)
                    .with_context(|| format!("no {name} for the guest on this machine"))?;
                programs.push((path, format!("/usr/sbin/{name}")));
            }
            let program = workspace.program();
            if program.is_file() {
                programs.push((program, "/usr/local/bin/ipvs-observer".to_owned()));
            }
            programs.extend(
                run.added
                    .iter()
                    .map(|added| (added.host.clone(), added.guest.clone())),
            );
            let mut libraries = BTreeSet::new();
            for (host, guest) in programs {
                archive.copy(&guest, &host)?;
                libraries.extend(self::libraries(&host)?);
            }
            for library in libraries {
                archive.copy(&library, Path::new(&library))?;
            }
        }
    }
    archive.finish()?;
    Ok(())
}

/// What the guest has beside programs where it is no Debian.
fn userland<W: Write>(archive: &mut Archive<W>) -> Result<()> {
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    for (link, to) in LINKS {
        archive.link(link, to)?;
    }
    let applets = process::capture(process::command("busybox").arg("--list"))?;
    for applet in applets.lines() {
        archive.link(&format!("/usr/lib/busybox/{applet}"), "/usr/sbin/busybox")?;
    }
    for (path, content) in FILES {
        archive.file(path, 0o644, content.as_bytes())?;
    }
    for name in NAMES.iter().filter(|name| Path::new(name).is_file()) {
        archive.copy(name, Path::new(name))?;
    }
    archive.file("/init", 0o755, guest::INIT.as_bytes())?;
    Ok(())
}

/// What makes a Debian the lab's guest.
fn system<W: Write>(archive: &mut Archive<W>) -> Result<()> {
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
