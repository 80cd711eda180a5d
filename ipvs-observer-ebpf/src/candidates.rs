//! The destinations of a service, as the scheduler has them before it.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use ipvs_observer_common::event::{
    self, CandidatesHeader, DestinationState, MOST_CANDIDATES, OVERLOADED, Summary,
};

use crate::{
    call::Call,
    filter, key,
    maps::{EVENTS, observed, sent_or_lost},
    read::{bytes, layout, number, raw_address},
};

/// Where a list of candidates is put together. A probe is not interrupted by another on its CPU.
#[map]
static CANDIDATES: PerCpuArray<event::Candidates> = PerCpuArray::with_max_entries(1, 0);

/// Where a summary is counted.
#[map]
static SUMMARY: PerCpuArray<event::Summary> = PerCpuArray::with_max_entries(1, 0);

/// Most destinations looked at to say why none was taken.
const MOST_LOOKED_AT: u32 = 128;

/// Sends the candidates of a call.
#[inline(always)]
pub fn send(call: &Call) {
    let service = call.subject;
    let ipvs = number(service, layout!(service.ipvs));
    let net = number(ipvs, layout!(namespace.net));
    if !observed(number(net, layout!(namespace.inum)) as u32) {
        return;
    }
    // As far as it is known before the decision.
    if filter::is_given() && !filter::asks_packet(&key::service(service), call) {
        return;
    }
    let Some(list) = CANDIDATES.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the lookup gave a valid pointer to this CPU's block, and a probe is not interrupted by another.
    let list = unsafe { &mut *list };
    let data = number(service, layout!(service.sched_data));
    list.header = CandidatesHeader {
        kind: event::CANDIDATES,
        count: 0,
        call: call.name(),
        all: number(service, layout!(service.num_dests)) as u32,
        service_flags: number(service, layout!(service.flags)) as u32,
        list: head(service),
        scheduler_data: data,
        scheduler_state: bytes(data),
        target: [0; 16],
        list_offset: u32::from(layout!(destination.n_list).offset),
        reserved: 0,
    };
    raw_address(&mut list.header.target, call.header, layout!(header.daddr));
    fill(service, list);
    // Read back from memory: of a value there the verifier knows nothing, and so follows what comes after the
    // loop once, not once for each number that the loop can end with.
    let count = hidden(&list.header.count);
    let count = if count > MOST_CANDIDATES as u32 {
        MOST_CANDIDATES
    } else {
        count as usize
    };
    let size = size_of::<CandidatesHeader>() + count * size_of::<DestinationState>();
    // SAFETY: `count` is at most what the block holds, and the block has no padding.
    let told = unsafe { core::slice::from_raw_parts((&raw const *list).cast::<u8>(), size) };
    let sent = EVENTS.output::<[u8]>(told, 0).is_ok();
    sent_or_lost(sent, |health| {
        (&mut health.candidates, &mut health.candidates_lost)
    });
}

/// Fills in the destinations in the service's order.
#[inline(always)]
fn fill(service: u64, list: &mut event::Candidates) {
    let head = head(service);
    let mut node = next(head);
    for candidate in &mut list.candidates {
        if node == head || node == 0 {
            break;
        }
        key::state(candidate, of_node(node));
        count_in(&mut list.header.count, true);
        node = next(node);
    }
}

/// Why a service has no destination for anybody.
#[inline(always)]
pub fn summary(service: u64) -> Summary {
    let Some(summary) = SUMMARY.get_ptr_mut(0) else {
        return Summary::default();
    };
    // SAFETY: the lookup gave a valid pointer to this CPU's block, and a probe is not interrupted by another.
    let summary = unsafe { &mut *summary };
    *summary = Summary {
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
        let drained = number(destination, layout!(destination.weight)) as i32 <= 0;
        let overloaded = number(destination, layout!(destination.flags)) as u32 & OVERLOADED != 0;
        // Counted in memory, of which the verifier knows nothing: see above.
        count_in(&mut summary.looked_at, true);
        count_in(&mut summary.drained, drained);
        count_in(&mut summary.overloaded, !drained && overloaded);
        node = next(node);
    }
    Summary {
        looked_at: hidden(&summary.looked_at),
        drained: hidden(&summary.drained),
        overloaded: hidden(&summary.overloaded),
        all: hidden(&summary.all),
    }
}

#[inline(always)]
fn count_in(count: &mut u32, one: bool) {
    let counted = hidden(count).wrapping_add(u32::from(one));
    // SAFETY: a valid reference.
    unsafe { (&raw mut *count).write_volatile(counted) };
}

#[inline(always)]
fn hidden(value: &u32) -> u32 {
    // SAFETY: a valid reference.
    unsafe { (&raw const *value).read_volatile() }
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
