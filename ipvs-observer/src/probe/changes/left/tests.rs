use ipvs_observer_common::event::{self, Change, DestinationChange};

use super::left;
use crate::model::Remaining;

const ALL: Remaining = Remaining {
    active: 1,
    inactive: 2,
    templates: 3,
};
const CONNECTIONS: Remaining = Remaining { templates: 0, ..ALL };
const DRAINED: (u32, i32) = (event::ACTION_EDIT_DESTINATION, 0);
const DELETED: (u32, i32) = (event::ACTION_DELETE_DESTINATION, -1);

/// What becomes of what is left by a change from weight 3, of a service over TCP.
fn words((action, weight_after): (u32, i32), remaining: Remaining, flags: u32) -> String {
    let mut change = DestinationChange {
        change: Change {
            action,
            flags,
            ..Change::default()
        },
        weight_before: 3,
        weight_after,
        ..DestinationChange::default()
    };
    change.change.key.service.protocol = 6;
    left(&change, remaining)
}

#[test]
fn packets_of_a_deleted_server_are_dropped_or_its_connections_ended_as_the_setting_says() {
    assert_eq!(
        words(DELETED, ALL, event::CONN_REUSE),
        "packets of connections are dropped until these time out or the server is added again \
         (expire_nodest_conn=0); templates no longer count: their clients are scheduled anew"
    );
    assert_eq!(
        words(DELETED, ALL, event::CONN_REUSE | event::WITH_SERVICE),
        "packets of connections are dropped until these time out (expire_nodest_conn=0); templates time out"
    );
    assert_eq!(
        words(DELETED, ALL, event::EXPIRE_NODEST_CONN),
        "all are ended at once, and the clients' next packets are answered with a reset (expire_nodest_conn=1)"
    );
    assert_eq!(
        words(DELETED, ALL, event::WITH_NAMESPACE),
        "all end with the network namespace"
    );
    assert_eq!(words(DELETED, Remaining::default(), 0), "nothing");
}

#[test]
fn a_drained_server_keeps_its_connections_and_its_templates_unless_these_expire() {
    let reuse = event::CONN_REUSE;
    assert_eq!(
        words(DRAINED, ALL, reuse),
        "connections go on; templates send new connections of their clients here all the same \
         (expire_quiescent_template=0)"
    );
    assert_eq!(
        words(DRAINED, ALL, reuse | event::EXPIRE_QUIESCENT_TEMPLATE),
        "connections go on; templates are given up when their clients connect again (expire_quiescent_template=1)"
    );
    assert_eq!(words(DRAINED, Remaining::default(), 0), "nothing");
}

#[test]
fn a_port_that_is_used_again_goes_where_the_settings_send_it() {
    for (change, flags, expected) in [
        (DRAINED, event::CONN_REUSE, "connections go on"),
        (
            DRAINED,
            0,
            "connections go on; a SYN from the port of one is sent here all the same (conn_reuse_mode=0)",
        ),
        (
            DRAINED,
            event::EXPIRE_NODEST_CONN,
            "connections go on; a SYN from the port of one is scheduled anew (expire_nodest_conn=1)",
        ),
        (
            DRAINED,
            event::CONN_REUSE | event::CONNTRACK,
            "connections go on; a SYN from the port of a closed one can take a second (conntrack=1)",
        ),
        (
            DELETED,
            0,
            "packets of connections are dropped until these time out or the server is added again \
             (expire_nodest_conn=0); a SYN from the port of one is dropped too (conn_reuse_mode=0)",
        ),
    ] {
        assert_eq!(words(change, CONNECTIONS, flags), expected);
    }
}

#[test]
fn any_other_change_of_the_weight_leaves_everything_as_it_was() {
    assert_eq!(words((event::ACTION_EDIT_DESTINATION, 5), ALL, 0), "all go on");
    assert_eq!(words((event::ACTION_EDIT_DESTINATION, 3), ALL, 0), "");
    assert_eq!(
        words((event::ACTION_ADD_DESTINATION, 3), ALL, 0),
        "what it had before it was deleted goes on"
    );
    assert_eq!(words((event::ACTION_OVERLOAD, 3), ALL, 0), "");
}
