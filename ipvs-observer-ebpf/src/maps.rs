//! Every map, in one place, with what bounds it.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use ipvs_observer_common::counter::Health;

use crate::call::{Call, CallKey};

/// What the probes say of themselves.
#[map]
static HEALTH: PerCpuArray<Health> = PerCpuArray::with_max_entries(1, 0);

/// Calls under way: as many as CPUs and preempted tasks can be inside a probed function at one time.
#[map]
pub static CALLS: HashMap<CallKey, Call> = HashMap::with_max_entries(4096, 0);

/// Changes this CPU's health counters.
#[inline(always)]
pub fn health(change: impl FnOnce(&mut Health)) {
    if let Some(health) = HEALTH.get_ptr_mut(0) {
        // SAFETY: the lookup gave a valid pointer to this CPU's block, and a probe is not moved to another
        // CPU while it runs. A probe that interrupts this one can cost a count, never memory.
        change(unsafe { &mut *health });
    }
}
