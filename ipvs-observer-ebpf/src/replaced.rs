//! Entries that a packet meets and that are not to go on.

use aya_ebpf::programs::ProbeContext;
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
    synchronised,
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
    // What another director tells of a connection replaces one too, and there is no packet then.
    if !has(NEEDS) || synchronised::learns(ctx) {
        return;
    }
    let connection: u64 = ctx.arg(0).unwrap_or(0);
    // Without the setting, no packet but a SYN that begins anew comes to here, whatever became of the server.
    let ipvs = number(connection, layout!(connection.ipvs));
    let removed = key::is_removed(number(connection, layout!(connection.dest)))
        && number(ipvs, layout!(namespace.sysctl_expire_nodest_conn)) as u32 != 0;
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
