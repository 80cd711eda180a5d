//! Which events are wanted.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};

use super::{
    shared::{Packets, Services},
    values::duration,
};
use crate::{
    model::{Address, Outcome},
    probe::{Asked, Occasions},
};

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

    /// Only decisions with this outcome; repeatable
    #[arg(
        long = "outcome", value_name = "OUTCOME", value_delimiter = ',', value_parser = outcome()
    )]
    pub outcomes: Vec<Outcome>,

    /// Only decisions for which the scheduler took at least this long: 50us, 1ms
    #[arg(long, value_name = "DURATION", value_parser = at_least, allow_hyphen_values = true)]
    pub slower_than: Option<Duration>,
}

/// How long a scheduler takes.
fn at_least(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|_| format!("'{text}' is no duration: write it as 50us or 1ms"))
}

/// An outcome by its name.
fn outcome() -> impl TypedValueParser<Value = Outcome> {
    let names = Outcome::ALL.iter().map(|outcome| outcome.name());
    PossibleValuesParser::new(names).map(|name| {
        let mut all = Outcome::ALL.iter().copied();
        all.find(|outcome| outcome.name() == name)
            .unwrap_or(Outcome::Scheduled)
    })
}

impl Filter {
    /// What the programs are asked for.
    pub fn asked(&self) -> Asked {
        Asked {
            clients: self
                .clients
                .iter()
                .filter_map(|net| Some((net.address, net.port?)))
                .collect(),
            networks: self
                .clients
                .iter()
                .filter(|net| net.port.is_none())
                .map(|net| (net.address, net.length))
                .collect(),
            destinations: self
                .destinations
                .iter()
                .map(|spec| (spec.address, spec.port))
                .collect(),
            outcomes: self.outcomes.clone(),
            slower_than: self.slower_than,
            ..self.services.asked()
        }
    }

    /// Why no outcome that is asked for can be shown, if that is so.
    pub(super) fn impossible(&self, packets: Packets) -> Option<&'static str> {
        let none = |possible: &dyn Fn(&Outcome) -> bool| {
            !self.outcomes.is_empty() && !self.outcomes.iter().any(possible)
        };
        if packets.occasions() == Occasions::NONE && none(&|outcome| *outcome != Outcome::Reused) {
            return Some(
                "an outcome of reused is seen on the path of each packet only, so nothing would be shown; add --packets",
            );
        }
        if self.slower_than.is_some()
            && none(&|outcome| !matches!(outcome, Outcome::Template | Outcome::Reused | Outcome::Elsewhere))
        {
            return Some(
                "no scheduler is asked where the outcome is template, reused or elsewhere, so with --slower-than nothing \
                 would be shown; leave one of them away",
            );
        }
        (!self.destinations.is_empty()
            && none(&|outcome| {
                !matches!(
                    outcome,
                    Outcome::None | Outcome::Overloaded | Outcome::Accepted | Outcome::Bypassed
                )
            }))
        .then_some(
            "there is no destination where the outcome is none, overloaded, accepted or bypassed, so with --destination \
             nothing would be shown; leave one of them away",
        )
    }

    /// Whether it asks for what only decisions have.
    pub(super) fn is_of_decisions(&self) -> bool {
        !self.outcomes.is_empty() || self.slower_than.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DestinationKey;

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
        for ip in ["10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "::"] {
            let address = Address::from(ip.parse::<IpAddr>().expect("an address"));
            for port in [0, 80, u16::MAX] {
                let shown = DestinationKey { address, port }.to_string();
                let port = Some(port);
                assert_eq!(shown.parse(), Ok(DestinationSpec { address, port }), "{shown}");
                let client: ClientNet = shown.parse().expect("a client");
                assert_eq!((client.address, client.port), (address, port), "{shown}");
            }
            // Without the port, as JSON and line protocol show it, and in brackets.
            let bare = address.to_string();
            let mut forms = vec![bare.clone()];
            if bare.contains(':') {
                forms.push(format!("[{bare}]"));
            }
            for form in forms {
                assert_eq!(
                    form.parse(),
                    Ok(DestinationSpec { address, port: None }),
                    "{form}"
                );
                let client: ClientNet = form.parse().expect("a client");
                let length = if ip.contains(':') { 128 } else { 32 };
                let port = None;
                assert_eq!(
                    client,
                    ClientNet {
                        address,
                        length,
                        port
                    },
                    "{form}"
                );
            }
        }
    }
}
