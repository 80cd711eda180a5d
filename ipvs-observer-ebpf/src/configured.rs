//! What a service or a destination is set to and what a destination has, as the kernel keeps it at a moment.

use ipvs_observer_common::{
    event::{
        CONN_REUSE, CONNTRACK, DestinationSettings, EXPIRE_NODEST_CONN, EXPIRE_QUIESCENT_TEMPLATE, REMAINING,
        Remaining, ServiceSettings, TOTAL_CONNECTIONS,
    },
    layout,
};

use crate::{
    read::{has, layout, number, port, string},
    scheduler,
};

/// Puts what a service is set to in a place.
#[inline(always)]
pub fn service(place: &mut ServiceSettings, service: u64) {
    scheduler::name(&mut place.scheduler, service);
    // Nothing can be read at nowhere: where there is no engine, there is no name.
    let engine = number(service, layout!(service.pe));
    string(&mut place.engine, number(engine, layout!(engine.name)));
    place.flags = number(service, layout!(service.flags)) as u32;
    place.timeout = number(service, layout!(service.timeout)) as u32;
    place.netmask = number(service, layout!(service.netmask)) as u32;
}

/// What a destination is set to beside its weight.
#[inline(always)]
pub fn destination(destination: u64) -> DestinationSettings {
    DestinationSettings {
        connection_flags: number(destination, layout!(destination.conn_flags)) as u32,
        upper_threshold: number(destination, layout!(destination.u_threshold)) as u32,
        lower_threshold: number(destination, layout!(destination.l_threshold)) as u32,
        tunnel_kind: number(destination, layout!(destination.tun_type)) as u16,
        tunnel_port: port(destination, layout!(destination.tun_port)),
        tunnel_flags: number(destination, layout!(destination.tun_flags)) as u16,
        reserved: 0,
    }
}

/// What a destination has, and which settings of its namespace decide what becomes of it: the flags to tell that with,
/// none where this kernel does not let it be known.
#[inline(always)]
pub fn remaining(destination: u64, ipvs: u64) -> (Remaining, u32) {
    if !has(layout::LEFT) {
        return (Remaining::default(), 0);
    }
    let remaining = Remaining {
        active: number(destination, layout!(destination.activeconns)) as u32,
        other: number(destination, layout!(destination.otherconns)) as u32,
        templates: number(destination, layout!(destination.persistconns)) as u32,
    };
    let total = if has(layout::TOTAL_CONNECTIONS) {
        TOTAL_CONNECTIONS
    } else {
        0
    };
    let set = |value: u64, flag: u32| if value as u32 != 0 { flag } else { 0 };
    let settings = set(
        number(ipvs, layout!(namespace.sysctl_expire_nodest_conn)),
        EXPIRE_NODEST_CONN,
    ) | set(
        number(ipvs, layout!(namespace.sysctl_expire_quiescent_template)),
        EXPIRE_QUIESCENT_TEMPLATE,
    ) | set(
        number(ipvs, layout!(namespace.sysctl_conn_reuse_mode)),
        CONN_REUSE,
    ) | set(number(ipvs, layout!(namespace.sysctl_conntrack)), CONNTRACK);
    (remaining, REMAINING | total | settings)
}
