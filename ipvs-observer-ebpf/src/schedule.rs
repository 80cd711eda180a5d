//! The scheduling path: what becomes of the first packet of a connection.
//!
//! Everything is decided at the return of `ip_vs_schedule`, where the kernel itself counts the connection. What
//! the scheduler's own function took and said is handed over to there, by packet.

use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use aya_log_ebpf::warn;
use ipvs_observer_common::{
    control, event,
    key::{DestinationKey, ServiceKey},
    layout,
};

use crate::{
    call::{self, Call, Function},
    count, decision, key,
    maps::{VERDICTS, events_wanted, look_for_overload, observed},
    packet,
    read::{bytes, has, layout, number},
    scheduler::{Heard, last_heard},
    template,
};

/// `IP_VS_SVC_F_PERSISTENT`.
const PERSISTENT: u64 = 1;
/// `NF_DROP`.
const DROP: i32 = 0;

/// `ip_vs_schedule(svc, skb, pd, ignored, iph)` begins.
#[inline(always)]
pub fn entry(ctx: &ProbeContext) {
    call::begin(
        ctx,
        Function::Schedule,
        Call {
            subject: ctx.arg(0).unwrap_or(0),
            packet: ctx.arg(1).unwrap_or(0),
            extra: ctx.arg(3).unwrap_or(0),
            header: ctx.arg(4).unwrap_or(0),
            ..Call::default()
        },
    );
}

/// `ip_vs_schedule` ends: with a connection, or with a reason why there is none. `TELL`: the decision is told
/// where that is wanted.
#[inline(always)]
pub fn returned<const TELL: bool>(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::Schedule) else {
        return;
    };
    if !has(layout::SERVICES) {
        return;
    }
    let connection: u64 = ctx.ret();
    // The function's own word on why there is no connection: positive if the packet is not to be scheduled.
    let ignored = i32::from_ne_bytes(bytes(call.extra));
    let scheduled = connection != 0 || ignored <= 0;
    if TELL {
        // SAFETY: one packet is scheduled once at a time, so nobody else changes its entry.
        let verdict = unsafe { VERDICTS.get(call.packet) };
        if scheduled {
            let heard = verdict.map(|verdict| Heard {
                ns: verdict.ns,
                flags: verdict.destination.flags,
            });
            if let Some((service, outcome)) = conclude(ctx, &call, heard, connection, ignored)
                && wanted(control::DECISIONS, layout::DECISIONS)
            {
                decision::send(&call, service, verdict, connection, outcome);
            }
        }
        if verdict.is_some() {
            let _ = VERDICTS.remove(call.packet);
        }
    } else if scheduled {
        conclude(ctx, &call, last_heard(&call), connection, ignored);
    }
}

/// Counts what became of a packet; returns it, with the service, if anybody is to know.
#[inline(always)]
fn conclude(
    ctx: &RetProbeContext,
    call: &Call,
    heard: Option<Heard>,
    connection: u64,
    ignored: i32,
) -> Option<(ServiceKey, u32)> {
    let service = key::service(call.subject);
    if service.family == 0 {
        // A count under zeros would be somebody else's.
        warn!(
            ctx,
            "a service at {:x} cannot be read, and what became of its packet is not counted", call.subject
        );
        return None;
    }
    if !observed(service.netns) {
        return None;
    }
    let outcome = if connection != 0 {
        if has(layout::PERSISTENCE) && template::decided(ctx, connection) {
            event::OUTCOME_TEMPLATE
        } else {
            event::OUTCOME_SCHEDULED
        }
    } else if ignored < 0 {
        event::OUTCOME_FATAL
    } else if heard.is_none() && has(layout::DECISIONS) && for_another_port(call, &service) {
        event::OUTCOME_UNASKED
    } else {
        event::OUTCOME_NONE
    };
    // Not by what was heard alone, which can be lost. Without persistence nothing fails before the scheduler is
    // asked; with it, a failure of which nothing was heard is taken for one before.
    let asked = match outcome {
        event::OUTCOME_SCHEDULED | event::OUTCOME_NONE => true,
        event::OUTCOME_FATAL => heard.is_some() || !is_persistent(call),
        _ => heard.is_some(),
    };
    count::outcome(
        &service,
        call.subject,
        outcome,
        asked,
        heard.map(|heard| heard.ns),
    );
    if outcome == event::OUTCOME_SCHEDULED && has(layout::DESTINATIONS) {
        let destination = number(connection, layout!(connection.dest));
        let key = key::destination(service, destination);
        count::pick(&key, destination);
        if has(layout::STATE) && look_for_overload() {
            overload_on_scheduling(&key, destination, heard);
        }
    }
    Some((service, outcome))
}

/// Finds out from a destination's flags whether this connection filled it.
#[inline(always)]
fn overload_on_scheduling(key: &DestinationKey, destination: u64, heard: Option<Heard>) {
    if number(destination, layout!(destination.u_threshold)) == 0 {
        return;
    }
    let after = number(destination, layout!(destination.flags)) as u32 & event::OVERLOADED != 0;
    let before = heard.is_none_or(|heard| heard.flags & event::OVERLOADED != 0);
    count::overload(key, destination, after, after && !before);
}

/// Whether a packet is for another port than its service's: only persistence schedules such, and the function
/// refuses them without asking the scheduler.
#[inline(always)]
fn for_another_port(call: &Call, service: &ServiceKey) -> bool {
    service.fwmark == 0 && !is_persistent(call) && packet::ends(call).server_port != service.port
}

#[inline(always)]
fn is_persistent(call: &Call) -> bool {
    number(call.subject, layout!(service.flags)) & PERSISTENT != 0
}

/// `ip_vs_leave(svc, skb, pd, iph)` begins: there is no destination for a packet.
#[inline(always)]
pub fn leave_entry(ctx: &ProbeContext) {
    call::begin(
        ctx,
        Function::Leave,
        Call {
            subject: ctx.arg(0).unwrap_or(0),
            ..Call::default()
        },
    );
}

/// It ends: the packet is turned away, or goes another way.
#[inline(always)]
pub fn leave_returned(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::Leave) else {
        return;
    };
    if ctx.ret::<i32>() != DROP || !has(layout::SERVICES) {
        return;
    }
    let service = key::service(call.subject);
    if observed(service.netns) {
        count::refused(&service, call.subject);
    }
}

/// Whether events of a kind are wanted and this kernel has what they need.
#[inline(always)]
pub fn wanted(events: u32, features: u32) -> bool {
    has(features) && events_wanted() & events != 0
}
