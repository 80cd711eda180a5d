//! The keys of the maps: values, never pointers, so that they meet what netlink tells of the same things.

/// A service within a network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Firewall mark, or 0 for a service by address.
    pub fwmark: u32,
    /// Address family.
    pub family: u16,
    /// Transport protocol; 0 with a firewall mark.
    pub protocol: u16,
    /// Port in host order; 0 with a firewall mark.
    pub port: u16,
    /// Zero.
    pub reserved: u16,
    /// Address in network order, IPv4 in the first four bytes and zeros behind; all zero with a firewall mark.
    pub address: [u8; 16],
}

/// A destination of a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DestinationKey {
    /// Its service.
    pub service: ServiceKey,
    /// Address in network order, IPv4 in the first four bytes and zeros behind.
    pub address: [u8; 16],
    /// Address family, which may differ from the service's.
    pub family: u16,
    /// Port in host order.
    pub port: u16,
    /// Zero.
    pub reserved: u32,
}

crate::plain!(ServiceKey: 32, DestinationKey: 56);
