//! What of the events is asked for: what is not never enters the ring, and is not lost where that is full.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{
        HashMap, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
};
pub use ipvs_observer_common::filter::{ELSEWHERE, REUSED};
use ipvs_observer_common::{
    event::Decision,
    filter::{self, Endpoint, network},
    key::ServiceKey,
};

use crate::{
    call::Call,
    maps::{filters, outcomes, slower_than},
    packet,
    read::{INET, layout, number, port, raw_address},
};

/// The services asked for, of every namespace.
#[map]
static ASKED_SERVICES: HashMap<ServiceKey, u32> = HashMap::with_max_entries(1, 0);

/// The clients asked for with their ports.
#[map]
static ASKED_CLIENTS: HashMap<Endpoint, u32> = HashMap::with_max_entries(1, 0);

/// The networks of clients asked for.
#[map]
static ASKED_NETWORKS: LpmTrie<[u8; 18], u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The destinations asked for.
#[map]
static ASKED_DESTINATIONS: HashMap<Endpoint, u32> = HashMap::with_max_entries(1, 0);

/// Room for what is looked up: a program has half a KiB of stack.
#[repr(C)]
struct Keys {
    service: ServiceKey,
    endpoint: Endpoint,
    network: Key<[u8; 18]>,
}

/// One of each [`Room`].
#[map]
static KEYS: PerCpuArray<Keys> = PerCpuArray::with_max_entries(2, 0);

/// Whose room: the tracepoint can come while a probe runs, and no probe while another does.
#[derive(Clone, Copy)]
pub enum Room {
    /// Of the probes of functions.
    Probe,
    /// Of the tracepoint.
    Tracepoint,
}

impl Room {
    #[inline(always)]
    fn keys(self) -> Option<&'static mut Keys> {
        // SAFETY: the lookup gave a valid pointer to this CPU's block of those that exclude each other.
        KEYS.get_ptr_mut(self as u32).map(|keys| unsafe { &mut *keys })
    }

    /// Looks up an endpoint. Behind an address of IPv4 the kernel's memory may have anything.
    #[inline(always)]
    fn endpoint(self, family: u16, address: &[u8; 16], port: u16) -> Option<&'static mut Keys> {
        let keys = self.keys()?;
        keys.endpoint = Endpoint {
            address: *address,
            family,
            port,
            any_port: 0,
        };
        if family == INET {
            keys.endpoint.address[4..].fill(0);
        }
        Some(keys)
    }
}

#[inline(always)]
fn is_in<K>(asked: &HashMap<K, u32>, key: &K) -> bool {
    asked.get_ptr(key).is_some()
}

/// Whether any filter is given.
#[inline(always)]
pub fn is_given() -> bool {
    filters() != 0
}

#[inline(always)]
fn given(filter: u32) -> bool {
    filters() & filter != 0
}

/// Whether a service is asked for.
#[inline(always)]
pub fn asks_service(room: Room, service: &ServiceKey) -> bool {
    !given(filter::SERVICES)
        || room.keys().is_some_and(|keys| {
            keys.service = *service;
            keys.service.netns = 0;
            is_in(&ASKED_SERVICES, &keys.service)
        })
}

/// Whether a service and a client of it are asked for.
#[inline(always)]
pub fn asks_from(room: Room, service: &ServiceKey, client: &[u8; 16], port: u16) -> bool {
    asks_service(room, service) && asks_client(room, service.family, client, port)
}

/// The same of a packet that asks for the service.
#[inline(always)]
pub fn asks_packet(service: &ServiceKey, call: &Call) -> bool {
    let (mut client, mut asked_for) = ([0; 16], [0; 16]);
    packet::addresses(&mut client, &mut asked_for, call);
    let port = packet::ends(call).map_or(0, |ends| ends.client_port);
    asks_from(Room::Probe, service, &client, port)
}

#[inline(always)]
fn asks_client(room: Room, family: u16, address: &[u8; 16], port: u16) -> bool {
    /// All of a family and address.
    const WHOLE: u32 = filter::FAMILY_BITS + 128;

    !given(filter::CLIENTS)
        || room.endpoint(family, address, port).is_some_and(|keys| {
            if is_in(&ASKED_CLIENTS, &keys.endpoint) {
                return true;
            }
            keys.network = Key::new(WHOLE, network(family, &keys.endpoint.address));
            ASKED_NETWORKS.get(&keys.network).is_some()
        })
}

/// Whether a destination is asked for; without one, only where all are.
#[inline(always)]
pub fn asks_destination(room: Room, family: u16, address: &[u8; 16], port: u16) -> bool {
    !given(filter::DESTINATIONS)
        || family != 0
            && room.endpoint(family, address, port).is_some_and(|keys| {
                if is_in(&ASKED_DESTINATIONS, &keys.endpoint) {
                    return true;
                }
                keys.endpoint.port = 0;
                keys.endpoint.any_port = 1;
                is_in(&ASKED_DESTINATIONS, &keys.endpoint)
            })
}

/// Whether the destination that the kernel has at a place is asked for; 0: there is none.
#[inline(always)]
pub fn asks_destination_at(room: Room, place: u64) -> bool {
    if !given(filter::DESTINATIONS) {
        return true;
    }
    if place == 0 {
        return false;
    }
    let family = number(place, layout!(destination.af)) as u16;
    let mut at = [0; 16];
    raw_address(&mut at, place, layout!(destination.addr));
    asks_destination(room, family, &at, port(place, layout!(destination.port)))
}

/// Whether a decision is asked for by all but its outcome, which may still change.
#[inline(always)]
pub fn asks_whose(decision: &Decision) -> bool {
    (!given(filter::SLOWER) || decision.ns >= slower_than())
        && asks_from(
            Room::Probe,
            &decision.service,
            &decision.client,
            decision.client_port,
        )
        && asks_destination(
            Room::Probe,
            decision.destination.family,
            &decision.destination.address,
            decision.destination.port,
        )
}

/// Whether a decision is asked for.
#[inline(always)]
pub fn asks(decision: &Decision) -> bool {
    !is_given() || asks_outcome(filter::outcome(decision)) && asks_whose(decision)
}

/// The same of one that found nobody, as far as it is known before the packet leaves IPVS.
#[inline(always)]
pub fn may_ask(decision: &Decision) -> bool {
    const OF_NOBODY: u32 = filter::NONE | filter::OVERLOADED | filter::ACCEPTED | filter::BYPASSED;

    !is_given() || asks_outcome(OF_NOBODY) && asks_whose(decision)
}

#[inline(always)]
fn asks_outcome(outcome: u32) -> bool {
    !given(filter::OUTCOMES) || outcomes() & outcome != 0
}

/// Whether a connection is asked for that began without the scheduler, with one of the constants of [`filter`].
#[inline(always)]
pub fn asks_begun(outcome: u32) -> bool {
    asks_outcome(outcome) && !given(filter::SLOWER)
}

/// Whether anything is asked for that has no outcome.
#[inline(always)]
pub fn asks_other_than_decisions() -> bool {
    !given(filter::OUTCOMES | filter::SLOWER)
}

/// Whether a change is asked for: none is of a client.
#[inline(always)]
pub fn asks_change(service: &ServiceKey) -> bool {
    asks_other_than_decisions() && !given(filter::CLIENTS) && asks_service(Room::Probe, service)
}
