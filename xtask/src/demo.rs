//! `demo`: the program's main job, seen in a real kernel: a cluster with traffic, gathered and traced.

use std::{io, process::ExitCode, time::Duration};

use anyhow::Result;

use crate::{
    build,
    lab::{guest::Topology, initramfs::Load, kernel, ports::Streams, qemu::Boot},
    needs::{self, Purpose},
    progress::say,
    workspace::Workspace,
};

/// What the guest does and shows.
const SCRIPT: &str = include_str!("demo.sh");
/// The kernel that it is shown on.
const KERNEL: &str = "6.12";
/// Far more than it takes.
const LIMIT: Duration = Duration::from_mins(5);

/// The verb.
pub(crate) fn show(args: needs::Install) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    needs::ensure(&workspace, &[Purpose::Build, Purpose::Lab], args)?;
    build::program(args)?;
    let series = KERNEL.parse().map_err(anyhow::Error::msg)?;
    let kernel = kernel::ensure(&workspace.lab(), &series, false)?;
    say(&format!("booting {} under emulation", kernel.version));
    let load = Load {
        topology: Topology::Basic,
        command: ["sh", "-euc", SCRIPT].map(str::to_owned).to_vec(),
        added: Vec::new(),
    };
    let streams = Streams {
        stdin: Box::new(io::empty()),
        ..Streams::own()
    };
    let status = Boot::new(kernel, LIMIT).run(&workspace, &load, streams, || {})?;
    Ok(ExitCode::from(status))
}
