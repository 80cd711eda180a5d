//! The capabilities that this program has a use for, and why one is not there.

use std::{fs, os::unix::fs::MetadataExt};

use rustix::thread::CapabilitySet;

use super::thread;

/// A capability that this program has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Reading the IPVS table.
    NetAdmin,
    /// Loading BPF programs.
    Bpf,
    /// Attaching kprobes, and reading kernel memory from programs.
    Perfmon,
    /// Entering another network namespace; and performance events on kernels that ask for it.
    SysAdmin,
    /// Loading the module `ip_vs`.
    SysModule,
}

/// How to give one. A call of `setcap` takes away what it does not name.
macro_rules! remedy {
    ($name:literal, $file:literal) => {
        concat!(
            "systemd: AmbientCapabilities= and CapabilityBoundingSet= with CAP_",
            $name,
            "; file: setcap ",
            $file,
            "+ep; container: --cap-add ",
            $name,
            ", securityContext.capabilities.add: [",
            $name,
            "]"
        )
    };
}

impl Capability {
    /// The kernel's name for it: `CAP_…`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysModule => "CAP_SYS_MODULE",
        }
    }

    /// How to give it: in the words for systemd, for `setcap` and for a container.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NetAdmin => remedy!("NET_ADMIN", "cap_net_admin,cap_bpf,cap_perfmon"),
            Self::Bpf => remedy!("BPF", "cap_net_admin,cap_bpf,cap_perfmon"),
            Self::Perfmon => remedy!("PERFMON", "cap_net_admin,cap_bpf,cap_perfmon"),
            Self::SysAdmin => remedy!("SYS_ADMIN", "cap_net_admin,cap_bpf,cap_perfmon,cap_sys_admin"),
            Self::SysModule => remedy!("SYS_MODULE", "cap_net_admin,cap_bpf,cap_perfmon,cap_sys_module"),
        }
    }

    pub(super) fn set(self) -> CapabilitySet {
        match self {
            Self::NetAdmin => CapabilitySet::NET_ADMIN,
            Self::Bpf => CapabilitySet::BPF,
            Self::Perfmon => CapabilitySet::PERFMON,
            Self::SysAdmin => CapabilitySet::SYS_ADMIN,
            Self::SysModule => CapabilitySet::SYS_MODULE,
        }
    }

    /// Whether it is among some: `CAP_SYS_ADMIN` stands for those that were made from it.
    fn is_in(self, set: CapabilitySet) -> bool {
        let stands_for = matches!(self, Self::Bpf | Self::Perfmon) && set.contains(CapabilitySet::SYS_ADMIN);
        set.contains(self.set()) || stands_for
    }
}

/// Why a capability is of no use, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// A few words that stay the same while it lasts.
    pub text: String,
    /// What mends it.
    pub remedy: &'static str,
}

/// What a thread may do, as far as capabilities go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) effective: CapabilitySet,
    pub(super) bounding: CapabilitySet,
    /// Whether they are of the initial user namespace: none of what is wanted here counts in another.
    initial: bool,
}

impl Standing {
    /// The calling thread's, now.
    pub(super) fn now() -> Self {
        Self {
            effective: thread::effective(),
            bounding: thread::bounding(),
            initial: in_initial_user_namespace(),
        }
    }

    /// Why `capability` is of no use to this thread, which stood so at the `start`; none if it is of use.
    pub(super) fn want(self, capability: Capability, start: Self) -> Option<Want> {
        const ELSEWHERE: &str = "run it in the initial user namespace: as a service of the host, or in a container \
                                 with --userns=host or hostUsers: true; a rootless container cannot have it";
        let name = capability.name();
        let (text, remedy) = if capability.is_in(self.effective) {
            if self.initial {
                return None;
            }
            (
                format!("{name} is held in a user namespace, where it does not count"),
                ELSEWHERE,
            )
        } else if capability.is_in(start.effective) {
            (
                format!("{name} was given up once the probes were attached"),
                "start it again, or run it with --privileges reattach",
            )
        } else if !self.initial {
            (format!("{name} cannot be had in a user namespace"), ELSEWHERE)
        } else if start.bounding.contains(capability.set()) {
            (format!("{name} is not in effect"), capability.remedy())
        } else {
            (
                format!(
                    "{name} is not in effect (the service or container withholds it: not in the bounding set)"
                ),
                capability.remedy(),
            )
        };
        Some(Want { text, remedy })
    }
}

/// The initial one's inode number is fixed: `USER_NS_INIT_INO` of the kernel's `include/uapi/linux/nsfs.h`.
fn in_initial_user_namespace() -> bool {
    const INITIAL: u64 = 0xEFFF_FFFD;
    fs::metadata("/proc/thread-self/ns/user").map_or(true, |namespace| namespace.ino() == INITIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(effective: CapabilitySet, bounding: CapabilitySet, initial: bool) -> Standing {
        Standing {
            effective,
            bounding,
            initial,
        }
    }

    fn text(now: Standing, start: Standing) -> Option<String> {
        now.want(Capability::Bpf, start).map(|want| want.text)
    }

    #[test]
    fn a_capability_that_is_of_no_use_is_told_by_its_cause() {
        let (all, none) = (CapabilitySet::all(), CapabilitySet::empty());
        let whole = standing(all, all, true);
        assert_eq!(text(whole, whole), None);
        let plain = standing(none, all, true);
        assert_eq!(text(plain, plain).as_deref(), Some("CAP_BPF is not in effect"));
        let withheld = standing(none, none, true);
        assert!(text(withheld, withheld).is_some_and(|text| text.contains("bounding set")));
        assert!(text(withheld, whole).is_some_and(|text| text.contains("given up")));
        let rootless = standing(all, all, false);
        assert!(text(rootless, rootless).is_some_and(|text| text.contains("does not count")));
        let inside = standing(none, all, false);
        assert!(text(inside, inside).is_some_and(|text| text.contains("user namespace")));
    }

    #[test]
    fn the_older_capability_stands_for_those_made_from_it() {
        let admin = standing(CapabilitySet::SYS_ADMIN, CapabilitySet::all(), true);
        assert_eq!(admin.want(Capability::Bpf, admin), None);
        assert_eq!(admin.want(Capability::Perfmon, admin), None);
        assert!(admin.want(Capability::NetAdmin, admin).is_some());
    }

    #[test]
    fn each_remedy_has_the_words_for_systemd_for_a_file_and_for_a_container() {
        for capability in [
            Capability::NetAdmin,
            Capability::Bpf,
            Capability::Perfmon,
            Capability::SysAdmin,
            Capability::SysModule,
        ] {
            let (remedy, name) = (capability.remedy(), capability.name());
            let short = name.trim_start_matches("CAP_");
            for words in [
                format!("AmbientCapabilities= and CapabilityBoundingSet= with {name};"),
                format!("--cap-add {short}, securityContext.capabilities.add: [{short}]"),
            ] {
                assert!(remedy.contains(&words), "{remedy}");
            }
            // It takes away what it does not name.
            let file = remedy.split("setcap ").nth(1).expect("setcap");
            for all in ["cap_net_admin", "cap_bpf", "cap_perfmon", &name.to_lowercase()] {
                assert!(file.contains(all), "{remedy}");
            }
        }
    }
}
