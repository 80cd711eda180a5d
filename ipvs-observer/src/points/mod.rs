//! Observations to measurements: which tags and fields each line has.
//!
//! Owns: the names that a user queries, in both schemas. Refuses to know: the syntax of a line, where the
//! numbers come from. `docs/metrics.md` lists what is written here.

#![allow(
    clippy::inline_always,
    reason = "measured: written for every line, and within it the compiler knows where a key begins"
)]

mod change;
mod connection;
mod decision;
mod namespace;
mod observer;
mod real_server;
mod virtual_server;

use std::net::IpAddr;

use crate::{
    correlate::{Correlator, DestinationObservation},
    line::{Encoder, Line, Tags},
    model::{Activity, Address, Entries, Family, ServiceKey, Snapshot, Stats},
};

pub use observer::{Observer, ProbeHealth, Status};

/// Which series are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Schema {
    /// Everything.
    #[default]
    Full,
    /// Exactly the series of Telegraf's `inputs.ipvs`.
    Telegraf,
}

/// What the probes saw.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Their counters.
    pub activity: &'a Activity,
    /// What follows from them.
    pub correlator: &'a Correlator,
}

/// Writes the measurements of a gather.
#[derive(Debug)]
pub struct Points {
    schema: Schema,
    netns: Option<String>,
    virtual_tags: Tags,
    /// Of one service after the other.
    observed: Vec<DestinationObservation>,
    last_change: u64,
    last_decision: u64,
    last_drop: u64,
    last_end: u64,
}

impl Points {
    /// A writer for `schema`; with `netns` each line carries that tag.
    pub fn new(schema: Schema, netns: Option<String>) -> Self {
        Self {
            schema,
            netns,
            virtual_tags: Tags::default(),
            observed: Vec::new(),
            last_change: 0,
            last_decision: 0,
            last_drop: 0,
            last_end: 0,
        }
    }

    /// Writes everything that a snapshot holds: each virtual server followed by its real servers, then the
    /// totals. `seen` is what the probes saw, where they can tell services apart; `entries` the connection table, if
    /// it was read since the last time; `filtered` says that the snapshot holds only some of the namespace's services.
    pub fn snapshot(
        &mut self,
        encoder: &mut Encoder,
        snapshot: &Snapshot,
        seen: Option<Seen<'_>>,
        entries: Option<&Entries>,
        filtered: bool,
        timestamp: u64,
    ) {
        let entries = entries.filter(|_| self.schema == Schema::Full);
        let seen = seen.filter(|_| self.schema == Schema::Full);
        for server in snapshot.virtual_servers() {
            let destinations = snapshot.destinations(server);
            let key = &server.service.key;
            let activity = seen.map(|seen| {
                seen.correlator
                    .observe(seen.activity, key, destinations, &mut self.observed)
            });
            let counted = entries.and_then(|entries| entries.service(key));
            let watched = seen.map(|seen| seen.activity.watched);
            self.virtual_server(
                encoder,
                server,
                destinations,
                activity.as_ref().zip(watched),
                counted,
                timestamp,
            );
            self.real_servers(encoder, key, destinations, watched, entries, timestamp);
        }
        if self.schema == Schema::Full {
            self.namespace(encoder, snapshot, entries, filtered, timestamp);
        }
    }

    /// From now on lines carry this namespace's name as a tag, or none.
    pub fn in_netns(&mut self, netns: Option<&str>) {
        if self.netns.as_deref() != netns {
            self.netns = netns.map(str::to_owned);
        }
    }

    /// The tags of a service, in the order of their keys. `between` adds those whose keys come before `port`, the
    /// namespace's among them.
    #[inline(always)]
    fn service_tags(&self, line: &mut Line<'_>, key: &ServiceKey, between: impl FnOnce(&mut Line<'_>)) {
        match key {
            ServiceKey::Fwmark { family, mark } => {
                family_tag(line, *family);
                line.tag_number("fwmark", *mark);
                between(line);
            }
            ServiceKey::Endpoint {
                address,
                protocol,
                port,
            } => {
                line.tag_ip("address", ip(*address, self.schema));
                family_tag(line, address.family());
                between(line);
                line.tag_number("port", *port).tag("protocol", protocol);
            }
        }
    }

    /// The tag of the namespace, if it was asked for.
    fn netns_tag(&self, line: &mut Line<'_>) {
        if let Some(netns) = &self.netns {
            line.tag("netns", netns);
        }
    }
}

/// The eight fields that Telegraf's plugin has for both kinds of server.
#[inline(always)]
fn telegraf_stats(line: &mut Line<'_>, stats: &Stats) {
    line.unsigned("connections", stats.connections)
        .unsigned("pkts_in", stats.pkts_in)
        .unsigned("pkts_out", stats.pkts_out)
        .unsigned("bytes_in", stats.bytes_in)
        .unsigned("bytes_out", stats.bytes_out)
        .unsigned("pps_in", stats.pps_in)
        .unsigned("pps_out", stats.pps_out)
        .unsigned("cps", stats.cps);
}

/// An address as a tag has it.
fn ip(address: Address, schema: Schema) -> IpAddr {
    match (schema, address.ip()) {
        // Go writes an IPv4-mapped IPv6 address as IPv4, and Telegraf's series carry it so.
        (Schema::Telegraf, IpAddr::V6(ip)) => ip.to_ipv4_mapped().map_or(ip.into(), IpAddr::V4),
        (_, ip) => ip,
    }
}

/// The family of an address as a tag.
#[inline]
fn family_tag(line: &mut Line<'_>, family: Family) {
    match family {
        Family::INET => line.tag_literal("address_family", "inet"),
        Family::INET6 => line.tag_literal("address_family", "inet6"),
        other => line.tag("address_family", other),
    };
}

/// The tags of a service in the lines of its real servers.
fn virtual_tags(tags: &mut Tags, key: &ServiceKey, schema: Schema) {
    tags.clear();
    match key {
        ServiceKey::Fwmark { mark, .. } => tags.add_number("virtual_fwmark", *mark),
        ServiceKey::Endpoint {
            address,
            protocol,
            port,
        } => {
            tags.add_ip("virtual_address", ip(*address, schema));
            tags.add_number("virtual_port", *port);
            tags.add("virtual_protocol", protocol);
        }
    }
}

/// The time that an event's line carries, where `last` was the last one's. Of events within a second of each other,
/// as several processors tell them, no two have the same, or one of one series would replace the other. A clock that
/// was set back, or one event with a time far ahead, does not hold the times of all that follow.
fn event_time(time: u64, last: u64) -> u64 {
    const TOGETHER: u64 = 1_000_000_000;
    if time > last || last - time > TOGETHER {
        time
    } else {
        last.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::event_time;

    #[test]
    fn events_at_one_time_are_told_apart_and_a_clock_set_back_is_followed() {
        const HOUR: u64 = 3_600_000_000_000;
        assert_eq!(event_time(HOUR, 0), HOUR);
        assert_eq!(event_time(HOUR, HOUR), HOUR + 1);
        assert_eq!(event_time(HOUR - 5, HOUR + 1), HOUR + 2);
        assert_eq!(event_time(HOUR, 2 * HOUR), HOUR);
        assert_eq!(event_time(HOUR, u64::MAX), HOUR);
        assert_eq!(event_time(u64::MAX, u64::MAX), u64::MAX);
    }
}
