//! Connections beside the scheduler: how each ended, SYNs that meet the entry of an earlier connection, and connections
//! that nobody scheduled.
//!
//! An end is counted where the kernel frees the entry, a grace period after it was taken out of the table: whether a
//! timer that fires ends a connection is decided within the kernel's own function, after the last place where a probe
//! could ask. Until then the entry, its destination and the destination's service stay as they were. Entries of
//! one-packet services are freed on the spot, by no function of their own: they are counted where they are made.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::HashMap, programs::ProbeContext};
use ipvs_observer_common::{
    control,
    counter::BEGUN_BY_FTP,
    event::{self, ConnectionEvent, DestinationState, TOTAL_CONNECTIONS},
    key::ServiceKey,
    layout,
};

use crate::{
    budget,
    call::{self, Call, now},
    count,
    filter::{self, Room},
    key,
    maps::{EVENTS, SERVICES, health, observed, sent_or_lost, wanted},
    packet,
    read::{address, has, layout, number, port, raw_address},
    states,
};

/// What everything here reads.
pub const NEEDS: u32 = layout::CONNECTIONS | layout::DECISIONS;

/// `IP_VS_CONN_F_TEMPLATE`: no connection, but what persistence remembers.
const TEMPLATE: u64 = 0x1000;
/// `IP_VS_CONN_F_ONE_PACKET`: over with its first packet.
const ONE_PACKET: u64 = 0x2000;

/// Connections that something ends before their time, by where the kernel has them, from there until they are freed.
#[map]
static MARKED: HashMap<u64, Marked> = HashMap::with_max_entries(16384, 0);

/// What ends a connection, and which it is: if its end was not seen, another may be in the same place.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Marked {
    client: [u8; 16],
    ports: u32,
    how: u32,
}

impl Marked {
    #[inline(always)]
    fn of(connection: u64, how: u32) -> Self {
        let family = number(connection, layout!(connection.af)) as u16;
        Self {
            client: address(connection, layout!(connection.caddr), family),
            ports: (number(connection, layout!(connection.cport)) << 16
                | number(connection, layout!(connection.vport))) as u32,
            how,
        }
    }
}

/// Something is about to end a connection: one of the `HOW_*`.
#[inline(always)]
pub fn mark(connection: u64, how: u32) {
    let marked = Marked::of(connection, how);
    if MARKED.insert(connection, marked, u64::from(BPF_ANY)).is_err() {
        health(|health| health.calls_full += 1);
    }
}

/// Takes back what was about to end a connection that ended; 0 if nothing was.
#[inline(always)]
fn take_mark(connection: u64) -> u32 {
    // SAFETY: an entry is written while its connection is in the table, and this is after.
    let Some(marked) = (unsafe { MARKED.get(connection) }) else {
        return 0;
    };
    let how = marked.how;
    let is_this = *marked == Marked::of(connection, how);
    let _ = MARKED.remove(connection);
    if is_this { how } else { 0 }
}

/// `ip_vs_conn_rcu_free(head)`: a connection ended some moments ago.
#[inline(always)]
pub fn freed(ctx: &ProbeContext) {
    call::seen();
    if !has(NEEDS) {
        return;
    }
    let head: u64 = ctx.arg(0).unwrap_or(0);
    let connection = head.wrapping_sub(u64::from(layout!(connection.callback_head).offset));
    let marked = take_mark(connection);
    if number(connection, layout!(connection.flags)) & (TEMPLATE | ONE_PACKET) != 0 {
        return;
    }
    let destination = number(connection, layout!(connection.dest));
    let Some((service, place)) = service_of(connection, destination) else {
        return;
    };
    let how = if marked == 0 {
        states::how(connection, destination)
    } else {
        marked
    };
    if destination == 0 {
        count::ended(&service, place, None, how);
    } else if is_counted(place) {
        let key = key::destination(service, destination);
        count::ended(&service, place, Some((&key, destination)), how);
    }
    if wanted(control::ENDS, NEEDS) && asks(&service, connection, destination) {
        let sent = tell(event::END, how, &service, connection, destination);
        sent_or_lost(sent, |health| (&mut health.ends, &mut health.ends_lost));
    }
}

/// A packet of a connection was dropped: one of the constants of [`Beside`], and one of the `DROPPED_*`.
///
/// [`Beside`]: ipvs_observer_common::counter::Beside
#[inline(always)]
pub fn dropped(connection: u64, what: usize, reason: u32) {
    let destination = number(connection, layout!(connection.dest));
    let Some((service, place)) = service_of(connection, destination) else {
        return;
    };
    let slot = if is_counted(place) {
        count::beside(&service, place, what)
    } else {
        None
    };
    if asks(&service, connection, destination) && budget::tells_drop(&service, slot, reason) {
        let sent = tell(event::DROP, reason, &service, connection, destination);
        sent_or_lost(sent, |health| (&mut health.drops, &mut health.drops_lost));
    }
}

/// Tells of a packet without a connection that was dropped. `slot`: that of the service's counters, if it has one.
#[inline(always)]
pub fn tell_dropped_packet(reason: u32, service: &ServiceKey, slot: Option<u32>, call: &Call) {
    if asks_packet(service, call) && budget::tells_drop(service, slot, reason) {
        let sent = tell_packet(reason, service, call);
        sent_or_lost(sent, |health| (&mut health.drops, &mut health.drops_lost));
    }
}

/// A connection began without the scheduler: one of the constants of [`Beside`], the event's kind, and one of the
/// `BEGUN_BY_*`.
///
/// [`Beside`]: ipvs_observer_common::counter::Beside
#[inline(always)]
pub fn began(connection: u64, what: usize, kind: u32, by: u32) {
    let destination = number(connection, layout!(connection.dest));
    let Some((service, place)) = service_of(connection, destination) else {
        return;
    };
    if is_counted(place) {
        count::beside(&service, place, what);
    }
    if wanted(control::DECISIONS, NEEDS) {
        tell_begun(kind, by, &service, connection, destination);
    }
}

/// `ip_vs_tcp_conn_listen(cp)`: the module for FTP expects a data connection.
#[inline(always)]
pub fn listens(ctx: &ProbeContext) {
    /// `IP_VS_TCP_S_NONE`.
    const NONE: u64 = 0;

    call::seen();
    let connection: u64 = ctx.arg(0).unwrap_or(0);
    // One that was made before, by the same command, is in another state.
    if !has(NEEDS) || number(connection, layout!(connection.state)) != NONE {
        return;
    }
    began(connection, BEGUN_BY_FTP, event::ELSEWHERE, event::BEGUN_BY_FTP);
}

/// Tells of a connection that began without the scheduler.
#[inline(always)]
pub fn tell_begun(kind: u32, by: u32, service: &ServiceKey, connection: u64, destination: u64) {
    let outcome = if kind == event::REUSED {
        filter::REUSED
    } else {
        filter::ELSEWHERE
    };
    if !filter::asks_begun(outcome) || !asks_ends(service, connection, destination) {
        return;
    }
    let sent = tell(kind, by, service, connection, destination);
    sent_or_lost(sent, |health| (&mut health.decisions, &mut health.decisions_lost));
}

/// Whether what befell a connection is asked for, which is no decision.
#[inline(always)]
pub fn asks(service: &ServiceKey, connection: u64, destination: u64) -> bool {
    filter::asks_other_than_decisions() && asks_ends(service, connection, destination)
}

/// Whether a connection is asked for by its service, client and destination.
#[inline(always)]
fn asks_ends(service: &ServiceKey, connection: u64, destination: u64) -> bool {
    if !filter::is_given() {
        return true;
    }
    let mut client = [0; 16];
    raw_address(&mut client, connection, layout!(connection.caddr));
    let port = port(connection, layout!(connection.cport));
    filter::asks_from(Room::Probe, service, &client, port)
        && filter::asks_destination_at(Room::Probe, destination)
}

/// Whether a packet without a connection is asked for, which is no decision.
#[inline(always)]
fn asks_packet(service: &ServiceKey, call: &Call) -> bool {
    !filter::is_given()
        || filter::asks_other_than_decisions()
            && filter::asks_packet(service, call)
            && filter::asks_destination_at(Room::Probe, 0)
}

/// The service of a connection, and where the kernel has it; none if it is not observed, or not known.
#[inline(always)]
fn service_of(connection: u64, destination: u64) -> Option<(ServiceKey, u64)> {
    let (service, place) = if destination == 0 {
        (asked_for(connection)?, 0)
    } else {
        let place = number(destination, layout!(destination.svc));
        (key::service(place), place)
    };
    (service.family != 0 && observed(service.netns)).then_some((service, place))
}

/// Whether the service at a place is counted, as far as it is known. What befalls a connection of one that was deleted is
/// told, and counted nowhere: one that was added again under the same name is another.
#[inline(always)]
fn is_counted(place: u64) -> bool {
    place == 0 || !key::is_service_gone(place)
}

/// The service that a connection without a destination asked for, among those that are counted.
#[inline(always)]
fn asked_for(connection: u64) -> Option<ServiceKey> {
    let ipvs = number(connection, layout!(connection.ipvs));
    let family = number(connection, layout!(connection.af)) as u16;
    let service = ServiceKey {
        netns: number(number(ipvs, layout!(namespace.net)), layout!(namespace.inum)) as u32,
        family,
        protocol: number(connection, layout!(connection.protocol)) as u16,
        address: address(connection, layout!(connection.vaddr), family),
        port: port(connection, layout!(connection.vport)),
        ..ServiceKey::default()
    };
    counted(service, number(connection, layout!(connection.fwmark)) as u32)
}

/// Among the services that are counted, the one that the kernel finds for a packet: that of its mark, of its address and
/// port, that of FTP where the port may be one of its data, or that of all ports of the address.
#[inline(always)]
pub fn counted(mut service: ServiceKey, mark: u32) -> Option<ServiceKey> {
    const TCP: u16 = 6;
    const FTP: u16 = 21;
    const FTP_DATA: u16 = 20;
    const UNPRIVILEGED: u16 = 1024;

    let counted = |service: &ServiceKey| SERVICES.get_ptr(service).is_some();
    let marked = ServiceKey {
        netns: service.netns,
        fwmark: mark,
        family: service.family,
        ..ServiceKey::default()
    };
    if mark != 0 && counted(&marked) {
        return Some(marked);
    }
    if counted(&service) {
        return Some(service);
    }
    if service.protocol == TCP && (service.port == FTP_DATA || service.port >= UNPRIVILEGED) {
        service.port = FTP;
        if counted(&service) {
            return Some(service);
        }
    }
    service.port = 0;
    counted(&service).then_some(service)
}

/// Whether an entry is no connection, but what persistence remembers.
#[inline(always)]
pub fn is_template(connection: u64) -> bool {
    number(connection, layout!(connection.flags)) & TEMPLATE != 0
}

/// Whether a connection is over with its first packet.
#[inline(always)]
pub fn is_of_one_packet(connection: u64) -> bool {
    number(connection, layout!(connection.flags)) & ONE_PACKET != 0
}

/// Sends that a packet was dropped which has no connection; false if there is no room for it.
#[inline(always)]
fn tell_packet(reason: u32, of: &ServiceKey, call: &Call) -> bool {
    let Some(mut room) = EVENTS.reserve::<ConnectionEvent>(0) else {
        return false;
    };
    let told = room.write(ConnectionEvent {
        kind: event::DROP,
        what: reason,
        time: now(),
        service: *of,
        protocol: packet::protocol(call) as u16,
        ..ConnectionEvent::default()
    });
    packet::addresses(&mut told.client, &mut told.virtual_address, call);
    if let Some(ends) = packet::ends(call) {
        (told.client_port, told.virtual_port) = (ends.client_port, ends.virtual_port);
    }
    room.submit(0);
    true
}

/// Sends what befell a connection; false if there is no room for it.
#[inline(always)]
pub fn tell(what_kind: u32, befell: u32, of: &ServiceKey, connection: u64, destination_at: u64) -> bool {
    let Some(mut room) = EVENTS.reserve::<ConnectionEvent>(0) else {
        return false;
    };
    // SAFETY: every field is written before it is submitted, and none is read before.
    let ConnectionEvent {
        kind,
        what,
        time,
        service,
        client,
        virtual_address,
        client_port,
        virtual_port,
        protocol,
        state,
        flags,
        reserved,
        destination,
    } = unsafe { &mut *room.as_mut_ptr() };
    *kind = what_kind;
    *what = befell;
    *time = now();
    *service = *of;
    raw_address(client, connection, layout!(connection.caddr));
    raw_address(virtual_address, connection, layout!(connection.vaddr));
    *client_port = port(connection, layout!(connection.cport));
    *virtual_port = port(connection, layout!(connection.vport));
    *protocol = number(connection, layout!(connection.protocol)) as u16;
    *state = number(connection, layout!(connection.state)) as u16;
    *flags = if has(layout::TOTAL_CONNECTIONS) {
        TOTAL_CONNECTIONS
    } else {
        0
    };
    *reserved = 0;
    if destination_at == 0 {
        *destination = DestinationState::default();
    } else {
        key::state(destination, destination_at);
    }
    room.submit(0);
    true
}
