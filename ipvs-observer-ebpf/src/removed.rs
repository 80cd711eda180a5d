//! Destinations that were removed, whose counters go on if they are added again.

use aya_ebpf::{macros::map, maps::HashMap, programs::ProbeContext};
use ipvs_observer_common::{control, key::DestinationKey, layout};

use crate::{
    call, count, key,
    maps::{DESTINATIONS, goes},
    read::{has, layout, number},
};

/// Destinations that were removed and that the kernel still holds, by where it has them, until it takes them into use
/// again or lets go of them. Userspace sets the size; where there is no room, counters go with the removal.
#[map]
static REMOVED: HashMap<u64, Removed> = HashMap::with_max_entries(1, 0);

/// A destination that was removed.
#[repr(C)]
#[derive(Clone, Copy)]
struct Removed {
    /// That of its counters: what comes later under the same key is another.
    generation: u64,
    key: DestinationKey,
}

/// A destination is removed; `alone`: its service stays.
#[inline(always)]
pub fn remove(destination: u64, key: &DestinationKey, alone: bool) {
    let kept = alone && goes(control::KEEP_REMOVED) && keep(destination, key);
    if !kept {
        count::forget(key);
    }
}

/// Keeps the counters of a destination that was removed, if it has any; false if there is no room.
#[inline(always)]
fn keep(destination: u64, key: &DestinationKey) -> bool {
    // SAFETY: the value is whole numbers, of which this one does not change while it is there.
    let Some(slot) = (unsafe { DESTINATIONS.get(key) }) else {
        return true;
    };
    let removed = Removed {
        generation: slot.generation,
        key: *key,
    };
    REMOVED.insert(destination, removed, 0).is_ok()
}

/// A destination is added to a service.
///
/// One that the kernel still had goes on with its counters, unless it was a deleted service's, from which this one takes
/// it over with its connections. Any other begins anew, whatever a packet left behind that was on its way.
#[inline(always)]
pub fn add(destination: u64, service: u64) {
    if number(destination, layout!(destination.svc)) == service {
        let _ = REMOVED.remove(destination);
    } else {
        freed(destination);
        let key = key::service(service);
        count::forget(&key::destination(key, destination));
        count::taken_over(&key, service, connections(destination));
    }
}

/// The connections that a destination has.
#[inline(always)]
fn connections(destination: u64) -> u32 {
    let active = number(destination, layout!(destination.activeconns)) as u32;
    let other = number(destination, layout!(destination.otherconns)) as u32;
    if has(layout::TOTAL_CONNECTIONS) {
        other
    } else {
        active.wrapping_add(other)
    }
}

/// The kernel lets go of a destination: what it has counted goes with it.
#[inline(always)]
pub fn freed(destination: u64) {
    // SAFETY: an entry is written when its destination is removed, and not changed while that is not freed.
    let Some(removed) = (unsafe { REMOVED.get(destination) }) else {
        return;
    };
    // SAFETY: as above.
    let slot = unsafe { DESTINATIONS.get(removed.key) };
    // The kernel frees it some moments later, when another may have its name.
    if slot.is_some_and(|slot| slot.generation == removed.generation) {
        count::forget(&removed.key);
    }
    let _ = REMOVED.remove(destination);
}

/// The same, told by the place that the kernel calls it back with.
#[inline(always)]
pub fn freed_later(ctx: &ProbeContext) {
    call::seen();
    let head: u64 = ctx.arg(0).unwrap_or(0);
    freed(head.wrapping_sub(u64::from(layout!(destination.callback_head).offset)));
}
