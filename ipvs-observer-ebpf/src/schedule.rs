//! The scheduling path: what becomes of the first packet of a connection.

use aya_ebpf::programs::{ProbeContext, RetProbeContext};

use crate::call::{self, Function};

/// `ip_vs_schedule` begins.
#[inline(always)]
pub fn entry(ctx: &ProbeContext) {
    call::begin(ctx, Function::Schedule);
}

/// `ip_vs_schedule` ends.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    let _ = call::end(ctx, Function::Schedule);
}
