//! `ipvs_virtual_server`.

use super::{AddressTag, Points, Schema, telegraf_stats};
use crate::{
    line::Encoder,
    model::{Destination, ServiceKey, VirtualServer},
};

impl Points {
    pub(super) fn virtual_server(
        &self,
        encoder: &mut Encoder,
        server: &VirtualServer,
        destinations: &[Destination],
        timestamp: u64,
    ) {
        let service = &server.service;
        let mut line = encoder.line("ipvs_virtual_server");
        // In the order of their keys, as line protocol wants them.
        let netmask = match self.schema {
            Schema::Full => service.prefix_length(),
            Schema::Telegraf => service.netmask_ones(),
        };
        match &service.key {
            ServiceKey::Fwmark { family, mark } => {
                line.tag("address_family", family)
                    .tag("fwmark", mark)
                    .tag("netmask", netmask);
                line.tag("netns", self.netns());
            }
            ServiceKey::Endpoint {
                address,
                protocol,
                port,
            } => {
                line.tag("address", AddressTag(*address, self.schema))
                    .tag("address_family", address.family());
                line.tag("netmask", netmask).tag("netns", self.netns());
                line.tag("port", port).tag("protocol", protocol);
            }
        }
        line.tag("sched", service.scheduler);
        telegraf_stats(&mut line, &service.stats);
        if self.schema == Schema::Full {
            line.unsigned("bps_in", service.stats.bps_in)
                .unsigned("bps_out", service.stats.bps_out)
                .unsigned("persistence_timeout", service.persistence_timeout().into())
                .boolean("one_packet", service.flags.one_packet());
            if !service.persistence_engine.is_empty() {
                line.string("persistence_engine", service.persistence_engine);
            }
            // A listing that failed is no service without real servers.
            if server.listed {
                let drained = destinations
                    .iter()
                    .filter(|destination| destination.weight == 0)
                    .count();
                line.unsigned("real_servers", destinations.len() as u64)
                    .unsigned("real_servers_drained", drained as u64);
            }
        }
        line.end(timestamp);
    }
}
