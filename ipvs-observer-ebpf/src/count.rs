//! Counting by service and by destination.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    maps::{Array, HashMap, Stack},
};
use ipvs_observer_common::{
    counter::{DestinationCounters, Health, ServiceCounters},
    event,
    key::{DestinationKey, ServiceKey},
    slot::{self, Free, Owner, Slot},
};

use crate::{
    call::now,
    key,
    maps::{
        CPUS, DESTINATION_COUNTERS, DESTINATION_OWNERS, DESTINATIONS, FREE_DESTINATIONS, FREE_SERVICES,
        SERVICE_COUNTERS, SERVICE_OWNERS, SERVICES, cpu, health, interval,
    },
    tally,
};

/// What becomes of a packet without a destination.
#[derive(Clone, Copy)]
pub enum End {
    /// It was turned away.
    Refused,
    /// It was handed on to this host.
    Accepted,
    /// It was sent on to where it was going.
    Bypassed,
}

/// What is counted: its maps, and what differs from one kind to the other.
pub trait Counted: Copy + 'static {
    type Counters: Default + 'static;

    const SLOTS: &'static HashMap<Self, Slot>;
    const OWNERS: &'static Array<Owner<Self>>;
    const FREE: &'static Stack<Free>;
    const BLOCKS: &'static Array<Self::Counters>;
    /// Whose block it is.
    const GENERATION: fn(&mut Self::Counters) -> &mut u64;
    /// Below which slots were ever given.
    const GIVEN: fn(&mut Health) -> &mut u32;
    /// Those that there was no slot for.
    const FULL: fn(&mut Health) -> &mut u64;
    /// Whether it was deleted, by where the kernel has it.
    const IS_GONE: fn(u64) -> bool;
    /// Makes a slot ready for another.
    const PREPARE: fn(u32);
}

impl Counted for ServiceKey {
    type Counters = ServiceCounters;

    const SLOTS: &'static HashMap<Self, Slot> = &SERVICES;
    const OWNERS: &'static Array<Owner<Self>> = &SERVICE_OWNERS;
    const FREE: &'static Stack<Free> = &FREE_SERVICES;
    const BLOCKS: &'static Array<ServiceCounters> = &SERVICE_COUNTERS;
    const GENERATION: fn(&mut ServiceCounters) -> &mut u64 = |counters| &mut counters.generation;
    const GIVEN: fn(&mut Health) -> &mut u32 = |health| &mut health.services_given;
    const FULL: fn(&mut Health) -> &mut u64 = |health| &mut health.services_full;
    const IS_GONE: fn(u64) -> bool = key::is_service_gone;
    const PREPARE: fn(u32) = tally::clear_service;
}

impl Counted for DestinationKey {
    type Counters = DestinationCounters;

    const SLOTS: &'static HashMap<Self, Slot> = &DESTINATIONS;
    const OWNERS: &'static Array<Owner<Self>> = &DESTINATION_OWNERS;
    const FREE: &'static Stack<Free> = &FREE_DESTINATIONS;
    const BLOCKS: &'static Array<DestinationCounters> = &DESTINATION_COUNTERS;
    const GENERATION: fn(&mut DestinationCounters) -> &mut u64 = |counters| &mut counters.generation;
    const GIVEN: fn(&mut Health) -> &mut u32 = |health| &mut health.destinations_given;
    const FULL: fn(&mut Health) -> &mut u64 = |health| &mut health.destinations_full;
    const IS_GONE: fn(u64) -> bool = key::is_gone;
    const PREPARE: fn(u32) = tally::clear_destination;
}

/// What became of a packet, and how long the scheduler took if it is known. `place` is where the kernel has the
/// service. Returns the service's slot, as do others here.
#[inline(always)]
pub fn outcome(service: &ServiceKey, place: u64, outcome: u32, asked: bool, ns: Option<u64>) -> Option<u32> {
    let (counters, slot) = counters(service, place)?;
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
        tally::duration(slot, ns);
    }
    Some(slot)
}

/// What became of a packet without a destination.
#[inline(always)]
pub fn left(service: &ServiceKey, place: u64, end: End) -> Option<u32> {
    let (counters, slot) = counters(service, place)?;
    match end {
        End::Refused => counters.refused += 1,
        End::Accepted => counters.accepted += 1,
        End::Bypassed => counters.bypassed += 1,
    }
    Some(slot)
}

/// A real server began a connection.
#[inline(always)]
pub fn begun_by_server(service: &ServiceKey, place: u64) {
    if let Some((counters, _)) = counters(service, place) {
        counters.begun_by_server += 1;
    }
}

/// A destination was chosen. `place` is where the kernel has it.
#[inline(always)]
pub fn pick(destination: &DestinationKey, place: u64) {
    if let Some((counters, _)) = counters(destination, place) {
        counters.picks += 1;
    }
}

/// Something befell a connection beside the scheduler: one of the constants of [`Beside`]. `place` is where the kernel has
/// the service.
///
/// [`Beside`]: ipvs_observer_common::counter::Beside
#[inline(always)]
pub fn beside(service: &ServiceKey, place: u64, what: usize) -> Option<u32> {
    let (_, slot) = counters(service, place)?;
    tally::beside(slot, what);
    Some(slot)
}

/// A service took over so many connections of one that was deleted. `place` is where the kernel has the service.
#[inline(always)]
pub fn taken_over(service: &ServiceKey, place: u64, connections: u32) {
    if connections != 0
        && let Some((_, slot)) = counters(service, place)
    {
        tally::taken_over(slot, connections);
    }
}

/// A connection ended. Places are where the kernel has the service and the destination; `destination` is none where the
/// connection had none.
#[inline(always)]
pub fn ended(service: &ServiceKey, place: u64, destination: Option<(&DestinationKey, u64)>, how: u32) {
    if let Some((_, slot)) = counters(service, place) {
        tally::ended(slot, how);
    }
    if let Some((key, place)) = destination
        && let Some((_, slot)) = counters(key, place)
    {
        tally::ended_at(slot, how);
    }
}

/// A destination was seen to be overloaded or not at the time `seen`; `became`: just then.
#[inline(always)]
pub fn overload(destination: &DestinationKey, place: u64, overloaded: bool, became: bool, seen: u64) {
    if let Some((counters, _)) = counters(destination, place) {
        counters.overload_seen = seen & !1 | u64::from(overloaded);
        if became {
            counters.overloads += 1;
        }
    }
}

/// A destination is overloaded or not, where it was otherwise when a call saw it that began at the time `since`; false
/// if that is counted already.
///
/// Several processors can be in such calls at once, and each sees the transition as its own. When it was counted is not
/// exchanged in one step, for which old verifiers have no instruction: two that end within nanoseconds of each other
/// still count twice.
#[inline(always)]
pub fn transition(destination: &DestinationKey, place: u64, overloaded: bool, seen: u64, since: u64) -> bool {
    if let Some(slot) = DESTINATIONS.get_ptr_mut(destination) {
        // SAFETY: the lookup gave a valid pointer; a whole number is read.
        if unsafe { (&raw const (*slot).overload_changed).read_volatile() } >= since {
            return false;
        }
    }
    overload(destination, place, overloaded, overloaded, seen);
    if let Some(slot) = DESTINATIONS.get_ptr_mut(destination) {
        // SAFETY: as above; a whole number is replaced.
        unsafe { (&raw mut (*slot).overload_changed).write_volatile(seen) };
    }
    true
}

/// A service or a destination is gone, and takes its counters along.
#[inline(always)]
pub fn forget<K: Counted>(key: &K) {
    // SAFETY: the value is two whole numbers that do not change while it is there.
    let Some(index) = unsafe { K::SLOTS.get(key) }.map(|slot| slot.index) else {
        return;
    };
    // Who removes it is the one that gives it back.
    if K::SLOTS.remove(key).is_err() {
        return;
    }
    give_back::<K>(index);
}

/// The counters of a service or a destination, and its slot. What was deleted with this packet still on its way is not
/// made anew: nobody would delete it again.
#[inline(always)]
fn counters<K: Counted>(key: &K, place: u64) -> Option<(&'static mut K::Counters, u32)> {
    // SAFETY: the value is two whole numbers that do not change while it is there.
    let slot = match unsafe { K::SLOTS.get(key) } {
        Some(slot) => *slot,
        None if (K::IS_GONE)(place) => return None,
        None => {
            let slot = take::<K>().and_then(|index| {
                (K::PREPARE)(index);
                enter(key, index)
            });
            let Some(slot) = slot else {
                health(|health| *(K::FULL)(health) += 1);
                return None;
            };
            slot
        }
    };
    let counters = K::BLOCKS.get_ptr_mut(block(slot.index))?;
    // SAFETY: the lookup gave a valid pointer to this CPU's block, which no other program writes to now.
    let counters = unsafe { &mut *counters };
    let generation = *(K::GENERATION)(counters);
    if generation != slot.generation {
        if generation > slot.generation {
            return None;
        }
        begin_anew::<K>(counters, slot.generation);
    }
    Some((counters, slot.index))
}

/// Empties a block that was of something that is gone. Its generation comes last: who reads it before does not read
/// the rest.
#[inline(always)]
fn begin_anew<K: Counted>(counters: &mut K::Counters, generation: u64) {
    // SAFETY: the block is valid, and the place is within it.
    unsafe {
        (&raw mut *counters).write_volatile(K::Counters::default());
        (&raw mut *(K::GENERATION)(counters)).write_volatile(generation);
    }
}

/// The place of this CPU's block of a slot.
#[inline(always)]
fn block(slot: u32) -> u32 {
    slot::block(slot, cpu(), CPUS.load())
}

/// Takes a slot that is nobody's, and lets userspace know how far slots are in use.
#[inline(always)]
fn take<K: Counted>() -> Option<u32> {
    let Free { first, count } = K::FREE.pop().ok()??;
    if count > 1 {
        let rest = Free {
            first: first + 1,
            count: count - 1,
        };
        let _ = K::FREE.push(rest, 0);
    }
    health(|health| {
        let most = (K::GIVEN)(health);
        if *most <= first {
            *most = first + 1;
        }
    });
    Some(first)
}

/// Gives a slot to a key, or returns the one that another CPU gave it meanwhile; none if the map is full.
#[inline(always)]
fn enter<K: Counted>(key: &K, index: u32) -> Option<Slot> {
    let slot = Slot {
        generation: now(),
        index,
        reserved: 0,
        overload_changed: 0,
    };
    // Before anybody can find it, or take it away again.
    if let Some(owner) = K::OWNERS.get_ptr_mut(index) {
        // SAFETY: the lookup gave a valid pointer, and the slot is this program's. Its generation is written last: who
        // reads it before does not read the key.
        unsafe {
            (&raw mut (*owner).key).write_volatile(*key);
            (&raw mut (*owner).generation).write_volatile(slot.generation);
        }
    }
    if K::SLOTS.insert(key, slot, u64::from(BPF_NOEXIST)).is_ok() {
        return Some(slot);
    }
    give_back::<K>(index);
    // SAFETY: as above.
    unsafe { K::SLOTS.get(key) }.copied()
}

/// Makes a slot nobody's.
#[inline(always)]
fn give_back<K: Counted>(index: u32) {
    if let Some(owner) = K::OWNERS.get_ptr_mut(index) {
        // SAFETY: the lookup gave a valid pointer, and the slot is nobody else's until it is pushed.
        unsafe { (&raw mut (*owner).generation).write_volatile(0) };
    }
    let _ = K::FREE.push(
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
