//! Packets that were not sent to the real server that they are for.
//!
//! The functions that send return the same whether they sent or not. What they drop is seen where the kernel drops any
//! packet, by the place that it is dropped from; why, by the ICMP error that went to the sender before. A tracepoint has
//! no registers, so what one program leaves for another is found by the packet here and not by the stack.
//!
//! The program at the tracepoint is not kept from running within another that it interrupts: it changes no block of its
//! CPU but the fields that are its own.

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    helpers::generated::bpf_snprintf,
    macros::map,
    maps::Array,
    programs::{ProbeContext, RawTracePointContext},
};
use ipvs_observer_common::{
    control,
    counter::{DROPS_NO_ROUTE, DROPS_TOO_LARGE, DROPS_TRANSMIT},
    event::{self, ConnectionEvent, DestinationState},
    key::ServiceKey,
    layout::{self, Field},
};

use crate::{
    budget,
    call::{self, now},
    connection,
    filter::{self, Room},
    maps::{EVENTS, SERVICES, health, observed, wanted},
    read::{address, bytes, has, layout, number, port},
    tally,
};

/// What everything here reads.
const NEEDS: u32 = layout::TRANSMIT | layout::CONNECTIONS;

/// An address of the module's code; 0 until one is known.
#[map]
static MODULE: Array<u64> = Array::with_max_entries(1, 0);

/// All of the module's code is so near to any of its addresses.
const NEAR: u64 = 1 << 20;

/// Whether packets are sent at an address, by a hash of it: the address shifted by one, and the answer. Naming an
/// address takes thousands of instructions, and drops near the module come from few.
#[map]
static SENDS: Array<u64> = Array::with_max_entries(PLACES, 0);

/// ICMP errors on a packet, by a hash of it.
#[map]
static ERRORS: Array<Left> = Array::with_max_entries(PLACES, 0);

/// The connections of packets that were just scheduled, by a hash of the packet. Only for telling.
#[map]
static SCHEDULED: Array<Left> = Array::with_max_entries(PLACES, 0);

/// A power of two. Two packets at once in one place are one too many: the first is told without what was left for it.
const PLACES: u32 = 256;

/// An error and the drop are within one call; what is older was left for another packet at the same address.
const FRESH: u64 = 100_000_000;

/// Something left for the drop of a packet.
#[repr(C)]
#[derive(Clone, Copy)]
struct Left {
    /// The packet.
    packet: u64,
    /// When, in ns of the monotonic clock.
    time: u64,
    /// What.
    value: u64,
}

#[inline(always)]
fn leave(map: &'static Array<Left>, packet: u64, value: u64) {
    if let Some(left) = map.get_ptr_mut(place(packet, 8)) {
        // SAFETY: the lookup gave a valid pointer. Two processors that write there at once leave what is either's or
        // nobody's.
        unsafe {
            left.write_volatile(Left {
                packet,
                time: now(),
                value,
            });
        }
    }
}

/// What was left for a packet just now, once.
#[inline(always)]
fn take(map: &'static Array<Left>, packet: u64) -> Option<u64> {
    let left = map.get_ptr_mut(place(packet, 8))?;
    // SAFETY: the lookup gave a valid pointer, and whole numbers are read.
    let found = unsafe { left.read_volatile() };
    if found.packet != packet {
        return None;
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*left).packet).write_volatile(0) };
    (now().wrapping_sub(found.time) < FRESH).then_some(found.value)
}

/// The place of an address whose lowest bits tell nothing.
#[inline(always)]
fn place(address: u64, bits: u32) -> u32 {
    (address >> bits ^ address >> (bits + 8)) as u32 & (PLACES - 1)
}

/// A function of the module begins.
#[inline(always)]
pub fn module_is_here(ctx: &ProbeContext) {
    let registers = ctx.as_ptr().cast::<pt_regs>();
    // SAFETY: the context of a kprobe is the registers at that point.
    let address = unsafe { (*registers).rip };
    if let Some(module) = MODULE.get_ptr_mut(0) {
        // SAFETY: the lookup gave a valid pointer, and a whole number is read and replaced. Not written each time, for
        // all processors read it.
        unsafe {
            if module.read_volatile() != address {
                module.write_volatile(address);
            }
        }
    }
}

/// A connection was made for a packet.
#[inline(always)]
pub fn scheduled(packet: u64, connection: u64) {
    if wanted(control::DROPS, NEEDS) {
        leave(&SCHEDULED, packet, connection);
    }
}

/// `__icmp_send(skb, type, code, …)`.
#[inline(always)]
pub fn icmp(ctx: &ProbeContext) {
    const UNREACHABLE: u32 = 3;
    const NETWORK: u32 = 0;
    const HOST: u32 = 1;
    const TOO_LARGE: u32 = 4;

    let (kind, code): (u32, u32) = (ctx.arg(1).unwrap_or(0), ctx.arg(2).unwrap_or(0));
    if kind != UNREACHABLE {
        return;
    }
    match code {
        TOO_LARGE => erred(ctx, event::DROPPED_TOO_LARGE),
        NETWORK | HOST => erred(ctx, event::DROPPED_NO_ROUTE),
        _ => {}
    }
}

/// `icmp6_send(skb, type, …)`.
#[inline(always)]
pub fn icmp6(ctx: &ProbeContext) {
    const UNREACHABLE: u8 = 1;
    const TOO_LARGE: u8 = 2;

    match ctx.arg::<u64>(1).unwrap_or(0) as u8 {
        TOO_LARGE => erred(ctx, event::DROPPED_TOO_LARGE),
        UNREACHABLE => erred(ctx, event::DROPPED_NO_ROUTE),
        _ => {}
    }
}

#[inline(always)]
fn erred(ctx: &ProbeContext, reason: u32) {
    call::seen();
    leave(&ERRORS, ctx.arg(0).unwrap_or(0), reason.into());
}

/// The tracepoint `kfree_skb(skb, location, …)`.
#[inline(always)]
pub fn dropped(ctx: &RawTracePointContext) {
    let location: u64 = ctx.arg(1);
    // SAFETY: the lookup gave a valid pointer, and a whole number is read.
    let module = MODULE
        .get_ptr(0)
        .map_or(0, |module| unsafe { module.read_volatile() });
    if location.wrapping_sub(module).wrapping_add(NEAR) >= 2 * NEAR || !sends(location) || !has(NEEDS) {
        return;
    }
    let packet: u64 = ctx.arg(0);
    let reason = take(&ERRORS, packet).map_or(event::DROPPED_TRANSMIT, |reason| reason as u32);
    let what = match reason {
        event::DROPPED_NO_ROUTE => DROPS_NO_ROUTE,
        event::DROPPED_TOO_LARGE => DROPS_TOO_LARGE,
        _ => DROPS_TRANSMIT,
    };
    let just_scheduled = take(&SCHEDULED, packet).unwrap_or(0);
    let Some(sent) = Unsent::of(packet) else { return };
    let asked_for = sent.service(packet);
    if !observed(asked_for.netns) {
        return;
    }
    // One that has scheduled nothing since the probes were attached is not among those that are counted. It is told of
    // by what the packet says.
    let counted = connection::counted(asked_for, number(packet, layout!(packet.mark)) as u32);
    let service = counted.unwrap_or(asked_for);
    // SAFETY: the lookup gave a valid pointer, and where a service has its slot does not change.
    let slot = SERVICES.get_ptr(service).map(|slot| unsafe { (*slot).index });
    if let Some(slot) = slot {
        tally::beside(slot, what);
    }
    health(|health| health.unsent += 1);
    let just_scheduled = if just_scheduled != 0 && sent.is_of(just_scheduled) {
        just_scheduled
    } else {
        0
    };
    let destination = number(just_scheduled, layout!(connection.dest));
    if !sent.is_asked_for(&service, destination) || !budget::tells_drop(&service, slot, reason) {
        return;
    }
    let told = if just_scheduled != 0 {
        connection::tell(event::DROP, reason, &service, just_scheduled, destination)
    } else {
        sent.tell(reason, &service)
    };
    health(|health| {
        if told {
            health.unsent_told += 1;
        } else {
            health.unsent_lost += 1;
        }
    });
}

/// Whether the function at an address is one that sends packets to real servers.
#[inline(always)]
fn sends(location: u64) -> bool {
    let Some(known) = SENDS.get_ptr_mut(place(location, 0)) else {
        return false;
    };
    // SAFETY: the lookup gave a valid pointer, and a whole number is read.
    let found = unsafe { known.read_volatile() };
    if found >> 1 == location << 1 >> 1 {
        return found & 1 != 0;
    }
    let sends = is_sender(location);
    // SAFETY: as above; a whole number is replaced.
    unsafe { known.write_volatile(location << 1 | u64::from(sends)) };
    sends
}

/// How the kernel writes the name of the function at an address.
static NAME: [u8; 4] = *b"%ps\0";

/// By its name: `ip_vs_nat_xmit`, `ip_vs_tunnel_xmit_v6` and their like.
#[inline(always)]
fn is_sender(location: u64) -> bool {
    const OURS: &[u8; 6] = b"ip_vs_";
    const SENDS: &[u8; 5] = b"_xmit";

    let mut name = [0_u8; 32];
    let mut values = [location];
    // SAFETY: at most the bytes of `name` are written, and as many values are read as there are.
    unsafe {
        bpf_snprintf(
            name.as_mut_ptr().cast(),
            name.len() as u32,
            (&raw const NAME).cast(),
            values.as_mut_ptr(),
            size_of_val(&values) as u32,
        );
    }
    if name[..OURS.len()] != *OURS {
        return false;
    }
    name[OURS.len()..].windows(SENDS.len()).any(|part| part == SENDS)
}

/// A packet as its own headers have it.
struct Unsent {
    family: u16,
    protocol: u16,
    client: [u8; 16],
    asked_for: [u8; 16],
    client_port: u16,
    virtual_port: u16,
}

impl Unsent {
    /// None of a packet that a service cannot be found by: of another protocol, or without ports in reach.
    #[inline(always)]
    fn of(packet: u64) -> Option<Self> {
        const INET: u16 = 2;
        const INET6: u16 = 10;
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        const SCTP: u8 = 132;
        const WITH_PORTS: u64 = 4;

        let header = number(packet, layout!(packet.data));
        let [first] = bytes(header);
        let (family, protocol_at, client_at, length) = match first >> 4 {
            4 => (INET, 9, 12, u64::from(first & 15) * 4),
            6 => (INET6, 6, 8, 40),
            _ => return None,
        };
        let [protocol] = bytes(header + protocol_at);
        let linear =
            number(packet, layout!(packet.len)).wrapping_sub(number(packet, layout!(packet.data_len)));
        if !matches!(protocol, TCP | UDP | SCTP) || linear < length + WITH_PORTS {
            return None;
        }
        let size = if family == INET { 4 } else { 16 };
        let at = |offset| Field { offset, size };
        let ends = Field { offset: 0, size: 2 };
        Some(Self {
            family,
            protocol: protocol.into(),
            client: address(header, at(client_at), family),
            asked_for: address(header, at(client_at + size), family),
            client_port: port(header + length, ends),
            virtual_port: port(header + length + 2, ends),
        })
    }

    /// The service of the address and port that it asked for, if there is one.
    #[inline(always)]
    fn service(&self, packet: u64) -> ServiceKey {
        let device = number(packet, layout!(packet.dev));
        let net = if device == 0 {
            number(number(packet, layout!(packet.sk)), layout!(socket.net))
        } else {
            number(device, layout!(device.net))
        };
        ServiceKey {
            netns: number(net, layout!(namespace.inum)) as u32,
            family: self.family,
            protocol: self.protocol,
            address: self.asked_for,
            port: self.virtual_port,
            ..ServiceKey::default()
        }
    }

    /// Whether its drop is asked for.
    #[inline(always)]
    fn is_asked_for(&self, service: &ServiceKey, destination: u64) -> bool {
        filter::asks_other_than_decisions()
            && filter::asks_from(Room::Tracepoint, service, &self.client, self.client_port)
            && filter::asks_destination_at(Room::Tracepoint, destination)
    }

    /// Whether it is of a connection.
    #[inline(always)]
    fn is_of(&self, connection: u64) -> bool {
        address(connection, layout!(connection.caddr), self.family) == self.client
            && address(connection, layout!(connection.vaddr), self.family) == self.asked_for
            && port(connection, layout!(connection.cport)) == self.client_port
            && port(connection, layout!(connection.vport)) == self.virtual_port
    }

    /// Tells of it where no more is known than it says itself; false if there is no room.
    #[inline(always)]
    fn tell(&self, reason: u32, service: &ServiceKey) -> bool {
        let Some(mut room) = EVENTS.reserve::<ConnectionEvent>(0) else {
            return false;
        };
        room.write(ConnectionEvent {
            kind: event::DROP,
            what: reason,
            time: now(),
            service: *service,
            client: self.client,
            virtual_address: self.asked_for,
            client_port: self.client_port,
            virtual_port: self.virtual_port,
            protocol: self.protocol,
            state: 0,
            flags: 0,
            reserved: 0,
            destination: DestinationState::default(),
        });
        room.submit(0);
        true
    }
}
