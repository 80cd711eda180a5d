//! A scheduler's own function: what it took and what it said, kept until the function around it returns.

use aya_ebpf::{
    EbpfContext,
    macros::map,
    maps::{HashMap, PerCpuArray},
    programs::{ProbeContext, RetProbeContext},
};
use ipvs_observer_common::{
    control,
    event::{self, DestinationState, Summary},
    layout,
};

use crate::{
    behind::{self, Found, Left},
    call::{self, Call, Function, now},
    candidates, key,
    maps::{goes, health, refusals, wanted},
    read::{has, layout, number, string},
};

/// What the scheduler of this CPU's last packet took. Where that packet goes on on another CPU, or is interrupted
/// by another that is scheduled here, its duration is lost; that is counted, and nothing else is lost by it.
#[map]
static LAST: PerCpuArray<Last> = PerCpuArray::with_max_entries(1, 0);

/// What the scheduler said of a packet, from its return to that of the function around it. Only for telling: it
/// costs more, and loses nothing.
#[map]
static VERDICTS: HashMap<u64, Left<Verdict>> = HashMap::with_max_entries(1024, 0);

/// Where the words are in which a scheduler said why it gives nothing, from there to its return.
#[map]
static MESSAGES: HashMap<u64, Left<u64>> = HashMap::with_max_entries(1024, 0);

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
    /// The address of what it said where it gave none.
    message: u64,
    /// When the call began that said it.
    message_of: u64,
}

/// What is known of a packet that found no destination, from the return of `ip_vs_schedule` to that of `ip_vs_leave`:
/// the last on this CPU, where decisions are only counted.
#[map]
static REFUSED: PerCpuArray<Refused> = PerCpuArray::with_max_entries(1, 0);

/// A packet without a destination.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Refused {
    packet: u64,
    /// Where the stack was.
    stack: u64,
    /// One of the event's `OUTCOME_*`.
    pub outcome: u64,
    /// How long the scheduler took; 0 if that is not known.
    pub ns: u64,
    /// The address of what it said; 0 if it said nothing.
    pub message: u64,
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
pub struct Heard {
    /// How long it took.
    pub ns: u64,
    /// The flags of the destination chosen, before this connection.
    pub flags: u32,
}

/// A scheduler's `schedule(svc, skb, iph)` begins. `TELL`: its candidates are told where that is wanted.
#[inline(always)]
pub fn entry<const TELL: bool>(ctx: &ProbeContext) {
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

/// Return of a scheduler's `schedule`: the destination chosen, or nothing. `TELL`: what it was like is kept for the
/// telling.
#[inline(always)]
pub fn returned<const TELL: bool>(ctx: &RetProbeContext) {
    let chosen: u64 = ctx.ret();
    if !TELL {
        return last_ends(ctx, chosen);
    }
    if let Some(call) = call::end(ctx, Function::Scheduler)
        && has(layout::SERVICES)
    {
        let ns = now().wrapping_sub(call.began);
        leave_verdict(ctx, &call, ns, chosen);
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
fn leave_verdict(ctx: &RetProbeContext, call: &Call, ns: u64, chosen: u64) {
    let message = behind::find(&MESSAGES, ctx);
    let mut verdict = Verdict {
        call: call.name(),
        ns,
        message: 0,
        flags: 0,
        destination: DestinationState::default(),
        summary: Summary::default(),
    };
    verdict.destination.flags = flags_before(chosen);
    if wanted(control::DECISIONS, layout::DECISIONS) {
        if chosen != 0 {
            key::state(&mut verdict.destination, chosen);
        } else {
            if has(layout::CANDIDATES) {
                verdict.summary = candidates::summary(call.subject);
            }
            let said = message.as_ref().and_then(|message| message.since(call));
            verdict.message = said.copied().unwrap_or(0);
        }
        if wanted(control::CANDIDATES, layout::CANDIDATES) {
            verdict.flags = u64::from(event::HAS_CANDIDATES);
        }
    }
    if let Some(message) = message {
        behind::take_out(&MESSAGES, &message);
    }
    behind::leave(&VERDICTS, ctx, verdict);
}

/// What a scheduler left for the function around it, which [takes it out](heard).
#[inline(always)]
pub fn verdict(ctx: &impl EbpfContext) -> Option<Found<Verdict>> {
    behind::find(&VERDICTS, ctx)
}

/// A verdict was heard, and nothing of it is to be used afterwards.
#[inline(always)]
pub fn heard(verdict: &Found<Verdict>) {
    behind::take_out(&VERDICTS, verdict);
}

/// The flags of the destination chosen, where they are looked at for overloads.
#[inline(always)]
fn flags_before(chosen: u64) -> u32 {
    if chosen != 0 && has(layout::STATE) && goes(control::LOOK_FOR_OVERLOAD) {
        number(chosen, layout!(destination.flags)) as u32
    } else {
        0
    }
}

/// What the scheduler took for the packet of a call, if it was the last on this CPU. It is heard once.
#[inline(always)]
pub fn last_heard(call: &Call) -> Option<Heard> {
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

/// `ip_vs_scheduler_err(svc, msg)` begins: a scheduler says why it gives nothing. The kernel's own log line is
/// rate-limited, this call is not.
#[inline(always)]
pub fn error(ctx: &ProbeContext) {
    call::seen();
    let message: u64 = ctx.arg(1).unwrap_or(0);
    if wanted(control::DECISIONS, layout::DECISIONS) {
        behind::leave(&MESSAGES, ctx, message);
    } else if refusals() != 0
        && let Some(last) = LAST.get_ptr_mut(0)
    {
        // SAFETY: the lookup gave a valid pointer to this CPU's place, and a probe is not interrupted by another.
        let last = unsafe { &mut *last };
        last.message = message;
        last.message_of = last.began;
    }
}

/// What is known of a packet that no destination was found for. `heard`: its scheduler was [heard last](last_heard).
#[inline(always)]
pub fn refused(ctx: &impl EbpfContext, call: &Call, outcome: u32, heard: Option<Heard>) -> Refused {
    let message = LAST.get_ptr(0).map_or(0, |last| {
        // SAFETY: as above.
        let last = unsafe { &*last };
        if heard.is_some() && last.message_of == last.began {
            last.message
        } else {
            0
        }
    });
    Refused {
        packet: call.packet,
        stack: call::stack_pointer(ctx),
        outcome: outcome.into(),
        ns: heard.map_or(0, |heard| heard.ns),
        message,
    }
}

/// Keeps it for `ip_vs_leave`.
#[inline(always)]
pub fn leave_refused(refused: Refused) {
    if let Some(place) = REFUSED.get_ptr_mut(0) {
        // SAFETY: the lookup gave a valid pointer to this CPU's place.
        unsafe { *place = refused };
    }
}

/// What was left for `ip_vs_leave`; nothing is known of a packet that went on on another CPU.
#[inline(always)]
pub fn left_refused(ctx: &impl EbpfContext, call: &Call) -> Refused {
    let nothing = Refused {
        packet: 0,
        stack: 0,
        outcome: event::OUTCOME_NONE.into(),
        ns: 0,
        message: 0,
    };
    REFUSED.get_ptr(0).map_or(nothing, |left| {
        // SAFETY: as above.
        let left = unsafe { *left };
        if left.packet == call.packet && behind::is_beside(ctx, left.stack) {
            left
        } else {
            nothing
        }
    })
}

/// The name of a service's scheduler; empty where it has none, as for a moment while a service is edited.
#[inline(always)]
pub fn name(place: &mut [u8; 16], service: u64) {
    // Nothing can be read at nowhere.
    let scheduler = number(service, layout!(service.scheduler));
    string(place, number(scheduler, layout!(scheduler.name)));
}
