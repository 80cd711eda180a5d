//! The maps that userspace orders by and reads, with what bounds them. The sizes here are the smallest; userspace sets
//! the real ones before loading. A map that only the programs use is where it is used.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::generated::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap, RingBuf, Stack},
};
use ipvs_observer_common::{
    control::Control,
    counter::{Beside, DestinationCounters, Ends, Health, ServiceCounters},
    histogram::Histogram,
    key::{DestinationKey, ServiceKey},
    slot::{Free, Owner, Slot},
};

use crate::read::has;

/// How many CPUs there may be. Userspace says it before loading.
#[unsafe(no_mangle)]
pub static CPUS: Global<u32> = Global::new(1);

/// The orders of userspace.
#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the probes say of themselves, by CPU.
#[map]
static HEALTH: Array<Health> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The slots of services that were counted.
#[map]
pub static SERVICES: HashMap<ServiceKey, Slot> = HashMap::with_max_entries(1, 0);

/// Slots that are no service's.
#[map]
pub static FREE_SERVICES: Stack<Free> = Stack::with_max_entries(1, 0);

/// Whose the slots are, by slot.
#[map]
pub static SERVICE_OWNERS: Array<Owner<ServiceKey>> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counters of services, by slot and CPU.
#[map]
pub static SERVICE_COUNTERS: Array<ServiceCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Durations of services, by slot. Shared by all CPUs, unlike the counters: a histogram for each of them would be
/// tens of megabytes on a large machine, and an atomic addition beside a scheduler's own lock is not felt.
#[map]
pub static DURATIONS: Array<Histogram> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What befell services beside their scheduler, by slot. Shared by all CPUs, likewise.
#[map]
pub static BESIDE_SCHEDULER: Array<Beside> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How connections of destinations ended, by slot. Shared by all CPUs, likewise.
#[map]
pub static ENDS: Array<Ends> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// An empty histogram, for there is no room to make one on the stack.
#[map]
pub static NO_DURATIONS: Array<Histogram> = Array::with_max_entries(1, 0);

/// The slots of destinations that were counted.
#[map]
pub static DESTINATIONS: HashMap<DestinationKey, Slot> = HashMap::with_max_entries(1, 0);

/// Slots that are no destination's.
#[map]
pub static FREE_DESTINATIONS: Stack<Free> = Stack::with_max_entries(1, 0);

/// Whose the slots are, by slot.
#[map]
pub static DESTINATION_OWNERS: Array<Owner<DestinationKey>> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counters of destinations, by slot and CPU.
#[map]
pub static DESTINATION_COUNTERS: Array<DestinationCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What leaves the kernel while somebody reads it.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Changes this CPU's health counters.
#[inline(always)]
pub fn health(change: impl FnOnce(&mut Health)) {
    if let Some(health) = HEALTH.get_ptr_mut(cpu()) {
        // SAFETY: the lookup gave a valid pointer to this CPU's block, and a probe is neither moved to another
        // CPU while it runs nor interrupted by another probe.
        change(unsafe { &mut *health });
    }
}

/// Counts an event that was to leave through the ring buffer. `which` gives the counters of those that left and of those
/// that found no room.
#[inline(always)]
pub fn sent_or_lost(sent: bool, which: impl FnOnce(&mut Health) -> (&mut u64, &mut u64)) {
    health(|health| {
        let (left, lost) = which(health);
        *(if sent { left } else { lost }) += 1;
    });
}

/// The CPU that this runs on.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: the helper only tells a number.
    unsafe { bpf_get_smp_processor_id() }
}

/// Whether events of a kind are wanted now, and this kernel has what they need.
#[inline(always)]
pub fn wanted(events: u32, features: u32) -> bool {
    has(features) && control(|control| control.events) & events != 0
}

/// The number of the current interval.
#[inline(always)]
pub fn interval() -> u32 {
    control(|control| control.interval)
}

/// How many refusals and drops of a namespace leave the kernel in an interval, where not all do.
#[inline(always)]
pub fn refusals() -> u32 {
    control(|control| control.refusals)
}

/// Whether it is done this way: one of [`Control::ways`].
#[inline(always)]
pub fn goes(way: u32) -> bool {
    control(|control| control.ways) & way != 0
}

/// Whether a namespace is observed.
#[inline(always)]
pub fn observed(netns: u32) -> bool {
    let Some(control) = CONTROL.get_ptr(0) else {
        return false;
    };
    // SAFETY: the lookup gave a valid pointer; userspace replaces whole numbers in it.
    let control = unsafe { &*control };
    control.namespaces == 0 || control.netns.contains(&netns)
}

/// Which filters of events are given.
#[inline(always)]
pub fn filters() -> u32 {
    control(|control| control.filters)
}

/// Which outcomes are asked for, if that is given.
#[inline(always)]
pub fn outcomes() -> u32 {
    control(|control| control.outcomes)
}

/// How long a scheduler takes at least whose decision is asked for, if that is given.
#[inline(always)]
pub fn slower_than() -> u64 {
    control(|control| control.slower_than)
}

#[inline(always)]
fn control<T: Default>(read: impl FnOnce(&Control) -> T) -> T {
    // SAFETY: the lookup gave a valid pointer; userspace replaces whole numbers in it.
    CONTROL
        .get_ptr(0)
        .map_or(T::default(), |control| read(unsafe { &*control }))
}
