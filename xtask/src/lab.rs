//! `lab`: a Debian kernel with IPVS, booted under emulation, and one command run in it as root.
//!
//! Nothing of the host is changed: kernels are unpacked into the build folder, the guest's whole file
//! system is an initramfs made for the run, and the guest has no network device.

mod archive;
mod debian;
pub(crate) mod emulator;
pub(crate) mod guest;
pub(crate) mod initramfs;
pub(crate) mod kernel;
pub(crate) mod mirror;
mod modules;
pub(crate) mod ports;
pub(crate) mod qemu;
pub(crate) mod series;
mod sources;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
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
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    kernel: Series,
    /// What is set up before the command: a director with a client and two real servers, or nothing at all
    #[arg(long, value_enum, default_value_t = Topology::Basic)]
    topology: Topology,
    /// What the guest's programs are: the host's tools, or a Debian with systemd as its first process
    #[arg(long, value_enum, default_value_t = initramfs::Userland::Tools)]
    userland: initramfs::Userland,
    /// A file to take along; into /root unless a path is given. A program brings its libraries
    #[arg(long, value_name = "HOSTFILE[:GUESTPATH]")]
    add: Vec<Added>,
    /// The guest's memory
    #[arg(long, value_name = "MIB", default_value_t = 1500)]
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

/// A file of the host and where the guest has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    /// The file on the host.
    pub(crate) host: PathBuf,
    /// Its absolute path in the guest.
    pub(crate) guest: String,
}

impl FromStr for Added {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, guest) = match text.rsplit_once(':') {
            Some((host, guest)) => (host, guest.to_owned()),
            None => (text, String::new()),
        };
        let host = PathBuf::from(host);
        let name = host.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name else {
            return Err(format!("`{text}` names no file"));
        };
        let guest = match guest.as_str() {
            "" => format!("/root/{name}"),
            path if !path.starts_with('/') => {
                return Err(format!(
                    "the guest's path must be absolute, as in {name}:/root/{name}"
                ));
            }
            path if path.ends_with('/') => format!("{path}{name}"),
            path => path.to_owned(),
        };
        Ok(Self { host, guest })
    }
}

/// The verb: builds, boots, runs; the command's exit is the task's.
pub(crate) fn command(args: &Args) -> Result<ExitCode> {
    let interactive = args.command.is_empty();
    if interactive && !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        bail!(
            "without a command the lab is a shell and needs a terminal: give one, as in `cargo xtask lab -- ipvsadm -ln`"
        );
    }
    let workspace = Workspace::find()?;
    let mut purposes = vec![Purpose::Lab];
    if args.userland == initramfs::Userland::Debian {
        purposes.push(Purpose::Debian);
    }
    needs::ensure(&workspace, &purposes, args.needs)?;
    if !args.no_build {
        build::program(args.needs)?;
    }
    let kernel = kernel::ensure(&workspace.lab(), &args.kernel, args.refresh)?;
    let boot = qemu::Boot {
        memory: args.memory,
        userland: args.userland,
        processors: if args.kvm {
            qemu::Processors::Kvm
        } else if args.count_instructions {
            qemu::Processors::Counted
        } else if args.side_by_side {
            qemu::Processors::ThreadEach
        } else {
            qemu::Processors::OneThread
        },
        ..qemu::Boot::new(kernel, Duration::from_secs(args.timeout))
    };
    let load = initramfs::Load {
        topology: args.topology,
        command: args.command.clone(),
        added: args.add.clone(),
    };
    if interactive {
        return boot.shell(&workspace, &load);
    }
    let spinner = io::stderr()
        .is_terminal()
        .then(|| progress::spinner(&format!("booting {}", boot.kernel.version)));
    let started = move || {
        if let Some(spinner) = &spinner {
            spinner.finish_and_clear();
        }
    };
    let status = boot.run(&workspace, &load, ports::Streams::own(), started)?;
    Ok(ExitCode::from(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> (String, String) {
        let added: Added = text.parse().unwrap();
        (added.host.display().to_string(), added.guest)
    }

    #[test]
    fn an_added_file_goes_to_roots_home_or_where_it_is_told() {
        assert_eq!(added("a/b.txt"), ("a/b.txt".into(), "/root/b.txt".into()));
        assert_eq!(added("a/b:/usr/bin/c"), ("a/b".into(), "/usr/bin/c".into()));
        assert_eq!(added("a/b:/tmp/"), ("a/b".into(), "/tmp/b".into()));
    }

    #[test]
    fn the_whole_matrix_is_tested() {
        assert_eq!(matrix().len(), MATRIX.len());
    }

    #[test]
    fn a_relative_path_in_the_guest_is_refused_with_an_example() {
        let error = "a/b:c".parse::<Added>().unwrap_err();
        assert!(error.contains("b:/root/b"), "{error}");
    }
}
