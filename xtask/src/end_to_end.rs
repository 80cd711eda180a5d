//! The whole way once: a cluster with traffic in the lab, `collect` writing to a socket there, and on this machine a
//! real InfluxDB that gets those lines and answers the dashboard's queries.
//!
//! Two programs of the program's package do it, `tests/end_to_end/cluster.rs` in the guest and `main.rs` here. This
//! file carries what the one says to the other, unchanged, and knows nothing of what is in it.

use std::{
    fs::{self, File},
    io,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    build, kernel_tests,
    lab::{
        self, Added, guest::Topology, initramfs::Load, kernel, ports::Streams, qemu::Boot, series::Series,
    },
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
    let workspace = Workspace::find()?;
    needs::ensure(&workspace, &[Purpose::Build, Purpose::Lab, Purpose::Test], args)?;
    build::program(args)?;
    let kernels = lab::matrix();
    let series = kernel_of(&kernels).context("the matrix has no kernel for it")?;
    run(&workspace, series, LIMIT)?;
    Ok(ExitCode::SUCCESS)
}

/// The kernel that it is done on, if it is among these: one is enough, for the kernel tests hold every number on each.
pub(crate) fn kernel_of(kernels: &[Series]) -> Option<&Series> {
    kernels.iter().find(|series| series.is(6, 12))
}

/// Makes the run and judges it. The run's file stays, to look into and to judge again.
pub(crate) fn run(workspace: &Workspace, series: &Series, limit: Duration) -> Result<()> {
    let cluster = kernel_tests::compile(workspace, "test", "cluster")?;
    let kernel = kernel::ensure(&workspace.lab(), series, false)?;
    let folder = workspace.target.join("end-to-end");
    fs::create_dir_all(&folder)?;
    let path = folder.join("run");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let load = Load {
        topology: Topology::Empty,
        command: vec![GUEST_PATH.to_owned()],
        added: vec![Added {
            host: cluster,
            guest: GUEST_PATH.to_owned(),
        }],
    };
    let streams = Streams {
        stdin: Box::new(io::empty()),
        stdout: Box::new(file),
        stderr: Box::new(io::stderr()),
    };
    let status = Boot::new(kernel, limit).run(workspace, &load, streams, || {})?;
    if status != 0 {
        bail!("the cluster in the lab ended with status {status}: its last words are above");
    }
    let mut cargo = workspace.cargo();
    cargo
        .env("IPVS_OBSERVER_LAB_RUN", &path)
        .args(["test", "-p", "ipvs-observer", "--test", "end_to_end"])
        .args(["--", "--include-ignored"]);
    process::run(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_the_kernel_that_it_is_done_on() {
        assert!(kernel_of(&lab::matrix()).is_some());
        assert!(kernel_of(&["6.12.117".parse().unwrap()]).is_some());
        assert!(kernel_of(&["6.1".parse().unwrap()]).is_none());
    }
}
