//! `ipvs_virtual_server`.

use super::{Points, Schema, family_tag, ip, telegraf_stats};
use crate::{
    line::Encoder,
    model::{Destination, ServiceActivity, ServiceKey, VirtualServer},
};

impl Points {
    pub(super) fn virtual_server(
        &self,
        encoder: &mut Encoder,
        server: &VirtualServer,
        destinations: &[Destination],
        seen: Option<&ServiceActivity>,
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
                family_tag(&mut line, *family);
                line.tag_number("fwmark", *mark).tag_number("netmask", netmask);
                self.netns_tag(&mut line);
            }
            ServiceKey::Endpoint {
                address,
                protocol,
                port,
            } => {
                line.tag_ip("address", ip(*address, self.schema));
                family_tag(&mut line, address.family());
                line.tag_number("netmask", netmask);
                self.netns_tag(&mut line);
                line.tag_number("port", *port).tag("protocol", protocol);
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
        if let Some(activity) = seen {
            line.unsigned("schedule_calls", activity.calls)
                .unsigned("schedule_picks", activity.picks)
                .unsigned("schedule_none", activity.none)
                .unsigned("template_hits", activity.template_hits)
                .unsigned("refused", activity.refused)
                .unsigned("accepted", activity.accepted)
                .unsigned("bypassed", activity.bypassed)
                .unsigned("begun_by_server", activity.begun_by_server)
                .unsigned("fatal", activity.fatal)
                .unsigned("schedule_ns_sum", activity.ns_sum);
            if let Some(durations) = activity.durations {
                line.unsigned("schedule_ns_p50", durations.p50)
                    .unsigned("schedule_ns_p90", durations.p90)
                    .unsigned("schedule_ns_p99", durations.p99)
                    .unsigned("schedule_ns_max", durations.max);
            }
        }
        line.end(timestamp);
    }
}
