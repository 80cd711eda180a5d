//! `ipvs`: the totals of a network namespace.

use std::fmt;

use super::Points;
use crate::{
    line::{Encoder, Line},
    model::{DaemonRole, Entries, Settings, Snapshot},
};

impl Points {
    pub(super) fn namespace(
        &self,
        encoder: &mut Encoder,
        snapshot: &Snapshot,
        entries: Option<&Entries>,
        filtered: bool,
        timestamp: u64,
    ) {
        let mut line = encoder.line("ipvs");
        self.netns_tag(&mut line);
        if let Some(totals) = &snapshot.totals {
            line.unsigned("connections", totals.stats.connections)
                .unsigned("pkts_in", totals.stats.pkts_in)
                .unsigned("pkts_out", totals.stats.pkts_out)
                .unsigned("bytes_in", totals.stats.bytes_in)
                .unsigned("bytes_out", totals.stats.bytes_out)
                .boolean("estimation", totals.estimation);
        }
        if let Some(services) = snapshot.services_in_namespace {
            line.unsigned("virtual_servers", services as u64);
            let listed = snapshot.virtual_servers().iter().all(|server| server.listed);
            // Of services that were not asked for, the real servers are not known.
            if listed && !filtered {
                line.unsigned("real_servers", snapshot.all_destinations() as u64);
            }
        }
        // Of services that were not asked for, it is not known whether they have them.
        let unattributed = entries.filter(|_| !filtered).map_or(0, Entries::unattributed);
        if unattributed > 0 {
            line.unsigned("entries_unattributed", unattributed);
        }
        if let Some(info) = &snapshot.info {
            line.unsigned("connection_table_size", info.connection_table_size.into());
            line.string("version", Version(info.version));
        }
        if let Some(timeouts) = &snapshot.timeouts {
            line.unsigned("timeout_tcp", timeouts.tcp.into())
                .unsigned("timeout_tcpfin", timeouts.tcp_fin.into())
                .unsigned("timeout_udp", timeouts.udp.into());
        }
        if snapshot.info.is_some() {
            for (role, running, id, interface) in [
                (
                    DaemonRole::Master,
                    "sync_master",
                    "sync_master_id",
                    "sync_master_interface",
                ),
                (
                    DaemonRole::Backup,
                    "sync_backup",
                    "sync_backup_id",
                    "sync_backup_interface",
                ),
            ] {
                let daemon = snapshot.daemons.iter().find(|daemon| daemon.role == role);
                line.boolean(running, daemon.is_some());
                if let Some(daemon) = daemon {
                    line.unsigned(id, daemon.sync_id.into())
                        .string(interface, daemon.interface);
                }
            }
        }
        if let Some(settings) = &snapshot.settings {
            write_settings(&mut line, settings);
        }
        line.end(timestamp);
    }
}

/// By the kernel's names; what it lacks is left out.
fn write_settings(line: &mut Line<'_>, settings: &Settings) {
    for (name, value) in [
        ("conn_reuse_mode", settings.conn_reuse_mode),
        ("drop_entry", settings.drop_entry),
        ("drop_packet", settings.drop_packet),
        ("secure_tcp", settings.secure_tcp),
        ("am_droprate", settings.am_droprate),
        ("conn_max", settings.conn_max),
    ] {
        if let Some(value) = value {
            line.unsigned(name, value.into());
        }
    }
    for (name, value) in [
        ("expire_nodest_conn", settings.expire_nodest_conn),
        ("expire_quiescent_template", settings.expire_quiescent_template),
        ("sloppy_tcp", settings.sloppy_tcp),
        ("sloppy_sctp", settings.sloppy_sctp),
        ("conntrack", settings.conntrack),
        ("cache_bypass", settings.cache_bypass),
        ("schedule_icmp", settings.schedule_icmp),
        ("defence_active", settings.defence_active()),
    ] {
        if let Some(value) = value {
            line.boolean(name, value);
        }
    }
}

/// A version as the kernel packs it: a byte for each part.
struct Version(u32);

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, major, minor, patch] = self.0.to_be_bytes();
        write!(formatter, "{major}.{minor}.{patch}")
    }
}
