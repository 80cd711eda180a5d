//! What is so at the moment, for probes that are attached only while it is.

use aya_ebpf::programs::ProbeContext;
use ipvs_observer_common::{
    counter::{SEEN_BACKUP, SEEN_DROP_ENTRY, SEEN_DROP_PACKET},
    layout,
};

use crate::{
    call::{self, now},
    maps::{health, observed},
    read::{has, layout, number},
    unsent,
};

/// `update_defense_level(ipvs)`, which runs once a second for each namespace.
#[inline(always)]
pub fn look(ctx: &ProbeContext) {
    /// `IP_VS_STATE_BACKUP`.
    const BACKUP: u64 = 2;

    call::seen();
    unsent::module_is_here(ctx);
    if !has(layout::CONNECTIONS) {
        return;
    }
    let ipvs: u64 = ctx.arg(0).unwrap_or(0);
    let netns = number(number(ipvs, layout!(namespace.net)), layout!(namespace.inum)) as u32;
    if !observed(netns) {
        return;
    }
    let is_so = [
        (
            SEEN_DROP_PACKET,
            number(ipvs, layout!(namespace.sysctl_drop_packet)) != 0,
        ),
        (
            SEEN_DROP_ENTRY,
            number(ipvs, layout!(namespace.sysctl_drop_entry)) != 0,
        ),
        (
            SEEN_BACKUP,
            number(ipvs, layout!(namespace.sync_state)) & BACKUP != 0,
        ),
    ];
    health(|health| {
        for (what, is_so) in is_so {
            if is_so {
                health.seen[what] = now();
            }
        }
    });
}
