//! The scheduling path: what becomes of the first packet of a connection.
//!
//! Everything is decided at the return of `ip_vs_schedule`, where the kernel itself counts the connection. What
//! the scheduler's own function took and said is handed over to there, by packet.

use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ipvs_observer_common::{
    control,
    event::{self, DestinationState, Summary},
    layout,
};

use crate::{
    call::{self, Call, Function, now},
    candidates, count, decision, key,
    maps::{MESSAGES, SCHEDULERS, VERDICTS, events_wanted, health, observed},
    read::{bytes, has, layout, number, string},
};

/// What the scheduler said of a packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Verdict {
    /// Names the call.
    pub call: u64,
    /// How long the scheduler took.
    pub ns: u64,
    /// What it said where it gave none: the address of a string.
    pub message: u64,
    /// In the event, [`event::HAS_CANDIDATES`].
    pub flags: u64,
    /// What it chose; all zero unless decisions are told.
    pub destination: DestinationState,
    /// Why it chose nothing.
    pub summary: Summary,
}

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

/// A scheduler's `schedule(svc, skb, iph)` begins.
#[inline(always)]
pub fn scheduler_entry(ctx: &ProbeContext) {
    let call = call::begin(
        ctx,
        Function::Scheduler,
        Call {
            subject: ctx.arg(0).unwrap_or(0),
            packet: ctx.arg(1).unwrap_or(0),
            header: ctx.arg(2).unwrap_or(0),
            ..Call::default()
        },
    );
    if wanted(control::CANDIDATES, layout::CANDIDATES) {
        candidates::send(&call);
    }
}

/// It ends: the destination chosen, or nothing.
#[inline(always)]
pub fn scheduler_returned(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::Scheduler) else {
        return;
    };
    let ended = now();
    if !has(layout::SERVICES) {
        return;
    }
    let mut verdict = Verdict {
        call: call_name(&call),
        ns: ended.wrapping_sub(call.began),
        message: 0,
        flags: 0,
        destination: DestinationState::default(),
        summary: Summary::default(),
    };
    if wanted(control::DECISIONS, layout::DECISIONS) {
        let chosen: u64 = ctx.ret();
        if chosen != 0 {
            verdict.destination = key::state(chosen);
        } else {
            verdict.summary = candidates::summary(call.subject);
            // SAFETY: the value is a whole number.
            verdict.message = unsafe { MESSAGES.get(call.subject) }.copied().unwrap_or(0);
            let _ = MESSAGES.remove(call.subject);
        }
        if wanted(control::CANDIDATES, layout::CANDIDATES) {
            verdict.flags = u64::from(event::HAS_CANDIDATES);
        }
    }
    if VERDICTS.insert(call.packet, verdict, 0).is_err() {
        health(|health| health.calls_full += 1);
    }
}

/// `ip_vs_schedule` ends: with a connection, or with a reason why there is none.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::Schedule) else {
        return;
    };
    if !has(layout::SERVICES) {
        return;
    }
    // SAFETY: one packet is scheduled once at a time, so nobody else changes its entry.
    let verdict = unsafe { VERDICTS.get(call.packet) };
    let connection: u64 = ctx.ret();
    // The function's own word on why there is no connection: positive if the packet is not to be scheduled.
    let ignored = i32::from_ne_bytes(bytes(call.extra));
    if connection != 0 || ignored <= 0 {
        conclude(&call, verdict, connection, ignored);
    }
    if verdict.is_some() {
        let _ = VERDICTS.remove(call.packet);
    }
}

#[inline(always)]
fn conclude(call: &Call, verdict: Option<&Verdict>, connection: u64, ignored: i32) {
    let service = key::service(call.subject);
    if !observed(service.netns) {
        return;
    }
    let persistent = number(call.subject, layout!(service.flags)) & PERSISTENT != 0;
    // Without the scheduler's own probe, whether it was asked follows where the service is not persistent.
    let asked = verdict.is_some();
    let unknown = !asked && !probed(call.subject);
    let outcome = if connection != 0 {
        if asked || !persistent {
            event::OUTCOME_SCHEDULED
        } else {
            event::OUTCOME_TEMPLATE
        }
    } else if ignored < 0 {
        event::OUTCOME_FATAL
    } else if asked || unknown {
        event::OUTCOME_NONE
    } else {
        event::OUTCOME_UNASKED
    };
    if outcome == event::OUTCOME_TEMPLATE && unknown {
        health(|health| health.unattributed += 1);
    } else {
        let asked = asked || outcome == event::OUTCOME_SCHEDULED || outcome == event::OUTCOME_NONE;
        count::outcome(&service, outcome, asked, verdict.map(|verdict| verdict.ns));
    }
    if outcome == event::OUTCOME_SCHEDULED && has(layout::DESTINATIONS) {
        let destination = number(connection, layout!(connection.dest));
        count::pick(&key::destination(service, destination));
    }
    if wanted(control::DECISIONS, layout::DECISIONS) {
        decision::send(call, service, verdict, connection, outcome);
    }
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
        count::refused(&service);
    }
}

/// `ip_vs_scheduler_err(svc, msg)` begins: a scheduler says why it gives nothing. The kernel's own log line is
/// rate-limited, this call is not.
#[inline(always)]
pub fn scheduler_error(ctx: &ProbeContext) {
    call::seen();
    if wanted(control::DECISIONS, layout::DECISIONS) {
        let service: u64 = ctx.arg(0).unwrap_or(0);
        let message: u64 = ctx.arg(1).unwrap_or(0);
        let _ = MESSAGES.insert(service, message, 0);
    }
}

/// Whether events of a kind are wanted and this kernel has what they need.
#[inline(always)]
pub fn wanted(events: u32, features: u32) -> bool {
    has(features) && events_wanted() & events != 0
}

/// The name of a scheduler's call: a packet is scheduled once at a time.
#[inline(always)]
pub fn call_name(call: &Call) -> u64 {
    call.packet.rotate_left(20) ^ call.began
}

/// Whether the scheduler of a service is one of those that are probed.
#[inline(always)]
fn probed(service: u64) -> bool {
    SCHEDULERS.get_ptr(scheduler_name(service)).is_some()
}

/// The name of a service's scheduler; empty for a moment while a service is edited.
#[inline(always)]
pub fn scheduler_name(service: u64) -> [u8; 16] {
    let scheduler = number(service, layout!(service.scheduler));
    if scheduler == 0 {
        return [0; 16];
    }
    string(number(scheduler, layout!(scheduler.name)))
}
