//! The eBPF programs of `ipvs-observer`: one two-line program per probed function.
//!
//! What a program records stands in the room of its group; this file only names the programs.
#![no_std]
#![no_main]

mod call;
mod maps;
mod schedule;

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

/// Entry of `ip_vs_schedule`.
#[kprobe]
fn schedule_entry(ctx: ProbeContext) -> u32 {
    schedule::entry(&ctx);
    0
}

/// Return of `ip_vs_schedule`.
#[kretprobe]
fn schedule_return(ctx: RetProbeContext) -> u32 {
    schedule::returned(&ctx);
    0
}

// Nothing here can panic (the verifier would refuse the call), but the compiler wants the item.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// bpf_probe_read_kernel and the ring buffer are for programs under the GPL; the kernel reads the licence here.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
