//! The path of each packet: what becomes of one that meets an entry. Probed only where it is asked for.

use aya_ebpf::{
    EbpfContext,
    macros::map,
    maps::HashMap,
    programs::{ProbeContext, RetProbeContext},
};
use ipvs_observer_common::{
    counter::{DROPS_OLD_CONNTRACK, DROPS_SERVER_REMOVED, REUSED},
    event,
};

use crate::{
    behind::{self, Left},
    call::{self, Call, Function},
    connection, key, packet,
    read::{has, layout, number},
    states,
};

/// Packets that met an entry in a way that matters, from there until it is decided what becomes of them.
#[map]
static MET: HashMap<u64, Left<Met>> = HashMap::with_max_entries(1024, 0);

/// An entry that a packet met.
#[repr(C)]
#[derive(Clone, Copy)]
struct Met {
    connection: u64,
    /// Whether its server was removed; otherwise the packet is a SYN.
    removed: u64,
}

/// `ip_vs_conn_in_get_proto(ipvs, af, skb, iph)` begins: the entry of a packet is looked for.
#[inline(always)]
pub fn lookup_entry(ctx: &ProbeContext) {
    call::begin(
        ctx,
        Function::Lookup,
        Call {
            packet: ctx.arg(2).unwrap_or(0),
            header: ctx.arg(3).unwrap_or(0),
            ..Call::default()
        },
    );
}

/// Return of `ip_vs_conn_in_get_proto`, with an entry or without.
#[inline(always)]
pub fn lookup_returned(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::Lookup) else {
        return;
    };
    let connection: u64 = ctx.ret();
    if connection == 0 || !has(connection::NEEDS) {
        return;
    }
    let removed = key::is_removed(number(connection, layout!(connection.dest)));
    // A SYN that comes again before it is answered takes no old entry, but its own.
    let again = || packet::begun_by(&call) == event::BEGUN_BY_SYN && !states::is_half_open(connection);
    if removed || again() {
        let met = Met {
            connection,
            removed: u64::from(removed),
        };
        behind::leave(&MET, ctx, met);
    }
}

/// The entry ends here, or the packet is scheduled anew: what becomes of it is told there.
#[inline(always)]
pub fn decided(ctx: &impl EbpfContext) {
    behind::take_out_above(&MET, ctx);
}

/// Return of `ip_vs_in_hook`: what became of a packet.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    /// `NF_DROP`.
    const DROP: i32 = 0;

    call::seen();
    let Some(found) = behind::find(&MET, ctx) else {
        return;
    };
    let Met { connection, removed } = *found.value();
    behind::take_out(&MET, &found);
    let dropped = ctx.ret::<i32>() == DROP;
    if removed != 0 {
        if dropped {
            connection::dropped(connection, DROPS_SERVER_REMOVED, event::DROPPED_SERVER_REMOVED);
        }
    } else if dropped {
        // One that controls others stays.
        connection::dropped(connection, DROPS_OLD_CONNTRACK, event::DROPPED_OLD_CONNTRACK);
    } else {
        connection::began(connection, REUSED, event::REUSED, event::BEGUN_BY_SYN);
    }
}
