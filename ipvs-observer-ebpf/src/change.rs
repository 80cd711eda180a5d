//! Configuration changes.
//!
//! These functions run in the process that asks for the change, one at a time to a thread, so a change under way
//! is kept by thread.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::HashMap,
    programs::{ProbeContext, RetProbeContext},
};
use ipvs_observer_common::{
    event::{self, DestinationSettings, ServiceSettings},
    key::DestinationKey,
    layout,
};

use crate::{
    call::{self, Function},
    configured, count, key,
    maps::health,
    overload,
    read::{bytes, has, layout, number},
    removed,
    told::{self, NO_WEIGHT, Told},
};

/// Changes under way, by thread: these run in the process that makes them.
#[map]
static PENDING: HashMap<u64, Pending> = HashMap::with_max_entries(1024, 0);

/// A change under way.
#[repr(C)]
#[derive(Clone, Copy)]
struct Pending {
    /// One of the `ACTION_*`.
    action: u32,
    /// Zero.
    reserved: u32,
    /// Where the kernel has what is changed, or will tell where it has the new service; 0 while that is not known.
    place: u64,
    /// What is told of it.
    told: Told,
    /// What the service was set to.
    service: ServiceSettings,
}

/// A function on a destination, `(svc, udest)`, begins.
#[inline(always)]
pub fn destination_entry(ctx: &ProbeContext, action: u32) {
    call::seen();
    if !has(layout::CHANGES) {
        return;
    }
    let (service, request) = (ctx.arg::<u64>(0).unwrap_or(0), ctx.arg::<u64>(1).unwrap_or(0));
    let mut pending = pending(action, key::requested(key::service(service), request));
    if action != event::ACTION_DELETE_DESTINATION {
        pending.told.weight_after = number(request, layout!(request.weight)) as i32;
    }
    remember(&pending);
}

/// `__ip_vs_update_dest(svc, dest, udest, add)` begins, within a function on a destination: what was is still
/// there.
#[inline(always)]
pub fn update_entry(ctx: &ProbeContext) {
    let destination: u64 = ctx.arg(1).unwrap_or(0);
    let added = ctx.arg::<i32>(3).unwrap_or(0) != 0;
    overload::begin(ctx, Function::Update, destination);
    if let Some(pending) = under_way() {
        pending.place = destination;
        if !added {
            pending.told.weight_before = weight(destination);
            if has(layout::CONFIGURED) {
                pending.told.before = configured::destination(destination);
                pending.told.flags |= event::BEFORE;
            }
        }
    }
    if added && has(layout::DESTINATIONS) {
        removed::add(destination, ctx.arg(0).unwrap_or(0));
    }
}

/// It ends: a change of the thresholds may have changed the overload.
#[inline(always)]
pub fn update_returned(ctx: &RetProbeContext) {
    overload::end(ctx, Function::Update);
}

/// `__ip_vs_del_dest(ipvs, dest, cleanup)` begins: alone, or because its service goes.
#[inline(always)]
pub fn destination_gone(ctx: &ProbeContext) {
    call::seen();
    let destination: u64 = ctx.arg(1).unwrap_or(0);
    let (remaining, flags) = configured::remaining(destination, ctx.arg(0).unwrap_or(0));
    let mut alone = false;
    if let Some(pending) = under_way() {
        alone = pending.action != event::ACTION_DELETE_SERVICE;
        if alone {
            pending.told.weight_before = weight(destination);
            (pending.told.remaining, pending.told.flags) = (remaining, flags);
        }
    }
    if !has(layout::DESTINATIONS) {
        return;
    }
    let service = key::service(number(destination, layout!(destination.svc)));
    let key = key::destination(service, destination);
    removed::remove(destination, &key, alone);
    // Nobody else tells of one that its service takes along.
    if !alone {
        let mut told = Told::of(key);
        told.weight_before = weight(destination);
        told.remaining = remaining;
        let namespace_too = ctx.arg::<u8>(2).unwrap_or(0) != 0;
        told.flags = flags | event::WITH_SERVICE | if namespace_too { event::WITH_NAMESPACE } else { 0 };
        told::tell(
            event::ACTION_DELETE_DESTINATION,
            &told,
            DestinationSettings::default(),
        );
    }
}

/// `ip_vs_add_service(ipvs, u, svc_p)` begins.
#[inline(always)]
pub fn add_service_entry(ctx: &ProbeContext) {
    call::seen();
    let mut pending = pending(event::ACTION_ADD_SERVICE, DestinationKey::default());
    pending.place = ctx.arg(2).unwrap_or(0);
    remember(&pending);
}

/// A function on a service that is there, `(svc, …)`, begins.
#[inline(always)]
pub fn service_entry(ctx: &ProbeContext, action: u32) {
    call::seen();
    if !has(layout::SERVICES) {
        return;
    }
    let service: u64 = ctx.arg(0).unwrap_or(0);
    let key = DestinationKey {
        service: key::service(service),
        ..DestinationKey::default()
    };
    let mut pending = pending(action, key);
    pending.place = service;
    if action == event::ACTION_EDIT_SERVICE && has(layout::CONFIGURED) {
        configured::service(&mut pending.service, service);
        pending.told.flags = event::BEFORE;
    }
    remember(&pending);
}

/// A function that can fail ends. With 0, it did what it was asked.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    call::seen();
    let done = ctx.ret::<i32>() == 0;
    if let Some(pending) = under_way() {
        if done {
            conclude(pending);
        }
        let _ = PENDING.remove(thread());
    }
}

/// A function on a service that cannot fail ends: the service is gone.
#[inline(always)]
pub fn service_gone() {
    call::seen();
    if let Some(pending) = under_way() {
        count::forget(&pending.told.key.service);
        let told = &pending.told;
        told::tell_service(pending.action, &told.key, told.flags, &pending.service, 0);
        let _ = PENDING.remove(thread());
    }
}

#[inline(always)]
fn pending(action: u32, key: DestinationKey) -> Pending {
    Pending {
        action,
        reserved: 0,
        place: 0,
        told: Told::of(key),
        service: ServiceSettings::default(),
    }
}

#[inline(always)]
fn remember(pending: &Pending) {
    if PENDING.insert(thread(), pending, 0).is_err() {
        health(|health| health.calls_full += 1);
    }
}

/// The change that this thread makes.
#[inline(always)]
fn under_way() -> Option<&'static mut Pending> {
    // SAFETY: the lookup gave a valid pointer, only this thread uses its entry, and no probe is interrupted by another.
    PENDING
        .get_ptr_mut(thread())
        .map(|pending| unsafe { &mut *pending })
}

#[inline(always)]
fn weight(destination: u64) -> i32 {
    if has(layout::STATE) {
        number(destination, layout!(destination.weight)) as i32
    } else {
        NO_WEIGHT
    }
}

/// Tells of a change that was made.
#[inline(always)]
fn conclude(pending: &mut Pending) {
    match pending.action {
        event::ACTION_ADD_SERVICE | event::ACTION_EDIT_SERVICE => {
            let mut service = pending.place;
            if pending.action == event::ACTION_ADD_SERVICE {
                service = u64::from_ne_bytes(bytes(service));
                if has(layout::SERVICES) {
                    pending.told.key.service = key::service(service);
                }
            }
            told::tell_service(
                pending.action,
                &pending.told.key,
                pending.told.flags,
                &pending.service,
                service,
            );
        }
        _ => tell_destination(pending.action, &mut pending.told, pending.place),
    }
}

/// The same of one on a destination, which the kernel has at `place` if it still has it.
#[inline(always)]
fn tell_destination(action: u32, told: &mut Told, place: u64) {
    let mut after = DestinationSettings::default();
    if place != 0 {
        if has(layout::CONFIGURED) {
            after = configured::destination(place);
            told.flags |= event::AFTER;
        }
        let service = number(place, layout!(destination.svc));
        let (remaining, flags) = configured::remaining(place, number(service, layout!(service.ipvs)));
        told.remaining = remaining;
        told.flags |= flags;
    }
    told::tell(action, told, after);
}

#[inline(always)]
fn thread() -> u64 {
    bpf_get_current_pid_tgid()
}
