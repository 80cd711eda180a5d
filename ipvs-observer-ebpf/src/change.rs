//! Configuration changes, and destinations that become overloaded.
//!
//! These functions run in the process that asks for the change, one at a time to a thread, so a change under way
//! is kept by thread.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task},
    macros::map,
    maps::HashMap,
    programs::{ProbeContext, RetProbeContext},
};
use ipvs_observer_common::{
    control,
    event::{self, Change, OVERLOADED},
    key::{DestinationKey, ServiceKey},
    layout,
};

use crate::{
    call::{self, Call, Function, now},
    count, key,
    maps::{DESTINATIONS, EVENTS, goes, health, observed, wanted},
    read::{bytes, has, layout, number},
};

/// Changes under way, by thread: these run in the process that makes them.
#[map]
static PENDING: HashMap<u64, Pending> = HashMap::with_max_entries(1024, 0);

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

/// A change under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    /// One of the `ACTION_*`.
    action: u32,
    /// The weight before, or -1.
    before: i32,
    /// The weight after, or -1.
    after: i32,
    /// Zero.
    reserved: u32,
    /// Where the new service will be told.
    place: u64,
    /// What is changed.
    key: DestinationKey,
}

/// `-1`: there is no weight.
const NO_WEIGHT: i32 = -1;

/// A function on a destination, `(svc, udest)`, begins.
#[inline(always)]
pub fn destination_entry(ctx: &ProbeContext, action: u32) {
    call::seen();
    if !has(layout::CHANGES) {
        return;
    }
    let (service, request) = (ctx.arg::<u64>(0).unwrap_or(0), ctx.arg::<u64>(1).unwrap_or(0));
    let after = if action == event::ACTION_DELETE_DESTINATION {
        NO_WEIGHT
    } else {
        number(request, layout!(request.weight)) as i32
    };
    remember(Pending {
        action,
        before: NO_WEIGHT,
        after,
        reserved: 0,
        place: 0,
        key: key::requested(key::service(service), request),
    });
}

/// `__ip_vs_update_dest(svc, dest, udest, add)` begins, within a function on a destination: what was is still
/// there.
#[inline(always)]
pub fn update_entry(ctx: &ProbeContext) {
    let destination: u64 = ctx.arg(1).unwrap_or(0);
    let added: i32 = ctx.arg(3).unwrap_or(0);
    call::begin(
        ctx,
        Function::Update,
        Call {
            subject: destination,
            extra: flags(destination),
            ..Call::default()
        },
    );
    if added == 0 {
        note_weight(destination);
    } else if has(layout::DESTINATIONS) {
        let service: u64 = ctx.arg(0).unwrap_or(0);
        // One that the kernel still had goes on with its counters, unless it was another service's: one that is gone,
        // or that takes it over. Any other begins anew, whatever a packet left behind that was on its way.
        if number(destination, layout!(destination.svc)) == service {
            let _ = REMOVED.remove(destination);
        } else {
            destination_freed(destination);
            count::forget(&key::destination(key::service(service), destination));
        }
    }
}

/// It ends: a change of the thresholds may have changed the overload.
#[inline(always)]
pub fn update_returned(ctx: &RetProbeContext) {
    if let Some(call) = call::end(ctx, Function::Update) {
        compare(&call);
    }
}

/// `__ip_vs_del_dest(ipvs, dest, …)` begins: alone, or because its service goes.
#[inline(always)]
pub fn destination_gone(ctx: &ProbeContext) {
    call::seen();
    let destination: u64 = ctx.arg(1).unwrap_or(0);
    let alone = note_weight(destination);
    if has(layout::DESTINATIONS) {
        let service = key::service(number(destination, layout!(destination.svc)));
        let key = key::destination(service, destination);
        let kept = alone && goes(control::KEEP_REMOVED) && keep(destination, &key);
        if !kept {
            count::forget(&key);
        }
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

/// The kernel lets go of a destination: what it has counted goes with it.
#[inline(always)]
pub fn destination_freed(destination: u64) {
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
pub fn destination_freed_later(ctx: &ProbeContext) {
    call::seen();
    let head: u64 = ctx.arg(0).unwrap_or(0);
    destination_freed(head.wrapping_sub(u64::from(layout!(destination.callback_head).offset)));
}

/// `ip_vs_add_service(ipvs, u, svc_p)` begins.
#[inline(always)]
pub fn add_service_entry(ctx: &ProbeContext) {
    call::seen();
    let place = ctx.arg::<u64>(2).unwrap_or(0);
    remember(service_pending(
        event::ACTION_ADD_SERVICE,
        ServiceKey::default(),
        place,
    ));
}

/// A function on a service that is there, `(svc, …)`, begins.
#[inline(always)]
pub fn service_entry(ctx: &ProbeContext, action: u32) {
    call::seen();
    if has(layout::SERVICES) {
        let service = key::service(ctx.arg::<u64>(0).unwrap_or(0));
        remember(service_pending(action, service, 0));
    }
}

/// A function that can fail ends. With 0, it did what it was asked.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    call::seen();
    let done = ctx.ret::<i32>() == 0;
    conclude(done);
}

/// A function on a service that cannot fail ends: the service is gone.
#[inline(always)]
pub fn service_gone() {
    call::seen();
    conclude(true);
}

/// `ip_vs_dest_update_overload(dest, mode)` begins.
#[inline(always)]
pub fn overload_entry(ctx: &ProbeContext) {
    let destination: u64 = ctx.arg(0).unwrap_or(0);
    call::begin(
        ctx,
        Function::Overload,
        Call {
            subject: destination,
            extra: flags(destination),
            ..Call::default()
        },
    );
}

/// Return of `ip_vs_dest_update_overload`: compares the flags with those at its entry.
#[inline(always)]
pub fn overload_returned(ctx: &RetProbeContext) {
    if let Some(call) = call::end(ctx, Function::Overload) {
        compare(&call);
    }
}

#[inline(always)]
fn service_pending(action: u32, service: ServiceKey, place: u64) -> Pending {
    Pending {
        action,
        before: NO_WEIGHT,
        after: NO_WEIGHT,
        reserved: 0,
        place,
        key: DestinationKey {
            service,
            ..DestinationKey::default()
        },
    }
}

#[inline(always)]
fn remember(pending: Pending) {
    if PENDING.insert(thread(), pending, 0).is_err() {
        health(|health| health.calls_full += 1);
    }
}

/// Notes the weight that a destination has before the change under way, and says whether that is on it alone.
#[inline(always)]
fn note_weight(destination: u64) -> bool {
    let Some(pending) = PENDING.get_ptr_mut(thread()) else {
        return false;
    };
    // SAFETY: the lookup gave a valid pointer, and only this thread uses its entry.
    let pending = unsafe { &mut *pending };
    // A service that goes takes destinations along, of which it is not told one by one.
    let alone = pending.action != event::ACTION_DELETE_SERVICE;
    if alone && has(layout::STATE) {
        pending.before = number(destination, layout!(destination.weight)) as i32;
    }
    alone
}

/// Ends the change under way: tells of it, and forgets what is gone.
#[inline(always)]
fn conclude(done: bool) {
    let thread = thread();
    // SAFETY: only this thread uses its entry.
    let Some(pending) = (unsafe { PENDING.get(thread) }) else {
        return;
    };
    if done {
        let mut key = pending.key;
        if pending.place != 0 && has(layout::SERVICES) {
            key.service = key::service(u64::from_ne_bytes(bytes(pending.place)));
        }
        if pending.action == event::ACTION_DELETE_SERVICE {
            count::forget(&key.service);
        }
        send(pending.action, &key, pending.before, pending.after);
    }
    let _ = PENDING.remove(thread);
}

/// Counts and tells of an overload that is not what it was when the call began.
#[inline(always)]
fn compare(call: &Call) {
    if !has(layout::STATE | layout::DESTINATIONS) {
        return;
    }
    // Before the flags are read: what another processor sees later must be the later.
    let seen = now();
    let (before, after) = (
        call.extra as u32 & OVERLOADED,
        flags(call.subject) as u32 & OVERLOADED,
    );
    if before == after {
        return;
    }
    let service = key::service(number(call.subject, layout!(destination.svc)));
    if !observed(service.netns) {
        return;
    }
    let key = key::destination(service, call.subject);
    let overloaded = after != 0;
    if !count::transition(&key, call.subject, overloaded, seen, call.began) {
        return;
    }
    let weight = number(call.subject, layout!(destination.weight)) as i32;
    let action = if overloaded {
        event::ACTION_OVERLOAD
    } else {
        event::ACTION_RECOVER
    };
    send(action, &key, weight, weight);
}

#[inline(always)]
fn flags(destination: u64) -> u64 {
    if has(layout::STATE) {
        number(destination, layout!(destination.flags))
    } else {
        0
    }
}

#[inline(always)]
fn send(action: u32, key: &DestinationKey, before: i32, after: i32) {
    if !wanted(control::CHANGES, layout::CHANGES) || !observed(key.service.netns) {
        return;
    }
    let Some(mut room) = EVENTS.reserve::<Change>(0) else {
        health(|health| health.changes_lost += 1);
        return;
    };
    // SAFETY: the helper only tells where the current task is.
    let task = unsafe { bpf_get_current_task() };
    let parent = number(task, layout!(task.real_parent));
    room.write(Change {
        kind: event::CHANGE,
        action,
        time: now(),
        key: *key,
        weight_before: before,
        weight_after: after,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        parent_pid: number(parent, layout!(task.tgid)) as u32,
        comm: bpf_get_current_comm().unwrap_or_default(),
        parent_comm: bytes(parent + u64::from(layout!(task.comm).offset)),
    });
    room.submit(0);
    health(|health| health.changes += 1);
}

#[inline(always)]
fn thread() -> u64 {
    bpf_get_current_pid_tgid()
}
