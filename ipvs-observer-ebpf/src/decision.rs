//! Tells of a decision.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray},
    programs::RetProbeContext,
};
use ipvs_observer_common::{
    control,
    event::{self, Decision, DestinationState, Summary},
    key::ServiceKey,
    layout,
};

use crate::{
    behind::{self, Left},
    call::{Call, now},
    candidates,
    count::End,
    ended::Ended,
    filter, key,
    maps::{EVENTS, goes, health, sent_or_lost},
    packet,
    read::{has, layout, number, string},
    scheduler::{self, Verdict},
};

/// `IP_VS_CONN_F_INACTIVE`.
const INACTIVE: u64 = 0x100;

/// Decisions without a destination, from the return of `ip_vs_schedule` to that of `ip_vs_leave`.
#[map]
static WAITING: HashMap<u64, Left<Waiting>> = HashMap::with_max_entries(256, 0);

/// Where one of them is put together, for there is no room for it on the stack.
#[map]
static DRAFT: PerCpuArray<Left<Waiting>> = PerCpuArray::with_max_entries(1, 0);

/// A decision, and the packet that it is of.
#[repr(C)]
pub struct Waiting {
    packet: u64,
    decision: Decision,
}

/// Tells what `told` says, at once or after `ip_vs_leave`. Without it, nobody is to know.
#[inline(always)]
pub fn tell(
    ctx: &RetProbeContext,
    call: &Call,
    end: &Ended,
    verdict: Option<&Verdict>,
    told: Option<(ServiceKey, u32)>,
) {
    let waits = end.leaves() && goes(control::TELL_AFTER_LEAVE);
    let Some((service, outcome)) = told else {
        // What an earlier call left there would be taken for this one's.
        if waits && let Some(old) = behind::find(&WAITING, ctx) {
            behind::take_out(&WAITING, &old);
        }
        return;
    };
    let Some(draft) = DRAFT.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the lookup gave a valid pointer to this CPU's place, and a probe is not interrupted by another.
    let draft = unsafe { &mut *draft };
    draft.value.packet = call.packet;
    write(
        &mut draft.value.decision,
        call,
        Some(end),
        service,
        verdict,
        outcome,
    );
    if waits && !filter::may_ask(&draft.value.decision) {
        if let Some(old) = behind::find(&WAITING, ctx) {
            behind::take_out(&WAITING, &old);
        }
        return;
    }
    if !waits {
        send(&draft.value.decision);
    } else if !behind::leave_draft(&WAITING, ctx, draft) {
        health(|health| health.decisions_lost += 1);
    }
}

#[inline(always)]
fn send(decision: &Decision) {
    if !filter::asks(decision) {
        return;
    }
    let sent = EVENTS.output::<Decision>(decision, 0).is_ok();
    sent_or_lost(sent, |health| (&mut health.decisions, &mut health.decisions_lost));
}

/// Tells of a packet that found no destination, where decisions are only counted. What the scheduler said of it is less
/// then: `ns` and the address of its words, each 0 where it is not known.
#[inline(always)]
pub fn tell_refusal(call: &Call, service: ServiceKey, outcome: u32, ns: u64, message: u64) {
    let Some(draft) = DRAFT.get_ptr_mut(0) else {
        return;
    };
    let mut verdict = Verdict {
        call: 0,
        ns,
        message,
        flags: 0,
        destination: DestinationState::default(),
        summary: Summary::default(),
    };
    if outcome == event::OUTCOME_NONE && has(layout::CANDIDATES) {
        verdict.summary = candidates::summary(call.subject);
    }
    // SAFETY: the lookup gave a valid pointer to this CPU's place, and a probe is not interrupted by another.
    let told = unsafe { &mut (*draft).value.decision };
    write(told, call, None, service, Some(&verdict), outcome);
    send(told);
}

/// Tells of the decision that waited for the end of `ip_vs_leave`.
#[inline(always)]
pub fn tell_waiting(ctx: &RetProbeContext, call: &Call, end: End) {
    let Some(found) = behind::find(&WAITING, ctx) else {
        return;
    };
    let waiting = found.value();
    if waiting.packet == call.packet
        && let Some(draft) = DRAFT.get_ptr_mut(0)
    {
        // SAFETY: as above.
        let told = unsafe { &mut (*draft).value.decision };
        *told = waiting.decision;
        told.time = now();
        told.flags |= match end {
            End::Refused => 0,
            End::Accepted => event::ACCEPTED,
            End::Bypassed => event::BYPASSED,
        };
        send(told);
    }
    behind::take_out(&WAITING, &found);
}

/// Writes a decision, whatever was there before. The pattern names every field, so that none keeps what it was.
#[inline(always)]
fn write(
    told: &mut Decision,
    call: &Call,
    end: Option<&Ended>,
    of: ServiceKey,
    verdict: Option<&Verdict>,
    became: u32,
) {
    let Decision {
        kind,
        outcome,
        time,
        call: name,
        ns,
        service,
        scheduler,
        client,
        virtual_address,
        client_port,
        virtual_port,
        flags,
        protocol,
        begun_by,
        destination,
        summary,
        message,
    } = told;
    let ends = packet::ends(call);
    packet::addresses(client, virtual_address, call);
    (*client_port, *virtual_port) = ends
        .as_ref()
        .map_or((0, 0), |ends| (ends.client_port, ends.virtual_port));
    *flags = common_flags(verdict) | if ends.is_none() { event::PORTS_UNKNOWN } else { 0 };
    if let Some(end) = end {
        *flags |= end.given_up;
    }
    if became == event::OUTCOME_FATAL {
        *flags |= failed_by(call, end, verdict);
    }
    *kind = event::DECISION;
    *outcome = became;
    *time = now();
    *name = verdict.map_or(0, |verdict| verdict.call);
    *ns = verdict.map_or(0, |verdict| verdict.ns);
    *service = of;
    scheduler::name(scheduler, call.subject);
    *protocol = packet::protocol(call) as u32;
    *begun_by = packet::begun_by(call);
    before(destination, verdict, end);
    *summary = verdict.map_or(Summary::default(), |verdict| verdict.summary);
    string(message, verdict.map_or(0, |verdict| verdict.message));
}

#[inline(always)]
fn common_flags(verdict: Option<&Verdict>) -> u32 {
    let total = if has(layout::TOTAL_CONNECTIONS) {
        event::TOTAL_CONNECTIONS
    } else {
        0
    };
    total | verdict.map_or(0, |verdict| verdict.flags as u32)
}

/// What made scheduling fail, of the things that are known by more than the failure.
#[inline(always)]
fn failed_by(call: &Call, end: Option<&Ended>, verdict: Option<&Verdict>) -> u32 {
    // Only the engine comes before the scheduler, beside a template that decides.
    let unasked =
        verdict.is_none_or(|verdict| verdict.ns == 0) && end.is_none_or(|end| end.template.is_none());
    if unasked && has(layout::CONFIGURED) && number(call.subject, layout!(service.pe)) != 0 {
        return event::FAILED_BY_ENGINE;
    }
    let ipvs = number(call.subject, layout!(service.ipvs));
    let most = layout!(namespace.sysctl_conn_max);
    if most.present() && number(ipvs, layout!(namespace.conn_count)) >= number(ipvs, most) {
        return event::FAILED_BY_LIMIT;
    }
    0
}

/// The destination as it was before this connection. The scheduler's verdict has it; without one, this
/// connection is taken off again: it is counted by now.
#[inline(always)]
fn before(state: &mut DestinationState, verdict: Option<&Verdict>, end: Option<&Ended>) {
    if let Some(verdict) = verdict {
        *state = verdict.destination;
        return;
    }
    let Some(end) = end.filter(|end| end.connection != 0) else {
        *state = DestinationState::default();
        return;
    };
    key::state(state, number(end.connection, layout!(connection.dest)));
    let inactive = number(end.connection, layout!(connection.flags)) & INACTIVE != 0;
    if !inactive {
        state.active = state.active.saturating_sub(1);
    }
    if inactive || has(layout::TOTAL_CONNECTIONS) {
        state.other = state.other.saturating_sub(1);
    }
    if let Some(template) = end.template {
        state.flags = template.flags;
    }
}
