//! The eBPF edge: what the scheduler does, seen by probes.
//!
//! Owns: everything that talks to BPF, kprobes and BTF, and turns what they give into plain values of the
//! model. Refuses to know: netlink, shares, measurements, outputs. What this kernel or these privileges do not
//! allow switches a part off and is said, by name, in [`Availability`]; it is never an error of the gather.
//!
//! Nothing is pinned: when the process ends, however it ends, the kernel takes the probes away.

mod account;
mod asked;
mod attach;
mod availability;
mod btf;
mod changes;
mod clock;
mod connections;
mod convert;
mod counters;
mod decisions;
mod diagnostics;
mod events;
mod functions;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod latency;
mod mapped;
mod memory;
mod modules;
mod object;
mod occasions;
mod reading;
mod reason;
mod wanted;

use ipvs_observer_common::{
    control::Control,
    layout::{self, Layout},
};

pub use asked::Asked;
pub use availability::{Availability, Need};
pub use object::Sizes;
pub use occasions::Occasions;
pub(crate) use reason::{EVENTS_CLOSED, EVENTS_MAY_BE_CLOSED};
pub use wanted::{ProbeMode, ProbeSettings, Tell};

use crate::model::{Netns, Watched};
use attach::Attached;
use availability::NOTHING;
use btf::{Lack, Source};
use counters::Counters;
use decisions::Decisions;
use events::Events;
use modules::{Incarnation, Modules};
use object::Object;
use occasions::Present;
use reason::Reason;
use wanted::observe;

/// What came or went since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Nothing.
    Same,
    /// Schedulers, or what some are attached for: the probes stay, and some are to be attached or let go of.
    Some,
    /// `ip_vs` itself: all probes are to be attached or let go of, which takes the kernel up to seconds.
    Ipvs,
}

/// The probes, as far as they could be attached.
pub struct Probes {
    mode: ProbeMode,
    source: Source,
    sizes: Sizes,
    asked: Asked,
    tell: Tell,
    control: Control,
    modules: Modules,
    /// The incarnation of `ip_vs` that the layout was read for.
    known: Option<Incarnation>,
    /// Whether there was no `ip_vs` when the probes were last attached.
    waits: bool,
    object: Option<Object>,
    /// Whether there is no object because it could not be loaded.
    refused: bool,
    lacks: Vec<Lack>,
    without_layout: Option<Reason>,
    counters: Option<Counters>,
    events: Option<Events>,
    decisions: Decisions,
    attached: Attached,
    present: Present,
    occasions: Occasions,
    availability: Availability,
}

impl Probes {
    /// Loads and attaches whatever this kernel allows. Never fails: [`Probes::availability`] says what works,
    /// and why the rest does not.
    pub fn attach(settings: &ProbeSettings) -> Self {
        let mut control = Control {
            events: settings.tell.events(),
            interval: 1,
            refusals: settings.refusals,
            ..Control::default()
        };
        observe(&mut control, &settings.namespaces);
        settings.asked.order(&mut control);
        let mut probes = Self {
            mode: settings.mode,
            source: Source::new(settings.btf.as_deref()),
            sizes: settings.sizes,
            asked: settings.asked.clone(),
            tell: settings.tell,
            control,
            modules: Modules::default(),
            known: None,
            waits: false,
            object: None,
            refused: false,
            lacks: Vec::new(),
            without_layout: None,
            counters: None,
            events: None,
            decisions: Decisions::new(Source::new(settings.btf.as_deref())),
            attached: Attached::new(settings.tell.has(Tell::DECISIONS)),
            present: Present::new(settings.occasions),
            occasions: settings.occasions,
            availability: Availability::default(),
        };
        probes.refresh();
        probes
    }

    /// What works, what does not, and why.
    pub fn availability(&self) -> &Availability {
        &self.availability
    }

    /// Whether probes hold, so that attaching is done until a module comes or goes.
    pub fn attached(&self) -> bool {
        self.attached.any()
    }

    /// How many functions of the kernel are probed.
    pub fn count(&self) -> usize {
        self.attached.count()
    }

    /// Whether the probes wait for `ip_vs`, which was not there when they were last attached.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Whether `ip_vs` is there and initialised: a probe that waits for it may ask as often as it likes.
    pub fn ipvs_is_live(&self) -> bool {
        self.mode != ProbeMode::Off && Modules::ipvs_is_live()
    }

    /// Whether the counters tell services and destinations apart on this kernel.
    pub fn tell_services(&self) -> bool {
        self.has(layout::SERVICES)
    }

    /// Whether all that is to leave the kernel can: it has what that is made of, and it is watched.
    pub fn can_tell(&self) -> bool {
        let watched = self
            .object
            .as_ref()
            .map_or_else(Watched::default, |object| self.attached.watches(object.features));
        [
            (
                Tell::DECISIONS,
                self.has(layout::DECISIONS) && self.attached.watches_scheduling(),
            ),
            (Tell::CHANGES, self.has(layout::CHANGES)),
            (Tell::ENDS, watched.ends),
        ]
        .into_iter()
        .all(|(kind, can)| can || !self.tell.has(kind))
    }

    fn has(&self, feature: u32) -> bool {
        self.object
            .as_ref()
            .is_some_and(|object| object.features & feature != 0)
    }

    /// Attaches again where modules came or went: [`Probes::look`] and, where that says so, [`Probes::renew`].
    pub fn refresh(&mut self) {
        if self.look() != Outlook::Same {
            self.renew();
        }
    }

    /// Looks whether modules came or went, or something that probes are attached for. Cheap: one listing of
    /// `/sys/module`. What it says is said once.
    pub fn look(&mut self) -> Outlook {
        if self.mode == ProbeMode::Off {
            return Outlook::Same;
        }
        if !self.modules.refresh() {
            return self.look_for_occasions();
        }
        let incarnation = self.modules.incarnation("ip_vs");
        let loaded = self.modules.ipvs_loaded();
        if !loaded || self.known != incarnation || (self.object.is_none() && !self.refused) {
            Outlook::Ipvs
        } else if self.refused {
            // What could not be loaded for this ip_vs cannot be for its schedulers' sake either.
            Outlook::Same
        } else {
            Outlook::Some
        }
    }

    /// The same of what some probes are attached for alone, and cheaper.
    pub fn look_for_occasions(&mut self) -> Outlook {
        let Some(object) = self.object.as_ref().filter(|_| !self.refused) else {
            return Outlook::Same;
        };
        let before = self.occasions;
        self.occasions = self.present.now(&object.health());
        if self.occasions == before {
            Outlook::Same
        } else {
            Outlook::Some
        }
    }

    /// Attaches what is there, and lets go of what is not.
    pub fn renew(&mut self) {
        self.availability.clear();
        self.waits = !self.modules.ipvs_loaded();
        if self.waits {
            self.unload();
            self.nothing_works("module ip_vs", &Reason::module_absent());
            return;
        }
        // Another incarnation of ip_vs may be another build of it, and all that was counted is of the last one.
        let incarnation = self.modules.incarnation("ip_vs");
        let anew = self.object.is_none() || self.known != incarnation;
        if anew {
            self.unload();
            self.known = incarnation;
            if let Err(reason) = self.load() {
                self.refused = true;
                self.nothing_works("BPF programs", &reason);
                return;
            }
        }
        let mut attached = Availability::default();
        if let Some(object) = &mut self.object {
            if anew {
                self.present.begin();
            }
            self.occasions = self.present.now(&object.health());
            // Before the first of them is attached, whose packet would else be taken for one that was not scheduled. What is
            // to leave the kernel is ordered when all are.
            let in_force = if anew { Control::default() } else { self.control };
            object.orders(&Control {
                ways: in_force.ways | self.occasions.ways(),
                ..in_force
            });
            self.attached
                .renew(object, &self.modules, self.occasions, &mut attached);
            self.control.ways = self.attached.ways(object.features);
            object.orders(&self.control);
            if anew {
                object.is_attached();
            }
        }
        let (without, any) = (self.without_layout.as_ref(), self.attached.any());
        self.availability.layout(&self.lacks, without, any);
        self.availability.append(attached);
    }

    /// From now on observes these namespaces, as [`ProbeSettings::namespaces`] has it.
    pub fn observe(&mut self, namespaces: &[Netns]) {
        let before = self.control;
        observe(&mut self.control, namespaces);
        if before != self.control
            && let Some(object) = &mut self.object
        {
            object.orders(&self.control);
        }
    }

    fn load(&mut self) -> Result<(), Reason> {
        let layout = match self.source.layout() {
            Ok(resolved) => {
                self.lacks = resolved.lacks;
                self.without_layout = None;
                resolved.layout
            }
            Err(error) => {
                self.without_layout = Some(Reason::no_btf(&error));
                Layout::default()
            }
        };
        let mut object = Object::load(&layout, &self.sizes, &self.asked)?;
        self.counters = Some(Counters::of(&mut object).map_err(|error| Reason::of_loading(&error))?);
        self.events = object.ring().map(Events::new);
        self.object = Some(object);
        Ok(())
    }

    fn unload(&mut self) {
        self.refused = false;
        self.attached.let_go();
        self.object = None;
        self.counters = None;
        self.events = None;
        self.lacks.clear();
        self.without_layout = None;
    }

    fn nothing_works(&mut self, need: &str, reason: &Reason) {
        self.availability.missed(need, NOTHING, reason);
        self.availability
            .missed(functions::DROPPED, functions::NO_UNSENT, reason);
        for probe in functions::probes() {
            self.availability
                .missed(probe.function, probe.consequence, reason);
        }
    }
}
