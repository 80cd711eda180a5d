//! Address families, protocols and addresses, with the names that Telegraf and `ipvsadm` give them.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An address family, by the kernel's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Family(pub u16);

impl Family {
    /// IPv4.
    pub const INET: Self = Self(2);
    /// IPv6.
    pub const INET6: Self = Self(10);
}

impl fmt::Display for Family {
    /// `inet`, `inet6`, else the number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::INET => formatter.write_str("inet"),
            Self::INET6 => formatter.write_str("inet6"),
            Self(other) => write!(formatter, "{other}"),
        }
    }
}

/// A transport protocol, by its number in the IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u16);

impl Protocol {
    /// No transport: what IPVS gives the template of a firewall mark.
    pub const IP: Self = Self(0);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// SCTP.
    pub const SCTP: Self = Self(132);
}

impl fmt::Display for Protocol {
    /// `tcp`, `udp`, `sctp`, else the number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => formatter.write_str("tcp"),
            Self::UDP => formatter.write_str("udp"),
            Self::SCTP => formatter.write_str("sctp"),
            Self(other) => write!(formatter, "{other}"),
        }
    }
}

/// A network address with its family.
///
/// IPv4 fills the first four of the sixteen bytes and the rest are zero, whatever the kernel left there, so
/// that equal addresses are equal values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    family: Family,
    bytes: [u8; 16],
}

impl Hash for Address {
    /// In two words: what is derived goes through the bytes as through a text of any length. Addresses that differ in
    /// their family alone meet, and there are hardly any.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_ne_bytes(self.bytes));
    }
}

impl Address {
    /// An address from the kernel's sixteen bytes.
    pub fn new(family: Family, mut bytes: [u8; 16]) -> Self {
        if family == Family::INET {
            bytes[4..].fill(0);
        }
        Self { family, bytes }
    }

    /// The address family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The sixteen bytes: the first four are IPv4's.
    pub fn bytes(&self) -> [u8; 16] {
        self.bytes
    }

    /// The address as the standard library has it; a family that is neither IPv4 nor IPv6 is read as IPv6.
    pub fn ip(&self) -> IpAddr {
        let [a, b, c, d, ..] = self.bytes;
        match self.family {
            Family::INET => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::V6(Ipv6Addr::from(self.bytes)),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&ip.octets());
                Self {
                    family: Family::INET,
                    bytes,
                }
            }
            IpAddr::V6(ip) => Self {
                family: Family::INET6,
                bytes: ip.octets(),
            },
        }
    }
}

impl fmt::Display for Address {
    /// The shortest form, IPv6 without brackets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.ip(), formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Family, Protocol};

    #[test]
    fn bytes_behind_an_ipv4_address_do_not_make_it_another_address() {
        let mut dirty = [0xaa; 16];
        dirty[..4].copy_from_slice(&[10, 0, 0, 1]);
        let address = Address::new(Family::INET, dirty);
        assert_eq!(address, Address::from(std::net::IpAddr::from([10, 0, 0, 1])));
        assert_eq!(address.to_string(), "10.0.0.1");
    }

    #[test]
    fn ipv6_is_shown_in_its_shortest_form_without_brackets() {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        bytes[15] = 1;
        assert_eq!(Address::new(Family::INET6, bytes).to_string(), "2001:db8::1");
    }

    #[test]
    fn an_unknown_family_or_protocol_is_shown_by_its_number() {
        assert_eq!(Family(7).to_string(), "7");
        assert_eq!(Protocol(99).to_string(), "99");
        assert_eq!(Protocol::SCTP.to_string(), "sctp");
    }
}
