//! `ipvs_change`: what was done to the configuration, and by whom.

use std::fmt;

use super::{Points, Schema, event_time, family_tag, ip};
use crate::{
    line::Encoder,
    model::{Address, Change, DestinationKey, Family, ServiceKey},
};

impl Points {
    /// Writes changes, each with its own time: two of one gather would otherwise be one point of one series.
    pub fn changes<'a>(&mut self, encoder: &mut Encoder, changes: impl IntoIterator<Item = &'a Change>) {
        for change in changes {
            self.last_change = event_time(change.time, self.last_change);
            let mut line = encoder.line("ipvs_change");
            line.tag_literal("action", change.action.name());
            match &change.service {
                ServiceKey::Fwmark { family, mark } => {
                    family_tag(&mut line, *family);
                    line.tag_number("fwmark", *mark);
                    self.netns_tag(&mut line);
                }
                ServiceKey::Endpoint {
                    address,
                    protocol,
                    port,
                } => {
                    line.tag_ip("address", ip(*address, Schema::Full));
                    family_tag(&mut line, address.family());
                    self.netns_tag(&mut line);
                    line.tag_number("port", *port).tag("protocol", protocol);
                }
            }
            if let Some(destination) = &change.destination {
                line.string("destination", Endpoint(*destination));
            }
            if let Some(weight) = change.weight_before {
                line.unsigned("weight_before", weight.into());
            }
            if let Some(weight) = change.weight_after {
                line.unsigned("weight_after", weight.into());
            }
            line.string("comm", change.comm)
                .unsigned("pid", change.pid.into());
            if !change.parent_comm.is_empty() {
                line.string("parent_comm", change.parent_comm)
                    .unsigned("parent_pid", change.parent_pid.into());
            }
            line.end(self.last_change);
        }
    }
}

/// An address and port as `ipvsadm` writes them.
pub(crate) struct Endpoint(pub(crate) DestinationKey);

impl Endpoint {
    /// Of an address and a port.
    pub(crate) fn of(address: Address, port: u16) -> Self {
        Self(DestinationKey { address, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DestinationKey { address, port } = &self.0;
        if address.family() == Family::INET {
            write!(formatter, "{address}:{port}")
        } else {
            write!(formatter, "[{address}]:{port}")
        }
    }
}
