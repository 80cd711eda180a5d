//! A run in the lab as plain data: which machine, what it brings along and what it does. `qemu` makes it happen.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use super::{guest::Topology, kernel::Kernel};

/// A machine to boot, and the command it is booted for.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) kernel: Kernel,
    pub(crate) userland: Userland,
    /// MiB.
    pub(crate) memory: u32,
    pub(crate) processors: Processors,
    /// From the start of qemu to the command's end.
    pub(crate) limit: Duration,
    /// What is set up before the command.
    pub(crate) topology: Topology,
    /// The command; empty for a shell.
    pub(crate) command: Vec<String>,
    /// Files from the host.
    pub(crate) added: Vec<Added>,
}

impl Run {
    /// An emulated machine of the usual size on which nothing is set up.
    pub(crate) fn new<W: ToString>(kernel: Kernel, limit: Duration, command: &[W]) -> Self {
        Self {
            kernel,
            userland: Userland::Tools,
            memory: MEMORY,
            processors: Processors::OneThread,
            limit,
            topology: Topology::Empty,
            command: command.iter().map(ToString::to_string).collect(),
            added: Vec::new(),
        }
    }

    /// With a file of the host in it.
    pub(crate) fn add(mut self, host: &Path, guest: &str) -> Self {
        self.added.push(Added {
            host: host.to_owned(),
            guest: guest.to_owned(),
        });
        self
    }
}

/// MiB of the usual guest.
pub(crate) const MEMORY: u32 = 1500;

/// The programs of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Userland {
    /// The host's own tools and busybox, and the program under test.
    Tools,
    /// A Debian of its own, with systemd as the first process.
    Debian,
}

/// What runs the guest's two processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processors {
    /// The host's own, by /dev/kvm.
    Kvm,
    /// One thread that emulates both, in turn: two guests beside each other then share the host's processors evenly, and
    /// no test depends on how many there are.
    OneThread,
    /// The same, and the guest's clock counts its instructions.
    Counted,
    /// A thread each, so that they run at the same time. Under qemu 7.2 one boot in ten died of a stale instruction where
    /// the other processor had just patched kernel code; of 29 under this one none did, with probes attached and taken
    /// away.
    ThreadEach,
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
        let (host, guest) = text.rsplit_once(':').unwrap_or((text, ""));
        let host = PathBuf::from(host);
        let name = host.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name else {
            return Err(format!("`{text}` names no file"));
        };
        let guest = match guest {
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
    fn a_relative_path_in_the_guest_is_refused_with_an_example() {
        let error = "a/b:c".parse::<Added>().unwrap_err();
        assert!(error.contains("b:/root/b"), "{error}");
    }
}
