//! The scheduling path: what becomes of the first packet of a connection.
//!
//! Everything is decided at the return of `ip_vs_schedule`, where the kernel itself counts the connection. What
//! the scheduler's own function took and said is handed over to there, by packet.

use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use aya_log_ebpf::warn;
use ipvs_observer_common::{
    control,
    event::{self, DestinationState, Summary},
    key::{DestinationKey, ServiceKey},
    layout,
};

use crate::{
    call::{self, Call, Function, now},
    candidates, count, decision, key,
    maps::{MESSAGES, TEMPLATES, VERDICTS, events_wanted, health, look_for_overload, observed},
    packet,
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

/// A template that was found good, on the stack where that was.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Template {
    /// Where the kernel keeps it: a connection of its own.
    connection: u64,
    /// The stack.
    context: u64,
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

/// A scheduler's `schedule(svc, skb, iph)` begins. `TELL`: its candidates are told where that is wanted.
#[inline(always)]
pub fn scheduler_entry<const TELL: bool>(ctx: &ProbeContext) {
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
    if TELL && wanted(control::CANDIDATES, layout::CANDIDATES) {
        candidates::send(&call);
    }
}

/// It ends: the destination chosen, or nothing. `TELL`: what it was like is kept for the telling.
#[inline(always)]
pub fn scheduler_returned<const TELL: bool>(ctx: &RetProbeContext) {
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
    let chosen: u64 = ctx.ret();
    if chosen != 0 && has(layout::STATE) && look_for_overload() {
        verdict.destination.flags = number(chosen, layout!(destination.flags)) as u32;
    }
    if TELL && wanted(control::DECISIONS, layout::DECISIONS) {
        if chosen != 0 {
            verdict.destination = key::state(chosen);
        } else {
            if has(layout::CANDIDATES) {
                verdict.summary = candidates::summary(call.subject);
            }
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
    // SAFETY: one packet is scheduled once at a time, so nobody else changes its entry.
    let verdict = unsafe { VERDICTS.get(call.packet) };
    let connection: u64 = ctx.ret();
    // The function's own word on why there is no connection: positive if the packet is not to be scheduled.
    let ignored = i32::from_ne_bytes(bytes(call.extra));
    if connection != 0 || ignored <= 0 {
        conclude::<TELL>(ctx, &call, verdict, connection, ignored);
    }
    if verdict.is_some() {
        let _ = VERDICTS.remove(call.packet);
    }
}

#[inline(always)]
fn conclude<const TELL: bool>(
    ctx: &RetProbeContext,
    call: &Call,
    verdict: Option<&Verdict>,
    connection: u64,
    ignored: i32,
) {
    let service = key::service(call.subject);
    if service.family == 0 {
        // A count under zeros would be somebody else's.
        warn!(
            ctx,
            "a service at {:x} cannot be read, and what became of its packet is not counted", call.subject
        );
        return;
    }
    if !observed(service.netns) {
        return;
    }
    let outcome = if connection != 0 {
        if has(layout::PERSISTENCE) && template_decided(ctx, connection) {
            event::OUTCOME_TEMPLATE
        } else {
            event::OUTCOME_SCHEDULED
        }
    } else if ignored < 0 {
        event::OUTCOME_FATAL
    } else if verdict.is_none() && has(layout::DECISIONS) && for_another_port(call, &service) {
        event::OUTCOME_UNASKED
    } else {
        event::OUTCOME_NONE
    };
    let asked = verdict.is_some() || outcome == event::OUTCOME_SCHEDULED || outcome == event::OUTCOME_NONE;
    let ns = verdict.map(|verdict| verdict.ns);
    count::outcome(&service, call.subject, outcome, asked, ns);
    if outcome == event::OUTCOME_SCHEDULED && has(layout::DESTINATIONS) {
        let destination = number(connection, layout!(connection.dest));
        let key = key::destination(service, destination);
        count::pick(&key, destination);
        if has(layout::STATE) && look_for_overload() {
            overload_on_scheduling(&key, destination, verdict);
        }
    }
    if TELL && wanted(control::DECISIONS, layout::DECISIONS) {
        decision::send(call, service, verdict, connection, outcome);
    }
}

/// Finds out from a destination's flags whether this connection filled it.
#[inline(always)]
fn overload_on_scheduling(key: &DestinationKey, destination: u64, verdict: Option<&Verdict>) {
    if number(destination, layout!(destination.u_threshold)) == 0 {
        return;
    }
    let after = number(destination, layout!(destination.flags)) as u32 & event::OVERLOADED != 0;
    let before = verdict.is_none_or(|verdict| verdict.destination.flags & event::OVERLOADED != 0);
    count::overload(key, destination, after, after && !before);
}

/// Whether the template behind a new connection was there before, so that nobody asked the scheduler.
#[inline(always)]
fn template_decided(ctx: &RetProbeContext, connection: u64) -> bool {
    let control = number(connection, layout!(connection.control));
    control != 0
        && TEMPLATES
            .remove(Template {
                connection: control,
                context: call::context(ctx),
            })
            .is_ok()
}

/// Whether a packet is for another port than its service's: only persistence schedules such, and the function
/// refuses them without asking the scheduler.
#[inline(always)]
fn for_another_port(call: &Call, service: &ServiceKey) -> bool {
    let persistent = number(call.subject, layout!(service.flags)) & PERSISTENT != 0;
    service.fwmark == 0 && !persistent && packet::ends(call).server_port != service.port
}

/// `ip_vs_check_template(ct, cdest)` begins.
#[inline(always)]
pub fn template_entry(ctx: &ProbeContext) {
    call::begin(
        ctx,
        Function::Template,
        Call {
            subject: ctx.arg(0).unwrap_or(0),
            extra: ctx.arg(1).unwrap_or(0),
            ..Call::default()
        },
    );
}

/// It ends: the template is good, or not. With a destination to hold it against, it is asked for a connection
/// that goes out.
#[inline(always)]
pub fn template_returned(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::Template) else {
        return;
    };
    let template = Template {
        connection: call.subject,
        context: call::context(ctx),
    };
    let good = ctx.ret::<i32>() != 0;
    if good && call.extra == 0 && TEMPLATES.insert(template, 1, 0).is_err() {
        health(|health| health.calls_full += 1);
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
        count::refused(&service, call.subject);
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

/// The name of a service's scheduler; empty for a moment while a service is edited.
#[inline(always)]
pub fn scheduler_name(service: u64) -> [u8; 16] {
    let scheduler = number(service, layout!(service.scheduler));
    if scheduler == 0 {
        return [0; 16];
    }
    string(number(scheduler, layout!(scheduler.name)))
}
