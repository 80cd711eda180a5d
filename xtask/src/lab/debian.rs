//! A small Debian with systemd for the guest, made by mmdebstrap from the mirror that the lab's kernels come from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    cache,
    mirror::{self, BOOKWORM, Suites},
};
use crate::process;

/// The release that packages are made for.
const SUITES: Suites = BOOKWORM;
/// What the guest has beside Debian's essential packages.
const PACKAGES: &str = "systemd,kmod,passwd,iproute2,ipvsadm,procps,socat";
/// Takes away what nobody reads there: the archive is unpacked into the guest's memory at each boot.
const SLIM: &str =
    r#"rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/* "$1"/var/lib/apt/lists/*"#;

/// The archive of its files, made if it is not there. The caller holds the cache's lock.
pub(crate) fn packed(lab: &Path) -> Result<PathBuf> {
    let state = (SUITES, PACKAGES, SLIM);
    cache::archive(
        lab,
        "debian",
        state,
        "making a small Debian for the lab",
        |path| {
            let tar = lab.join("debian.tar");
            process::capture(
                process::command("mmdebstrap")
                    .args(["--quiet", "--variant=essential", "--include", PACKAGES])
                    .args(["--customize-hook", SLIM])
                    .arg(SUITES[1])
                    .arg(&tar)
                    .args(mirror::sources(SUITES)?),
            )?;
            // Ownership and devices stay in the archives, so nobody need be root.
            process::capture(
                process::command("bsdtar")
                    .args(["--format", "newc", "-cf"])
                    .arg(path)
                    .arg(format!("@{}", tar.display())),
            )?;
            Ok(fs::remove_file(tar)?)
        },
    )
}
