//! `demo`: the program's main job, seen in a real kernel: a cluster with traffic, gathered and traced.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use crate::{
    lab::{self, guest::Topology, kernel, ports::Streams, run::Run, series::Series},
    needs,
    progress::say,
};

/// What the guest does and shows.
const SCRIPT: &str = include_str!("demo.sh");
/// Far more than it takes.
const LIMIT: Duration = Duration::from_mins(5);

/// The verb.
pub(crate) fn show(args: needs::Install) -> Result<ExitCode> {
    let workspace = lab::ready(&[], args)?;
    let kernel = kernel::ensure(&workspace.lab(), &Series::usual(), false)?;
    say(&format!("booting {} under emulation", kernel.version));
    let run = Run {
        topology: Topology::Basic,
        ..Run::new(kernel, LIMIT, &["sh", "-euc", SCRIPT])
    };
    Ok(ExitCode::from(run.status(
        &workspace,
        Streams::output(),
        || {},
    )?))
}
