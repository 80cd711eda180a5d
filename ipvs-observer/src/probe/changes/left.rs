//! What becomes of the connections and templates that a destination still has after a change, in words.
//!
//! Read in `ip_vs_in_hook`, `__ip_vs_del_dest`, `ip_vs_check_template` and `ip_vs_expire_nodest_conn_flush` of 6.12. That
//! `expire_nodest_conn` ends connections at once is so since 5.9; before that, each ended with its next packet.

use ipvs_observer_common::event::{self, DestinationChange};

use crate::model::{Protocol, Remaining};

/// What becomes of `remaining`; empty where the change does not matter to it.
pub(super) fn left(told: &DestinationChange, remaining: Remaining) -> String {
    let (connections, templates) = (
        remaining.active.max(remaining.inactive) > 0,
        remaining.templates > 0,
    );
    let facts = Facts {
        connections,
        templates,
        flags: told.change.flags,
        key_protocol: told.change.key.service.protocol,
    };
    match told.change.action {
        event::ACTION_ADD_DESTINATION if remaining.is_nothing() => String::new(),
        event::ACTION_ADD_DESTINATION => "what it had before it was deleted goes on".to_owned(),
        event::ACTION_DELETE_DESTINATION if remaining.is_nothing() => NOTHING.to_owned(),
        event::ACTION_DELETE_DESTINATION => facts.deleted(),
        event::ACTION_EDIT_DESTINATION if told.weight_before == told.weight_after => String::new(),
        event::ACTION_EDIT_DESTINATION if remaining.is_nothing() => NOTHING.to_owned(),
        event::ACTION_EDIT_DESTINATION if told.weight_after == 0 => facts.drained(),
        event::ACTION_EDIT_DESTINATION => "all go on".to_owned(),
        _ => String::new(),
    }
}

const NOTHING: &str = "nothing";

/// What decides.
struct Facts {
    /// Whether there are connections.
    connections: bool,
    /// Whether there are templates.
    templates: bool,
    /// Those of the event.
    flags: u32,
    /// The protocol of the service, 0 for a firewall mark.
    key_protocol: u16,
}

impl Facts {
    fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Of a destination that is deleted, and has something.
    fn deleted(&self) -> String {
        if self.is(event::WITH_NAMESPACE) {
            return "all end with the network namespace".to_owned();
        }
        if self.is(event::EXPIRE_NODEST_CONN) {
            let reset = if self.connections && Protocol(self.key_protocol) == Protocol::TCP {
                ", and the clients' next packets are answered with a reset"
            } else {
                ""
            };
            return format!("all are ended at once{reset} (expire_nodest_conn=1)");
        }
        let with_service = self.is(event::WITH_SERVICE);
        let mut words = Vec::new();
        if self.connections {
            let again = if with_service {
                ""
            } else {
                " or the server is added again"
            };
            words.push(format!(
                "packets of connections are dropped until these time out{again} (expire_nodest_conn=0)"
            ));
            words.extend(self.reused("dropped too"));
        }
        if self.templates {
            words.push(
                if with_service {
                    "templates time out"
                } else {
                    "templates no longer count: their clients are scheduled anew"
                }
                .to_owned(),
            );
        }
        words.join("; ")
    }

    /// Of a destination whose weight becomes 0, and that has something.
    fn drained(&self) -> String {
        let mut words = Vec::new();
        if self.connections {
            words.push("connections go on".to_owned());
            words.extend(self.reused("sent here all the same"));
        }
        if self.templates {
            words.push(
                if self.is(event::EXPIRE_QUIESCENT_TEMPLATE) {
                    "templates are given up when their clients connect again (expire_quiescent_template=1)"
                } else {
                    "templates send new connections of their clients here all the same \
                     (expire_quiescent_template=0)"
                }
                .to_owned(),
            );
        }
        words.join("; ")
    }

    /// What becomes of a SYN from the port of a connection, where that is not simply scheduled anew once the
    /// connection is closed. `kept`: what becomes of it where it belongs to the connection.
    fn reused(&self, kept: &str) -> Option<String> {
        // Only these have packets that begin a connection; a firewall mark may have them.
        if !matches!(
            Protocol(self.key_protocol),
            Protocol(0) | Protocol::TCP | Protocol::SCTP
        ) {
            return None;
        }
        if self.is(event::EXPIRE_NODEST_CONN) {
            let slowly = if self.is(event::CONNTRACK) {
                " and can take a second (conntrack=1)"
            } else {
                ""
            };
            Some(format!(
                "a SYN from the port of one is scheduled anew (expire_nodest_conn=1){slowly}"
            ))
        } else if !self.is(event::CONN_REUSE) {
            Some(format!(
                "a SYN from the port of one is {kept} (conn_reuse_mode=0)"
            ))
        } else if self.is(event::CONNTRACK) {
            Some("a SYN from the port of a closed one can take a second (conntrack=1)".to_owned())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
