//! Connections beside the scheduler: how each ended, SYNs that meet the entry of an earlier connection, and connections
//! that nobody scheduled.
//!
//! An end is counted where the kernel frees the entry, a grace period after it was taken out of the table: whether a
//! timer that fires ends a connection is decided within the kernel's own function, after the last place where a probe
//! could ask. Until then the entry, its destination and the destination's service stay as they were. Entries of
//! one-packet services are freed on the spot, by no function of their own: they are counted where they are made.

use aya_ebpf::{
    bindings::BPF_ANY, helpers::bpf_get_current_comm, macros::map, maps::HashMap, programs::ProbeContext,
};
use ipvs_observer_common::{
    control,
    counter::{BEGUN_BY_FTP, DROPS_OLD_CONNTRACK, DROPS_SERVER_REMOVED},
    event::{self, ConnectionEvent, DestinationState, TOTAL_CONNECTIONS},
    key::ServiceKey,
    layout,
};

use crate::{
    budget,
    call::{self, now},
    count, key,
    maps::{EVENTS, SERVICES, health, observed, sent_or_lost, wanted},
    read::{address, has, layout, number, port, raw_address},
};

/// What everything here reads.
const NEEDS: u32 = layout::CONNECTIONS | layout::DECISIONS;

/// `IP_VS_CONN_F_TEMPLATE`: no connection, but what persistence remembers.
const TEMPLATE: u64 = 0x1000;
/// `IP_VS_CONN_F_NFCT`: the entry of connection tracking goes with this one.
const TRACKED: u64 = 0x1_0000;
/// `IP_VS_DEST_F_AVAILABLE`, or the bit of the same name where it moved.
const AVAILABLE: u64 = 1;

/// Connections whose place a new SYN takes, by where the kernel has them, from there until they are freed.
#[map]
static REPLACED: HashMap<u64, Replaced> = HashMap::with_max_entries(4096, 0);

/// Which connection it was: if its end was not seen, another may be in the same place.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Replaced {
    client: [u8; 16],
    ports: u64,
}

impl Replaced {
    #[inline(always)]
    fn of(connection: u64) -> Self {
        let family = number(connection, layout!(connection.af)) as u16;
        Self {
            client: address(connection, layout!(connection.caddr), family),
            ports: number(connection, layout!(connection.cport)) << 16
                | number(connection, layout!(connection.vport)),
        }
    }
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
    // SAFETY: an entry is written while its connection is in the table, and this is after.
    let replaced =
        unsafe { REPLACED.get(connection) }.is_some_and(|entry| *entry == Replaced::of(connection));
    if replaced {
        let _ = REPLACED.remove(connection);
    }
    if number(connection, layout!(connection.flags)) & TEMPLATE != 0 {
        return;
    }
    let destination = number(connection, layout!(connection.dest));
    let Some((service, place)) = service_of(connection, destination) else {
        return;
    };
    let how = how(connection, destination, replaced);
    if destination == 0 {
        count::ended(&service, place, None, how);
    } else {
        let key = key::destination(service, destination);
        count::ended(&service, place, Some((&key, destination)), how);
    }
    if wanted(control::ENDS, NEEDS) {
        let sent = tell(event::END, how, &service, connection, destination);
        sent_or_lost(sent, |health| (&mut health.ends, &mut health.ends_lost));
    }
}

/// `ip_vs_conn_expire_now(cp)`: a packet met an entry that is not to go on.
#[inline(always)]
pub fn expired_now(ctx: &ProbeContext) {
    call::seen();
    // The thread that learns connections of another machine calls it too, and there is no packet then.
    let by_packet = bpf_get_current_comm().is_ok_and(|comm| !comm.starts_with(b"ipvs-b:"));
    if !has(NEEDS) || !by_packet {
        return;
    }
    let connection: u64 = ctx.arg(0).unwrap_or(0);
    let destination = number(connection, layout!(connection.dest));
    let removed = is_removed(destination);
    if !removed
        && REPLACED
            .insert(connection, Replaced::of(connection), u64::from(BPF_ANY))
            .is_err()
    {
        health(|health| health.calls_full += 1);
    }
    // Taken off the entry where the packet is to be scheduled: what is left to connection tracking is dropped.
    if number(connection, layout!(connection.flags)) & TRACKED == 0 {
        return;
    }
    let Some((service, place)) = service_of(connection, destination) else {
        return;
    };
    let (what, reason) = if removed {
        (DROPS_SERVER_REMOVED, event::DROPPED_SERVER_REMOVED)
    } else {
        (DROPS_OLD_CONNTRACK, event::DROPPED_OLD_CONNTRACK)
    };
    let slot = count::beside(&service, place, what);
    if budget::tells_drop(&service, slot, reason) {
        let sent = tell(event::DROP, reason, &service, connection, destination);
        sent_or_lost(sent, |health| (&mut health.drops, &mut health.drops_lost));
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
    let destination = number(connection, layout!(connection.dest));
    let Some((service, place)) = service_of(connection, destination) else {
        return;
    };
    count::beside(&service, place, BEGUN_BY_FTP);
    if wanted(control::DECISIONS, NEEDS) {
        tell_begun(event::BEGUN_BY_FTP, &service, connection, destination);
    }
}

/// Tells of a connection that began without the scheduler.
#[inline(always)]
pub fn tell_begun(by: u32, service: &ServiceKey, connection: u64, destination: u64) {
    let sent = tell(event::ELSEWHERE, by, service, connection, destination);
    sent_or_lost(sent, |health| (&mut health.decisions, &mut health.decisions_lost));
}

/// The service of a connection, and where the kernel has it; none if it is not observed, or not known.
#[inline(always)]
fn service_of(connection: u64, destination: u64) -> Option<(ServiceKey, u64)> {
    let (service, place) = if destination == 0 {
        (asked_for(connection)?, 0)
    } else {
        let place = number(destination, layout!(destination.svc));
        // One that was added again under the same name is another.
        if key::is_service_gone(place) {
            return None;
        }
        (key::service(place), place)
    };
    (service.family != 0 && observed(service.netns)).then_some((service, place))
}

/// The service that a connection without a destination asked for: among those that are counted, the one of its mark, of
/// its port, or of all ports.
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

/// Among the services that are counted, that of a mark, of an address and port, or of all ports of the address.
#[inline(always)]
pub fn counted(mut service: ServiceKey, mark: u32) -> Option<ServiceKey> {
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
    service.port = 0;
    counted(&service).then_some(service)
}

/// Whether a destination was removed.
#[inline(always)]
fn is_removed(destination: u64) -> bool {
    destination != 0 && number(destination, layout!(destination.available)) & AVAILABLE == 0
}

/// How a connection ended: one of the `HOW_*`, the first that fits.
#[inline(always)]
fn how(connection: u64, destination: u64, replaced: bool) -> u32 {
    const TCP: u64 = 6;
    const SCTP: u64 = 132;

    let state = 1u32 << (number(connection, layout!(connection.state)) & 31);
    let protocol = number(connection, layout!(connection.protocol));
    let states = if protocol == TCP {
        &States::TCP
    } else if protocol == SCTP {
        &States::SCTP
    } else {
        &States::NONE
    };
    if replaced {
        event::HOW_REPLACED
    } else if is_removed(destination) && state & states.closing == 0 {
        event::HOW_SERVER_REMOVED
    } else if state & states.half_open != 0 {
        event::HOW_HALF_OPEN
    } else if state & states.reset != 0 {
        event::HOW_RESET
    } else if state & states.established != 0 {
        event::HOW_IDLE
    } else if protocol == TCP || protocol == SCTP {
        event::HOW_CLOSED
    } else {
        event::HOW_EXPIRED
    }
}

/// The states of a protocol that a connection can end in, each a set of bits.
struct States {
    half_open: u32,
    established: u32,
    reset: u32,
    /// It is over, or will be: a reset among them.
    closing: u32,
}

impl States {
    const NONE: Self = Self {
        half_open: 0,
        established: 0,
        reset: 0,
        closing: 0,
    };
    /// `IP_VS_TCP_S_*`: NONE, SYN_SENT, SYN_RECV and SYNACK; ESTABLISHED; CLOSE; FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT
    /// and LAST_ACK.
    const TCP: Self = Self {
        half_open: 1 | 1 << 2 | 1 << 3 | 1 << 10,
        established: 1 << 1,
        reset: 1 << 6,
        closing: 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8,
    };
    /// `IP_VS_SCTP_S_*`: all up to COOKIE_ECHOED; ESTABLISHED; REJECTED; what comes after ESTABLISHED.
    const SCTP: Self = Self {
        half_open: (1 << 8) - 1,
        established: 1 << 8,
        reset: 1 << 12,
        closing: 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13,
    };
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
