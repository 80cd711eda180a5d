//! The settings of IPVS that decide what becomes of connections, a row a question.
//!
//! Knows combinations that are known to hurt, with the remedy and its price. None is a failure: whether it hurts depends
//! on clients and servers, which are not seen here. Refuses to know: where a snapshot came from.

use super::{destinations, row::Row};
use crate::{
    log::counted,
    model::{Destination, Settings, Snapshot},
};

/// One row for each question.
pub(super) fn rows(snapshot: &Snapshot) -> Vec<Row> {
    match snapshot.settings {
        Some(settings) if settings != Settings::default() => vec![
            reuse(&settings),
            conntrack(&settings),
            removed_servers(&settings, snapshot),
            templates(&settings, snapshot),
            defence(&settings),
            others(&settings),
        ],
        _ => vec![Row::optional(
            "settings of IPVS",
            "not shown in this network namespace",
            "the fields of net.ipv4.vs are left out",
            "none needed: the kernel shows them in namespaces of the initial user namespace only",
        )],
    }
}

/// A new connection from a port that still has an entry.
fn reuse(settings: &Settings) -> Row {
    const NEED: &str = "setting: port reuse";
    let detail = listed(&[("conn_reuse_mode", settings.conn_reuse_mode)]);
    if settings.conn_reuse_mode != Some(0) {
        return Row::ok(NEED, detail);
    }
    let takes = "a SYN from a port that still has an entry goes to the server of that entry and is not scheduled: where \
                 clients reuse ports, a new server gets little";
    let consequence = if settings.expire_nodest_conn == Some(true) {
        takes.to_owned()
    } else {
        format!(
            "{takes}, a drained one keeps its clients, and where the server was removed the SYN is dropped until the \
             entry times out"
        )
    };
    let price = if settings.conntrack == Some(true) {
        "with conntrack=1 such a SYN is dropped where connection tracking still holds the old connection, and the \
         connect takes a second longer"
    } else {
        "a client that relied on coming back to its server from the same port may get another"
    };
    Row::warning(
        NEED,
        detail,
        &consequence,
        &format!("sysctl net.ipv4.vs.conn_reuse_mode=1; its price: {price}"),
    )
}

/// A new connection whose old one connection tracking still holds: the one-second connect.
fn conntrack(settings: &Settings) -> Row {
    const NEED: &str = "setting: conntrack";
    let detail = listed(&[
        ("conntrack", settings.conntrack.map(u32::from)),
        ("conn_reuse_mode", settings.conn_reuse_mode),
        ("expire_nodest_conn", settings.expire_nodest_conn.map(u32::from)),
    ]);
    let reschedules = settings.conn_reuse_mode.is_some_and(|mode| mode != 0);
    let expires = settings.expire_nodest_conn == Some(true);
    let when = match (reschedules, expires) {
        _ if settings.conntrack != Some(true) => return Row::ok(NEED, detail),
        (false, false) => return Row::ok(NEED, detail),
        (true, false) => "on a port whose old connection is over",
        (false, true) => "on a port whose old connection has a server that was drained or removed",
        (true, true) => "on a port whose old connection is over, or has a server that was drained or removed",
    };
    let others = "rules of netfilter that track IPVS's connections or translate their addresses, as kube-proxy's do, no \
                  longer work";
    let remedy = if expires {
        format!("sysctl net.ipv4.vs.conntrack=0; its price: {others}")
    } else {
        format!(
            "sysctl net.ipv4.vs.conntrack=0; its price: {others}. Or sysctl net.ipv4.vs.conn_reuse_mode=0; its price: \
             such a SYN goes to the old connection's server and is not scheduled"
        )
    };
    Row::warning(
        NEED,
        detail,
        &format!(
            "a SYN {when} is dropped where connection tracking still holds that connection, and the connect takes a \
             second longer"
        ),
        &remedy,
    )
}

/// Connections whose real server was removed from its service.
fn removed_servers(settings: &Settings, snapshot: &Snapshot) -> Row {
    const NEED: &str = "setting: removed servers";
    let detail = listed(&[("expire_nodest_conn", settings.expire_nodest_conn.map(u32::from))]);
    if settings.expire_nodest_conn != Some(false) || snapshot.all_destinations() == 0 {
        return Row::ok(NEED, detail);
    }
    let until = snapshot.timeouts.map_or_else(
        || "until their entries time out".to_owned(),
        |timeouts| format!("until their entries time out ({} s idle for TCP)", timeouts.tcp),
    );
    let also = if settings.conntrack == Some(true) {
        "; and with conntrack=1 a SYN on the port of such a connection, or of one to a drained server, may be dropped \
         once, so that the connect takes a second longer"
    } else {
        ""
    };
    Row::warning(
        NEED,
        detail,
        &format!(
            "packets of connections to a removed server are dropped {until}, and the clients are not told: where \
             servers are short-lived, clients hang"
        ),
        &format!(
            "sysctl net.ipv4.vs.expire_nodest_conn=1; its price: connections end at once, also if the server is added \
             again a moment later{also}"
        ),
    )
}

/// Clients that persistence binds to a server that is drained.
fn templates(settings: &Settings, snapshot: &Snapshot) -> Row {
    const NEED: &str = "setting: drained servers";
    let name = "expire_quiescent_template";
    let detail = listed(&[(name, settings.expire_quiescent_template.map(u32::from))]);
    let bound = |destination: &&Destination| destination.weight == 0 && destination.persistent > 0;
    match destinations(snapshot).filter(bound).count() as u64 {
        0 => Row::ok(NEED, detail),
        _ if settings.expire_quiescent_template != Some(false) => Row::ok(NEED, detail),
        servers => Row::warning(
            NEED,
            detail,
            &format!(
                "{} of weight 0 still {} new connections, of the clients that persistence binds to {}",
                counted(servers, "real server"),
                if servers == 1 { "gets" } else { "get" },
                if servers == 1 { "it" } else { "them" },
            ),
            "wait until the clients stay away for the persistence timeout, or \
             sysctl net.ipv4.vs.expire_quiescent_template=1; its price: clients of every server that is set to weight \
             0 lose the session that they have there",
        ),
    }
}

/// What the kernel does when memory is short, or always.
fn defence(settings: &Settings) -> Row {
    const NEED: &str = "setting: defence";
    let detail = listed(&[
        ("drop_entry", settings.drop_entry),
        ("drop_packet", settings.drop_packet),
        ("secure_tcp", settings.secure_tcp),
        ("am_droprate", settings.am_droprate),
    ]);
    let at_work = |mode: Option<u32>| mode.is_some_and(Settings::defends);
    let consequences = [
        (settings.drop_packet, "some new connections are dropped"),
        (settings.drop_entry, "entries of connections are killed at random"),
        (
            settings.secure_tcp,
            "TCP entries time out sooner, those of long-lived connections too",
        ),
    ];
    let consequences: Vec<_> = consequences
        .into_iter()
        .filter(|(mode, _)| at_work(*mode))
        .map(|(_, consequence)| consequence)
        .collect();
    if consequences.is_empty() {
        return Row::ok(NEED, detail);
    }
    Row::warning(
        NEED,
        detail,
        &consequences.join(", "),
        "where the mode is 2, free memory is below net.ipv4.vs.amemthresh pages: give the machine memory, or lower that; \
         where it is 3, set it to 1 or 0; the price of 0: a flood of SYNs fills the memory with entries",
    )
}

/// The rest, of which none hurts by itself.
fn others(settings: &Settings) -> Row {
    Row::ok(
        "setting: others",
        listed(&[
            ("sloppy_tcp", settings.sloppy_tcp.map(u32::from)),
            ("sloppy_sctp", settings.sloppy_sctp.map(u32::from)),
            ("schedule_icmp", settings.schedule_icmp.map(u32::from)),
            ("cache_bypass", settings.cache_bypass.map(u32::from)),
            ("conn_max", settings.conn_max),
        ]),
    )
}

/// Settings as `sysctl` takes them, and which of them this kernel lacks.
fn listed(settings: &[(&str, Option<u32>)]) -> String {
    let mut words = Vec::new();
    let mut lacking = Vec::new();
    for (name, value) in settings {
        match value {
            Some(value) => words.push(format!("{name}={value}")),
            None => lacking.push(*name),
        }
    }
    if !lacking.is_empty() {
        words.push(format!("(not in this kernel: {})", lacking.join(" ")));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests;
