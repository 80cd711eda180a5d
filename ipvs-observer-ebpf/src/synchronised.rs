//! Connections that are learnt from another director.

use aya_ebpf::{
    macros::map,
    maps::HashMap,
    programs::{ProbeContext, RetProbeContext},
};
use ipvs_observer_common::{counter::BEGUN_BY_SYNC, event};

use crate::{
    behind::{self, Left},
    call, connection,
    read::has,
};

/// Stacks on which a message of another director is read.
#[map]
static LEARNING: HashMap<u64, Left<u64>> = HashMap::with_max_entries(64, 0);

/// `ip_vs_proc_conn` begins: a message tells of a connection, new or not.
#[inline(always)]
pub fn entry(ctx: &ProbeContext) {
    call::seen();
    behind::leave(&LEARNING, ctx, 0);
}

/// Return of `ip_vs_proc_conn`.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    call::seen();
    if let Some(found) = behind::find(&LEARNING, ctx) {
        behind::take_out(&LEARNING, &found);
    }
}

/// Whether this is called while a message tells of a connection.
#[inline(always)]
pub fn learns(ctx: &ProbeContext) -> bool {
    behind::find_above(&LEARNING, ctx).is_some()
}

/// Return of `ip_vs_conn_new`, whoever called it.
#[inline(always)]
pub fn made(ctx: &RetProbeContext) {
    call::seen();
    let connection: u64 = ctx.ret();
    if connection != 0
        && has(connection::NEEDS)
        && behind::find_above(&LEARNING, ctx).is_some()
        && !connection::is_template(connection)
    {
        connection::began(connection, BEGUN_BY_SYNC, event::ELSEWHERE, event::BEGUN_BY_SYNC);
    }
}
