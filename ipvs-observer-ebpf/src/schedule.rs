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
    maps::{LAST, MESSAGES, TEMPLATES, VERDICTS, events_wanted, health, look_for_overload, observed},
    packet,
    read::{bytes, has, layout, number, string},
};

/// The last call of a scheduler on a CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Last {
    /// The packet; 0 once what follows was heard.
    packet: u64,
    /// Names the call while it lasts; 0 after it.
    stack: u64,
    /// When it began, in ns of the monotonic clock.
    began: u64,
    /// How long it took.
    ns: u64,
    /// The flags of the destination chosen, before this connection.
    flags: u64,
}

/// What the scheduler said of a packet, where it will be told.
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
    /// What it chose.
    pub destination: DestinationState,
    /// Why it chose nothing.
    pub summary: Summary,
}

/// What is known of the scheduler when the function around it returns.
#[derive(Clone, Copy)]
struct Heard {
    /// How long it took.
    ns: u64,
    /// The flags of the destination chosen, before this connection.
    flags: u32,
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
    if !TELL {
        return last_begins(ctx);
    }
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

/// It ends: the destination chosen, or nothing. `TELL`: what it was like is kept for the telling.
#[inline(always)]
pub fn scheduler_returned<const TELL: bool>(ctx: &RetProbeContext) {
    let chosen: u64 = ctx.ret();
    if !TELL {
        return last_ends(ctx, chosen);
    }
    if let Some(call) = call::end(ctx, Function::Scheduler)
        && has(layout::SERVICES)
    {
        let ns = now().wrapping_sub(call.began);
        remember_verdict(&call, ns, chosen);
    }
}

/// Takes note of a scheduler's call that begins, in this CPU's place.
#[inline(always)]
fn last_begins(ctx: &ProbeContext) {
    call::entered();
    let Some(last) = LAST.get_ptr_mut(0) else { return };
    // SAFETY: the lookup gave a valid pointer to this CPU's place, and a probe is not interrupted by another.
    let last = unsafe { &mut *last };
    if last.packet != 0 && has(layout::SERVICES) {
        // Nobody heard of the one before: its packet was interrupted by this one, or went on on another CPU.
        health(|health| health.durations_lost += 1);
    }
    last.packet = ctx.arg(1).unwrap_or(0);
    last.stack = call::stack_at_entry(ctx);
    last.began = now();
}

/// Takes note that it ends.
#[inline(always)]
fn last_ends(ctx: &RetProbeContext, chosen: u64) {
    call::left();
    let Some(last) = LAST.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let last = unsafe { &mut *last };
    if last.stack != call::stack_at_return(ctx) {
        // Counted where its place was taken.
        return;
    }
    last.stack = 0;
    last.ns = now().wrapping_sub(last.began);
    last.flags = flags_before(chosen).into();
}

#[inline(always)]
fn remember_verdict(call: &Call, ns: u64, chosen: u64) {
    let mut verdict = Verdict {
        call: call_name(call),
        ns,
        message: 0,
        flags: 0,
        destination: DestinationState::default(),
        summary: Summary::default(),
    };
    verdict.destination.flags = flags_before(chosen);
    if wanted(control::DECISIONS, layout::DECISIONS) {
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

/// The flags of the destination chosen, where they are looked at for overloads.
#[inline(always)]
fn flags_before(chosen: u64) -> u32 {
    if chosen != 0 && has(layout::STATE) && look_for_overload() {
        number(chosen, layout!(destination.flags)) as u32
    } else {
        0
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

/// What the scheduler took for the packet of a call, if it was the last on this CPU. It is heard once.
#[inline(always)]
fn last_heard(call: &Call) -> Option<Heard> {
    let last = LAST.get_ptr_mut(0)?;
    // SAFETY: the lookup gave a valid pointer to this CPU's place, and a probe is not interrupted by another.
    let last = unsafe { &mut *last };
    // What began before this call was said of another packet that was kept in the same place.
    if last.packet != call.packet || last.stack != 0 || last.began < call.began {
        return None;
    }
    last.packet = 0;
    Some(Heard {
        ns: last.ns,
        flags: last.flags as u32,
    })
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
        if has(layout::PERSISTENCE) && template_decided(ctx, connection) {
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

/// Whether the template behind a new connection was there before, so that nobody asked the scheduler.
#[inline(always)]
fn template_decided(ctx: &RetProbeContext, connection: u64) -> bool {
    let control = number(connection, layout!(connection.control));
    if control == 0 {
        return false;
    }
    let mut template = Template {
        connection: control,
        context: call::context(ctx),
    };
    if TEMPLATES.remove(template).is_ok() {
        return true;
    }
    // The stacks of interrupts are aligned to pages only: the call within this one may have been on the far side of a
    // boundary.
    template.context = template.context.wrapping_sub(1);
    TEMPLATES.remove(template).is_ok()
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
