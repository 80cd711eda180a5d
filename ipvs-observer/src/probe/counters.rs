//! The maps, read into the model.

use std::{collections::HashMap, io, os::fd::AsFd};

use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, PerCpuArray};
use ipvs_observer_common::{
    control::Control,
    counter::{DestinationCounters, Health, ServiceCounters},
    histogram::Histogram,
    key::{DestinationKey, ServiceKey},
};

use super::{batch::Batch, convert, latency, object::Object};
use crate::model::{Activity, DestinationActivity, Durations, Lost, ProbeTotals, ServiceActivity};

/// Reads the counters, and remembers what the last reading found where differences are wanted.
pub(super) struct Counters {
    services: Batch<ServiceKey, ServiceCounters>,
    destinations: Batch<DestinationKey, DestinationCounters>,
    /// Durations as of the last reading, of the services that were there.
    durations: HashMap<ServiceKey, Known>,
    reading: u64,
}

/// What the last reading found of a service's durations.
struct Known {
    /// Calls, and the time that they took: a service that is deleted and added again may reach the same number.
    asked: (u64, u64),
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
            durations: HashMap::new(),
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
        let histograms = object
            .ebpf
            .map("DURATIONS")
            .and_then(|map| BpfHashMap::<_, ServiceKey, Histogram>::try_from(map).ok());
        let (durations, reading) = (&mut self.durations, self.reading);
        self.services.read(map.fd().as_fd(), |key, cpus| {
            let mut sum = ServiceCounters::default();
            cpus.for_each(|cpu| sum.add(&cpu, interval));
            let longest = sum.ns_max[(interval & 1) as usize];
            let durations = interval_durations(durations, histograms.as_ref(), key, &sum, longest, reading);
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
                    durations,
                },
            );
        })?;
        self.durations.retain(|_, known| known.reading == reading);
        Ok(())
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

type Histograms<'a> = BpfHashMap<&'a MapData, ServiceKey, Histogram>;

/// The percentiles since the last reading. Nothing is read of a service whose scheduler was not asked since.
fn interval_durations(
    known: &mut HashMap<ServiceKey, Known>,
    histograms: Option<&Histograms<'_>>,
    key: &ServiceKey,
    sum: &ServiceCounters,
    longest: u64,
    reading: u64,
) -> Option<Durations> {
    let known = known.entry(*key).or_insert_with(|| Known {
        asked: (0, 0),
        histogram: Box::default(),
        reading,
    });
    known.reading = reading;
    let asked = (sum.calls, sum.ns_sum);
    if known.asked == asked {
        return None;
    }
    known.asked = asked;
    let now = histograms?.get(key, 0).ok()?;
    let interval = latency::between(&known.histogram, &now);
    *known.histogram = now;
    latency::durations(&interval, longest)
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
