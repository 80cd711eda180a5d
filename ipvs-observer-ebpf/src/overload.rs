//! Destinations that become overloaded, and that cease to be.

use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ipvs_observer_common::{
    event::{self, DestinationSettings, OVERLOADED},
    layout,
};

use crate::{
    call::{self, Call, Function, now},
    configured, count, key,
    maps::observed,
    read::{has, layout, number},
    told::{self, Told},
};

/// `ip_vs_dest_update_overload(dest, mode)` begins.
#[inline(always)]
pub fn entry(ctx: &ProbeContext) {
    begin(ctx, Function::Overload, ctx.arg(0).unwrap_or(0));
}

/// Return of `ip_vs_dest_update_overload`: compares the flags with those at its entry.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    end(ctx, Function::Overload);
}

/// A function that may change the overload of a destination begins.
#[inline(always)]
pub fn begin(ctx: &ProbeContext, function: Function, destination: u64) {
    call::begin(
        ctx,
        function,
        Call {
            subject: destination,
            extra: flags(destination),
            ..Call::default()
        },
    );
}

/// It ends.
#[inline(always)]
pub fn end(ctx: &RetProbeContext, function: Function) {
    if let Some(call) = call::end(ctx, function) {
        compare(&call);
    }
}

/// Counts and tells of an overload that is not what it was when the call began.
#[inline(always)]
fn compare(call: &Call) {
    if !has(layout::STATE | layout::DESTINATIONS) {
        return;
    }
    // Before the flags are read: what another processor sees later must be the later.
    let seen = now();
    let destination = call.subject;
    let (before, after) = (
        call.extra as u32 & OVERLOADED,
        flags(destination) as u32 & OVERLOADED,
    );
    if before == after {
        return;
    }
    let service = number(destination, layout!(destination.svc));
    let ipvs = number(service, layout!(service.ipvs));
    let service = key::service(service);
    if !observed(service.netns) {
        return;
    }
    let key = key::destination(service, destination);
    let overloaded = after != 0;
    if !count::transition(&key, destination, overloaded, seen, call.began) {
        return;
    }
    let action = if overloaded {
        event::ACTION_OVERLOAD
    } else {
        event::ACTION_RECOVER
    };
    let mut told = Told::of(key);
    let weight = number(destination, layout!(destination.weight)) as i32;
    (told.weight_before, told.weight_after) = (weight, weight);
    (told.remaining, told.flags) = configured::remaining(destination, ipvs);
    told::tell(action, &told, DestinationSettings::default());
}

#[inline(always)]
fn flags(destination: u64) -> u64 {
    if has(layout::STATE) {
        number(destination, layout!(destination.flags))
    } else {
        0
    }
}
