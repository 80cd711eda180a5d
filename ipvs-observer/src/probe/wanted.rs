//! What the caller wants of the probes, as plain values.

use std::{ops::BitOr, path::PathBuf};

use ipvs_observer_common::control::{self, Control, NAMESPACES};

use super::{Asked, Occasions, Sizes};
use crate::model::Netns;

/// Which probes are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProbeMode {
    /// Whatever this kernel allows.
    #[default]
    Auto,
    /// All of them: the caller fails if [`Availability::complete`] is false.
    On,
    /// None: netlink only.
    Off,
}

/// What the caller wants of the probes.
#[derive(Clone, Debug, Default)]
pub struct ProbeSettings {
    /// Which probes are wanted.
    pub mode: ProbeMode,
    /// Where BTF is read from, if not from the running kernel: a folder laid out as `/sys/kernel/btf`.
    pub btf: Option<PathBuf>,
    /// How large the maps are.
    pub sizes: Sizes,
    /// The namespaces observed; all of them if empty, or more than the programs have room for: what comes from
    /// them names its namespace.
    pub namespaces: Vec<Netns>,
    /// What leaves the kernel as it happens.
    pub tell: Tell,
    /// Of these, what is asked for.
    pub asked: Asked,
    /// How many refusals and drops of a namespace and interval leave the kernel where `tell` has not all of them: so
    /// many firsts of a service and reason, and so many others.
    pub refusals: u32,
    /// For what probes are attached beside what is so at the moment.
    pub occasions: Occasions,
}

/// What leaves the kernel as it happens, beside the counters: a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tell(u32);

impl Default for Tell {
    /// Configuration changes, which whoever reads counters wants too.
    fn default() -> Self {
        Self::CHANGES
    }
}

impl Tell {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// Configuration changes.
    pub const CHANGES: Self = Self(control::CHANGES);
    /// Every scheduling decision.
    pub const DECISIONS: Self = Self(control::DECISIONS);
    /// What the scheduler had before it at each.
    pub const CANDIDATES: Self = Self(control::CANDIDATES);
    /// Packets dropped before and after the scheduler.
    pub const DROPS: Self = Self(control::DROPS);
    /// Ends of connections.
    pub const ENDS: Self = Self(control::ENDS);

    /// As the programs are told.
    pub(super) fn events(self) -> u32 {
        self.0
    }

    /// Whether something of another set is in it.
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Tell {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Orders that these namespaces are observed, as [`ProbeSettings::namespaces`] has it.
pub(super) fn observe(control: &mut Control, namespaces: &[Netns]) {
    control.netns = [0; NAMESPACES];
    control.namespaces = 0;
    if namespaces.len() <= NAMESPACES {
        for (place, netns) in control.netns.iter_mut().zip(namespaces) {
            *place = netns.0;
        }
        control.namespaces = namespaces.len() as u32;
    }
}
