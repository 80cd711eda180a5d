//! The arrays, read into the model.

use std::io;

use ipvs_observer_common::{
    counter::{
        BEGUN_BY_FTP, BEGUN_BY_SYNC, Beside, DROPS_DEFENCE, DROPS_NO_ROUTE, DROPS_OLD_CONNTRACK,
        DROPS_SERVER_REMOVED, DROPS_TOO_LARGE, DROPS_TRANSMIT, DestinationCounters, ENDED,
        ENDED_SERVER_REMOVED, Ends, Health, REUSED, ServiceCounters, TAKEN_OVER,
    },
    event,
    histogram::Histogram,
    key::{DestinationKey, ServiceKey},
    slot::{self, Owner},
};

use super::{
    convert,
    latency::{self, Interval, Reading},
    mapped::Mapped,
    object::Object,
};
use crate::model::{self, Activity, DestinationActivity, Lost, ProbeTotals, ServiceActivity};

/// Slots of large arrays that are mapped at a time. A part of each begins with a page, which here has 4 KiB and
/// elsewhere up to 64.
const NEAR: u32 = 2048;
/// The same of services, whose owners and counters fill whole pages only so.
const NEAR_SERVICES: u32 = 8192;
/// The same of durations, which are the largest.
const NEAR_DURATIONS: u32 = 1024;
const _: () = {
    const LARGEST_PAGE: usize = 64 << 10;
    assert!(NEAR.is_multiple_of(slot::RUN));
    assert!((NEAR_DURATIONS as usize * size_of::<Histogram>()).is_multiple_of(LARGEST_PAGE));
    assert!((NEAR_SERVICES as usize * size_of::<Owner<ServiceKey>>()).is_multiple_of(LARGEST_PAGE));
    assert!((NEAR_SERVICES as usize * size_of::<ServiceCounters>()).is_multiple_of(LARGEST_PAGE));
    assert!((NEAR as usize * size_of::<Owner<DestinationKey>>()).is_multiple_of(LARGEST_PAGE));
    assert!((NEAR as usize * size_of::<DestinationCounters>()).is_multiple_of(LARGEST_PAGE));
    assert!((NEAR as usize * size_of::<Beside>()).is_multiple_of(LARGEST_PAGE));
    assert!((NEAR as usize * size_of::<Ends>()).is_multiple_of(LARGEST_PAGE));
};

/// Reads the counters, and remembers what the last reading found where differences are wanted.
pub(super) struct Counters {
    cpus: u32,
    services: Slots<ServiceKey, ServiceCounters>,
    destinations: Slots<DestinationKey, DestinationCounters>,
    durations: Mapped<Histogram>,
    /// What befell services beside their scheduler, by slot.
    beside: Mapped<Beside>,
    /// How connections of destinations ended, by slot.
    ends: Mapped<Ends>,
    /// Durations as of the last reading, by the services' slots.
    known: Vec<Known>,
    /// Room for what was counted since.
    counted: Interval,
}

/// Counters by slot and CPU.
struct Slots<K, C> {
    owners: Mapped<Owner<K>>,
    counters: Mapped<C>,
}

/// What the last reading found of a service's durations.
#[derive(Default)]
struct Known {
    /// Of whom.
    generation: u64,
    /// Calls, and the time that they took.
    asked: (u64, u64),
    durations: Reading,
}

impl Counters {
    /// # Errors
    /// The object has none.
    pub(super) fn of(object: &mut Object) -> io::Result<Self> {
        let ebpf = &mut object.ebpf;
        Ok(Self {
            cpus: object.cpus,
            services: Slots {
                owners: Mapped::readable(ebpf, "SERVICE_OWNERS")?,
                counters: Mapped::readable(ebpf, "SERVICE_COUNTERS")?,
            },
            destinations: Slots {
                owners: Mapped::readable(ebpf, "DESTINATION_OWNERS")?,
                counters: Mapped::readable(ebpf, "DESTINATION_COUNTERS")?,
            },
            durations: Mapped::readable(ebpf, "DURATIONS")?,
            beside: Mapped::readable(ebpf, "BESIDE_SCHEDULER")?,
            ends: Mapped::readable(ebpf, "ENDS")?,
            known: Vec::new(),
            counted: Interval::default(),
        })
    }

    /// Reads every counter of the interval that ended. What cannot be read is left out.
    ///
    /// # Errors
    /// What the kernel said of the first array that it would not map.
    pub(super) fn read(&mut self, health: &Health, ended: u32, activity: &mut Activity) -> io::Result<()> {
        self.read_services(health.services_given, ended, activity)?;
        // What is mapped counts as this process's memory. The first part stays: where there is no other, it is read again.
        if health.services_given > NEAR_DURATIONS {
            self.durations.release();
        }
        self.read_destinations(health.destinations_given, activity)
    }

    fn read_services(&mut self, given: u32, interval: u32, activity: &mut Activity) -> io::Result<()> {
        let (cpus, slots) = (self.cpus, &mut self.services);
        if self.known.len() < given as usize {
            self.known.resize_with(given as usize, Known::default);
        }
        // At once: while a map grows, it is there twice.
        activity.services.reserve(given as usize);
        for (slot, known) in (0..given).zip(&mut self.known) {
            if slot.is_multiple_of(NEAR_SERVICES) {
                slots.turn_to(slot, NEAR_SERVICES, cpus)?;
            }
            let Some(owner) = slots.owners.owner(slot) else {
                continue;
            };
            let mut sum = ServiceCounters::default();
            for cpu in 0..cpus {
                let block = slots.counters.read(slot::block(slot, cpu, cpus));
                if let Some(block) = block.filter(|block| block.generation == owner.generation) {
                    sum.add(&block, interval);
                    sum.generation = owner.generation;
                }
            }
            if sum.generation == 0 {
                continue;
            }
            let durations = if known.asked_since(owner.generation, (sum.calls, sum.ns_sum)) {
                self.durations
                    .turn_to(slot / NEAR_DURATIONS * NEAR_DURATIONS, NEAR_DURATIONS)?;
                self.durations.words(slot).and_then(|words| {
                    let counted = &mut self.counted;
                    known
                        .durations
                        .since(|group| latency::group(words, group), counted);
                    counted.durations(sum.ns_max[(interval & 1) as usize])
                })
            } else {
                None
            };
            self.beside.turn_to(slot / NEAR * NEAR, NEAR)?;
            let beside = self.beside.read(slot).unwrap_or_default().what;
            activity.services.insert(
                convert::service(&owner.key),
                ServiceActivity {
                    calls: sum.calls,
                    picks: sum.picks,
                    none: sum.none,
                    template_hits: sum.template_hits,
                    refused: sum.refused,
                    accepted: sum.accepted,
                    bypassed: sum.bypassed,
                    begun_by_server: sum.begun_by_server,
                    begun_by_ftp: beside[BEGUN_BY_FTP],
                    begun_by_sync: beside[BEGUN_BY_SYNC],
                    taken_over: beside[TAKEN_OVER],
                    reused: beside[REUSED],
                    ended: beside[ENDED],
                    ended_server_removed: beside[ENDED_SERVER_REMOVED],
                    drops_old_conntrack: beside[DROPS_OLD_CONNTRACK],
                    drops_no_route: beside[DROPS_NO_ROUTE],
                    drops_too_large: beside[DROPS_TOO_LARGE],
                    drops_transmit: beside[DROPS_TRANSMIT],
                    drops_defence: beside[DROPS_DEFENCE],
                    drops_server_removed: beside[DROPS_SERVER_REMOVED],
                    fatal: sum.fatal,
                    ns_sum: sum.ns_sum,
                    durations,
                },
            );
        }
        Ok(())
    }

    fn read_destinations(&mut self, given: u32, activity: &mut Activity) -> io::Result<()> {
        let Self {
            cpus,
            destinations: slots,
            ends,
            ..
        } = self;
        let (cpus, found) = (*cpus, &mut activity.destinations);
        found.truncate(given);
        for slot in 0..given {
            if slot.is_multiple_of(NEAR) {
                slots.turn_to(slot, NEAR, cpus)?;
                ends.turn_to(slot, NEAR)?;
            }
            let sum = slots.owners.generation(slot).and_then(|generation| {
                let mut sum = DestinationCounters::default();
                for cpu in 0..cpus {
                    let block = slots.counters.read(slot::block(slot, cpu, cpus))?;
                    if block.generation == generation {
                        sum.add(&block);
                        sum.generation = generation;
                    }
                }
                Some(sum).filter(|sum| sum.generation != 0)
            });
            let Some(sum) = sum else {
                found.remove(slot);
                continue;
            };
            let now = DestinationActivity {
                picks: sum.picks,
                picks_since: 0,
                overloads: sum.overloads,
                overloaded: sum.overloaded(),
                ends: how(&ends.read(slot).unwrap_or_default()),
            };
            found.update(slot, sum.generation, now, || {
                let owner = slots
                    .owners
                    .owner(slot)
                    .filter(|owner| owner.generation == sum.generation)?;
                let key = &owner.key;
                let (netns, service) = convert::service(&key.service);
                Some((
                    netns,
                    service,
                    convert::destination(key.family, key.address, key.port),
                ))
            });
        }
        Ok(())
    }
}

/// How connections ended, by its words in a measurement.
fn how(ends: &Ends) -> model::Ends {
    let how = |how: u32| ends.how[how as usize];
    model::Ends {
        closed: how(event::HOW_CLOSED),
        reset: how(event::HOW_RESET),
        half_open: how(event::HOW_HALF_OPEN),
        idle: how(event::HOW_IDLE),
        expired: how(event::HOW_EXPIRED),
        other: [event::HOW_DEFENCE, event::HOW_REPLACED, event::HOW_SERVER_REMOVED]
            .map(how)
            .iter()
            .sum(),
    }
}

impl<K, C: aya::Pod> Slots<K, C>
where
    Owner<K>: aya::Pod,
{
    /// Makes sure that so many slots from `first` on can be read, and no others.
    fn turn_to(&mut self, first: u32, slots: u32, cpus: u32) -> io::Result<()> {
        self.owners.turn_to(first, slots)?;
        // Whole runs: these are the slots' blocks of all CPUs.
        let (block, blocks) = (slot::block(first, 0, cpus), slots.saturating_mul(cpus));
        self.counters.turn_to(block, blocks)
    }
}

impl Known {
    /// Whether the scheduler was asked since the last reading.
    fn asked_since(&mut self, generation: u64, asked: (u64, u64)) -> bool {
        if self.generation != generation {
            self.generation = generation;
            self.asked = (0, 0);
            self.durations = Reading::default();
        }
        std::mem::replace(&mut self.asked, asked) != asked
    }
}

/// The probes' account of themselves.
pub(super) fn account(object: &Object) -> ProbeTotals {
    let health = object.health();
    let kernel = object.account();
    ProbeTotals {
        map_bytes: object.map_bytes,
        runs: health.runs + health.unsent,
        run_ns: kernel.run_ns,
        missed: kernel.missed,
        entries: health.entries,
        returns: health.returns,
        unpaired: health.orphans + health.abandoned,
        durations_lost: object.since_attached(&health, |health| health.durations_lost),
        events: health.decisions
            + health.changes
            + health.drops
            + health.unsent_told
            + health.ends
            + health.candidates,
        events_lost: health.decisions_lost
            + health.changes_lost
            + health.drops_lost
            + health.unsent_lost
            + health.ends_lost
            + health.candidates_lost,
        lost: Lost {
            decisions: health.decisions_lost,
            changes: health.changes_lost,
            drops: health.drops_lost + health.unsent_lost,
            ends: health.ends_lost,
            candidates: health.candidates_lost,
            // A decision is told of at the return, and only where the beginning was seen.
            skipped: object.since_attached(&health, |health| health.decisions_orphaned)
                + kernel.decisions_missed,
        },
        turned_away: health.calls_full + health.services_full + health.destinations_full,
        unreadable: health.unreadable,
    }
}
