//! The maps, read into the model.

use std::{io, os::fd::AsFd};

use aya::maps::{Array, HashMap as BpfHashMap, Map, PerCpuArray};
use ipvs_observer_common::{
    control::Control,
    counter::{DestinationCounters, Health, ServiceCounters},
    histogram::Histogram,
    key::{DestinationKey, ServiceKey},
};

use super::{batch::Batch, convert, latency, object::Object};
use crate::model::{Activity, DestinationActivity, KeyMap, Lost, ProbeTotals, ServiceActivity};

/// Reads the counters, and remembers what the last reading found where differences are wanted.
pub(super) struct Counters {
    services: Batch<ServiceKey, ServiceCounters>,
    destinations: Batch<DestinationKey, DestinationCounters>,
    histograms: Batch<ServiceKey, Histogram>,
    /// Durations as of the last reading, of the services that were there.
    durations: KeyMap<ServiceKey, Known>,
    reading: u64,
}

/// What the last reading found of a service's durations.
#[derive(Default)]
struct Known {
    /// Calls, and the time that they took: a service that is deleted and added again may reach the same number.
    asked: (u64, u64),
    /// Whether that is more than the reading before found, and how long the longest call took since.
    asked_since: bool,
    longest: u64,
    histogram: Box<Histogram>,
    reading: u64,
}

impl Counters {
    /// # Errors
    /// The number of CPUs cannot be told.
    pub(super) fn new() -> io::Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        Ok(Self {
            services: Batch::new(cpus),
            destinations: Batch::new(cpus),
            histograms: Batch::new(1),
            durations: KeyMap::default(),
            reading: 0,
        })
    }

    /// Reads every counter. What cannot be read is left out.
    ///
    /// # Errors
    /// What the kernel said of the first map that it would not read.
    pub(super) fn read(
        &mut self,
        object: &mut Object,
        control: &mut Control,
        activity: &mut Activity,
    ) -> io::Result<()> {
        self.reading += 1;
        if let Some(account) = account(object) {
            activity.probes = account;
        }
        // The interval ends for the programs first: what comes after belongs to the next.
        let ended = control.interval;
        control.interval = ended.wrapping_add(1);
        orders(object, control)?;
        self.read_services(object, ended, activity)?;
        self.read_destinations(object, activity)
    }

    fn read_services(&mut self, object: &Object, interval: u32, activity: &mut Activity) -> io::Result<()> {
        let Some(Map::PerCpuHashMap(map)) = object.ebpf.map("SERVICES") else {
            return Ok(());
        };
        let (durations, reading) = (&mut self.durations, self.reading);
        let mut asked = 0;
        self.services.read(map.fd().as_fd(), |key, cpus| {
            let mut sum = ServiceCounters::default();
            cpus.for_each(|cpu| sum.add(&cpu, interval));
            let known = durations.entry(*key).or_default();
            known.reading = reading;
            known.longest = sum.ns_max[(interval & 1) as usize];
            known.asked_since = known.asked != (sum.calls, sum.ns_sum);
            known.asked = (sum.calls, sum.ns_sum);
            asked += u32::from(known.asked_since);
            activity.services.insert(
                convert::service(key),
                ServiceActivity {
                    calls: sum.calls,
                    picks: sum.picks,
                    none: sum.none,
                    template_hits: sum.template_hits,
                    refused: sum.refused,
                    fatal: sum.fatal,
                    ns_sum: sum.ns_sum,
                    durations: None,
                },
            );
        })?;
        durations.retain(|_, known| known.reading == reading);
        self.read_durations(object, asked, activity)
    }

    /// The percentiles since the last reading, of the services whose schedulers were asked since.
    fn read_durations(&mut self, object: &Object, asked: u32, activity: &mut Activity) -> io::Result<()> {
        /// A histogram is long, and many of them at once are still cheaper than a few system calls.
        const FEW: u32 = 8;
        let Some(map) = object.ebpf.map("DURATIONS") else {
            return Ok(());
        };
        if asked == 0 {
            return Ok(());
        }
        let mut take = |key: &ServiceKey, known: &mut Known, now: &Histogram| {
            let interval = latency::between(&known.histogram, now);
            *known.histogram = *now;
            if let Some(service) = activity.services.get_mut(&convert::service(key)) {
                service.durations = latency::durations(&interval, known.longest);
            }
        };
        if asked * FEW < self.durations.len() as u32 {
            let Ok(map) = BpfHashMap::<_, ServiceKey, Histogram>::try_from(map) else {
                return Ok(());
            };
            for (key, known) in self.durations.iter_mut().filter(|(_, known)| known.asked_since) {
                if let Ok(now) = map.get(key, 0) {
                    take(key, known, &now);
                }
            }
            return Ok(());
        }
        let Map::HashMap(map) = map else { return Ok(()) };
        let durations = &mut self.durations;
        self.histograms.read(map.fd().as_fd(), |key, values| {
            if let Some(known) = durations.get_mut(key).filter(|known| known.asked_since)
                && let Some(now) = values.next()
            {
                take(key, known, &now);
            }
        })
    }

    fn read_destinations(&mut self, object: &Object, activity: &mut Activity) -> io::Result<()> {
        let Some(Map::PerCpuHashMap(map)) = object.ebpf.map("DESTINATIONS") else {
            return Ok(());
        };
        self.destinations.read(map.fd().as_fd(), |key, cpus| {
            let mut sum = DestinationCounters::default();
            cpus.for_each(|cpu| sum.add(&cpu));
            let (netns, service) = convert::service(&key.service);
            let destination = convert::destination(key.family, key.address, key.port);
            activity.destinations.insert(
                (netns, service, destination),
                DestinationActivity {
                    picks: sum.picks,
                    overloads: sum.overloads,
                    overloaded: sum.overloaded(),
                },
            );
        })
    }
}

/// Gives the programs their orders.
///
/// # Errors
/// The kernel did not take them.
pub(super) fn orders(object: &mut Object, control: &Control) -> io::Result<()> {
    let map = object.ebpf.map_mut("CONTROL").ok_or(io::ErrorKind::NotFound)?;
    Array::<_, Control>::try_from(map)
        .and_then(|mut map| map.set(0, control, 0))
        .map_err(io::Error::other)
}

fn health(object: &Object) -> Option<Health> {
    let map = PerCpuArray::<_, Health>::try_from(object.ebpf.map("HEALTH")?).ok()?;
    let per_cpu = map.get(&0, 0).ok()?;
    let mut sum = Health::default();
    per_cpu.iter().for_each(|cpu| sum.add(cpu));
    Some(sum)
}

/// The probes' account of themselves.
pub(super) fn account(object: &Object) -> Option<ProbeTotals> {
    health(object).map(|health| ProbeTotals {
        run_ns: object.run_ns(),
        ..totals(&health)
    })
}

fn totals(health: &Health) -> ProbeTotals {
    ProbeTotals {
        runs: health.runs,
        run_ns: None,
        entries: health.entries,
        returns: health.returns,
        unpaired: health.orphans + health.abandoned,
        durations_lost: health.durations_lost,
        events: health.decisions + health.changes + health.candidates,
        events_lost: health.decisions_lost + health.changes_lost + health.candidates_lost,
        lost: Lost {
            decisions: health.decisions_lost,
            changes: health.changes_lost,
            candidates: health.candidates_lost,
        },
        turned_away: health.calls_full + health.services_full + health.destinations_full,
        unreadable: health.unreadable,
    }
}
