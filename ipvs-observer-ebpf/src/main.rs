//! The eBPF programs of `ipvs-observer`: one two-line program per probed function.
#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{kprobe, kretprobe, map},
    maps::PerCpuArray,
    programs::{ProbeContext, RetProbeContext},
};

#[map]
static CALLS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Entry of `ip_vs_schedule`.
#[kprobe]
pub fn ip_vs_schedule(_ctx: ProbeContext) -> u32 {
    if let Some(calls) = CALLS.get_ptr_mut(0) {
        // SAFETY: a per-CPU value; the pointer was checked by `get_ptr_mut`.
        unsafe { (*calls)[0] += 1 };
    }
    0
}

/// Return of `ip_vs_schedule`.
#[kretprobe]
pub fn ip_vs_schedule_return(_ctx: RetProbeContext) -> u32 {
    if let Some(calls) = CALLS.get_ptr_mut(0) {
        // SAFETY: a per-CPU value; the pointer was checked by `get_ptr_mut`.
        unsafe { (*calls)[1] += 1 };
    }
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
