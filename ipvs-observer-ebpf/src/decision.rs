//! Tells of a decision.

use ipvs_observer_common::{
    event::{self, Decision, DestinationState, MESSAGE, Summary},
    key::ServiceKey,
    layout,
};

use crate::{
    call::{Call, now},
    key,
    maps::{EVENTS, health},
    packet,
    read::{has, layout, number, string},
    scheduler::{self, Verdict},
};

/// `IP_VS_CONN_F_INACTIVE`.
const INACTIVE: u64 = 0x100;

/// Sends a decision.
#[inline(always)]
pub fn send(call: &Call, service: ServiceKey, verdict: Option<&Verdict>, connection: u64, outcome: u32) {
    let Some(mut room) = EVENTS.reserve::<Decision>(0) else {
        health(|health| health.decisions_lost += 1);
        return;
    };
    let ends = packet::ends(call);
    let told = room.as_mut_ptr();
    // SAFETY: the reservation is large enough and aligned; every field is written.
    unsafe {
        (&raw mut (*told).kind).write(event::DECISION);
        (&raw mut (*told).outcome).write(outcome);
        (&raw mut (*told).time).write(now());
        (&raw mut (*told).call).write(verdict.map_or(0, |verdict| verdict.call));
        (&raw mut (*told).ns).write(verdict.map_or(0, |verdict| verdict.ns));
        (&raw mut (*told).service).write(service);
        (&raw mut (*told).scheduler).write(scheduler::name(call.subject));
        (&raw mut (*told).client).write(ends.client);
        (&raw mut (*told).client_port).write(ends.client_port);
        (&raw mut (*told).reserved).write(0);
        (&raw mut (*told).flags).write(flags(verdict));
        (&raw mut (*told).destination).write(destination(verdict, connection));
        (&raw mut (*told).summary).write(verdict.map_or(Summary::default(), |verdict| verdict.summary));
        (&raw mut (*told).message).write(string::<MESSAGE>(verdict.map_or(0, |verdict| verdict.message)));
    }
    room.submit(0);
    health(|health| health.decisions += 1);
}

#[inline(always)]
fn flags(verdict: Option<&Verdict>) -> u32 {
    let total = if has(layout::TOTAL_CONNECTIONS) {
        event::TOTAL_CONNECTIONS
    } else {
        0
    };
    total | verdict.map_or(0, |verdict| verdict.flags as u32)
}

/// The destination as it was before this connection. The scheduler's verdict has it; without one, this
/// connection is taken off again: it is counted by now.
#[inline(always)]
fn destination(verdict: Option<&Verdict>, connection: u64) -> DestinationState {
    if let Some(verdict) = verdict {
        return verdict.destination;
    }
    if connection == 0 {
        return DestinationState::default();
    }
    let mut state = key::state(number(connection, layout!(connection.dest)));
    let inactive = number(connection, layout!(connection.flags)) & INACTIVE != 0;
    if !inactive {
        state.active = state.active.saturating_sub(1);
    }
    if inactive || has(layout::TOTAL_CONNECTIONS) {
        state.other = state.other.saturating_sub(1);
    }
    state
}
