//! `ipvs_real_server`.

use super::{Points, Schema, family_tag, ip, telegraf_stats, virtual_tags};
use crate::{
    correlate::DestinationObservation,
    line::Encoder,
    model::{Destination, DestinationActivity, Ends, Entries, EntryCounts, ServiceKey, Watched},
};

impl Points {
    pub(super) fn real_servers(
        &mut self,
        encoder: &mut Encoder,
        service: &ServiceKey,
        destinations: &[Destination],
        watched: Option<Watched>,
        entries: Option<&Entries>,
        timestamp: u64,
    ) {
        virtual_tags(&mut self.virtual_tags, service, self.schema);
        for (place, destination) in destinations.iter().enumerate() {
            let mut line = encoder.line("ipvs_real_server");
            let key = &destination.key;
            line.tag_ip("address", ip(key.address, self.schema));
            family_tag(&mut line, key.address.family());
            self.netns_tag(&mut line);
            line.tag_number("port", key.port);
            // A mark of each family with the same real server by tunnel: two series, which Telegraf's tags would
            // make one.
            if self.schema == Schema::Full
                && matches!(service, ServiceKey::Fwmark { .. })
                && service.family() != key.address.family()
            {
                line.tag("virtual_address_family", service.family());
            }
            line.tags(&self.virtual_tags);
            line.signed("active_connections", destination.active)
                .signed("inactive_connections", destination.inactive);
            telegraf_stats(&mut line, &destination.stats);
            if self.schema == Schema::Full {
                line.unsigned("weight", destination.weight.into())
                    .unsigned("persistent_connections", destination.persistent.into())
                    .unsigned("upper_threshold", destination.upper_threshold.into())
                    .unsigned("lower_threshold", destination.lower_threshold.into())
                    .unsigned("bps_in", destination.stats.bps_in)
                    .unsigned("bps_out", destination.stats.bps_out)
                    .literal("forward", destination.forward.name());
                if let Some(tunnel) = destination.tunnel {
                    line.literal("tunnel", tunnel.kind.name());
                    if tunnel.port != 0 {
                        line.unsigned("tunnel_port", tunnel.port.into());
                    }
                }
            }
            if let Some(DestinationObservation {
                activity:
                    DestinationActivity {
                        picks,
                        // Shown as a share.
                        picks_since: _,
                        overloads,
                        overloaded,
                        ends,
                    },
                pick_share,
                weight_share,
            }) = self.observed.get(place).filter(|_| watched.is_some())
            {
                line.unsigned("picks", *picks).unsigned("overloads", *overloads);
                if let Some(overloaded) = *overloaded {
                    line.boolean("overloaded", overloaded);
                }
                if let Some(share) = *pick_share {
                    line.float("pick_share", share);
                }
                if let Some(share) = *weight_share {
                    line.float("weight_share", share);
                }
                if watched.is_some_and(|watched| watched.ends) {
                    let Ends {
                        closed,
                        reset,
                        half_open,
                        idle,
                        expired,
                        other,
                    } = *ends;
                    line.unsigned("ended_closed", closed)
                        .unsigned("ended_reset", reset)
                        .unsigned("ended_half_open", half_open)
                        .unsigned("ended_idle", idle)
                        .unsigned("ended_expired", expired)
                        .unsigned("ended_other", other);
                }
            }
            if let Some(EntryCounts {
                established,
                syn_received,
                time_wait,
                other,
                templates,
            }) = entries.and_then(|entries| entries.destination(service, key))
            {
                line.unsigned("entries_established", (*established).into())
                    .unsigned("entries_syn_recv", (*syn_received).into())
                    .unsigned("entries_time_wait", (*time_wait).into())
                    .unsigned("entries_other", (*other).into())
                    .unsigned("entries_templates", (*templates).into());
            }
            line.end(timestamp);
        }
    }
}
