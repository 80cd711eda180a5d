//! The packages, tried: lived with on a Debian with systemd, in the lab.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    lab::{
        kernel,
        ports::Streams,
        run::{Run, Userland},
        series::Series,
    },
    process,
    workspace::Workspace,
};

const SCRIPT: &str = include_str!("package/life.sh");
const LIMIT: Duration = Duration::from_mins(10);

/// Goes with the Debian package and the tarball through everything that a machine does to them.
pub(crate) fn live(workspace: &Workspace, deb: &Path, tarball: &Path) -> Result<()> {
    let folder = workspace.target.join("dist-tree");
    let script = folder.join("life.sh");
    fs::write(&script, SCRIPT)?;
    let program = unpacked(tarball, &folder)?;
    let kernel = kernel::ensure(&workspace.lab(), &Series::usual(), false)?;
    let command = ["bash", "/root/life.sh", "/root/package.deb", "/root/static"];
    let run = Run {
        userland: Userland::Debian,
        ..Run::new(kernel, LIMIT, &command)
            .add(&script, "/root/life.sh")
            .add(deb, "/root/package.deb")
            .add(&program, "/root/static")
    };
    run.succeed(workspace, Streams::output(), "the package's life")
}

/// The program of the tarball, as it comes out of it.
fn unpacked(tarball: &Path, folder: &Path) -> Result<PathBuf> {
    let name = tarball
        .file_name()
        .context("the tarball has no name")?
        .to_string_lossy();
    let name = name
        .strip_suffix(".tar.gz")
        .context("the tarball is no .tar.gz")?;
    let into = folder.join("unpacked");
    let _ = fs::remove_dir_all(&into);
    fs::create_dir_all(&into)?;
    process::capture(Command::new("tar").arg("-xzf").arg(tarball).arg("-C").arg(&into))?;
    Ok(into.join(name).join("ipvs-observer"))
}
