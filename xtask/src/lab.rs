//! `lab`: a Debian kernel with IPVS, booted under emulation, and one command run in it as root.
//!
//! Nothing of the host is changed: kernels are unpacked into the build folder, the guest's whole file
//! system is an initramfs made for the run, and the guest has no network device.

mod archive;
mod cache;
mod debian;
pub(crate) mod emulator;
pub(crate) mod guest;
mod initramfs;
pub(crate) mod kernel;
pub(crate) mod mirror;
mod modules;
pub(crate) mod ports;
mod qemu;
pub(crate) mod run;
pub(crate) mod series;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    build,
    needs::{self, Purpose},
    progress,
    workspace::Workspace,
};
use guest::Topology;
use ports::Streams;
use run::{Added, Processors, Run, Userland};
use series::Series;

/// The kernels that `test` proves everything on.
const MATRIX: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7"];

/// The matrix as series.
pub(crate) fn matrix() -> Vec<Series> {
    MATRIX.iter().filter_map(|series| series.parse().ok()).collect()
}

/// `lab`'s arguments.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The kernel: a series as in `6.12`, or `7` for the newest 7.x
    #[arg(long, value_name = "SERIES", default_value_t = Series::usual())]
    kernel: Series,
    /// What is set up before the command: a director with a client and two real servers, or nothing at all
    #[arg(long, value_enum, default_value_t = Topology::Basic)]
    topology: Topology,
    /// What the guest's programs are: the host's tools, or a Debian with systemd as its first process
    #[arg(long, value_enum, default_value_t = Userland::Tools)]
    userland: Userland,
    /// A file to take along; into /root unless a path is given. A program brings its libraries
    #[arg(long, value_name = "HOSTFILE[:GUESTPATH]")]
    add: Vec<Added>,
    /// The guest's memory
    #[arg(long, value_name = "MIB", default_value_t = run::MEMORY)]
    memory: u32,
    /// End a run that takes longer, with what the console said
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Use /dev/kvm instead of emulation (it may be there and hang)
    #[arg(long)]
    kvm: bool,
    /// Let the guest's clock count instructions, one a nanosecond: measurements that any load leaves alone
    #[arg(long, conflicts_with = "kvm")]
    count_instructions: bool,
    /// Let the guest's two processors run at the same time, a thread each: what races shows sooner
    #[arg(long, conflicts_with_all = ["kvm", "count_instructions"])]
    side_by_side: bool,
    /// Take the program as it was last built, or none
    #[arg(long)]
    no_build: bool,
    /// Ask the mirror for the newest kernel of the series, even if one is cached
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    needs: needs::Install,
    /// The command, and its arguments; without one, a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    fn processors(&self) -> Processors {
        match (self.kvm, self.count_instructions, self.side_by_side) {
            (true, _, _) => Processors::Kvm,
            (_, true, _) => Processors::Counted,
            (_, _, true) => Processors::ThreadEach,
            _ => Processors::OneThread,
        }
    }
}

/// A tree with the program built, on a machine that has what the lab and `more` need.
pub(crate) fn ready(more: &[Purpose], install: needs::Install) -> Result<Workspace> {
    let workspace = Workspace::find()?;
    needs::ensure(
        &workspace,
        &[&[Purpose::Build, Purpose::Lab], more].concat(),
        install,
    )?;
    build::program(install)?;
    Ok(workspace)
}

/// The verb: builds, boots, runs; the command's exit is the task's.
pub(crate) fn command(args: &Args) -> Result<ExitCode> {
    let interactive = args.command.is_empty();
    if interactive && !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        bail!(
            "without a command the lab is a shell and needs a terminal: give one, as in `cargo xtask lab -- ipvsadm -ln`"
        );
    }
    let more: &[Purpose] = match args.userland {
        Userland::Tools => &[],
        Userland::Debian => &[Purpose::Debian],
    };
    let workspace = if args.no_build {
        let workspace = Workspace::find()?;
        needs::ensure(&workspace, &[&[Purpose::Lab], more].concat(), args.needs)?;
        workspace
    } else {
        ready(more, args.needs)?
    };
    let kernel = kernel::ensure(&workspace.lab(), &args.kernel, args.refresh)?;
    let run = Run {
        memory: args.memory,
        userland: args.userland,
        processors: args.processors(),
        topology: args.topology,
        added: args.add.clone(),
        ..Run::new(kernel, Duration::from_secs(args.timeout), &args.command)
    };
    if interactive {
        return run.shell(&workspace);
    }
    let spinner = io::stderr()
        .is_terminal()
        .then(|| progress::spinner(&format!("booting {}", run.kernel.version)));
    let started = move || {
        if let Some(spinner) = &spinner {
            spinner.finish_and_clear();
        }
    };
    let status = run.status(&workspace, Streams::own(), started)?;
    Ok(ExitCode::from(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_matrix_is_tested_and_the_usual_kernel_is_in_it() {
        assert_eq!(matrix().len(), MATRIX.len());
        assert!(matrix().contains(&Series::usual()));
    }
}
