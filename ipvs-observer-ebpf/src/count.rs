//! Counting by service and by destination.

use core::arch::asm;

use aya_ebpf::bindings::BPF_NOEXIST;
use ipvs_observer_common::{
    counter::{DestinationCounters, ServiceCounters},
    event,
    histogram::{self, BUCKETS},
    key::{DestinationKey, ServiceKey},
};

use crate::{
    call::now,
    key,
    maps::{DESTINATIONS, DURATIONS, NO_DURATIONS, SERVICES, health, interval},
};

/// What became of a packet, and how long the scheduler took if it is known. `place` is where the kernel has the
/// service.
#[inline(always)]
pub fn outcome(service: &ServiceKey, place: u64, outcome: u32, asked: bool, ns: Option<u64>) {
    let Some(counters) = counters(service, place) else {
        return;
    };
    if asked {
        counters.calls += 1;
    }
    match outcome {
        event::OUTCOME_SCHEDULED => counters.picks += 1,
        event::OUTCOME_TEMPLATE => counters.template_hits += 1,
        event::OUTCOME_NONE => counters.none += 1,
        event::OUTCOME_FATAL => counters.fatal += 1,
        _ => {}
    }
    if let Some(ns) = ns {
        counters.ns_sum += ns;
        longest(counters, ns);
        duration(service, ns);
    }
}

/// A packet was turned away.
#[inline(always)]
pub fn refused(service: &ServiceKey, place: u64) {
    if let Some(counters) = counters(service, place) {
        counters.refused += 1;
    }
}

/// A destination was chosen. `place` is where the kernel has it.
#[inline(always)]
pub fn pick(destination: &DestinationKey, place: u64) {
    if let Some(counters) = destination_counters(destination, place) {
        counters.picks += 1;
    }
}

/// A destination was seen to be overloaded or not; `became`: just now.
#[inline(always)]
pub fn overload(destination: &DestinationKey, place: u64, overloaded: bool, became: bool) {
    if let Some(counters) = destination_counters(destination, place) {
        counters.overload_seen = now() & !1 | u64::from(overloaded);
        if became {
            counters.overloads += 1;
        }
    }
}

/// A service is gone, and takes its counters along.
#[inline(always)]
pub fn forget(service: &ServiceKey) {
    let _ = SERVICES.remove(service);
    let _ = DURATIONS.remove(service);
}

/// A destination is gone, and takes its counters along.
#[inline(always)]
pub fn forget_destination(destination: &DestinationKey) {
    let _ = DESTINATIONS.remove(destination);
}

/// The counters of a service. What was deleted with this packet still on its way is not made anew: nobody would
/// delete it again.
#[inline(always)]
fn counters(service: &ServiceKey, place: u64) -> Option<&'static mut ServiceCounters> {
    let mut counters = SERVICES.get_ptr_mut(service);
    if counters.is_none() {
        if key::is_service_gone(place) {
            return None;
        }
        let _ = SERVICES.insert(service, ServiceCounters::default(), u64::from(BPF_NOEXIST));
        counters = SERVICES.get_ptr_mut(service);
        if counters.is_none() {
            health(|health| health.services_full += 1);
        }
    }
    // SAFETY: the lookup gave a valid pointer to this CPU's block, which no other program touches now.
    counters.map(|counters| unsafe { &mut *counters })
}

/// The counters of a destination; likewise.
#[inline(always)]
fn destination_counters(
    destination: &DestinationKey,
    place: u64,
) -> Option<&'static mut DestinationCounters> {
    let mut counters = DESTINATIONS.get_ptr_mut(destination);
    if counters.is_none() {
        if key::is_gone(place) {
            return None;
        }
        let _ = DESTINATIONS.insert(
            destination,
            DestinationCounters::default(),
            u64::from(BPF_NOEXIST),
        );
        counters = DESTINATIONS.get_ptr_mut(destination);
        if counters.is_none() {
            health(|health| health.destinations_full += 1);
        }
    }
    // SAFETY: the lookup gave a valid pointer to this CPU's block, which no other program touches now.
    counters.map(|counters| unsafe { &mut *counters })
}

/// Keeps the longest of this interval, in the half that this interval has.
#[inline(always)]
fn longest(counters: &mut ServiceCounters, ns: u64) {
    let interval = interval();
    let parity = (interval & 1) as usize;
    if counters.interval[parity] != interval {
        counters.interval[parity] = interval;
        counters.ns_max[parity] = ns;
    } else if counters.ns_max[parity] < ns {
        counters.ns_max[parity] = ns;
    }
}

#[inline(always)]
fn duration(service: &ServiceKey, ns: u64) {
    let mut durations = DURATIONS.get_ptr_mut(service);
    if durations.is_none() {
        // The stack is too small for a block of zeros.
        if let Some(none) = NO_DURATIONS.get_ptr(0) {
            // SAFETY: the lookup gave a valid pointer, and nobody writes there.
            let none = unsafe { &*none };
            let _ = DURATIONS.insert(service, none, u64::from(BPF_NOEXIST));
        }
        durations = DURATIONS.get_ptr_mut(service);
    }
    if let Some(durations) = durations {
        // SAFETY: the lookup gave a valid pointer to a whole histogram.
        add_one(unsafe { &raw mut (*durations).buckets }, histogram::bucket(ns));
    }
}

/// Adds one where other CPUs add too.
///
/// The target has the instruction, but `core` does not offer it here. The bound stands right before it and in
/// the same register: what older verifiers know of a number they forget when the compiler moves it.
#[inline(always)]
fn add_one(buckets: *mut [u32; BUCKETS], bucket: usize) {
    // SAFETY: the caller's pointer is valid and the bucket is held within it; nothing else is written.
    unsafe {
        asm!(
            "if {bucket} < {buckets_length} goto +1",
            "{bucket} = {last}",
            "{bucket} <<= 2",
            "{place} += {bucket}",
            "lock *(u32 *)({place} + 0) += {one}",
            bucket = inout(reg) bucket as u64 => _,
            place = inout(reg) buckets => _,
            one = in(reg) 1u64,
            buckets_length = const BUCKETS,
            last = const BUCKETS - 1,
        );
    }
}
