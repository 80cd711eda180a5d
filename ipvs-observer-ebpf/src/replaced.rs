//! Entries that a packet meets and that are not to go on.

use aya_ebpf::{helpers::bpf_get_current_comm, programs::ProbeContext};
use ipvs_observer_common::{
    control,
    counter::{DROPS_OLD_CONNTRACK, DROPS_SERVER_REMOVED},
    event,
};

use crate::{
    call,
    connection::{self, NEEDS},
    key,
    maps::goes,
    path,
    read::{has, layout, number},
};

/// `IP_VS_CONN_F_NFCT`: the entry of connection tracking goes with this one.
const TRACKED: u64 = 0x1_0000;

/// `ip_vs_conn_expire_now(cp)`: a packet met an entry that is not to go on.
#[inline(always)]
pub fn expired_now(ctx: &ProbeContext) {
    call::seen();
    if goes(control::LOOK_AT_PACKETS) {
        path::decided(ctx);
    }
    // The thread that learns connections of another machine calls it too, and there is no packet then.
    let by_packet = bpf_get_current_comm().is_ok_and(|comm| !comm.starts_with(b"ipvs-b:"));
    if !has(NEEDS) || !by_packet {
        return;
    }
    let connection: u64 = ctx.arg(0).unwrap_or(0);
    let destination = number(connection, layout!(connection.dest));
    let removed = key::is_removed(destination);
    if !removed {
        connection::mark(connection, event::HOW_REPLACED);
    }
    // Taken off the entry where the packet is to be scheduled: what is left to connection tracking is dropped.
    if number(connection, layout!(connection.flags)) & TRACKED == 0 {
        return;
    }
    if removed {
        connection::dropped(connection, DROPS_SERVER_REMOVED, event::DROPPED_SERVER_REMOVED);
    } else {
        connection::dropped(connection, DROPS_OLD_CONNTRACK, event::DROPPED_OLD_CONNTRACK);
    }
}
