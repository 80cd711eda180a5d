//! The whole way once: a cluster with traffic in the lab, `collect` writing to a socket there, and on this machine a
//! real InfluxDB that gets those lines and answers the dashboard's queries.
//!
//! Two programs of the program's package do it, `tests/end_to_end/cluster.rs` in the guest and `main.rs` here. This
//! file carries what the one says to the other, unchanged, and knows nothing of what is in it.

use std::{
    fs::{self, File},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    build,
    lab::{self, kernel, ports::Streams, run::Run, series::Series},
    needs::{self, Purpose},
    process,
    workspace::Workspace,
};

/// Where the guest has its program.
const GUEST_PATH: &str = "/usr/local/bin/cluster";
/// Far more than it takes.
const LIMIT: Duration = Duration::from_mins(10);

/// The verb: this alone.
pub(crate) fn alone(args: needs::Install) -> Result<ExitCode> {
    let workspace = lab::ready(&[Purpose::Test], args)?;
    run(&workspace, &Series::usual(), LIMIT)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the run and judges it. One kernel is enough, for the kernel tests hold every number on each. The run's file
/// stays, to look into and to judge again.
pub(crate) fn run(workspace: &Workspace, series: &Series, limit: Duration) -> Result<()> {
    let cluster = build::for_lab(workspace, "test", "cluster")?;
    let kernel = kernel::ensure(&workspace.lab(), series, false)?;
    let folder = workspace.target.join("end-to-end");
    fs::create_dir_all(&folder)?;
    let path = folder.join("run");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let streams = Streams {
        stdout: Box::new(file),
        ..Streams::output()
    };
    Run::new(kernel, limit, &[GUEST_PATH])
        .add(&cluster, GUEST_PATH)
        .succeed(workspace, streams, "the cluster in the lab")
        .context("its last words are above")?;
    let mut cargo = workspace.cargo();
    cargo
        .env("IPVS_OBSERVER_LAB_RUN", &path)
        .args(["test", "-p", "ipvs-observer", "--test", "end_to_end"])
        .args(["--", "--include-ignored"]);
    process::run(&mut cargo)
}
