//! The emulator: Debian's qemu with every library that it is linked with, unpacked below the build folder and never
//! installed.
//!
//! Not the host's own: installing it would at times take another package away (a newer qemu-utils excludes it), and
//! what a guest does at its emulator's fault should be the same on every machine.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{
    cache,
    mirror::{self, Apt, TRIXIE},
};
use crate::{process, progress::step};

const PACKAGE: &str = "qemu-system-x86";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
/// Where it has its firmware.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// The emulator in the cache.
pub(crate) struct Emulator {
    folder: PathBuf,
}

impl Emulator {
    /// The words that start it, before those that say what to emulate.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let path = |part: &str| self.folder.join(part).into_os_string();
        // Its own loader, because its libraries are newer than the host's may be.
        let mut words = vec![
            path(LOADER),
            "--library-path".into(),
            path(LIBRARIES),
            path(PROGRAM),
        ];
        for firmware in FIRMWARE {
            words.extend(["-L".into(), path(firmware)]);
        }
        words
    }

    /// What it says of its version: one line.
    pub(crate) fn version(&self) -> Result<String> {
        let words = self.words();
        let said = process::capture(Command::new(&words[0]).args(&words[1..]).arg("--version"))?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }
}

/// The emulator: from the cache, or fetched if it is not there.
pub(crate) fn ensure(lab: &Path) -> Result<Emulator> {
    let _lock = cache::lock(lab)?;
    let emulator = Emulator {
        folder: lab.join(format!("{PACKAGE}-{}", TRIXIE[1])),
    };
    // It is renamed to this only when all of it is there.
    if !emulator.folder.is_dir() {
        step("fetching Debian's qemu for the lab", || {
            fetch(lab, &emulator.folder)
        })
        .context("no emulator for the lab can be had")?;
    }
    Ok(emulator)
}

fn fetch(lab: &Path, folder: &Path) -> Result<()> {
    let fresh = folder.with_extension("new");
    let packages = folder.with_extension("packages");
    for old in [&fresh, &packages] {
        let _ = fs::remove_dir_all(old);
    }
    let apt = Apt::new(lab, TRIXIE)?;
    apt.update()?;
    apt.download_with_dependencies(PACKAGE, &packages)?;
    mirror::unpack(&packages, &fresh)?;
    fs::remove_dir_all(&packages)?;
    for part in [LOADER, PROGRAM].iter().chain(&FIRMWARE) {
        if !fresh.join(part).exists() {
            bail!("Debian's {PACKAGE} and what it depends on hold no /{part}: their layout is new");
        }
    }
    fs::rename(fresh, folder)?;
    Ok(())
}
