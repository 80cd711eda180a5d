//! `ipvs_virtual_server`.

use super::{Points, Schema, telegraf_stats};
use crate::{
    line::{Encoder, Line},
    model::{Destination, Durations, ServiceActivity, ServiceEntries, VirtualServer, Watched},
};

impl Points {
    pub(super) fn virtual_server(
        &self,
        encoder: &mut Encoder,
        server: &VirtualServer,
        destinations: &[Destination],
        seen: Option<(&ServiceActivity, Watched)>,
        counted: Option<&ServiceEntries>,
        timestamp: u64,
    ) {
        let service = &server.service;
        let mut line = encoder.line("ipvs_virtual_server");
        let netmask = match self.schema {
            Schema::Full => service.prefix_length(),
            Schema::Telegraf => service.netmask_ones(),
        };
        self.service_tags(&mut line, &service.key, |line| {
            line.tag_number("netmask", netmask);
            self.netns_tag(line);
        });
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
            let flags = service.scheduler_flags();
            if !flags.is_empty() {
                line.string("scheduler_flags", flags);
            }
            if let Some(local) = server.local {
                line.boolean("address_local", local);
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
        if let Some((activity, watched)) = seen {
            probed(&mut line, activity, watched);
        }
        if let Some(ServiceEntries {
            orphaned,
            unattributed,
        }) = counted
        {
            line.unsigned("entries_orphaned", *orphaned);
            if *unattributed > 0 {
                line.unsigned("entries_unattributed", *unattributed);
            }
        }
        line.end(timestamp);
    }
}

/// What the probes saw, as far as this kernel shows it.
fn probed(line: &mut Line<'_>, activity: &ServiceActivity, watched: Watched) {
    let ServiceActivity {
        calls,
        picks,
        none,
        template_hits,
        refused,
        accepted,
        bypassed,
        begun_by_server,
        begun_by_ftp,
        begun_by_sync,
        taken_over,
        reused,
        ended,
        ended_server_removed,
        drops_old_conntrack,
        drops_defence,
        drops_server_removed,
        drops_no_route,
        drops_too_large,
        drops_transmit,
        fatal,
        ns_sum,
        durations,
    } = activity;
    line.unsigned("schedule_calls", *calls)
        .unsigned("schedule_picks", *picks)
        .unsigned("schedule_none", *none)
        .unsigned("template_hits", *template_hits)
        .unsigned("refused", *refused)
        .unsigned("accepted", *accepted)
        .unsigned("bypassed", *bypassed)
        .unsigned("begun_by_server", *begun_by_server)
        .unsigned("fatal", *fatal)
        .unsigned("schedule_ns_sum", *ns_sum);
    if watched.ftp {
        line.unsigned("begun_by_ftp", *begun_by_ftp);
    }
    if watched.reused_ports {
        line.unsigned("drops_old_conntrack", *drops_old_conntrack);
    }
    if watched.unsent {
        line.unsigned("drops_no_route", *drops_no_route)
            .unsigned("drops_too_large", *drops_too_large)
            .unsigned("drops_transmit", *drops_transmit);
    }
    if watched.sync {
        line.unsigned("begun_by_sync", *begun_by_sync);
    }
    if watched.defence {
        line.unsigned("drops_defence", *drops_defence);
    }
    if watched.packets {
        line.unsigned("reused", *reused)
            .unsigned("drops_server_removed", *drops_server_removed);
    }
    if watched.ends {
        line.unsigned("taken_over", *taken_over)
            .unsigned("ended", *ended)
            .unsigned("ended_server_removed", *ended_server_removed);
    }
    if let Some(Durations { p50, p90, p99, max }) = *durations {
        line.unsigned("schedule_ns_p50", p50)
            .unsigned("schedule_ns_p90", p90)
            .unsigned("schedule_ns_p99", p99)
            .unsigned("schedule_ns_max", max);
    }
}
