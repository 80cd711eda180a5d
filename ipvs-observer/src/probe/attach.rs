//! Which functions are probed, and the probes that hold.

use std::{collections::BTreeMap, mem, thread};

use aya::programs::kprobe::KProbeLink;
use ipvs_observer_common::layout as features;

use super::{
    availability::Availability,
    modules::{Incarnation, Modules},
    object::Object,
    reason::Reason,
};

/// A function of the kernel that is probed.
pub(super) struct Probe {
    /// Its names: the first that this kernel has is taken.
    pub(super) functions: &'static [&'static str],
    /// The programs at its entry and at its return.
    programs: Programs,
    /// The features of the layout that the programs need to say anything.
    needs: u32,
    /// Whether kernels are known that do without the function and lack nothing by it.
    optional: bool,
    /// What is not known without it.
    pub(super) consequence: &'static str,
}

#[derive(Clone, Copy)]
struct Programs {
    entry: Option<&'static str>,
    returned: Option<&'static str>,
}

const fn both(entry: &'static str, returned: &'static str) -> Programs {
    Programs {
        entry: Some(entry),
        returned: Some(returned),
    }
}

const fn entry(entry: &'static str) -> Programs {
    Programs {
        entry: Some(entry),
        returned: None,
    }
}

const fn probe(
    functions: &'static [&'static str],
    programs: Programs,
    needs: u32,
    consequence: &'static str,
) -> Probe {
    Probe {
        functions,
        programs,
        needs,
        optional: false,
        consequence,
    }
}

const NO_COUNTERS: &str = "no scheduling counters and no trace";
const NO_REFUSALS: &str = "packets turned away are not counted";
const NO_WORDS: &str = "a trace lacks the scheduler's own words on why it gives nothing";
const NO_OVERLOADS: &str = "overloads are seen by scheduling alone: that one ends, only at the next pick";
const NO_CHANGES: &str = "configuration changes of this kind are not told";
const NO_FORGETTING: &str = "counters of what was deleted stay until the next gather";
const NO_DURATIONS: &str = "no durations and no candidates of this scheduler";

const OVERLOAD: &str = "ip_vs_dest_update_overload";

/// Every function that is probed by its own name.
pub(super) const PROBES: [Probe; 13] = [
    probe(
        &["ip_vs_schedule"],
        both("schedule_entry", "schedule_return"),
        0,
        NO_COUNTERS,
    ),
    probe(
        &["ip_vs_check_template"],
        both("template_entry", "template_return"),
        features::PERSISTENCE,
        "template hits are counted as picks",
    ),
    probe(
        &["ip_vs_leave"],
        both("leave_entry", "leave_return"),
        features::SERVICES,
        NO_REFUSALS,
    ),
    probe(
        &["ip_vs_scheduler_err"],
        entry("scheduler_error"),
        features::DECISIONS,
        NO_WORDS,
    ),
    Probe {
        optional: true,
        ..probe(
            &[OVERLOAD],
            both("overload_entry", "overload_return"),
            features::STATE,
            NO_OVERLOADS,
        )
    },
    probe(
        &["ip_vs_add_dest"],
        both("add_destination_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        &["ip_vs_edit_dest"],
        both("edit_destination_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        &["ip_vs_del_dest"],
        both("delete_destination_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        &["__ip_vs_update_dest"],
        both("update_destination_entry", "update_destination_return"),
        features::STATE,
        "changes are told without the weight before",
    ),
    probe(
        &["__ip_vs_del_dest"],
        entry("destination_gone"),
        features::DESTINATIONS,
        NO_FORGETTING,
    ),
    probe(
        &["ip_vs_add_service"],
        both("add_service_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        &["ip_vs_edit_service"],
        both("edit_service_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        &["__ip_vs_del_service", "ip_vs_unlink_service"],
        both("delete_service_entry", "delete_service_return"),
        features::SERVICES,
        NO_FORGETTING,
    ),
];

/// Programs that have a second form, `…_told`, which sends what it decided. It is larger, and much longer to
/// verify, so that only a trace loads it.
const TELLING: [&str; 3] = ["schedule_return", "scheduler_entry", "scheduler_return"];

/// Links that are dropped one after the other.
const AT_ONCE: usize = 2;

/// The probes that hold. Dropping a link takes the probe away.
pub(super) struct Attached {
    links: BTreeMap<String, Held>,
    telling: bool,
}

struct Held {
    incarnation: Option<Incarnation>,
    links: Vec<KProbeLink>,
}

impl Attached {
    /// No probes yet. `telling`: they will send what they decide.
    pub(super) fn new(telling: bool) -> Self {
        Self {
            links: BTreeMap::new(),
            telling,
        }
    }

    /// Whether any hold.
    pub(super) fn any(&self) -> bool {
        !self.links.is_empty()
    }

    /// Takes all probes away. For each the kernel waits until nobody can be in it any more: they wait together.
    pub(super) fn let_go(&mut self) {
        let mut links: Vec<_> = mem::take(&mut self.links)
            .into_values()
            .flat_map(|held| held.links)
            .collect();
        thread::scope(|scope| {
            while !links.is_empty() {
                let few = links.split_off(links.len().saturating_sub(AT_ONCE));
                scope.spawn(move || drop(few));
            }
        });
    }

    /// Attaches what is not attached to the modules as they are now, lets go of what went, and says how each
    /// stands.
    pub(super) fn renew(&mut self, object: &mut Object, modules: &Modules, availability: &mut Availability) {
        let ipvs = modules.incarnation("ip_vs");
        for probe in &PROBES {
            if probe.needs & object.features != probe.needs {
                continue;
            }
            let held = probe
                .functions
                .iter()
                .map(|function| (*function, self.hold(object, function, probe.programs, ipvs)))
                .reduce(|first, second| if first.1.is_ok() { first } else { second });
            match held {
                Some((function, Ok(()))) => availability.met(function, probe.consequence),
                Some((_, Err(reason))) if probe.optional => {
                    availability.done_without(probe.functions[0], probe.consequence, &reason);
                }
                Some((_, Err(reason))) => availability.missed(probe.functions[0], probe.consequence, &reason),
                None => {}
            }
        }
        self.renew_schedulers(object, modules, availability);
    }

    /// Whether the scheduler's being asked is seen.
    pub(super) fn watches_scheduling(&self) -> bool {
        self.links.contains_key(PROBES[0].functions[0])
    }

    /// Whether the kernel has a function of its own for a destination that becomes overloaded.
    pub(super) fn tells_of_overload(&self) -> bool {
        self.links.contains_key(OVERLOAD)
    }

    fn renew_schedulers(&mut self, object: &mut Object, modules: &Modules, availability: &mut Availability) {
        if object.features & features::SERVICES == 0 {
            return;
        }
        let programs = both("scheduler_entry", "scheduler_return");
        let mut probed = Vec::new();
        for scheduler in modules.schedulers() {
            let function = format!("ip_vs_{}_schedule", scheduler.name);
            match self.hold(object, &function, programs, scheduler.incarnation) {
                Ok(()) => {
                    availability.met(&function, NO_DURATIONS);
                    probed.push(scheduler.name.clone());
                }
                // Not every module beside ip_vs is a scheduler: some mangle protocols, some find connections.
                Err(reason) if reason.is_absence() && !scheduler.certain => {}
                Err(reason) => availability.missed(&function, NO_DURATIONS, &reason),
            }
        }
        self.links.retain(|function, _| {
            let name = function
                .strip_prefix("ip_vs_")
                .and_then(|name| name.strip_suffix("_schedule"));
            name.is_none_or(|name| probed.iter().any(|probed| probed == name))
        });
    }

    /// Holds the probes of one function in its module's present incarnation.
    fn hold(
        &mut self,
        object: &mut Object,
        function: &str,
        programs: Programs,
        incarnation: Option<Incarnation>,
    ) -> Result<(), Reason> {
        if let Some(held) = self.links.get(function) {
            if held.incarnation == incarnation {
                return Ok(());
            }
            self.links.remove(function);
        }
        // The return first: a call that begins in between then has its end seen, and none is left under way.
        let links = [programs.returned, programs.entry]
            .into_iter()
            .flatten()
            .map(|program| attach(object, program, function, self.telling))
            .collect::<Result<Vec<_>, _>>()?;
        self.links
            .insert(function.to_owned(), Held { incarnation, links });
        Ok(())
    }
}

fn attach(object: &mut Object, program: &str, function: &str, telling: bool) -> Result<KProbeLink, Reason> {
    let program = if telling && TELLING.contains(&program) {
        object.program(&format!("{program}_told"))?
    } else {
        object.program(program)?
    };
    let link = program
        .attach(function, 0)
        .map_err(|error| Reason::of_attaching(function, &error))?;
    program
        .take_link(link)
        .map_err(|error| Reason::of_attaching(function, &error))
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.let_go();
    }
}
