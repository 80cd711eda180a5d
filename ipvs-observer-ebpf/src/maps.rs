//! Every map, in one place, with what bounds it. The sizes here are the smallest; userspace sets the real ones
//! before loading.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::generated::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf, Stack},
};
use ipvs_observer_common::{
    control::Control,
    counter::{DestinationCounters, Health, ServiceCounters},
    event,
    histogram::Histogram,
    key::{DestinationKey, ServiceKey},
    slot::{Free, Owner, Slot},
};

use crate::{
    call::{Call, CallKey},
    change::Pending,
    scheduler::{Last, Verdict},
    template::Template,
};

/// How many CPUs there may be. Userspace says it before loading.
#[unsafe(no_mangle)]
pub static CPUS: Global<u32> = Global::new(1);

/// The orders of userspace.
#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the probes say of themselves, by CPU.
#[map]
static HEALTH: Array<Health> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Calls under way: as many as CPUs and preempted tasks can be inside probed functions at one time.
#[map]
pub static CALLS: HashMap<CallKey, Call> = HashMap::with_max_entries(4096, 0);

/// What the scheduler of this CPU's last packet took. Where that packet goes on on another CPU, or is interrupted
/// by another that is scheduled here, its duration is lost; that is counted, and nothing else is lost by it.
#[map]
pub static LAST: PerCpuArray<Last> = PerCpuArray::with_max_entries(1, 0);

/// What the scheduler said of a packet, from its return to that of the function around it. Only for telling: it
/// costs more, and loses nothing.
#[map]
pub static VERDICTS: HashMap<u64, Verdict> = HashMap::with_max_entries(4096, 0);

/// What a scheduler had to say, by service, from there to its return.
#[map]
pub static MESSAGES: HashMap<u64, u64> = HashMap::with_max_entries(1024, 0);

/// Configuration changes under way, by thread: these run in the process that makes them.
#[map]
pub static PENDING: HashMap<u64, Pending> = HashMap::with_max_entries(1024, 0);

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

/// An empty histogram, for there is no room to make one on the stack.
#[map]
pub static NO_DURATIONS: Array<Histogram> = Array::with_max_entries(1, 0);

/// Persistence templates that were found good, from there to the return of the function around it.
#[map]
pub static TEMPLATES: HashMap<Template, u32> = HashMap::with_max_entries(4096, 0);

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

/// Where a list of candidates is put together. A probe is not interrupted by another on its CPU.
#[map]
pub static CANDIDATES: PerCpuArray<event::Candidates> = PerCpuArray::with_max_entries(1, 0);

/// Where a summary is counted.
#[map]
pub static SUMMARY: PerCpuArray<event::Summary> = PerCpuArray::with_max_entries(1, 0);

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

/// The CPU that this runs on.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: the helper only tells a number.
    unsafe { bpf_get_smp_processor_id() }
}

/// Which events are wanted now.
#[inline(always)]
pub fn events_wanted() -> u32 {
    control(|control| control.events)
}

/// The number of the current interval.
#[inline(always)]
pub fn interval() -> u32 {
    control(|control| control.interval)
}

/// Whether flags are looked at for overloads.
#[inline(always)]
pub fn look_for_overload() -> bool {
    control(|control| control.look_for_overload) != 0
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

#[inline(always)]
fn control(read: impl FnOnce(&Control) -> u32) -> u32 {
    // SAFETY: the lookup gave a valid pointer; userspace replaces whole numbers in it.
    CONTROL.get_ptr(0).map_or(0, |control| read(unsafe { &*control }))
}
