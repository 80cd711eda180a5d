//! How a user names a service.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::model::{Address, Family, Protocol, ServiceKey};

/// A service as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceSpec {
    /// An address, protocol and port.
    Endpoint {
        /// The virtual address.
        address: Address,
        /// The transport protocol.
        protocol: Protocol,
        /// The virtual port.
        port: u16,
    },
    /// A firewall mark, of either family.
    Fwmark(u32),
}

impl ServiceSpec {
    /// Whether it names this service.
    pub fn matches(&self, key: &ServiceKey) -> bool {
        match (self, key) {
            (Self::Fwmark(wanted), ServiceKey::Fwmark { mark, .. }) => wanted == mark,
            (
                Self::Endpoint {
                    address,
                    protocol,
                    port,
                },
                ServiceKey::Endpoint {
                    address: other,
                    protocol: other_protocol,
                    port: other_port,
                },
            ) => address == other && protocol == other_protocol && port == other_port,
            _ => false,
        }
    }
}

/// What a service looks like, for messages.
const SERVICE_EXAMPLES: &str = "write it as tcp://10.0.0.1:80, udp://[2001:db8::1]:53 or fwmark:47";

impl FromStr for ServiceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_service(text).map_err(|reason| format!("{reason}: {SERVICE_EXAMPLES}"))
    }
}

fn parse_service(text: &str) -> Result<ServiceSpec, String> {
    if let Some(mark) = text.strip_prefix("fwmark:") {
        return match mark.parse() {
            Ok(0) => Err("a mark of 0 is no mark".to_owned()),
            Ok(mark) => Ok(ServiceSpec::Fwmark(mark)),
            Err(_) => Err(format!("'{mark}' is no mark from 1 to 4294967295")),
        };
    }
    let (protocol, rest) = text.split_once("://").ok_or("it has no '://'")?;
    let protocol = match protocol {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        other => return Err(format!("'{other}' is none of tcp, udp, sctp")),
    };
    let (host, port) = rest.rsplit_once(':').ok_or("it has no port")?;
    let port = port
        .parse()
        .map_err(|_| format!("'{port}' is no port from 0 to 65535"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip: IpAddr = bare
        .unwrap_or(host)
        .parse()
        .map_err(|_| format!("'{host}' is no address"))?;
    if ip.is_ipv6() != bare.is_some() {
        return Err("an IPv6 address stands in brackets, an IPv4 address does not".to_owned());
    }
    Ok(ServiceSpec::Endpoint {
        address: Address::from(ip),
        protocol,
        port,
    })
}

impl fmt::Display for ServiceSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match *self {
            Self::Endpoint {
                address,
                protocol,
                port,
            } => ServiceKey::Endpoint {
                address,
                protocol,
                port,
            },
            Self::Fwmark(mark) => ServiceKey::Fwmark {
                family: Family::INET,
                mark,
            },
        };
        fmt::Display::fmt(&key, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_as_it_is_shown() {
        for text in [
            "tcp://10.0.0.1:80",
            "udp://[2001:db8::1]:53",
            "sctp://10.0.0.1:0",
            "fwmark:47",
        ] {
            assert_eq!(
                text.parse::<ServiceSpec>().map(|spec| spec.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn a_service_that_is_none_says_why_and_shows_one() {
        for (text, reason) in [
            ("tcp:/bad", "it has no '://'"),
            ("http://10.0.0.1:80", "'http' is none"),
            ("tcp://10.0.0.1", "no address"),
            ("tcp://10.0.0.1:65536", "'65536' is no port"),
            ("tcp://2001:db8::1:80", "brackets"),
            ("tcp://[10.0.0.1]:80", "brackets"),
            ("fwmark:0", "no mark"),
            ("fwmark:x", "'x' is no mark"),
            ("", "it has no '://'"),
        ] {
            match text.parse::<ServiceSpec>() {
                Ok(spec) => assert_eq!(text, "an error", "{spec:?}"),
                Err(error) if text == "tcp://10.0.0.1" => {
                    assert!(error.contains("tcp://10.0.0.1:80"), "{error}");
                }
                Err(error) => {
                    assert!(error.contains(reason), "{text}: {error}");
                    assert!(error.contains("tcp://10.0.0.1:80"), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_mark_names_the_services_of_both_families() {
        let spec = ServiceSpec::Fwmark(5);
        assert!(spec.matches(&ServiceKey::Fwmark {
            family: Family::INET,
            mark: 5
        }));
        assert!(spec.matches(&ServiceKey::Fwmark {
            family: Family::INET6,
            mark: 5
        }));
        assert!(!spec.matches(&ServiceKey::Fwmark {
            family: Family::INET,
            mark: 6
        }));
    }
}
