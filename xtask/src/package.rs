//! The packages, tried: lived with on a Debian with systemd, in the lab.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    dist::Packages,
    lab::{
        Added,
        guest::Topology,
        initramfs::{Load, Userland},
        kernel,
        ports::Streams,
        qemu::Boot,
    },
    needs::{self, Purpose},
    process,
    workspace::Workspace,
};

/// Debian 12 has it in its backports.
pub(crate) const KERNEL: &str = "6.12";
const SCRIPT: &str = include_str!("package/life.sh");
const LIMIT: Duration = Duration::from_mins(10);

/// Goes with the packages through everything that a machine does to them.
pub(crate) fn live(packages: &Packages, args: needs::Install) -> Result<()> {
    let workspace = Workspace::find()?;
    needs::ensure(&workspace, &[Purpose::Lab, Purpose::Debian], args)?;
    let folder = workspace.target.join("dist-tree");
    let script = folder.join("life.sh");
    fs::write(&script, SCRIPT)?;
    let program = unpacked(&packages.tarball, &folder)?;
    let kernel = kernel::ensure(
        &workspace.lab(),
        &KERNEL.parse().map_err(anyhow::Error::msg)?,
        false,
    )?;
    let load = Load {
        topology: Topology::Empty,
        command: ["bash", "/root/life.sh", "/root/package.deb", "/root/static"]
            .map(str::to_owned)
            .to_vec(),
        added: [
            (&script, "/root/life.sh"),
            (&packages.deb, "/root/package.deb"),
            (&program, "/root/static"),
        ]
        .map(|(host, guest)| Added {
            host: host.clone(),
            guest: guest.to_owned(),
        })
        .to_vec(),
    };
    let streams = Streams {
        stdin: Box::new(io::empty()),
        ..Streams::own()
    };
    let boot = Boot {
        userland: Userland::Debian,
        ..Boot::new(kernel, LIMIT)
    };
    match boot.run(&workspace, &load, streams, || {})? {
        0 => Ok(()),
        status => bail!("the package's life ended with status {status}"),
    }
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
