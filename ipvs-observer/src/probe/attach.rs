//! The probes that hold.

use std::{collections::BTreeMap, mem, thread};

use aya::programs::{kprobe::KProbeLink, raw_trace_point::RawTracePointLink};
use ipvs_observer_common::{control, layout as features};

use super::{
    availability::Availability,
    functions::{
        BY_PACKET, CONNECTION_FREED, DROPPED, EXPIRED_NOW, FREED, FREED_LATER, LEAVE, LISTENS, NO_DURATIONS,
        NO_UNSENT, ON_OCCASION, OVERLOAD, PROBES, Probe, Programs, SCHEDULE, SITUATION, both,
    },
    modules::{Incarnation, Modules},
    object::Object,
    occasions::Occasions,
    reason::Reason,
};
use crate::model::Watched;

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
    /// At the tracepoint of packets that the kernel drops.
    dropped: Option<RawTracePointLink>,
    telling: bool,
    /// What some of them are attached for.
    occasions: Occasions,
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
            dropped: None,
            telling,
            occasions: Occasions::NONE,
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
        self.dropped = None;
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
    /// The return of `ip_vs_schedule` comes after those that it interprets: it takes what no other probe has seen for what
    /// did not happen. Those on an occasion come after it, for they take a packet that it has not seen for one that was
    /// not scheduled. No order is needed for detaching, after which nobody reads what was counted, and before which a
    /// trace falls silent.
    pub(super) fn renew(
        &mut self,
        object: &mut Object,
        modules: &Modules,
        occasions: Occasions,
        availability: &mut Availability,
    ) {
        let ipvs = modules.incarnation("ip_vs");
        let mut others = Availability::default();
        self.occasions = occasions;
        for probe in &PROBES {
            self.renew_one(object, probe, ipvs, &mut others);
        }
        self.renew_dropped(object, &mut others);
        self.renew_schedulers(object, modules, &mut others);
        self.renew_one(object, &SCHEDULE, ipvs, availability);
        for (occasion, probe) in &ON_OCCASION {
            if occasions.has(*occasion) {
                self.renew_one(object, probe, ipvs, &mut others);
            } else {
                self.links.remove(probe.function);
            }
        }
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

    /// After the probes that say why a packet is dropped.
    fn renew_dropped(&mut self, object: &mut Object, availability: &mut Availability) {
        if object.features & features::TRANSMIT == 0 {
            return;
        }
        let name = format!("tracepoint {DROPPED}");
        if self.dropped.is_none() {
            match attach_tracepoint(object) {
                Ok(link) => self.dropped = Some(link),
                Err(reason) => return availability.missed(&name, NO_UNSENT, &reason),
            }
        }
        availability.met(&name, NO_UNSENT);
    }

    /// Whether the scheduler's being asked is seen.
    pub(super) fn watches_scheduling(&self) -> bool {
        self.links.contains_key(SCHEDULE.function)
    }

    /// Whether the kernel has a function of its own for a destination that becomes overloaded.
    pub(super) fn tells_of_overload(&self) -> bool {
        self.links.contains_key(OVERLOAD)
    }

    /// What befalls connections beside the scheduler, as far as it is seen with these features.
    pub(super) fn watches(&self, known: u32) -> Watched {
        let holds = |function: &str| known & features::CONNECTIONS != 0 && self.links.contains_key(function);
        Watched {
            ends: holds(CONNECTION_FREED),
            reused_ports: holds(EXPIRED_NOW),
            ftp: holds(LISTENS),
            unsent: self.dropped.is_some(),
            defence: holds(SITUATION) && self.has_all_on(Occasions::DROP_PACKET),
            sync: holds(SITUATION) && self.has_all_on(Occasions::BACKUP),
            packets: BY_PACKET.into_iter().all(holds),
        }
    }

    /// Whether all hold that are to be attached on an occasion; true while that is not so.
    fn has_all_on(&self, occasion: Occasions) -> bool {
        let mut probes = ON_OCCASION.iter().filter(|(of, _)| *of == occasion);
        let holds = |probe: &Probe| probe.optional || self.links.contains_key(probe.function);
        !self.occasions.has(occasion) || probes.all(|(_, probe)| holds(probe))
    }

    /// How the programs are to go about it with the probes that hold and these features: a set of the constants of
    /// [`control`].
    pub(super) fn ways(&self, known: u32) -> u32 {
        let holds = |function: &str| self.links.contains_key(function);
        let occasions = self.occasions.ways();
        [
            (!self.tells_of_overload(), control::LOOK_FOR_OVERLOAD),
            (holds(LEAVE), control::TELL_AFTER_LEAVE),
            (
                holds(FREED) || holds(FREED_LATER) && known & features::CALLED_BACK != 0,
                control::KEEP_REMOVED,
            ),
        ]
        .into_iter()
        .fold(occasions, |ways, (so, way)| if so { ways | way } else { ways })
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

fn attach_tracepoint(object: &mut Object) -> Result<RawTracePointLink, Reason> {
    let program = object.tracepoint("packet_dropped")?;
    let attaching = |error| Reason::of_attaching(DROPPED, &error);
    let link = program.attach(DROPPED).map_err(attaching)?;
    program.take_link(link).map_err(attaching)
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.let_go();
    }
}
