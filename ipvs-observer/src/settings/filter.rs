//! Which events are wanted.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use clap::Args;

use super::{service::wanted, shared::Services};
use crate::model::{Address, DestinationKey, DestinationState, Drop, End, ServiceKey, Traced};

/// An address, or one with a port: with IPv6 in brackets, as both are shown together.
fn endpoint(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Some(ip) = bare {
        return Some((IpAddr::V6(ip.parse().ok()?), None));
    }
    if let Ok(ip) = text.parse() {
        return Some((ip, None));
    }
    let socket: SocketAddr = text.parse().ok()?;
    Some((socket.ip(), Some(socket.port())))
}

/// A network of clients: an address, or one with a prefix length; or one client, with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNet {
    address: Address,
    length: u8,
    port: Option<u16>,
}

impl ClientNet {
    /// Whether a client is of it.
    fn has(&self, client: &Address, port: u16) -> bool {
        self.contains(client) && self.port.is_none_or(|wanted| wanted == port)
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: &Address) -> bool {
        let (whole, rest) = (usize::from(self.length / 8), self.length % 8);
        let (ours, theirs) = (self.address.bytes(), address.bytes());
        let mask = !(0xff_u8.checked_shr(rest.into()).unwrap_or(0));
        let last = ours.get(whole).zip(theirs.get(whole));
        self.address.family() == address.family()
            && ours[..whole] == theirs[..whole]
            && last.is_none_or(|(ours, theirs)| ours & mask == theirs & mask)
    }
}

impl FromStr for ClientNet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLES: &str = "write it as 10.0.0.0/8, 192.0.2.7, 192.0.2.7:40000 or 2001:db8::/32";
        let (host, length) = text
            .split_once('/')
            .map_or((text, None), |(host, length)| (host, Some(length)));
        let (ip, port) = endpoint(host)
            .filter(|(_, port)| port.is_none() || length.is_none())
            .ok_or_else(|| format!("'{host}' is no address: {EXAMPLES}"))?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => longest,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= longest)
                .ok_or_else(|| format!("'{length}' is no prefix length up to {longest}: {EXAMPLES}"))?,
        };
        Ok(Self {
            address: Address::from(ip),
            length,
            port,
        })
    }
}

/// A destination: an address, or one with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationSpec {
    address: Address,
    port: Option<u16>,
}

impl DestinationSpec {
    /// Whether it names this destination.
    pub fn matches(&self, key: &DestinationKey) -> bool {
        self.address == key.address && self.port.is_none_or(|port| port == key.port)
    }
}

impl FromStr for DestinationSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLES: &str = "write it as 10.0.0.1, 10.0.0.1:8080 or [2001:db8::1]:8080";
        let (ip, port) = endpoint(text).ok_or_else(|| format!("'{text}' is no destination: {EXAMPLES}"))?;
        Ok(Self {
            address: Address::from(ip),
            port,
        })
    }
}

/// Which events are wanted: of each kind that is named any one must match, and nothing named is everything.
#[derive(Args, Clone, Debug, Default)]
pub struct Filter {
    /// Of which services.
    #[command(flatten)]
    pub services: Services,

    /// Only clients of this network: 10.0.0.0/8, 2001:db8::/32, 192.0.2.7:40000; repeatable. Changes are then left out
    #[arg(
        long = "client",
        value_name = "CIDR",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub clients: Vec<ClientNet>,

    /// Only this real server: 10.0.0.1, 10.0.0.1:8080, [2001:db8::1]:8080; repeatable
    #[arg(
        long = "destination",
        value_name = "ADDRESS",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub destinations: Vec<DestinationSpec>,
}

impl Filter {
    /// Whether an event is wanted.
    pub fn wants(&self, event: &Traced) -> bool {
        match event {
            Traced::Decision(decision) => {
                self.wants_service(&decision.service)
                    && self.wants_client(&decision.client, decision.client_port)
                    && self.wants_state(decision.destination.as_ref())
            }
            Traced::Drop(Drop { connection, .. }) | Traced::End(End { connection, .. }) => {
                self.wants_service(&connection.service)
                    && self.wants_client(&connection.client, connection.client_port)
                    && self.wants_state(connection.destination.as_ref())
            }
            Traced::Change(change) => {
                self.clients.is_empty()
                    && self.wants_service(&change.service)
                    && self.wants_destination(change.destination.as_ref())
            }
        }
    }

    fn wants_service(&self, key: &ServiceKey) -> bool {
        wanted(&self.services.specs, key)
    }

    fn wants_client(&self, client: &Address, port: u16) -> bool {
        self.clients.is_empty() || self.clients.iter().any(|net| net.has(client, port))
    }

    fn wants_state(&self, state: Option<&DestinationState>) -> bool {
        self.wants_destination(state.map(|state| &state.key))
    }

    fn wants_destination(&self, key: Option<&DestinationKey>) -> bool {
        self.destinations.is_empty()
            || key.is_some_and(|key| self.destinations.iter().any(|spec| spec.matches(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(net: &str, address: &str) -> bool {
        let net: ClientNet = net.parse().expect("a network");
        net.contains(&Address::from(address.parse::<IpAddr>().expect("an address")))
    }

    #[test]
    fn an_address_is_in_a_network_by_its_prefix() {
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("192.0.2.128/25", "192.0.2.200"));
        assert!(!contains("192.0.2.128/25", "192.0.2.100"));
        assert!(contains("192.0.2.7", "192.0.2.7"));
        assert!(!contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
        assert!(!contains("0.0.0.0/0", "::1"), "of its own family only");
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("2001:db8::1/128", "2001:db8::1"));
    }

    #[test]
    fn what_is_no_network_or_destination_says_so_with_an_example() {
        for text in [
            "10.0.0.0/33",
            "::/129",
            "x",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.1:80/32",
            "[10.0.0.1]",
            "[::1",
        ] {
            assert!(
                text.parse::<ClientNet>()
                    .is_err_and(|error| error.contains("10.0.0.0/8")),
                "{text}"
            );
        }
        for text in ["10.0.0.1:x", "2001:db8::1:8080:x", "", "10.0.0.1:70000"] {
            assert!(
                text.parse::<DestinationSpec>()
                    .is_err_and(|error| error.contains("10.0.0.1:8080")),
                "{text}"
            );
        }
    }

    #[test]
    fn every_client_and_destination_can_be_typed_as_it_is_shown() {
        let addresses = ["10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "::"];
        let keys: Vec<_> = addresses
            .iter()
            .flat_map(|ip| {
                let address = Address::from(ip.parse::<IpAddr>().expect("an address"));
                [0, 80, u16::MAX].map(|port| DestinationKey { address, port })
            })
            .collect();
        for key in &keys {
            let shown = key.to_string();
            let spec: DestinationSpec = shown.parse().expect("a destination");
            let named: Vec<_> = keys.iter().filter(|other| spec.matches(other)).collect();
            assert_eq!(named, [key], "{shown}");
            let client: ClientNet = shown.parse().expect("a client");
            let named: Vec<_> = keys
                .iter()
                .filter(|other| client.has(&other.address, other.port))
                .collect();
            assert_eq!(named, [key], "{shown}");
            // Without the port, as JSON and line protocol show it, and in brackets.
            let bare = key.address.to_string();
            let mut forms = vec![bare.clone()];
            if bare.contains(':') {
                forms.push(format!("[{bare}]"));
            }
            for form in forms {
                let spec: DestinationSpec = form.parse().expect("a destination");
                let client: ClientNet = form.parse().expect("a client");
                for other in &keys {
                    assert_eq!(spec.matches(other), other.address == key.address, "{form}");
                    assert_eq!(
                        client.has(&other.address, other.port),
                        other.address == key.address
                    );
                }
            }
        }
    }

    #[test]
    fn a_destination_is_named_with_its_port_or_with_all_of_them() {
        let key = DestinationKey {
            address: Address::from(IpAddr::from([10, 0, 0, 1])),
            port: 80,
        };
        let matches = |text: &str| {
            text.parse::<DestinationSpec>()
                .expect("a destination")
                .matches(&key)
        };
        assert!(matches("10.0.0.1") && matches("10.0.0.1:80"));
        assert!(!matches("10.0.0.1:81") && !matches("10.0.0.2"));
    }
}
