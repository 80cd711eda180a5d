//! How many refusals and drops leave the kernel where only counters are read: so many of each network namespace and
//! interval. Beyond that one costs two look-ups in arrays.
//!
//! The first of each service and reason have a budget of their own, so that a service that refuses much hides no other.
//! Processors that take the last of a budget at the same time exceed it; userspace shows no more than it was asked for.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, LruHashMap},
};
use ipvs_observer_common::{control, key::ServiceKey, layout};

use crate::{
    filter::{self, Room},
    maps::{interval, refusals, wanted},
    read::has,
};

/// What left the kernel, by network namespace.
#[map]
static SPENT: LruHashMap<u32, Spent> = LruHashMap::with_max_entries(1024, 0);

/// In the upper half the interval, in the lower the reasons that had their first in it and [`NO_MORE`]; by the
/// service's slot. Processors that write at a time may lose a reason, whose next is a first once more.
#[map]
static REASONS: Array<u64> = Array::with_max_entries(1, 0);

/// In [`REASONS`]: only what is the first of its reason can still leave the kernel.
const NO_MORE: u64 = 1 << 31;

/// Reasons of decisions come after those of drops.
const DECISIONS: u32 = 16;

#[repr(C)]
#[derive(Clone, Copy)]
struct Spent {
    /// In which interval.
    interval: u32,
    /// On the first of a service and reason.
    firsts: u32,
    /// On others.
    others: u32,
}

/// Whether a packet that found no destination is told of; `outcome` is one of the event's `OUTCOME_*`. Asked where only
/// counters are read. `slot` is the service's.
#[inline(always)]
pub fn tells_refusal(service: &ServiceKey, slot: Option<u32>, outcome: u32) -> bool {
    has(layout::DECISIONS)
        && filter::asks_service(Room::Probe, service)
        && has_room(service.netns, slot, outcome + DECISIONS)
}

/// Whether a drop is told of, by a trace or within the budget; `reason` is one of the event's `DROPPED_*`. `slot` is the
/// service's.
#[inline(always)]
pub fn tells_drop(service: &ServiceKey, slot: Option<u32>, reason: u32) -> bool {
    wanted(control::DROPS, layout::DECISIONS) || has_room(service.netns, slot, reason)
}

/// Forgets the reasons of the service that had a slot.
#[inline(always)]
pub fn clear(slot: u32) {
    let _ = REASONS.set(slot, 0, 0);
}

/// Takes one from the budget; false if there is none left.
#[inline(always)]
fn has_room(netns: u32, slot: Option<u32>, reason: u32) -> bool {
    let most = refusals();
    if most == 0 {
        return false;
    }
    let (interval, reason) = (interval(), 1 << (reason & 31));
    let reasons = slot.and_then(|slot| REASONS.get_ptr_mut(slot));
    let had = reasons.map_or(reason, |reasons| {
        // SAFETY: the lookup gave a valid pointer; a whole number is read.
        let had = unsafe { reasons.read_volatile() };
        if had >> 32 == u64::from(interval) { had } else { 0 }
    });
    let first = had & reason == 0;
    if !first && had & NO_MORE != 0 {
        return false;
    }
    let room = take(netns, interval, first, most);
    let now = match (first, room) {
        // One that comes too late to be told as the first of its reason can still be told as another.
        (true, _) => reason,
        (false, false) => NO_MORE,
        (false, true) => return true,
    };
    if let Some(reasons) = reasons {
        // SAFETY: as above; a whole number is replaced.
        unsafe { reasons.write_volatile(u64::from(interval) << 32 | had & u64::from(u32::MAX) | now) };
    }
    room
}

#[inline(always)]
fn take(netns: u32, interval: u32, first: bool, most: u32) -> bool {
    if SPENT.get_ptr(netns).is_none() {
        let none = Spent {
            interval,
            firsts: 0,
            others: 0,
        };
        let _ = SPENT.insert(netns, none, u64::from(BPF_NOEXIST));
    }
    let Some(spent) = SPENT.get_ptr_mut(netns) else {
        return false;
    };
    // SAFETY: the lookup gave a valid pointer; whole numbers are read and replaced.
    unsafe {
        if (&raw const (*spent).interval).read_volatile() != interval {
            (&raw mut (*spent).firsts).write_volatile(0);
            (&raw mut (*spent).others).write_volatile(0);
            (&raw mut (*spent).interval).write_volatile(interval);
        }
        let count = if first {
            &raw mut (*spent).firsts
        } else {
            &raw mut (*spent).others
        };
        if count.read_volatile() >= most {
            return false;
        }
        add_one(count);
    }
    true
}

/// Adds one where other processors add too.
///
/// # Safety
/// The pointer is valid.
#[inline(always)]
unsafe fn add_one(count: *mut u32) {
    // SAFETY: the caller's pointer is valid, and nothing else is written.
    unsafe {
        asm!(
            "lock *(u32 *)({count} + 0) += {one}",
            count = in(reg) count,
            one = in(reg) 1u64,
        );
    }
}
