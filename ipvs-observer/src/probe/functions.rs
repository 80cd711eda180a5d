//! Which functions of the kernel are probed, by which programs, and what is not known without them.

use ipvs_observer_common::layout as features;

use super::occasions::Occasions;

/// A function of the kernel that is probed.
pub(super) struct Probe {
    pub(super) function: &'static str,
    /// The programs at its entry and at its return.
    pub(super) programs: Programs,
    /// The function that does the same on kernels without it.
    pub(super) instead: Option<(&'static str, Programs)>,
    /// The features of the layout that the programs need to say anything.
    pub(super) needs: u32,
    /// Whether kernels are known that do without the function and lack nothing by it.
    pub(super) optional: bool,
    /// What is not known without it.
    pub(super) consequence: &'static str,
}

/// At the functions of protocols that schedule a packet without a connection.
const UNKNOWN: Programs = both("connection_schedule_entry", "connection_schedule_return");

/// The programs of a function, by name.
#[derive(Clone, Copy)]
pub(super) struct Programs {
    pub(super) entry: Option<&'static str>,
    pub(super) returned: Option<&'static str>,
}

pub(super) const fn both(entry: &'static str, returned: &'static str) -> Programs {
    Programs {
        entry: Some(entry),
        returned: Some(returned),
    }
}

const fn entry(entry: &'static str) -> Programs {
    Programs {
        entry: Some(entry),
        returned: None,
    }
}

const fn returned(returned: &'static str) -> Programs {
    Programs {
        entry: None,
        returned: Some(returned),
    }
}

const fn probe(function: &'static str, programs: Programs, needs: u32, consequence: &'static str) -> Probe {
    Probe {
        function,
        programs,
        instead: None,
        needs,
        optional: false,
        consequence,
    }
}

const NO_COUNTERS: &str = "no scheduling counters and no trace";
const NO_REFUSALS: &str = "it is not counted what becomes of packets without a destination";
const NO_WORDS: &str = "a trace lacks the scheduler's own words on why it gives nothing";
const NO_OVERLOADS: &str = "overloads are seen by scheduling alone: that one ends, only at the next pick";
const NO_CHANGES: &str = "configuration changes of this kind are not told";
const NO_FORGETTING: &str = "counters of what was deleted stay until the next gather";
const NO_KEEPING: &str = "counters of a removed real server begin anew when it is added again";
const NO_REASON: &str =
    "packets that cannot be sent to a real server are counted as drops_transmit, whatever the reason";
pub(super) const NO_UNSENT: &str = "packets that cannot be sent to a real server are not counted";
const NO_DEFENCE: &str = "new connections that drop_packet drops are not counted";
const NO_KILLING: &str = "connections that drop_entry kills are counted as ended otherwise";
const NO_SYNC: &str = "connections learnt from another director are not counted";
const NO_PACKETS: &str = "what --packets asks for is not counted";
pub(super) const NO_DURATIONS: &str = "no durations and no candidates of this scheduler";

pub(super) const OVERLOAD: &str = "ip_vs_dest_update_overload";
pub(super) const LEAVE: &str = "ip_vs_leave";
pub(super) const EXPIRED_NOW: &str = "ip_vs_conn_expire_now";
pub(super) const CONNECTION_FREED: &str = "ip_vs_conn_rcu_free";
pub(super) const LISTENS: &str = "ip_vs_tcp_conn_listen";
/// The tracepoint of packets that the kernel drops.
pub(super) const DROPPED: &str = "kfree_skb";
pub(super) const SITUATION: &str = "update_defense_level";
const SERVICE_FOUND: &str = "ip_vs_service_find";
const LOOKUP: &str = "ip_vs_conn_in_get_proto";
const HOOK: &str = "ip_vs_in_hook";
/// What tells of each packet.
pub(super) const BY_PACKET: [&str; 2] = [LOOKUP, HOOK];
pub(super) const FREED: &str = "ip_vs_dest_free";
pub(super) const FREED_LATER: &str = "ip_vs_dest_rcu_free";

/// The function whose return interprets what all others around the scheduler have seen.
pub(super) const SCHEDULE: Probe = probe(
    "ip_vs_schedule",
    both("schedule_entry", "schedule_return"),
    0,
    NO_COUNTERS,
);

/// Every other function that is probed by its own name. One that interprets another comes after it.
pub(super) const PROBES: [Probe; 20] = [
    probe(
        "ip_vs_check_template",
        both("template_entry", "template_return"),
        features::PERSISTENCE,
        "template hits are counted as picks",
    ),
    probe(
        LEAVE,
        both("leave_entry", "leave_return"),
        features::SERVICES,
        NO_REFUSALS,
    ),
    probe(
        "ip_vs_scheduler_err",
        entry("scheduler_error"),
        features::DECISIONS,
        NO_WORDS,
    ),
    Probe {
        optional: true,
        ..probe(
            OVERLOAD,
            both("overload_entry", "overload_return"),
            features::STATE,
            NO_OVERLOADS,
        )
    },
    probe(
        "ip_vs_new_conn_out",
        both("connection_out_entry", "connection_out_return"),
        features::SERVICES,
        "connections that real servers begin (SIP) are not counted",
    ),
    probe(
        EXPIRED_NOW,
        entry("connection_expired_now"),
        features::CONNECTIONS,
        "SYNs dropped for an old entry of connection tracking are not counted, nor which entries they replace",
    ),
    probe(
        CONNECTION_FREED,
        entry("connection_freed"),
        features::CONNECTIONS,
        "ends of connections are not counted",
    ),
    probe(
        LISTENS,
        entry("connection_listens"),
        features::CONNECTIONS,
        "data connections of FTP are not counted",
    ),
    probe("__icmp_send", entry("icmp_sent"), features::TRANSMIT, NO_REASON),
    Probe {
        // A kernel without IPv6 lacks nothing by it.
        optional: true,
        ..probe("icmp6_send", entry("icmp6_sent"), features::TRANSMIT, NO_REASON)
    },
    probe(
        SITUATION,
        entry("situation"),
        features::CONNECTIONS,
        "neither what defences drop is counted, nor connections learnt from another director",
    ),
    Probe {
        optional: true,
        // Where it frees at once, or where the compiler kept the function.
        instead: Some((FREED, entry("destination_freed"))),
        ..probe(
            FREED_LATER,
            entry("destination_freed_later"),
            features::DESTINATIONS,
            NO_KEEPING,
        )
    },
    probe(
        "__ip_vs_update_dest",
        both("update_destination_entry", "update_destination_return"),
        features::STATE,
        "changes do not say what was before and what they change",
    ),
    probe(
        "__ip_vs_del_dest",
        entry("destination_gone"),
        features::DESTINATIONS,
        "counters of deleted real servers stay until the next gather, and deletions do not say what they leave behind",
    ),
    probe(
        "ip_vs_add_dest",
        both("add_destination_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        "ip_vs_edit_dest",
        both("edit_destination_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        "ip_vs_del_dest",
        both("delete_destination_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        "ip_vs_add_service",
        both("add_service_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    probe(
        "ip_vs_edit_service",
        both("edit_service_entry", "change_return"),
        features::CHANGES,
        NO_CHANGES,
    ),
    Probe {
        instead: Some((
            "ip_vs_unlink_service",
            both("delete_service_entry", "delete_service_return"),
        )),
        ..probe(
            "__ip_vs_del_service",
            both("delete_service_entry", "delete_service_return"),
            features::SERVICES,
            NO_FORGETTING,
        )
    },
];

/// Functions that are probed on some occasions.
pub(super) const ON_OCCASION: [(Occasions, Probe); 10] = [
    (
        Occasions::DROP_PACKET,
        on_occasion(SERVICE_FOUND, returned("service_found"), NO_DEFENCE),
    ),
    (
        Occasions::DROP_PACKET,
        on_occasion("tcp_conn_schedule", UNKNOWN, NO_DEFENCE),
    ),
    (
        Occasions::DROP_PACKET,
        if_built("udp_conn_schedule", UNKNOWN, NO_DEFENCE),
    ),
    (
        Occasions::DROP_PACKET,
        if_built("sctp_conn_schedule", UNKNOWN, NO_DEFENCE),
    ),
    (
        Occasions::DROP_ENTRY,
        on_occasion(
            "ip_vs_random_dropentry",
            both("killing_entry", "killing_return"),
            NO_KILLING,
        ),
    ),
    (
        Occasions::DROP_ENTRY,
        on_occasion("ip_vs_conn_expire", entry("connection_expires"), NO_KILLING),
    ),
    (
        Occasions::BACKUP,
        on_occasion(
            "ip_vs_proc_conn",
            both("synchronised_entry", "synchronised_return"),
            NO_SYNC,
        ),
    ),
    (
        Occasions::BACKUP,
        on_occasion("ip_vs_conn_new", returned("connection_made"), NO_SYNC),
    ),
    // First what takes away what the other leaves behind, or a packet would find what an earlier one left.
    (
        Occasions::PACKETS,
        on_occasion(HOOK, returned("packet_return"), NO_PACKETS),
    ),
    (
        Occasions::PACKETS,
        on_occasion(LOOKUP, both("lookup_entry", "lookup_return"), NO_PACKETS),
    ),
];

const fn on_occasion(function: &'static str, programs: Programs, consequence: &'static str) -> Probe {
    probe(function, programs, features::CONNECTIONS, consequence)
}

/// The same of a protocol that the kernel may be built without, and then lacks nothing by it.
const fn if_built(function: &'static str, programs: Programs, consequence: &'static str) -> Probe {
    Probe {
        optional: true,
        ..on_occasion(function, programs, consequence)
    }
}

/// Every function that is probed by its own name, the most important first.
pub(super) fn probes() -> impl Iterator<Item = &'static Probe> {
    const FIRST: &Probe = &SCHEDULE;
    const OTHERS: &[Probe] = &PROBES;
    std::iter::once(FIRST).chain(OTHERS)
}
