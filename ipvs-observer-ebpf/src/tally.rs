//! Counters that all CPUs share: durations, and what befalls a connection beside its scheduler.
//!
//! A block of each CPU would be tens of megabytes on a large machine. An atomic addition where a connection ends, or
//! beside a scheduler's own lock, is not felt.

use core::arch::asm;

use ipvs_observer_common::{
    counter::{Beside, ENDED, ENDED_SERVER_REMOVED, Ends, TAKEN_OVER},
    event,
    histogram::{self, BUCKETS},
};

use crate::{
    budget,
    maps::{BESIDE_SCHEDULER, DURATIONS, ENDS, NO_DURATIONS},
};

/// A call of the scheduler took so long.
#[inline(always)]
pub fn duration(slot: u32, ns: u64) {
    if let Some(durations) = DURATIONS.get_ptr_mut(slot) {
        // SAFETY: the lookup gave a valid pointer to a whole histogram.
        add_one_short(unsafe { &raw mut (*durations).buckets }, histogram::bucket(ns));
    }
}

/// Something befell a connection of a service: one of the constants of [`Beside`].
#[inline(always)]
pub fn beside(slot: u32, what: usize) {
    if let Some(beside) = BESIDE_SCHEDULER.get_ptr_mut(slot) {
        // SAFETY: the lookup gave a valid pointer to a whole block.
        add(unsafe { &raw mut (*beside).what }, what, 1);
    }
}

/// A service took over so many connections of one that was deleted.
#[inline(always)]
pub fn taken_over(slot: u32, connections: u32) {
    if let Some(beside) = BESIDE_SCHEDULER.get_ptr_mut(slot) {
        // SAFETY: as above.
        add(unsafe { &raw mut (*beside).what }, TAKEN_OVER, connections.into());
    }
}

/// A connection of a service ended.
#[inline(always)]
pub fn ended(slot: u32, how: u32) {
    beside(slot, ENDED);
    if how == event::HOW_SERVER_REMOVED {
        beside(slot, ENDED_SERVER_REMOVED);
    }
}

/// A connection of a destination ended.
#[inline(always)]
pub fn ended_at(slot: u32, how: u32) {
    if let Some(ends) = ENDS.get_ptr_mut(slot) {
        // SAFETY: as above.
        add(unsafe { &raw mut (*ends).how }, how as usize, 1);
    }
}

/// Empties the blocks of a service's slot.
#[inline(always)]
pub fn clear_service(slot: u32) {
    if let Some(none) = NO_DURATIONS.get_ptr(0) {
        // SAFETY: the lookup gave a valid pointer, and nobody writes there.
        let none = unsafe { &*none };
        let _ = DURATIONS.set(slot, none, 0);
    }
    let _ = BESIDE_SCHEDULER.set(slot, Beside::default(), 0);
    budget::clear(slot);
}

/// Empties the block of a destination's slot.
#[inline(always)]
pub fn clear_destination(slot: u32) {
    let _ = ENDS.set(slot, Ends::default(), 0);
}

/// Adds to a counter where other CPUs add too, as [`add_one_short`] does.
#[inline(always)]
fn add<const COUNTERS: usize>(counters: *mut [u64; COUNTERS], counter: usize, value: u64) {
    // SAFETY: the caller's pointer is valid and the counter is held within it; nothing else is written.
    unsafe {
        asm!(
            "if {counter} < {length} goto +1",
            "{counter} = {last}",
            "{counter} <<= 3",
            "{place} += {counter}",
            "lock *(u64 *)({place} + 0) += {value}",
            counter = inout(reg) counter as u64 => _,
            place = inout(reg) counters => _,
            value = in(reg) value,
            length = const COUNTERS,
            last = const COUNTERS - 1,
        );
    }
}

/// Adds one where other CPUs add too.
///
/// The target has the instruction, but `core` does not offer it here. The bound stands right before it and in
/// the same register: what older verifiers know of a number they forget when the compiler moves it.
#[inline(always)]
fn add_one_short(buckets: *mut [u32; BUCKETS], bucket: usize) {
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
