//! The per-CPU maps, read into the model.

use aya::maps::PerCpuArray;
use ipvs_observer_common::counter::Health;

use super::object::Object;
use crate::model::{Activity, ProbeTotals};

/// Reads every counter.
pub(super) fn read(object: &Object, activity: &mut Activity) {
    if let Some(health) = health(object) {
        activity.probes = totals(&health);
    }
}

fn health(object: &Object) -> Option<Health> {
    let map = PerCpuArray::<_, Health>::try_from(object.ebpf.map("HEALTH")?).ok()?;
    let per_cpu = map.get(&0, 0).ok()?;
    let mut sum = Health::default();
    per_cpu.iter().for_each(|cpu| sum.add(cpu));
    Some(sum)
}

fn totals(health: &Health) -> ProbeTotals {
    ProbeTotals {
        runs: health.runs,
        run_ns: None,
        entries: health.entries,
        returns: health.returns,
        unpaired: health.orphans + health.abandoned,
        events: 0,
        events_lost: 0,
        turned_away: health.turned_away,
    }
}
