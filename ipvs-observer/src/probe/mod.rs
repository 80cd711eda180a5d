//! The eBPF edge: what the scheduler does, seen by probes.
//!
//! Owns: everything that talks to BPF, kprobes and BTF, and turns what they give into plain values of the
//! model. Refuses to know: netlink, shares, measurements, outputs. What this kernel or these privileges do not
//! allow switches a part off and is said, by name, in [`Availability`]; it is never an error of the gather.
//!
//! Nothing is pinned: when the process ends, however it ends, the kernel takes the probes away.

mod attach;
mod availability;
mod counters;
mod diagnostics;
mod modules;
mod object;
mod reason;

pub use availability::{Availability, Need};

use crate::model::Activity;
use attach::Attached;
use modules::Modules;
use object::Object;
use reason::Reason;

/// Which probes are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// The probes, as far as they could be attached.
pub struct Probes {
    mode: ProbeMode,
    modules: Modules,
    object: Option<Object>,
    attached: Attached,
    availability: Availability,
}

impl Probes {
    /// Loads and attaches whatever this kernel allows. Never fails: [`Probes::availability`] says what works,
    /// and why the rest does not.
    pub fn attach(settings: &ProbeSettings) -> Self {
        let mut probes = Self {
            mode: settings.mode,
            modules: Modules::default(),
            object: None,
            attached: Attached::default(),
            availability: Availability::default(),
        };
        probes.refresh();
        probes
    }

    /// What works, what does not, and why.
    pub fn availability(&self) -> &Availability {
        &self.availability
    }

    /// Attaches again where modules came or went. Cheap when nothing changed: one listing of `/sys/module`.
    /// True if something was attached or let go.
    pub fn refresh(&mut self) -> bool {
        if self.mode == ProbeMode::Off || !self.modules.refresh() {
            return false;
        }
        self.availability.clear();
        if !self.modules.ipvs_loaded() {
            self.attached.let_go();
            self.availability.all_missing(&Reason::module_absent());
            return true;
        }
        if self.object.is_none() {
            match Object::load() {
                Ok(object) => self.object = Some(object),
                Err(reason) => {
                    self.availability.all_missing(&reason);
                    return true;
                }
            }
        }
        if let Some(object) = &mut self.object {
            self.attached.renew(object, &self.modules, &mut self.availability);
        }
        true
    }

    /// Reads the counters into `activity`. What could not be read keeps its last value.
    pub fn read(&mut self, activity: &mut Activity) {
        activity.diagnostics.clear();
        if let Some(object) = &mut self.object {
            counters::read(object, activity);
            object.diagnostics.drain_into(&mut activity.diagnostics);
        }
    }
}
