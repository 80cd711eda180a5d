//! Bytes to model: what each of the family's replies says.
//!
//! Owns: which attribute becomes which field, and what an absent one means. Refuses to know: sockets.

mod usual;

use super::{
    Malformed,
    attributes::{Attribute, Attributes},
    wire::{daemon, destination, info, service, top},
};
use crate::model::{
    Address, Daemon, DaemonRole, Destination, DestinationKey, Family, Forward, Info, Name, Protocol, Service,
    ServiceFlags, ServiceKey, Stats, Timeouts, Tunnel, TunnelKind,
};

/// The nested attribute `kind` in a reply.
fn part(reply: Attributes<'_>, kind: u16) -> Result<Attributes<'_>, Malformed> {
    for attribute in reply {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(attribute.nested());
        }
    }
    Err(Malformed {
        kind,
        length: 0,
        wanted: 1,
    })
}

/// A service, from a reply to `Service`.
pub fn service(reply: Attributes<'_>) -> Result<Service, Malformed> {
    let (mut family, mut protocol, mut address, mut port, mut mark) = (None, 0, [0; 16], 0, 0);
    let (mut scheduler, mut engine) = (Name::default(), Name::default());
    let (mut flags, mut timeout, mut netmask) = (0, 0, 0);
    let (mut narrow, mut wide) = (None, None);
    for attribute in part(reply, top::SERVICE)? {
        let attribute = attribute?;
        match attribute.kind {
            service::FAMILY => family = Some(Family(attribute.u16()?)),
            service::PROTOCOL => protocol = attribute.u16()?,
            service::ADDRESS => address = attribute.address()?,
            service::PORT => port = attribute.be16()?,
            service::FWMARK => mark = attribute.u32()?,
            service::SCHEDULER => scheduler = Name::from_bytes(attribute.bytes()),
            service::FLAGS => flags = attribute.u32()?,
            service::TIMEOUT => timeout = attribute.u32()?,
            service::NETMASK => netmask = attribute.u32()?,
            service::STATS => narrow = Some(attribute),
            service::PERSISTENCE_ENGINE => engine = Name::from_bytes(attribute.bytes()),
            service::STATS64 => wide = Some(attribute),
            _ => {}
        }
    }
    let family = family.ok_or(Malformed {
        kind: service::FAMILY,
        length: 0,
        wanted: 2,
    })?;
    let key = if mark == 0 {
        ServiceKey::Endpoint {
            address: Address::new(family, address),
            protocol: Protocol(protocol),
            port,
        }
    } else {
        ServiceKey::Fwmark { family, mark }
    };
    Ok(Service {
        key,
        scheduler,
        flags: ServiceFlags(flags),
        timeout,
        netmask,
        persistence_engine: engine,
        stats: stats(narrow, wide)?,
    })
}

/// A destination of a service of `family`, from a reply to `Destination`.
pub fn destination(reply: Attributes<'_>, family: Family) -> Result<Destination, Malformed> {
    let attributes = part(reply, top::DESTINATION)?;
    match usual::destination(attributes.bytes()) {
        Some(destination) => Ok(destination),
        None => any_destination(attributes, family),
    }
}

/// Attributes in any order, and any of them missing.
fn any_destination(attributes: Attributes<'_>, family: Family) -> Result<Destination, Malformed> {
    let (mut family, mut address, mut port) = (family, None, 0);
    let (mut method, mut weight, mut upper, mut lower) = (0, 0, 0, 0);
    let (mut active, mut inactive, mut persistent) = (0, 0, 0);
    let (mut kind, mut tunnel_port, mut tunnel_flags) = (None, 0, 0);
    let (mut narrow, mut wide) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            destination::ADDRESS => address = Some(attribute.address()?),
            destination::PORT => port = attribute.be16()?,
            destination::FORWARD => method = attribute.u32()?,
            destination::WEIGHT => weight = attribute.u32()?,
            destination::UPPER_THRESHOLD => upper = attribute.u32()?,
            destination::LOWER_THRESHOLD => lower = attribute.u32()?,
            destination::ACTIVE => active = attribute.u32()?,
            destination::INACTIVE => inactive = attribute.u32()?,
            destination::PERSISTENT => persistent = attribute.u32()?,
            destination::STATS => narrow = Some(attribute),
            destination::FAMILY => family = Family(attribute.u16()?),
            destination::STATS64 => wide = Some(attribute),
            destination::TUNNEL_KIND => kind = Some(TunnelKind::from_kernel(attribute.u8()?)),
            destination::TUNNEL_PORT => tunnel_port = attribute.be16()?,
            destination::TUNNEL_FLAGS => tunnel_flags = attribute.u16()?,
            _ => {}
        }
    }
    let address = address.ok_or(Malformed {
        kind: destination::ADDRESS,
        length: 0,
        wanted: 16,
    })?;
    let (forward, tunnel) = forwarding(method, kind, tunnel_port, tunnel_flags);
    Ok(Destination {
        key: DestinationKey {
            address: Address::new(family, address),
            port,
        },
        forward,
        tunnel,
        weight,
        upper_threshold: upper,
        lower_threshold: lower,
        active,
        inactive,
        persistent,
        stats: stats(narrow, wide)?,
    })
}

/// How packets reach a destination; its tunnel means something only where there is one.
fn forwarding(method: u32, kind: Option<TunnelKind>, port: u16, flags: u16) -> (Forward, Option<Tunnel>) {
    let forward = Forward::from_kernel(method);
    let tunnel = kind
        .filter(|_| forward == Forward::Tunnel)
        .map(|kind| Tunnel { kind, port, flags });
    (forward, tunnel)
}

/// Statistics: the 64-bit ones where the kernel has them, else the ones that wrap at 32 bits.
fn stats(narrow: Option<Attribute<'_>>, wide: Option<Attribute<'_>>) -> Result<Stats, Malformed> {
    let mut stats = Stats::default();
    let Some(block) = wide.or(narrow) else {
        return Ok(stats);
    };
    if let Some(stats) = usual::stats(block.bytes()) {
        return Ok(stats);
    }
    for attribute in block.nested() {
        let attribute = attribute?;
        // Byte counters are 64-bit in both blocks, the others only in the wide one: the length tells.
        let value = match attribute.bytes().first_chunk() {
            Some(bytes) => u64::from_ne_bytes(*bytes),
            // 11 is padding that aligns the 64-bit values.
            None if matches!(attribute.kind, 1..=10) => attribute.u32()?.into(),
            None => continue,
        };
        match attribute.kind {
            1 => stats.connections = value,
            2 => stats.pkts_in = value,
            3 => stats.pkts_out = value,
            4 => stats.bytes_in = value,
            5 => stats.bytes_out = value,
            6 => stats.cps = value,
            7 => stats.pps_in = value,
            8 => stats.pps_out = value,
            9 => stats.bps_in = value,
            10 => stats.bps_out = value,
            _ => {}
        }
    }
    Ok(stats)
}

/// Version and table size, from a reply to `Info`.
pub fn info(reply: Attributes<'_>) -> Result<Info, Malformed> {
    let mut found = Info {
        version: 0,
        connection_table_size: 0,
    };
    for attribute in reply {
        let attribute = attribute?;
        match attribute.kind {
            info::VERSION => found.version = attribute.u32()?,
            info::CONNECTION_TABLE_SIZE => found.connection_table_size = attribute.u32()?,
            _ => {}
        }
    }
    Ok(found)
}

/// Timeouts, from a reply to `Config`. A kernel without TCP or UDP support in IPVS leaves them out: 0.
pub fn timeouts(reply: Attributes<'_>) -> Result<Timeouts, Malformed> {
    let mut found = Timeouts {
        tcp: 0,
        tcp_fin: 0,
        udp: 0,
    };
    for attribute in reply {
        let attribute = attribute?;
        match attribute.kind {
            top::TIMEOUT_TCP => found.tcp = attribute.u32()?,
            top::TIMEOUT_TCP_FIN => found.tcp_fin = attribute.u32()?,
            top::TIMEOUT_UDP => found.udp = attribute.u32()?,
            _ => {}
        }
    }
    Ok(found)
}

/// A synchronisation daemon, from a reply to `Daemon`.
pub fn daemon(reply: Attributes<'_>) -> Result<Daemon, Malformed> {
    let mut found = Daemon {
        role: DaemonRole::Other(0),
        interface: Name::default(),
        sync_id: 0,
    };
    for attribute in part(reply, top::DAEMON)? {
        let attribute = attribute?;
        match attribute.kind {
            daemon::STATE => {
                found.role = match attribute.u32()? {
                    1 => DaemonRole::Master,
                    2 => DaemonRole::Backup,
                    other => DaemonRole::Other(other),
                }
            }
            daemon::INTERFACE => found.interface = Name::from_bytes(attribute.bytes()),
            daemon::SYNC_ID => found.sync_id = attribute.u32()?,
            _ => {}
        }
    }
    Ok(found)
}
