//! Why something of the probes does not work, with what mends it.

use std::{error::Error, io};

use aya::programs::{ProgramError, kprobe::KProbeError};
use rustix::io::Errno;

use super::btf::SourceError;
use crate::{
    module,
    privilege::{self, Capability},
    system::{self, Lockdown},
};

/// A reason and its remedy, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    /// What is the matter.
    pub(super) text: String,
    /// What mends it.
    pub(super) remedy: &'static str,
    /// Whether what is missing is not there at all.
    absent: bool,
}

/// What opens performance events where the setting closes them, or may close them, to `CAP_PERFMON`.
pub(crate) const EVENTS_CLOSED: &str = "give CAP_PERFMON, and sysctl kernel.perf_event_paranoid=2, the default of \
    most kernels, at which it is sufficient; or give CAP_SYS_ADMIN, which is much more (systemd: \
    AmbientCapabilities= and CapabilityBoundingSet=; container: --cap-add SYS_ADMIN)";
/// From this level of `kernel.perf_event_paranoid` on, kernels of some distributions want `CAP_SYS_ADMIN`; the others
/// know no such level.
pub(crate) const EVENTS_MAY_BE_CLOSED: i32 = 3;
const REPORT: &str = "report this with the kernel's version";

impl Reason {
    fn new(text: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            text: text.into(),
            remedy,
            absent: false,
        }
    }

    /// IPVS is not there.
    pub(super) fn module_absent() -> Self {
        Self::new("the module ip_vs is not loaded", module::remedy())
    }

    /// There is no layout of IPVS.
    pub(super) fn no_btf(error: &SourceError) -> Self {
        Self::new(
            error.to_string(),
            "use a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_DEBUG_INFO_BTF_MODULES, or name a folder with \
             this kernel's BTF (--btf)",
        )
    }

    /// A structure of the kernel is not what it was.
    pub(super) fn no_member(member: &str) -> Self {
        Self::new(
            format!("this kernel has no {member}"),
            "look for a newer version of this program",
        )
    }

    /// The object and the program do not belong together.
    pub(super) fn no_program(name: &str) -> Self {
        Self::new(
            format!("the object has no program {name}"),
            "build the program and its object from the same sources",
        )
    }

    /// Reads the reason from what loading the object or a program came to.
    pub(super) fn of_loading(error: &(dyn Error + 'static)) -> Self {
        if let Some(words) = verifier(error) {
            return Self::new(
                format!("the kernel's verifier refused a program: {words}"),
                REPORT,
            );
        }
        match errno(error) {
            Some(Errno::PERM | Errno::ACCESS) => Self::not_permitted(
                "not permitted to load BPF programs",
                &[Capability::Bpf, Capability::Perfmon],
                locked_memory,
            ),
            Some(Errno::NOSYS) => Self::new("this kernel has no BPF", "use a kernel with CONFIG_BPF_SYSCALL"),
            Some(Errno::NOMEM) => Self::new(
                "no memory for the maps",
                "raise the memory limit of this service, or watch fewer services and destinations",
            ),
            _ => Self::new(
                format!("the kernel refused the programs: {}", first_line(error)),
                REPORT,
            ),
        }
    }

    /// Reads the reason from what attaching a probe to `function` came to.
    pub(super) fn of_attaching(function: &str, error: &(dyn Error + 'static)) -> Self {
        // The kind of perf event is itself a file in sysfs, absent in a kernel without kprobes.
        let no_kprobes = causes(error).any(|cause| {
            matches!(
                cause.downcast_ref::<KProbeError>(),
                Some(KProbeError::FileError { .. })
            )
        });
        if no_kprobes {
            return Self::new(
                "this kernel has no kprobes",
                "use a kernel with CONFIG_KPROBES and CONFIG_KPROBE_EVENTS",
            );
        }
        match errno(error) {
            Some(Errno::PERM | Errno::ACCESS) => Self::not_permitted(
                "not permitted to attach kprobes",
                &[Capability::Perfmon],
                closed_events,
            ),
            Some(Errno::NOENT) => Self {
                absent: true,
                ..Self::new(
                    format!("this kernel has no function {function}"),
                    "none: this version of the kernel does without it, or the compiler left it out",
                )
            },
            Some(Errno::ADDRNOTAVAIL) => Self::new(
                format!("this kernel has more than one function {function}"),
                "none: a probe cannot tell them apart",
            ),
            Some(Errno::INVAL | Errno::OPNOTSUPP) => Self::new(
                format!("{function} cannot be probed on this kernel"),
                "none: the kernel excludes it",
            ),
            _ => Self::new(format!("attaching to {function}: {}", first_line(error)), REPORT),
        }
    }

    /// Reads the reason from what else could forbid it: the first capability that is of no use, lockdown, and
    /// what is peculiar to it, with its remedy.
    fn not_permitted(
        what: &str,
        capabilities: &[Capability],
        peculiar: impl FnOnce() -> Option<(String, &'static str)>,
    ) -> Self {
        let want = capabilities
            .iter()
            .find_map(|&capability| privilege::want(capability));
        let (why, remedy) = if let Some(want) = want {
            (want.text, want.remedy)
        } else if system::lockdown() == Lockdown::Confidentiality {
            (
                "kernel lockdown is at confidentiality".to_owned(),
                "boot with lockdown=integrity, or do without",
            )
        } else {
            peculiar().unwrap_or_else(|| {
                (
                    "the kernel gives no reason".to_owned(),
                    "look at what else may forbid it: a seccomp profile, SELinux or AppArmor",
                )
            })
        };
        Self::new(format!("{what}: {why}"), remedy)
    }

    /// Whether it is that the kernel has no such function.
    pub(super) fn is_absence(&self) -> bool {
        self.absent
    }
}

/// Kernels before 5.11 take maps from the locked memory, and say no more than that it is not permitted.
fn locked_memory() -> Option<(String, &'static str)> {
    let limit = system::memlock()?;
    Some((
        format!(
            "the kernel gives no reason; before Linux 5.11 it may be the limit of locked memory, here {} KiB",
            limit / 1024
        ),
        "raise the limit (systemd: LimitMEMLOCK=infinity; a shell: ulimit -l unlimited; a container: --ulimit \
         memlock=-1), or look at what else may forbid it: a seccomp profile, SELinux or AppArmor",
    ))
}

/// Kernels of some distributions know a level at which `CAP_PERFMON` is not enough.
fn closed_events() -> Option<(String, &'static str)> {
    let level = system::perf_event_paranoid()?;
    system::performance_events().err()?;
    Some((
        format!("kernel.perf_event_paranoid is {level}, at which this kernel wants CAP_SYS_ADMIN"),
        EVENTS_CLOSED,
    ))
}

fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().and_then(Errno::from_io_error))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// The innermost cause's first line: outer ones may carry a verifier log of a thousand.
/// The verifier's last words on a program that it refused, before its account of the work.
fn verifier(error: &(dyn Error + 'static)) -> Option<String> {
    let log = causes(error).find_map(|cause| match cause.downcast_ref() {
        Some(ProgramError::LoadError { verifier_log, .. }) => Some(verifier_log.to_string()),
        _ => None,
    })?;
    let mut lines = log.lines().rev().map(str::trim);
    let last = lines.find(|line| {
        let account = ["processed ", "stack depth ", "verification time "];
        !line.is_empty() && !account.iter().any(|word| line.starts_with(word))
    });
    last.map(str::to_owned)
}

fn first_line(error: &(dyn Error + 'static)) -> String {
    let innermost = causes(error).last().unwrap_or(error).to_string();
    innermost.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::Reason;

    #[test]
    fn a_missing_privilege_is_told_from_a_missing_function() {
        let permission = io::Error::from(io::ErrorKind::PermissionDenied);
        let raw = |errno: rustix::io::Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        assert!(
            Reason::of_attaching("f", &raw(rustix::io::Errno::ACCESS))
                .text
                .contains("not permitted")
        );
        assert!(Reason::of_attaching("f", &raw(rustix::io::Errno::NOENT)).is_absence());
        assert!(!Reason::of_attaching("f", &permission).is_absence());
    }
}
