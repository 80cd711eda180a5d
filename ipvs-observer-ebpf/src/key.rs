//! From the kernel's structures to the keys of the maps.

use ipvs_observer_common::{
    event::DestinationState,
    key::{DestinationKey, ServiceKey},
    layout::Field,
};

use crate::{
    maps::health,
    read::{address, bytes, layout, number, port, raw_address},
};

/// The key of a service.
#[inline(always)]
pub fn service(service: u64) -> ServiceKey {
    let ipvs = number(service, layout!(service.ipvs));
    let net = number(ipvs, layout!(namespace.net));
    if ipvs == 0 || net == 0 {
        health(|health| health.unreadable += 1);
    }
    let mut key = ServiceKey {
        netns: number(net, layout!(namespace.inum)) as u32,
        fwmark: number(service, layout!(service.fwmark)) as u32,
        family: number(service, layout!(service.af)) as u16,
        ..ServiceKey::default()
    };
    if key.fwmark == 0 {
        key.protocol = number(service, layout!(service.protocol)) as u16;
        key.port = port(service, layout!(service.port));
        key.address = address(service, layout!(service.addr), key.family);
    }
    key
}

/// The key of a destination of a service.
#[inline(always)]
pub fn destination(service: ServiceKey, destination: u64) -> DestinationKey {
    let family = number(destination, layout!(destination.af)) as u16;
    DestinationKey {
        service,
        address: address(destination, layout!(destination.addr), family),
        family,
        port: port(destination, layout!(destination.port)),
        reserved: 0,
    }
}

/// The key of the destination that a configuration change asks for.
#[inline(always)]
pub fn requested(service: ServiceKey, request: u64) -> DestinationKey {
    let family = number(request, layout!(request.af)) as u16;
    DestinationKey {
        service,
        address: address(request, layout!(request.addr), family),
        family,
        port: port(request, layout!(request.port)),
        reserved: 0,
    }
}

/// Whether a destination was taken out of its service's list: then its link back is one of the addresses that
/// the kernel writes there so that nobody follows them.
#[inline(always)]
pub fn is_gone(destination: u64) -> bool {
    const POISON: u64 = 0xdead;
    let list = layout!(destination.n_list);
    let back = u64::from_ne_bytes(bytes(destination + u64::from(list.offset) + 8));
    list.present() && back >> 48 == POISON
}

/// Whether a service was taken out of the table: then it is not flagged to be there, and has no destinations; newer
/// kernels leave it no scheduler either. One that is being added is not flagged for a moment, and one that is there may
/// lack the others.
#[inline(always)]
pub fn is_service_gone(service: u64) -> bool {
    /// `IP_VS_SVC_F_HASHED`.
    const HASHED: u64 = 2;
    let lacks = |field: Field| field.present() && number(service, field) == 0;
    let flags = layout!(service.flags);
    flags.present()
        && number(service, flags) & HASHED == 0
        && (lacks(layout!(service.scheduler)) || lacks(layout!(service.num_dests)))
}

/// Puts a destination as it is now in a place.
#[inline(always)]
pub fn state(place: &mut DestinationState, destination: u64) {
    let DestinationState {
        pointer,
        address,
        family,
        port: own_port,
        weight,
        last_weight,
        active,
        other,
        flags,
    } = place;
    *pointer = destination;
    raw_address(address, destination, layout!(destination.addr));
    *family = number(destination, layout!(destination.af)) as u16;
    *own_port = port(destination, layout!(destination.port));
    *weight = number(destination, layout!(destination.weight)) as i32;
    *last_weight = number(destination, layout!(destination.last_weight)) as i32;
    *active = number(destination, layout!(destination.activeconns)) as u32;
    *other = number(destination, layout!(destination.otherconns)) as u32;
    *flags = number(destination, layout!(destination.flags)) as u32;
}

/// Whether a destination was removed.
#[inline(always)]
pub fn is_removed(destination: u64) -> bool {
    /// `IP_VS_DEST_F_AVAILABLE`, or the bit of the same name where it moved.
    const AVAILABLE: u64 = 1;

    destination != 0 && number(destination, layout!(destination.available)) & AVAILABLE == 0
}
