//! Which functions are probed, and the probes that hold.

use std::collections::BTreeMap;

use aya::programs::kprobe::KProbeLink;

use super::{availability::Availability, modules::Modules, object::Object, reason::Reason};

/// A function of the kernel that is probed at its entry and at its return.
pub(super) struct Probe {
    /// Its name.
    pub(super) function: &'static str,
    /// Its module.
    module: &'static str,
    entry: &'static str,
    returned: &'static str,
    /// What is not known without it.
    pub(super) consequence: &'static str,
}

/// Every function that is probed by name.
pub(super) const PROBES: [Probe; 1] = [Probe {
    function: "ip_vs_schedule",
    module: "ip_vs",
    entry: "schedule_entry",
    returned: "schedule_return",
    consequence: "no scheduling counters",
}];

/// The probes that hold. Dropping a link takes the probe away.
#[derive(Default)]
pub(super) struct Attached {
    links: BTreeMap<&'static str, (Incarnation, [KProbeLink; 2])>,
}

type Incarnation = Option<(u64, i64, i64)>;

impl Attached {
    /// Takes all probes away.
    pub(super) fn let_go(&mut self) {
        self.links.clear();
    }

    /// Attaches what is not attached to the module as it is now, and says how each stands.
    pub(super) fn renew(&mut self, object: &mut Object, modules: &Modules, availability: &mut Availability) {
        for probe in &PROBES {
            let incarnation = modules.incarnation(probe.module);
            if self
                .links
                .get(probe.function)
                .is_some_and(|(held, _)| *held != incarnation)
            {
                self.links.remove(probe.function);
            }
            if !self.links.contains_key(probe.function) {
                match attach(object, probe) {
                    Ok(links) => {
                        self.links.insert(probe.function, (incarnation, links));
                    }
                    Err(reason) => {
                        availability.missed(probe.function, probe.consequence, &reason);
                        continue;
                    }
                }
            }
            availability.met(probe.function, probe.consequence);
        }
    }
}

/// The return first: a call that begins in between then has its end seen, and none is left under way for ever.
fn attach(object: &mut Object, probe: &Probe) -> Result<[KProbeLink; 2], Reason> {
    Ok([
        attach_one(object, probe.returned, probe.function)?,
        attach_one(object, probe.entry, probe.function)?,
    ])
}

fn attach_one(object: &mut Object, program: &str, function: &str) -> Result<KProbeLink, Reason> {
    let program = object.program(program)?;
    let link = program
        .attach(function, 0)
        .map_err(|error| Reason::of_attaching(function, &error))?;
    program
        .take_link(link)
        .map_err(|error| Reason::of_attaching(function, &error))
}
