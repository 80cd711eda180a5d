//! Virtual servers.

use std::{fmt, net::SocketAddr};

use super::{Address, Family, Name, Protocol, Stats};

/// What names a virtual server within its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKey {
    /// Packets to an address, protocol and port. Port 0 stands for every port.
    Endpoint {
        /// The virtual address.
        address: Address,
        /// The transport protocol.
        protocol: Protocol,
        /// The virtual port, in host order.
        port: u16,
    },
    /// Packets that the firewall marked.
    Fwmark {
        /// The family of the packets: one mark can serve IPv4 and IPv6 apart.
        family: Family,
        /// The mark, never 0.
        mark: u32,
    },
}

impl ServiceKey {
    /// The family of the virtual address, or of the marked packets.
    pub fn family(&self) -> Family {
        match self {
            Self::Endpoint { address, .. } => address.family(),
            Self::Fwmark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    /// As `--service` takes it: `tcp://10.0.0.1:80`, `udp://[2001:db8::1]:53`, `fwmark:47/inet`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint {
                address,
                protocol,
                port,
            } => write!(formatter, "{protocol}://{}", SocketAddr::new(address.ip(), *port)),
            Self::Fwmark { mark, family } => write!(formatter, "fwmark:{mark}/{family}"),
        }
    }
}

/// The flags of a service, `IP_VS_SVC_F_*`, as the kernel has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceFlags(pub u32);

impl ServiceFlags {
    const PERSISTENT: u32 = 0x0001;
    const ONE_PACKET: u32 = 0x0004;
    /// Three flags that each scheduler reads in its own way.
    const SCHEDULER: [u32; 3] = [0x0008, 0x0010, 0x0020];

    /// Whether connections of one client stay with one destination.
    pub fn persistent(self) -> bool {
        self.0 & Self::PERSISTENT != 0
    }

    /// The flags of its scheduler, by the names that `ipvsadm -b` takes. The third has no meaning for two of them, and
    /// `ipvsadm` does not show it there.
    pub fn of_scheduler(self, scheduler: &str) -> impl Iterator<Item = &'static str> {
        let names: &[&'static str] = match scheduler {
            "sh" => &["sh-fallback", "sh-port"],
            "mh" => &["mh-fallback", "mh-port"],
            _ => &["flag-1", "flag-2", "flag-3"],
        };
        let flags = Self::SCHEDULER.into_iter().zip(names);
        flags
            .filter(move |(flag, _)| self.0 & flag != 0)
            .map(|(_, name)| *name)
    }

    /// Whether each packet is scheduled by itself (UDP only).
    pub fn one_packet(self) -> bool {
        self.0 & Self::ONE_PACKET != 0
    }
}

/// The flags of a service's scheduler, as `ipvsadm` shows them: separated by commas.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerFlags {
    flags: ServiceFlags,
    scheduler: Name,
}

impl SchedulerFlags {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.flags.of_scheduler(self.scheduler.as_str()).next().is_none()
    }
}

impl fmt::Display for SchedulerFlags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.flags.of_scheduler(self.scheduler.as_str()).enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(formatter, "{comma}{name}")?;
        }
        Ok(())
    }
}

/// A virtual server, without its destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What names it.
    pub key: ServiceKey,
    /// Its scheduler; `none` for a moment while it is being edited.
    pub scheduler: Name,
    /// Its flags.
    pub flags: ServiceFlags,
    /// Seconds that a persistence template lives. Has a meaning only with the flag.
    pub timeout: u32,
    /// The persistence granularity as the kernel stores it, in the host's reading of the wire's bytes: an IPv4
    /// netmask (its bits set count), or an IPv6 prefix length.
    pub netmask: u32,
    /// The persistence engine, empty if there is none.
    pub persistence_engine: Name,
    /// Its statistics.
    pub stats: Stats,
}

impl Service {
    /// The flags of its scheduler.
    pub fn scheduler_flags(&self) -> SchedulerFlags {
        SchedulerFlags {
            flags: self.flags,
            scheduler: self.scheduler,
        }
    }

    /// Seconds of persistence, 0 where the service has none.
    pub fn persistence_timeout(&self) -> u32 {
        if self.flags.persistent() { self.timeout } else { 0 }
    }

    /// The prefix length of the persistence granularity, in bits, right for both families.
    pub fn prefix_length(&self) -> u32 {
        if self.key.family() == Family::INET6 {
            self.netmask
        } else {
            self.netmask.count_ones()
        }
    }

    /// What Telegraf's `inputs.ipvs` shows as netmask: the number of bits set. Wrong for IPv6, where the
    /// kernel stores a prefix length, and matched under `--schema telegraf` all the same.
    pub fn netmask_ones(&self) -> u32 {
        self.netmask.count_ones()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn service(key: ServiceKey, netmask: u32) -> Service {
        Service {
            key,
            scheduler: Name::from("rr"),
            flags: ServiceFlags(2),
            timeout: 300,
            netmask,
            persistence_engine: Name::default(),
            stats: Stats::default(),
        }
    }

    #[test]
    fn an_ipv6_prefix_is_a_length_and_an_ipv4_netmask_is_counted() {
        let v6 = service(
            ServiceKey::Fwmark {
                family: Family::INET6,
                mark: 1,
            },
            112,
        );
        assert_eq!((v6.prefix_length(), v6.netmask_ones()), (112, 3));
        let v4 = service(
            ServiceKey::Fwmark {
                family: Family::INET,
                mark: 1,
            },
            0x00ff_ffff,
        );
        assert_eq!((v4.prefix_length(), v4.netmask_ones()), (24, 24));
    }

    #[test]
    fn a_timeout_without_the_persistent_flag_is_no_persistence() {
        let mut service = service(
            ServiceKey::Fwmark {
                family: Family::INET,
                mark: 1,
            },
            0,
        );
        assert_eq!(service.persistence_timeout(), 0);
        service.flags = ServiceFlags(3);
        assert_eq!(service.persistence_timeout(), 300);
    }

    #[test]
    fn flags_of_a_scheduler_are_named_as_ipvsadm_takes_them() {
        let named = |scheduler, flags| ServiceFlags(flags).of_scheduler(scheduler).collect::<Vec<_>>();
        assert_eq!(named("sh", 0x1b), ["sh-fallback", "sh-port"]);
        assert_eq!(named("mh", 0x12), ["mh-port"]);
        assert_eq!(named("wlc", 0x2e), ["flag-1", "flag-3"]);
        assert_eq!(named("rr", 7), [""; 0]);
        assert_eq!(named("mh", 0x20), [""; 0], "ipvsadm does not show it");
        let mut service = service(
            ServiceKey::Fwmark {
                family: Family::INET,
                mark: 1,
            },
            0,
        );
        assert!(service.scheduler_flags().is_empty());
        service.flags = ServiceFlags(0x38);
        assert_eq!(service.scheduler_flags().to_string(), "flag-1,flag-2,flag-3");
    }

    #[test]
    fn a_key_is_shown_as_the_service_flag_takes_it() -> Result<(), Box<dyn std::error::Error>> {
        let endpoint = |ip: &str, protocol, port| -> Result<String, std::net::AddrParseError> {
            let address = Address::from(ip.parse::<IpAddr>()?);
            Ok(ServiceKey::Endpoint {
                address,
                protocol,
                port,
            }
            .to_string())
        };
        assert_eq!(endpoint("10.0.0.1", Protocol::TCP, 80)?, "tcp://10.0.0.1:80");
        assert_eq!(
            endpoint("2001:db8::1", Protocol::UDP, 53)?,
            "udp://[2001:db8::1]:53"
        );
        assert_eq!(
            ServiceKey::Fwmark {
                family: Family::INET,
                mark: 47
            }
            .to_string(),
            "fwmark:47/inet"
        );
        Ok(())
    }
}
