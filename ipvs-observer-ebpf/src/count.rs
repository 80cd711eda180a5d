//! Counting by service and by destination.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    maps::{Array, HashMap, Stack},
};
use ipvs_observer_common::{
    counter::{DestinationCounters, Health, ServiceCounters},
    event,
    histogram::{self, BUCKETS},
    key::{DestinationKey, ServiceKey},
    slot::{self, Free, Owner, Slot},
};

use crate::{
    call::now,
    key,
    maps::{
        CPUS, DESTINATION_COUNTERS, DESTINATION_OWNERS, DESTINATIONS, DURATIONS, FREE_DESTINATIONS,
        FREE_SERVICES, NO_DURATIONS, SERVICE_COUNTERS, SERVICE_OWNERS, SERVICES, cpu, health, interval,
    },
};

/// What became of a packet, and how long the scheduler took if it is known. `place` is where the kernel has the
/// service.
#[inline(always)]
pub fn outcome(service: &ServiceKey, place: u64, outcome: u32, asked: bool, ns: Option<u64>) {
    let Some((counters, slot)) = counters(service, place) else {
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
        duration(slot, ns);
    }
}

/// A packet was turned away.
#[inline(always)]
pub fn refused(service: &ServiceKey, place: u64) {
    if let Some((counters, _)) = counters(service, place) {
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
    leave(&SERVICES, &SERVICE_OWNERS, &FREE_SERVICES, service);
}

/// A destination is gone, and takes its counters along.
#[inline(always)]
pub fn forget_destination(destination: &DestinationKey) {
    leave(
        &DESTINATIONS,
        &DESTINATION_OWNERS,
        &FREE_DESTINATIONS,
        destination,
    );
}

/// The counters of a service, and its slot. What was deleted with this packet still on its way is not made anew:
/// nobody would delete it again.
#[inline(always)]
fn counters(service: &ServiceKey, place: u64) -> Option<(&'static mut ServiceCounters, u32)> {
    // SAFETY: the value is two whole numbers that do not change while it is there.
    let slot = match unsafe { SERVICES.get(service) } {
        Some(slot) => *slot,
        None if key::is_service_gone(place) => return None,
        None => {
            let given = |health: &mut Health, index| most(&mut health.services_given, index);
            let slot = take(&FREE_SERVICES, given).and_then(|index| {
                clear_durations(index);
                enter(&SERVICES, &SERVICE_OWNERS, &FREE_SERVICES, service, index)
            });
            let Some(slot) = slot else {
                health(|health| health.services_full += 1);
                return None;
            };
            slot
        }
    };
    let counters = SERVICE_COUNTERS.get_ptr_mut(block(slot.index))?;
    // SAFETY: the lookup gave a valid pointer to this CPU's block, which no other program writes to now.
    let counters = unsafe { &mut *counters };
    if counters.generation != slot.generation {
        if counters.generation > slot.generation {
            return None;
        }
        begin_anew(counters, |counters| &raw mut counters.generation, slot.generation);
    }
    Some((counters, slot.index))
}

/// The counters of a destination; likewise.
#[inline(always)]
fn destination_counters(
    destination: &DestinationKey,
    place: u64,
) -> Option<&'static mut DestinationCounters> {
    // SAFETY: as above.
    let slot = match unsafe { DESTINATIONS.get(destination) } {
        Some(slot) => *slot,
        None if key::is_gone(place) => return None,
        None => {
            let given = |health: &mut Health, index| most(&mut health.destinations_given, index);
            let slot = take(&FREE_DESTINATIONS, given).and_then(|index| {
                enter(
                    &DESTINATIONS,
                    &DESTINATION_OWNERS,
                    &FREE_DESTINATIONS,
                    destination,
                    index,
                )
            });
            let Some(slot) = slot else {
                health(|health| health.destinations_full += 1);
                return None;
            };
            slot
        }
    };
    let counters = DESTINATION_COUNTERS.get_ptr_mut(block(slot.index))?;
    // SAFETY: as above.
    let counters = unsafe { &mut *counters };
    if counters.generation != slot.generation {
        if counters.generation > slot.generation {
            return None;
        }
        begin_anew(counters, |counters| &raw mut counters.generation, slot.generation);
    }
    Some(counters)
}

/// Empties a block that was of something that is gone. Its generation comes last: who reads it before does not read
/// the rest.
#[inline(always)]
fn begin_anew<C: Default>(counters: &mut C, place: impl FnOnce(&mut C) -> *mut u64, generation: u64) {
    // SAFETY: the block is valid, and the place is within it.
    unsafe {
        (&raw mut *counters).write_volatile(C::default());
        place(counters).write_volatile(generation);
    }
}

/// The place of this CPU's block of a slot.
#[inline(always)]
fn block(slot: u32) -> u32 {
    slot::block(slot, cpu(), CPUS.load())
}

/// Takes a slot that is nobody's, and lets userspace know how far slots are in use.
#[inline(always)]
fn take(free: &Stack<Free>, given: impl FnOnce(&mut Health, u32)) -> Option<u32> {
    let Free { first, count } = free.pop().ok()??;
    if count > 1 {
        let rest = Free {
            first: first + 1,
            count: count - 1,
        };
        let _ = free.push(rest, 0);
    }
    health(|health| given(health, first + 1));
    Some(first)
}

#[inline(always)]
fn most(most: &mut u32, now: u32) {
    if *most < now {
        *most = now;
    }
}

/// Gives a slot to a key, or returns the one that another CPU gave it meanwhile; none if the map is full.
#[inline(always)]
fn enter<K: Copy>(
    slots: &HashMap<K, Slot>,
    owners: &Array<Owner<K>>,
    free: &Stack<Free>,
    key: &K,
    index: u32,
) -> Option<Slot> {
    let slot = Slot {
        generation: now(),
        index,
        reserved: 0,
    };
    // Before anybody can find it, or take it away again.
    if let Some(owner) = owners.get_ptr_mut(index) {
        // SAFETY: the lookup gave a valid pointer, and the slot is this program's. Its generation is written last: who
        // reads it before does not read the key.
        unsafe {
            (&raw mut (*owner).key).write_volatile(*key);
            (&raw mut (*owner).generation).write_volatile(slot.generation);
        }
    }
    if slots.insert(key, slot, u64::from(BPF_NOEXIST)).is_ok() {
        return Some(slot);
    }
    give_back(owners, free, index);
    // SAFETY: as above.
    unsafe { slots.get(key) }.copied()
}

/// Takes the slot of a key away.
#[inline(always)]
fn leave<K>(slots: &HashMap<K, Slot>, owners: &Array<Owner<K>>, free: &Stack<Free>, key: &K) {
    // SAFETY: as above.
    let Some(index) = unsafe { slots.get(key) }.map(|slot| slot.index) else {
        return;
    };
    // Who removes it is the one that gives it back.
    if slots.remove(key).is_err() {
        return;
    }
    give_back(owners, free, index);
}

/// Makes a slot nobody's.
#[inline(always)]
fn give_back<K>(owners: &Array<Owner<K>>, free: &Stack<Free>, index: u32) {
    if let Some(owner) = owners.get_ptr_mut(index) {
        // SAFETY: the lookup gave a valid pointer, and the slot is nobody else's until it is pushed.
        unsafe { (&raw mut (*owner).generation).write_volatile(0) };
    }
    let _ = free.push(
        Free {
            first: index,
            count: 1,
        },
        0,
    );
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
fn duration(slot: u32, ns: u64) {
    if let Some(durations) = DURATIONS.get_ptr_mut(slot) {
        // SAFETY: the lookup gave a valid pointer to a whole histogram.
        add_one(unsafe { &raw mut (*durations).buckets }, histogram::bucket(ns));
    }
}

#[inline(always)]
fn clear_durations(slot: u32) {
    if let Some(none) = NO_DURATIONS.get_ptr(0) {
        // SAFETY: the lookup gave a valid pointer, and nobody writes there.
        let none = unsafe { &*none };
        let _ = DURATIONS.set(slot, none, 0);
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
