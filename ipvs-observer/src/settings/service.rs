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
    /// A firewall mark.
    Fwmark {
        /// The mark, never 0.
        mark: u32,
        /// The family of the packets; none: both.
        family: Option<Family>,
    },
}

impl ServiceSpec {
    /// The services that it names, of one family or of both.
    pub fn keys(&self) -> Vec<ServiceKey> {
        match *self {
            Self::Endpoint {
                address,
                protocol,
                port,
            } => vec![ServiceKey::Endpoint {
                address,
                protocol,
                port,
            }],
            Self::Fwmark { mark, family } => [Family::INET, Family::INET6]
                .into_iter()
                .filter(|of| family.is_none_or(|family| family == *of))
                .map(|family| ServiceKey::Fwmark { family, mark })
                .collect(),
        }
    }

    /// Whether it names this service.
    pub fn matches(&self, key: &ServiceKey) -> bool {
        match (self, key) {
            (
                Self::Fwmark { mark, family },
                ServiceKey::Fwmark {
                    mark: other,
                    family: other_family,
                },
            ) => mark == other && family.is_none_or(|family| family == *other_family),
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

/// Whether a service is one of those asked for; none asked for is all.
pub fn wanted(specs: &[ServiceSpec], key: &ServiceKey) -> bool {
    specs.is_empty() || specs.iter().any(|spec| spec.matches(key))
}

/// What a service looks like, for messages.
const SERVICE_EXAMPLES: &str =
    "write it as tcp://10.0.0.1:80, udp://[2001:db8::1]:53, fwmark:47 or fwmark:47/inet6";

impl FromStr for ServiceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_service(text).map_err(|reason| format!("{reason}: {SERVICE_EXAMPLES}"))
    }
}

fn parse_service(text: &str) -> Result<ServiceSpec, String> {
    if let Some(mark) = text.strip_prefix("fwmark:") {
        let (mark, family) = match mark.split_once('/') {
            None => (mark, None),
            Some((mark, "inet")) => (mark, Some(Family::INET)),
            Some((mark, "inet6")) => (mark, Some(Family::INET6)),
            Some((_, other)) => return Err(format!("'{other}' is none of inet, inet6")),
        };
        return match mark.parse() {
            Ok(0) => Err("a mark of 0 is no mark".to_owned()),
            Ok(mark) => Ok(ServiceSpec::Fwmark { mark, family }),
            Err(_) => Err(format!("'{mark}' is no mark from 1 to 4294967295")),
        };
    }
    let (protocol, rest) = text.split_once("://").ok_or("it has no '://'")?;
    let protocol = match protocol {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        // As one without a name is shown.
        other => other
            .parse::<u8>()
            .map(|number| Protocol(number.into()))
            .map_err(|_| format!("'{other}' is none of tcp, udp, sctp"))?,
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
            Self::Fwmark {
                mark,
                family: Some(family),
            } => ServiceKey::Fwmark { family, mark },
            Self::Fwmark { mark, family: None } => return write!(formatter, "fwmark:{mark}"),
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
            "fwmark:47/inet",
            "fwmark:47/inet6",
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
            ("fwmark:47/", "'' is none of inet, inet6"),
            ("fwmark:47/ipv6", "'ipv6' is none of inet, inet6"),
            ("256://10.0.0.1:80", "'256' is none"),
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
    fn a_mark_names_the_services_of_both_families_or_of_the_one_that_it_names() {
        let key = |family, mark| ServiceKey::Fwmark { family, mark };
        for (text, v4, v6) in [
            ("fwmark:5", true, true),
            ("fwmark:5/inet", true, false),
            ("fwmark:5/inet6", false, true),
            ("fwmark:6", false, false),
        ] {
            let spec: ServiceSpec = text.parse().expect("a service");
            assert_eq!(spec.matches(&key(Family::INET, 5)), v4, "{text}");
            assert_eq!(spec.matches(&key(Family::INET6, 5)), v6, "{text}");
        }
    }

    #[test]
    fn every_service_can_be_typed_as_it_is_shown() {
        let endpoints = [
            "10.0.0.1",
            "0.0.0.0",
            "2001:db8::1",
            "::",
            "::ffff:10.0.0.1",
            "fe80::1",
        ]
        .into_iter()
        .flat_map(|ip| {
            let address = Address::from(ip.parse::<IpAddr>().expect("an address"));
            [
                Protocol::TCP,
                Protocol::UDP,
                Protocol::SCTP,
                Protocol(0),
                Protocol(255),
            ]
            .into_iter()
            .flat_map(move |protocol| {
                [0, 80, u16::MAX].map(|port| ServiceKey::Endpoint {
                    address,
                    protocol,
                    port,
                })
            })
        });
        let marks = [1, 47, u32::MAX]
            .into_iter()
            .flat_map(|mark| [Family::INET, Family::INET6].map(|family| ServiceKey::Fwmark { family, mark }));
        let keys: Vec<_> = endpoints.chain(marks).collect();
        for key in &keys {
            let spec: ServiceSpec = key.to_string().parse().expect("what is shown can be typed");
            assert_eq!(spec.to_string(), key.to_string());
            let named: Vec<_> = keys.iter().filter(|other| spec.matches(other)).collect();
            assert_eq!(named, [key], "it names this one and no other");
        }
    }
}
