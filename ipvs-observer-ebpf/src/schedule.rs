//! The scheduling path: what becomes of the first packet of a connection.
//!
//! Everything is counted at the return of `ip_vs_schedule`, where the kernel itself counts the connection. What the
//! scheduler's own function and persistence said is handed over to there. A packet without a destination is told of
//! after `ip_vs_leave`, the last function that decides.

use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use aya_log_ebpf::warn;
use ipvs_observer_common::{
    control, event,
    key::{DestinationKey, ServiceKey},
    layout,
};

use crate::{
    budget,
    call::{self, Call, Function},
    connection,
    count::{self, End},
    decision, defence,
    ended::{self, Ended},
    key,
    maps::{goes, observed, refusals, wanted},
    packet, path,
    read::{has, layout, number},
    scheduler::{self, Heard, last_heard},
    template, unsent,
};

/// `NF_DROP`.
const DROP: i32 = 0;
/// `NF_ACCEPT`.
const ACCEPT: i32 = 1;

/// `ip_vs_schedule(svc, skb, pd, ignored, iph)` begins.
#[inline(always)]
pub fn entry(ctx: &ProbeContext) {
    unsent::module_is_here(ctx);
    if goes(control::LOOK_FOR_DEFENCE) {
        defence::passed(ctx);
    }
    if goes(control::LOOK_AT_PACKETS) {
        path::decided(ctx);
    }
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
    let call = call::end(ctx, Function::Schedule);
    let verdict = if TELL { scheduler::verdict(ctx) } else { None };
    match call {
        Some(call) if has(layout::SERVICES) => {
            let end = Ended::of(ctx, &call);
            if end.connection != 0 {
                unsent::scheduled(call.packet, end.connection);
            }
            if TELL {
                let said = verdict.as_ref().and_then(|found| found.since(&call));
                let heard = said.map(|verdict| Heard {
                    ns: verdict.ns,
                    flags: verdict.destination.flags,
                });
                let told = conclude(ctx, &call, &end, heard)
                    .filter(|_| wanted(control::DECISIONS, layout::DECISIONS))
                    .map(|concluded| (concluded.service, concluded.outcome));
                decision::tell(ctx, &call, &end, said, told);
            } else {
                let heard = last_heard(&call);
                // Twice, so that a connection takes no more steps for what is told of the lack of one.
                if end.connection != 0 {
                    conclude(ctx, &call, &end, heard);
                } else if let Some(concluded) = conclude(ctx, &call, &end, heard)
                    && refusals() != 0
                {
                    refused(ctx, &call, &end, heard, &concluded);
                }
            }
        }
        Some(_) => {}
        None => template::forget(ctx),
    }
    if let Some(verdict) = verdict {
        scheduler::heard(&verdict);
    }
}

/// Tells of a packet without a destination within the budget, or leaves that to the return of `ip_vs_leave`.
#[inline(always)]
fn refused(ctx: &RetProbeContext, call: &Call, end: &Ended, heard: Option<Heard>, concluded: &Concluded) {
    let &Concluded {
        service,
        outcome,
        slot,
    } = concluded;
    let refused = scheduler::refused(ctx, call, outcome, heard);
    if end.leaves() && goes(control::TELL_AFTER_LEAVE) {
        scheduler::leave_refused(refused);
    } else if budget::tells_refusal(&service, slot, outcome) {
        decision::tell_refusal(call, service, outcome, refused.ns, refused.message);
    }
}

/// What became of a packet, and whose it is.
struct Concluded {
    service: ServiceKey,
    /// One of the event's `OUTCOME_*`.
    outcome: u32,
    /// The service's slot.
    slot: Option<u32>,
}

/// Counts what became of a packet; returns it if anybody is to know.
#[inline(always)]
fn conclude(ctx: &RetProbeContext, call: &Call, end: &Ended, heard: Option<Heard>) -> Option<Concluded> {
    if end.connection == 0 && end.ignored > 0 {
        return None;
    }
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
    let outcome = if end.connection != 0 {
        if end.template.is_some() {
            event::OUTCOME_TEMPLATE
        } else {
            event::OUTCOME_SCHEDULED
        }
    } else if end.ignored < 0 {
        event::OUTCOME_FATAL
    } else if heard.is_none() && nobody_to_ask(call, end, &service) {
        event::OUTCOME_UNASKED
    } else {
        event::OUTCOME_NONE
    };
    // Not by what was heard alone, which can be lost. Without persistence nothing fails before the scheduler is
    // asked; with it, a failure of which nothing was heard is taken for one before.
    let asked = match outcome {
        event::OUTCOME_SCHEDULED | event::OUTCOME_NONE => true,
        event::OUTCOME_FATAL => heard.is_some() || !end.persistent,
        _ => heard.is_some(),
    };
    let slot = count::outcome(
        &service,
        call.subject,
        outcome,
        asked,
        heard.map(|heard| heard.ns),
    );
    if end.connection != 0 && has(layout::DESTINATIONS) {
        let destination = number(end.connection, layout!(connection.dest));
        let key = key::destination(service, destination);
        if outcome == event::OUTCOME_SCHEDULED {
            count::pick(&key, destination);
        }
        if end.one_packet {
            count::ended(
                &service,
                call.subject,
                Some((&key, destination)),
                event::HOW_EXPIRED,
            );
        }
        if has(layout::STATE) && goes(control::LOOK_FOR_OVERLOAD) {
            let before = end
                .template
                .map(|template| template.flags)
                .or(heard.map(|heard| heard.flags));
            overload_on_scheduling(call, &key, destination, before);
        }
    }
    Some(Concluded {
        service,
        outcome,
        slot,
    })
}

/// Finds out from a destination's flags whether this connection filled it.
#[inline(always)]
fn overload_on_scheduling(call: &Call, key: &DestinationKey, destination: u64, before: Option<u32>) {
    if number(destination, layout!(destination.u_threshold)) == 0 {
        return;
    }
    // Before the flags are read: what another processor sees later must be the later.
    let seen = call::now();
    let after = number(destination, layout!(destination.flags)) as u32 & event::OVERLOADED != 0;
    let before = before.is_none_or(|flags| flags & event::OVERLOADED != 0);
    if after && !before {
        count::transition(key, destination, true, seen, call.began);
    } else {
        count::overload(key, destination, after, false, seen);
    }
}

/// Whether a packet has no destination because no scheduler was asked: the service has none, or the packet is for
/// another port than the service's, which only persistence schedules.
#[inline(always)]
fn nobody_to_ask(call: &Call, end: &Ended, service: &ServiceKey) -> bool {
    if !has(layout::DECISIONS) {
        return false;
    }
    if number(call.subject, layout!(service.scheduler)) == 0 {
        return true;
    }
    if service.fwmark != 0 || end.persistent {
        return false;
    }
    packet::ends(call).is_some_and(|ends| ends.virtual_port != service.port)
}

/// `ip_vs_leave(svc, skb, pd, iph)` begins: there is no destination for a packet.
#[inline(always)]
pub fn leave_entry(ctx: &ProbeContext) {
    call::begin(
        ctx,
        Function::Leave,
        Call {
            subject: ctx.arg(0).unwrap_or(0),
            packet: ctx.arg(1).unwrap_or(0),
            header: ctx.arg(3).unwrap_or(0),
            ..Call::default()
        },
    );
}

/// Return of `ip_vs_leave`: the packet was turned away, handed on, or sent on. `TELL`: the decision that waits for it
/// is told. Without, one that was turned away is told within the budget.
#[inline(always)]
pub fn leave_returned<const TELL: bool>(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::Leave) else {
        return;
    };
    if !has(layout::SERVICES) {
        return;
    }
    let end = match ctx.ret::<i32>() {
        DROP => End::Refused,
        ACCEPT => End::Accepted,
        _ => End::Bypassed,
    };
    let service = key::service(call.subject);
    if service.family != 0 && observed(service.netns) {
        let slot = count::left(&service, call.subject, end);
        if matches!(end, End::Bypassed) && ended::with_its_packet(&call) {
            count::ended(&service, call.subject, None, event::HOW_EXPIRED);
        }
        if !TELL && matches!(end, End::Refused) && budget::tells_refusal(&service, slot, event::OUTCOME_NONE)
        {
            let said = scheduler::left_refused(ctx, &call);
            decision::tell_refusal(&call, service, said.outcome as u32, said.ns, said.message);
        }
    }
    if TELL {
        decision::tell_waiting(ctx, &call, end);
    }
}

/// `ip_vs_new_conn_out(svc, …)` begins: a real server sends what may begin a connection.
#[inline(always)]
pub fn connection_out_entry(ctx: &ProbeContext) {
    call::begin(
        ctx,
        Function::NewConnectionOut,
        Call {
            subject: ctx.arg(0).unwrap_or(0),
            ..Call::default()
        },
    );
}

/// Return of `ip_vs_new_conn_out`, with a connection or without.
#[inline(always)]
pub fn connection_out_returned(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::NewConnectionOut) else {
        return;
    };
    let connection: u64 = ctx.ret();
    if connection == 0 || !has(layout::SERVICES) {
        return;
    }
    let service = key::service(call.subject);
    if service.family == 0 || !observed(service.netns) {
        return;
    }
    count::begun_by_server(&service, call.subject);
    let destination = number(connection, layout!(connection.dest));
    if has(connection::NEEDS) && connection::is_of_one_packet(connection) {
        let key = key::destination(service, destination);
        count::ended(
            &service,
            call.subject,
            Some((&key, destination)),
            event::HOW_EXPIRED,
        );
    }
    if wanted(control::DECISIONS, connection::NEEDS) {
        connection::tell_begun(
            event::ELSEWHERE,
            event::BEGUN_BY_SERVER,
            &service,
            connection,
            destination,
        );
    }
}
