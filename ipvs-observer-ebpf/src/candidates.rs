//! The destinations of a service, as the scheduler has them before it.

use ipvs_observer_common::event::{
    self, CandidatesHeader, DestinationState, MOST_CANDIDATES, OVERLOADED, Summary,
};

use crate::{
    call::Call,
    key,
    maps::{CANDIDATES, EVENTS, health, observed},
    read::{bytes, layout, number, raw_address},
    schedule::call_name,
};

/// Most destinations looked at to say why none was taken.
const MOST_LOOKED_AT: u32 = 256;

/// Sends the candidates of a call.
#[inline(always)]
pub fn send(call: &Call) {
    let service = call.subject;
    let ipvs = number(service, layout!(service.ipvs));
    let net = number(ipvs, layout!(namespace.net));
    if !observed(number(net, layout!(namespace.inum)) as u32) {
        return;
    }
    let Some(list) = CANDIDATES.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the lookup gave a valid pointer to this CPU's block, and a probe is not interrupted by another.
    let list = unsafe { &mut *list };
    let count = fill(service, &mut list.candidates);
    let data = number(service, layout!(service.sched_data));
    list.header = CandidatesHeader {
        kind: event::CANDIDATES,
        count: count as u32,
        call: call_name(call),
        all: number(service, layout!(service.num_dests)) as u32,
        service_flags: number(service, layout!(service.flags)) as u32,
        list: head(service),
        scheduler_data: data,
        scheduler_state: bytes(data),
        target: raw_address(call.header, layout!(header.daddr)),
        list_offset: u32::from(layout!(destination.n_list).offset),
        reserved: 0,
    };
    let size = size_of::<CandidatesHeader>() + count * size_of::<DestinationState>();
    // SAFETY: `count` is at most what the block holds, and the block has no padding.
    let told = unsafe { core::slice::from_raw_parts((&raw const *list).cast::<u8>(), size) };
    let sent = EVENTS.output::<[u8]>(told, 0).is_ok();
    health(|health| {
        if sent {
            health.candidates += 1;
        } else {
            health.candidates_lost += 1;
        }
    });
}

/// Fills in the destinations in the service's order; returns how many.
#[inline(always)]
fn fill(service: u64, candidates: &mut [DestinationState; MOST_CANDIDATES]) -> usize {
    let head = head(service);
    let mut node = next(head);
    let mut count = 0;
    while count < MOST_CANDIDATES {
        if node == head || node == 0 {
            break;
        }
        candidates[count] = key::state(of_node(node));
        count += 1;
        node = next(node);
    }
    count
}

/// Why a service has no destination for anybody.
#[inline(always)]
pub fn summary(service: u64) -> Summary {
    let mut summary = Summary {
        all: number(service, layout!(service.num_dests)) as u32,
        ..Summary::default()
    };
    let head = head(service);
    let mut node = next(head);
    for _ in 0..MOST_LOOKED_AT {
        if node == head || node == 0 {
            break;
        }
        let destination = of_node(node);
        summary.looked_at += 1;
        if number(destination, layout!(destination.weight)) as i32 <= 0 {
            summary.drained += 1;
        } else if number(destination, layout!(destination.flags)) as u32 & OVERLOADED != 0 {
            summary.overloaded += 1;
        }
        node = next(node);
    }
    summary
}

/// Where a service's list of destinations begins and ends.
#[inline(always)]
fn head(service: u64) -> u64 {
    service.wrapping_add(u64::from(layout!(service.destinations).offset))
}

/// The next node of a list: `list_head.next` comes first.
#[inline(always)]
fn next(node: u64) -> u64 {
    u64::from_ne_bytes(bytes(node))
}

/// The destination that a node of the list is in.
#[inline(always)]
fn of_node(node: u64) -> u64 {
    node.wrapping_sub(u64::from(layout!(destination.n_list).offset))
}
