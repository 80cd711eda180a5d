//! Why something of the probes does not work, with what mends it.

use std::{error::Error, io};

use rustix::io::Errno;

/// A reason and its remedy, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    /// What is the matter.
    pub(super) text: String,
    /// What mends it.
    pub(super) remedy: &'static str,
}

impl Reason {
    /// IPVS is not there.
    pub(super) fn module_absent() -> Self {
        Self {
            text: "the module ip_vs is not loaded".into(),
            remedy: "load it (`modprobe ip_vs`, or start with --load-module)",
        }
    }

    /// Reads the reason from what loading the object or a program came to.
    pub(super) fn of_loading(error: &(dyn Error + 'static)) -> Self {
        match errno(error) {
            Some(Errno::PERM | Errno::ACCESS) => Self {
                text: "not permitted to load BPF programs".into(),
                remedy: "run as root, or with CAP_BPF and CAP_PERFMON, and with kernel lockdown not at confidentiality",
            },
            Some(Errno::NOSYS) => Self {
                text: "this kernel has no BPF".into(),
                remedy: "use a kernel with CONFIG_BPF_SYSCALL",
            },
            Some(Errno::NOMEM) => Self {
                text: "no memory for the maps".into(),
                remedy: "raise the memory limit of this service, or lower the number of services and destinations watched",
            },
            _ => Self {
                text: format!("the kernel refused the programs: {}", first_line(error)),
                remedy: "report this with the kernel's version",
            },
        }
    }

    /// Reads the reason from what attaching a probe to `function` came to.
    pub(super) fn of_attaching(function: &str, error: &(dyn Error + 'static)) -> Self {
        if mentions_missing_pmu(error) {
            return Self {
                text: "this kernel has no kprobes".into(),
                remedy: "use a kernel with CONFIG_KPROBES and CONFIG_KPROBE_EVENTS",
            };
        }
        match errno(error) {
            Some(Errno::PERM | Errno::ACCESS) => Self {
                text: "not permitted to attach kprobes".into(),
                remedy: "run as root, or with CAP_PERFMON; kernel.perf_event_paranoid and lockdown may forbid it too",
            },
            Some(Errno::NOENT) => Self {
                text: format!("this kernel has no function {function}"),
                remedy: "none: the compiler or the kernel's version left it out",
            },
            Some(Errno::ADDRNOTAVAIL) => Self {
                text: format!("this kernel has more than one function {function}"),
                remedy: "none: a probe cannot tell them apart",
            },
            Some(Errno::INVAL | Errno::OPNOTSUPP) => Self {
                text: format!("{function} cannot be probed on this kernel"),
                remedy: "none: the kernel excludes it",
            },
            _ => Self {
                text: format!("attaching to {function}: {}", first_line(error)),
                remedy: "report this with the kernel's version",
            },
        }
    }
}

fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().and_then(Errno::from_io_error))
}

/// The kind of perf event is itself a file in sysfs, absent in a kernel without kprobes.
fn mentions_missing_pmu(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        matches!(
            cause.downcast_ref::<aya::programs::kprobe::KProbeError>(),
            Some(aya::programs::kprobe::KProbeError::FileError { .. })
        )
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// The innermost cause's first line: outer ones may carry a verifier log of a thousand.
fn first_line(error: &(dyn Error + 'static)) -> String {
    let innermost = causes(error).last().unwrap_or(error).to_string();
    innermost.lines().next().unwrap_or_default().to_owned()
}
