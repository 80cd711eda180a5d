//! Real servers: the destinations of a virtual server.

use std::{fmt, net::SocketAddr};

use super::{Address, Stats};

/// What names a destination within its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationKey {
    /// Its address. The family may differ from the service's (tunnels only).
    pub address: Address,
    /// Its port, in host order; 0 where the service takes every port.
    pub port: u16,
}

impl fmt::Display for DestinationKey {
    /// As `ipvsadm` writes it and `--destination` takes it: `10.0.0.1:80`, `[2001:db8::1]:80`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&SocketAddr::new(self.address.ip(), self.port), formatter)
    }
}

/// How packets reach a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Masquerading (NAT).
    Masquerade,
    /// The local node.
    Local,
    /// Encapsulated.
    Tunnel,
    /// Direct routing: the frame's destination is changed, the packet is not.
    DirectRoute,
    /// A cache cluster's way round itself.
    Bypass,
    /// A method that this program does not know.
    Other(u32),
}

impl Forward {
    /// The method from the kernel's connection flags.
    pub fn from_kernel(value: u32) -> Self {
        match value & 7 {
            0 => Self::Masquerade,
            1 => Self::Local,
            2 => Self::Tunnel,
            3 => Self::DirectRoute,
            4 => Self::Bypass,
            other => Self::Other(other),
        }
    }

    /// The method's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Masquerade => "masq",
            Self::Local => "local",
            Self::Tunnel => "tunnel",
            Self::DirectRoute => "droute",
            Self::Bypass => "bypass",
            Self::Other(_) => "unknown",
        }
    }
}

/// The encapsulation of a tunnelled destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation.
    Gre,
    /// One that this program does not know.
    Other(u8),
}

impl TunnelKind {
    /// The kind from the kernel's number.
    pub fn from_kernel(value: u8) -> Self {
        match value {
            0 => Self::Ipip,
            1 => Self::Gue,
            2 => Self::Gre,
            other => Self::Other(other),
        }
    }

    /// The kind's name, as `ipvsadm` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
            Self::Other(_) => "unknown",
        }
    }
}

/// How a tunnelled destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The encapsulation.
    pub kind: TunnelKind,
    /// The UDP port of GUE, in host order, else 0.
    pub port: u16,
    /// `IP_VS_TUNNEL_ENCAP_FLAG_*`: 1 checksum, 2 remote checksum offload.
    pub flags: u16,
}

impl fmt::Display for Tunnel {
    /// As `ipvsadm` names it: `ipip`, `gue port 6080 csum`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.name())?;
        if self.kind == TunnelKind::Gue {
            write!(formatter, " port {}", self.port)?;
        }
        for (flag, name) in [(1, " csum"), (2, " remcsum")] {
            if self.flags & flag != 0 {
                formatter.write_str(name)?;
            }
        }
        Ok(())
    }
}

/// A destination as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What names it.
    pub key: DestinationKey,
    /// How packets reach it.
    pub forward: Forward,
    /// The encapsulation; present where the kernel tells and the method is a tunnel.
    pub tunnel: Option<Tunnel>,
    /// Its weight; 0 is drained.
    pub weight: u32,
    /// Connections above which it is overloaded, 0: none.
    pub upper_threshold: u32,
    /// Connections below which it is no longer, 0: the kernel's choice.
    pub lower_threshold: u32,
    /// Connections in an active state.
    pub active: u32,
    /// All others.
    pub inactive: u32,
    /// Persistence templates that point to it.
    pub persistent: u32,
    /// Its statistics.
    pub stats: Stats,
}
