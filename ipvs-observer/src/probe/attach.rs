//! Which functions are probed, and the probes that hold.

use std::{collections::BTreeMap, mem, thread};

use aya::programs::kprobe::KProbeLink;
use ipvs_observer_common::{control, layout as features};

use super::{
    availability::Availability,
    modules::{Incarnation, Modules},
    object::Object,
    reason::Reason,
};

/// A function of the kernel that is probed.
pub(super) struct Probe {
    pub(super) function: &'static str,
    /// The programs at its entry and at its return.
    programs: Programs,
    /// The function that does the same on kernels without it.
    instead: Option<(&'static str, Programs)>,
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

const fn probe(function: &'static str, programs: Programs, needs: u32, consequence: &'static str) -> Probe {
    Probe {
        function,
        programs,
        instead: None,
        needs,
        optional: false,
        consequence,
    }
}

const NO_COUNTERS: &str = "no scheduling counters and no trace";
const NO_REFUSALS: &str = "it is not counted what becomes of packets without a destination";
const NO_WORDS: &str = "a trace lacks the scheduler's own words on why it gives nothing";
const NO_OVERLOADS: &str = "overloads are seen by scheduling alone: that one ends, only at the next pick";
const NO_CHANGES: &str = "configuration changes of this kind are not told";
const NO_FORGETTING: &str = "counters of what was deleted stay until the next gather";
const NO_KEEPING: &str = "counters of a removed real server begin anew when it is added again";
const NO_DURATIONS: &str = "no durations and no candidates of this scheduler";

const OVERLOAD: &str = "ip_vs_dest_update_overload";
const LEAVE: &str = "ip_vs_leave";
const FREED: &str = "ip_vs_dest_free";
const FREED_LATER: &str = "ip_vs_dest_rcu_free";

/// The function whose return interprets what all others around the scheduler have seen.
const SCHEDULE: Probe = probe(
    "ip_vs_schedule",
    both("schedule_entry", "schedule_return"),
    0,
    NO_COUNTERS,
);

/// Every other function that is probed by its own name. One that interprets another comes after it.
const PROBES: [Probe; 14] = [
    probe(
        "ip_vs_check_template",
        both("template_entry", "template_return"),
        features::PERSISTENCE,
        "template hits are counted as picks",
    ),
    probe(
        LEAVE,
        both("leave_entry", "leave_return"),
        features::SERVICES,
        NO_REFUSALS,
    ),
    probe(
        "ip_vs_scheduler_err",
        entry("scheduler_error"),
        features::DECISIONS,
        NO_WORDS,
    ),
    Probe {
        optional: true,
        ..probe(
            OVERLOAD,
            both("overload_entry", "overload_return"),
            features::STATE,
            NO_OVERLOADS,
        )
    },
    probe(
        "ip_vs_new_conn_out",
        both("connection_out_entry", "connection_out_return"),
        features::SERVICES,
        "connections that real servers begin (SIP) are not counted",
    ),
    Probe {
        optional: true,
        // Where it frees at once, or where the compiler kept the function.
        instead: Some((FREED, entry("destination_freed"))),
        ..probe(
            FREED_LATER,
            entry("destination_freed_later"),
            features::DESTINATIONS,
            NO_KEEPING,
        )
    },
    probe(
        "__ip_vs_update_dest",
        both("update_destination_entry", "update_destination_return"),
        features::STATE,
        "changes do not say what was before and what they change",
    ),
    probe(
        "__ip_vs_del_dest",
        entry("destination_gone"),
        features::DESTINATIONS,
        "counters of deleted real servers stay until the next gather, and deletions do not say what they leave behind",
    ),
    probe(
        "ip_vs_add_dest",
        both("add_destination_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        "ip_vs_edit_dest",
        both("edit_destination_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        "ip_vs_del_dest",
        both("delete_destination_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        "ip_vs_add_service",
        both("add_service_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        "ip_vs_edit_service",
        both("edit_service_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    Probe {
        instead: Some((
            "ip_vs_unlink_service",
            both("delete_service_entry", "delete_service_return"),
        )),
        ..probe(
            "__ip_vs_del_service",
            both("delete_service_entry", "delete_service_return"),
            features::SERVICES,
            NO_FORGETTING,
        )
    },
];

/// Every function that is probed by its own name, the most important first.
pub(super) fn probes() -> impl Iterator<Item = &'static Probe> {
    const FIRST: &Probe = &SCHEDULE;
    const OTHERS: &[Probe] = &PROBES;
    std::iter::once(FIRST).chain(OTHERS)
}

/// Programs that have a second form, `…_told`, which sends what it decided. It is larger, and much longer to
/// verify, so that only a trace loads it.
const TELLING: [&str; 4] = [
    "schedule_return",
    "scheduler_entry",
    "scheduler_return",
    "leave_return",
];

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

    /// How many functions are probed.
    pub(super) fn count(&self) -> usize {
        self.links.len()
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
    ///
    /// The return of `ip_vs_schedule` comes last: it takes what no other probe has seen for what did not happen. No
    /// order is needed for detaching, after which nobody reads what was counted, and before which a trace falls silent.
    pub(super) fn renew(&mut self, object: &mut Object, modules: &Modules, availability: &mut Availability) {
        let ipvs = modules.incarnation("ip_vs");
        let mut others = Availability::default();
        for probe in &PROBES {
            self.renew_one(object, probe, ipvs, &mut others);
        }
        self.renew_schedulers(object, modules, &mut others);
        self.renew_one(object, &SCHEDULE, ipvs, availability);
        availability.append(others);
    }

    fn renew_one(
        &mut self,
        object: &mut Object,
        probe: &Probe,
        ipvs: Option<Incarnation>,
        availability: &mut Availability,
    ) {
        if probe.needs & object.features != probe.needs {
            return;
        }
        let held = match (
            self.hold(object, probe.function, probe.programs, ipvs),
            probe.instead,
        ) {
            (Err(reason), Some((function, programs))) => self
                .hold(object, function, programs, ipvs)
                .map(|()| function)
                .map_err(|_| reason),
            (held, _) => held.map(|()| probe.function),
        };
        match held {
            Ok(function) => availability.met(function, probe.consequence),
            Err(reason) if probe.optional => {
                availability.done_without(probe.function, probe.consequence, &reason);
            }
            Err(reason) => availability.missed(probe.function, probe.consequence, &reason),
        }
    }

    /// Whether the scheduler's being asked is seen.
    pub(super) fn watches_scheduling(&self) -> bool {
        self.links.contains_key(SCHEDULE.function)
    }

    /// Whether the kernel has a function of its own for a destination that becomes overloaded.
    pub(super) fn tells_of_overload(&self) -> bool {
        self.links.contains_key(OVERLOAD)
    }

    /// How the programs are to go about it with the probes that hold and these features: a set of the constants of
    /// [`control`].
    pub(super) fn ways(&self, known: u32) -> u32 {
        let holds = |function: &str| self.links.contains_key(function);
        [
            (!self.tells_of_overload(), control::LOOK_FOR_OVERLOAD),
            (holds(LEAVE), control::TELL_AFTER_LEAVE),
            (
                holds(FREED) || holds(FREED_LATER) && known & features::CALLED_BACK != 0,
                control::KEEP_REMOVED,
            ),
        ]
        .into_iter()
        .fold(0, |ways, (so, way)| if so { ways | way } else { ways })
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
