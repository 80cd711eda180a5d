//! What IPVS drops to defend itself: packets that would begin a connection, and entries.

use aya_ebpf::{
    EbpfContext,
    macros::map,
    maps::HashMap,
    programs::{ProbeContext, RetProbeContext},
};
use ipvs_observer_common::{counter::DROPS_DEFENCE, event, layout};

use crate::{
    behind::{self, Left},
    call::{self, Call, Function},
    connection, count, key,
    maps::observed,
    read::{has, layout},
};

/// Services that were found for a packet, from there until the scheduler is asked.
#[map]
static FOUND: HashMap<u64, Left<u64>> = HashMap::with_max_entries(1024, 0);

/// Stacks on which entries are killed.
#[map]
static KILLING: HashMap<u64, Left<u64>> = HashMap::with_max_entries(64, 0);

/// `tcp_conn_schedule(ipvs, af, skb, pd, verdict, cpp, iph)`, or that of another protocol, begins: a packet has no entry.
#[inline(always)]
pub fn unknown_entry(ctx: &ProbeContext) {
    call::begin(
        ctx,
        Function::ConnectionSchedule,
        Call {
            packet: ctx.arg(2).unwrap_or(0),
            header: call::seventh(ctx),
            ..Call::default()
        },
    );
}

/// Return of `ip_vs_service_find`.
#[inline(always)]
pub fn service_found(ctx: &RetProbeContext) {
    call::seen();
    let service: u64 = ctx.ret();
    if service != 0 {
        behind::leave(&FOUND, ctx, service);
    }
}

/// The scheduler is asked: the packet passed the defence.
#[inline(always)]
pub fn passed(ctx: &impl EbpfContext) {
    behind::take_out_above(&FOUND, ctx);
}

/// Return of `tcp_conn_schedule` and its like. Where a service was found, and neither was it asked for a connection nor
/// is the packet to go on, a defence dropped it.
#[inline(always)]
pub fn unknown_returned(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::ConnectionSchedule) else {
        return;
    };
    let Some(found) = behind::find(&FOUND, ctx) else {
        return;
    };
    let place = found.since(&call).copied();
    behind::take_out(&FOUND, &found);
    let Some(place) = place.filter(|_| ctx.ret::<i32>() == 0 && has(layout::SERVICES)) else {
        return;
    };
    let service = key::service(place);
    if service.family == 0 || !observed(service.netns) {
        return;
    }
    let slot = count::beside(&service, place, DROPS_DEFENCE);
    connection::tell_dropped_packet(event::DROPPED_DEFENCE, &service, slot, &call);
}

/// `ip_vs_random_dropentry(ipvs)` begins: it kills entries.
#[inline(always)]
pub fn killing_entry(ctx: &ProbeContext) {
    call::seen();
    behind::leave(&KILLING, ctx, 0);
}

/// Return of `ip_vs_random_dropentry`.
#[inline(always)]
pub fn killing_returned(ctx: &RetProbeContext) {
    call::seen();
    if let Some(found) = behind::find(&KILLING, ctx) {
        behind::take_out(&KILLING, &found);
    }
}

/// `ip_vs_conn_expire(timer)`: an entry ends, by its timer or by who calls it.
#[inline(always)]
pub fn expires(ctx: &ProbeContext) {
    call::seen();
    if has(layout::CONNECTIONS) && behind::find_above(&KILLING, ctx).is_some() {
        let timer: u64 = ctx.arg(0).unwrap_or(0);
        connection::mark(
            timer.wrapping_sub(u64::from(layout!(connection.timer).offset)),
            event::HOW_DEFENCE,
        );
    }
}
