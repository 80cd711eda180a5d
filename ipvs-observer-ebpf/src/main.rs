//! The eBPF programs of `ipvs-observer`: one two-line program per probed function.
//!
//! What a program records stands in the room of its group; this file only names the programs.
#![no_std]
#![no_main]
// BPF's own instruction for counting from several CPUs; building `core` for it needs an unstable compiler anyway.
#![feature(asm_experimental_arch)]
#![allow(
    clippy::inline_always,
    reason = "programs are checked path by path, and what is inlined needs no passing of arguments"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "aya's macros hand the context over by value"
)]

mod behind;
mod budget;
mod call;
mod candidates;
mod change;
mod configured;
mod connection;
mod count;
mod decision;
mod defence;
mod ended;
mod filter;
mod key;
mod maps;
mod overload;
mod packet;
mod path;
mod read;
mod removed;
mod replaced;
mod schedule;
mod scheduler;
mod situation;
mod states;
mod synchronised;
mod tally;
mod template;
mod told;
mod unsent;

use aya_ebpf::{
    macros::{kprobe, kretprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use ipvs_observer_common::event;

/// Entry of `ip_vs_schedule`.
#[kprobe]
fn schedule_entry(ctx: ProbeContext) -> u32 {
    schedule::entry(&ctx);
    0
}

/// Return of `ip_vs_schedule`, counted.
#[kretprobe]
fn schedule_return(ctx: RetProbeContext) -> u32 {
    schedule::returned::<false>(&ctx);
    0
}

/// Return of `ip_vs_schedule`, counted and told.
#[kretprobe]
fn schedule_return_told(ctx: RetProbeContext) -> u32 {
    schedule::returned::<true>(&ctx);
    0
}

/// Entry of any scheduler's function, counted.
#[kprobe]
fn scheduler_entry(ctx: ProbeContext) -> u32 {
    scheduler::entry::<false>(&ctx);
    0
}

/// Entry of any scheduler's function, counted and told.
#[kprobe]
fn scheduler_entry_told(ctx: ProbeContext) -> u32 {
    scheduler::entry::<true>(&ctx);
    0
}

/// Return of any scheduler's function, counted.
#[kretprobe]
fn scheduler_return(ctx: RetProbeContext) -> u32 {
    scheduler::returned::<false>(&ctx);
    0
}

/// Return of any scheduler's function, counted and told.
#[kretprobe]
fn scheduler_return_told(ctx: RetProbeContext) -> u32 {
    scheduler::returned::<true>(&ctx);
    0
}

/// Entry of `ip_vs_scheduler_err`.
#[kprobe]
fn scheduler_error(ctx: ProbeContext) -> u32 {
    scheduler::error(&ctx);
    0
}

/// Entry of `ip_vs_check_template`.
#[kprobe]
fn template_entry(ctx: ProbeContext) -> u32 {
    template::entry(&ctx);
    0
}

/// Return of `ip_vs_check_template`.
#[kretprobe]
fn template_return(ctx: RetProbeContext) -> u32 {
    template::returned(&ctx);
    0
}

/// Entry of `ip_vs_leave`.
#[kprobe]
fn leave_entry(ctx: ProbeContext) -> u32 {
    schedule::leave_entry(&ctx);
    0
}

/// Return of `ip_vs_leave`, counted.
#[kretprobe]
fn leave_return(ctx: RetProbeContext) -> u32 {
    schedule::leave_returned::<false>(&ctx);
    0
}

/// Return of `ip_vs_leave`, counted and told.
#[kretprobe]
fn leave_return_told(ctx: RetProbeContext) -> u32 {
    schedule::leave_returned::<true>(&ctx);
    0
}

/// Entry of `ip_vs_new_conn_out`.
#[kprobe]
fn connection_out_entry(ctx: ProbeContext) -> u32 {
    schedule::connection_out_entry(&ctx);
    0
}

/// Return of `ip_vs_new_conn_out`.
#[kretprobe]
fn connection_out_return(ctx: RetProbeContext) -> u32 {
    schedule::connection_out_returned(&ctx);
    0
}

/// Entry of `ip_vs_conn_rcu_free`.
#[kprobe]
fn connection_freed(ctx: ProbeContext) -> u32 {
    connection::freed(&ctx);
    0
}

/// Entry of `ip_vs_conn_expire_now`.
#[kprobe]
fn connection_expired_now(ctx: ProbeContext) -> u32 {
    replaced::expired_now(&ctx);
    0
}

/// Entry of `ip_vs_tcp_conn_listen`.
#[kprobe]
fn connection_listens(ctx: ProbeContext) -> u32 {
    connection::listens(&ctx);
    0
}

/// Entry of `__icmp_send`.
#[kprobe]
fn icmp_sent(ctx: ProbeContext) -> u32 {
    unsent::icmp(&ctx);
    0
}

/// Entry of `icmp6_send`.
#[kprobe]
fn icmp6_sent(ctx: ProbeContext) -> u32 {
    unsent::icmp6(&ctx);
    0
}

/// The tracepoint `kfree_skb`.
#[raw_tracepoint(tracepoint = "kfree_skb")]
fn packet_dropped(ctx: RawTracePointContext) -> u32 {
    unsent::dropped(&ctx);
    0
}

/// Entry of `update_defense_level`.
#[kprobe]
fn situation(ctx: ProbeContext) -> u32 {
    situation::look(&ctx);
    0
}

/// Entry of the function that schedules connections of a protocol.
#[kprobe]
fn connection_schedule_entry(ctx: ProbeContext) -> u32 {
    defence::unknown_entry(&ctx);
    0
}

/// Return of the function that schedules connections of a protocol.
#[kretprobe]
fn connection_schedule_return(ctx: RetProbeContext) -> u32 {
    defence::unknown_returned(&ctx);
    0
}

/// Return of `ip_vs_service_find`.
#[kretprobe]
fn service_found(ctx: RetProbeContext) -> u32 {
    defence::service_found(&ctx);
    0
}

/// Entry of `ip_vs_random_dropentry`.
#[kprobe]
fn killing_entry(ctx: ProbeContext) -> u32 {
    defence::killing_entry(&ctx);
    0
}

/// Return of `ip_vs_random_dropentry`.
#[kretprobe]
fn killing_return(ctx: RetProbeContext) -> u32 {
    defence::killing_returned(&ctx);
    0
}

/// Entry of `ip_vs_conn_expire`.
#[kprobe]
fn connection_expires(ctx: ProbeContext) -> u32 {
    defence::expires(&ctx);
    0
}

/// Entry of `ip_vs_conn_in_get_proto`.
#[kprobe]
fn lookup_entry(ctx: ProbeContext) -> u32 {
    path::lookup_entry(&ctx);
    0
}

/// Return of `ip_vs_conn_in_get_proto`.
#[kretprobe]
fn lookup_return(ctx: RetProbeContext) -> u32 {
    path::lookup_returned(&ctx);
    0
}

/// Return of `ip_vs_in_hook`.
#[kretprobe]
fn packet_return(ctx: RetProbeContext) -> u32 {
    path::returned(&ctx);
    0
}

/// Entry of `ip_vs_proc_conn`.
#[kprobe]
fn synchronised_entry(ctx: ProbeContext) -> u32 {
    synchronised::entry(&ctx);
    0
}

/// Return of `ip_vs_proc_conn`.
#[kretprobe]
fn synchronised_return(ctx: RetProbeContext) -> u32 {
    synchronised::returned(&ctx);
    0
}

/// Return of `ip_vs_conn_new`.
#[kretprobe]
fn connection_made(ctx: RetProbeContext) -> u32 {
    synchronised::made(&ctx);
    0
}

/// Entry of `ip_vs_dest_update_overload`.
#[kprobe]
fn overload_entry(ctx: ProbeContext) -> u32 {
    overload::entry(&ctx);
    0
}

/// Return of `ip_vs_dest_update_overload`.
#[kretprobe]
fn overload_return(ctx: RetProbeContext) -> u32 {
    overload::returned(&ctx);
    0
}

/// Entry of `ip_vs_add_dest`.
#[kprobe]
fn add_destination_entry(ctx: ProbeContext) -> u32 {
    change::destination_entry(&ctx, event::ACTION_ADD_DESTINATION);
    0
}

/// Entry of `ip_vs_edit_dest`.
#[kprobe]
fn edit_destination_entry(ctx: ProbeContext) -> u32 {
    change::destination_entry(&ctx, event::ACTION_EDIT_DESTINATION);
    0
}

/// Entry of `ip_vs_del_dest`.
#[kprobe]
fn delete_destination_entry(ctx: ProbeContext) -> u32 {
    change::destination_entry(&ctx, event::ACTION_DELETE_DESTINATION);
    0
}

/// Entry of `__ip_vs_update_dest`.
#[kprobe]
fn update_destination_entry(ctx: ProbeContext) -> u32 {
    change::update_entry(&ctx);
    0
}

/// Return of `__ip_vs_update_dest`.
#[kretprobe]
fn update_destination_return(ctx: RetProbeContext) -> u32 {
    change::update_returned(&ctx);
    0
}

/// Entry of `__ip_vs_del_dest`.
#[kprobe]
fn destination_gone(ctx: ProbeContext) -> u32 {
    change::destination_gone(&ctx);
    0
}

/// Entry of `ip_vs_dest_free`.
#[kprobe]
fn destination_freed(ctx: ProbeContext) -> u32 {
    call::seen();
    removed::freed(ctx.arg(0).unwrap_or(0));
    0
}

/// Entry of `ip_vs_dest_rcu_free`.
#[kprobe]
fn destination_freed_later(ctx: ProbeContext) -> u32 {
    removed::freed_later(&ctx);
    0
}

/// Entry of `ip_vs_add_service`.
#[kprobe]
fn add_service_entry(ctx: ProbeContext) -> u32 {
    change::add_service_entry(&ctx);
    0
}

/// Entry of `ip_vs_edit_service`.
#[kprobe]
fn edit_service_entry(ctx: ProbeContext) -> u32 {
    change::service_entry(&ctx, event::ACTION_EDIT_SERVICE);
    0
}

/// Entry of the function that deletes a service.
#[kprobe]
fn delete_service_entry(ctx: ProbeContext) -> u32 {
    change::service_entry(&ctx, event::ACTION_DELETE_SERVICE);
    0
}

/// Return of the function that deletes a service.
#[kretprobe]
fn delete_service_return(_ctx: RetProbeContext) -> u32 {
    change::service_gone();
    0
}

/// Return of a configuration function that can fail.
#[kretprobe]
fn change_return(ctx: RetProbeContext) -> u32 {
    change::returned(&ctx);
    0
}

// Nothing here can panic (the verifier would refuse the call), but the compiler wants the item.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// Reading kernel memory and the ring buffer are for programs under the GPL; the kernel reads the licence here.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
