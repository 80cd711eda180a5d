//! Pairs the return of a function with its entry.
//!
//! By call, never by task: the path runs in softirq, on top of whatever task was there, and a softirq may
//! interrupt a task that is itself inside the same function. The stack pointer is unique to a call while it
//! lasts.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_ktime_get_ns,
    programs::{ProbeContext, RetProbeContext},
};

use crate::maps::{CALLS, health};

/// A probed function. A function may end in a jump to another, which then begins with the same stack pointer,
/// so the function is part of the key.
#[repr(u64)]
#[derive(Clone, Copy)]
pub enum Function {
    /// `ip_vs_schedule`.
    Schedule,
}

/// What names a call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CallKey {
    stack: u64,
    function: u64,
}

/// What is remembered from entry to return.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// When it began, in ns of the monotonic clock.
    pub began: u64,
}

/// Remembers a call that begins.
#[inline(always)]
pub fn begin(ctx: &ProbeContext, function: Function) {
    health(|health| {
        health.runs += 1;
        health.entries += 1;
    });
    let key = CallKey {
        stack: stack_at_entry(ctx),
        function: function as u64,
    };
    if CALLS.get_ptr(key).is_some() {
        health(|health| health.abandoned += 1);
    }
    // SAFETY: the helper only reads the clock.
    let call = Call {
        began: unsafe { bpf_ktime_get_ns() },
    };
    if CALLS.insert(key, call, 0).is_err() {
        health(|health| health.turned_away += 1);
    }
}

/// Takes back what was remembered of a call that ends.
#[inline(always)]
pub fn end(ctx: &RetProbeContext, function: Function) -> Option<Call> {
    health(|health| {
        health.runs += 1;
        health.returns += 1;
    });
    let key = CallKey {
        stack: stack_at_return(ctx),
        function: function as u64,
    };
    // SAFETY: only the call itself writes or removes its entry, and it is here.
    let call = unsafe { CALLS.get(key) }.copied();
    if call.is_some() {
        let _ = CALLS.remove(key);
    } else {
        health(|health| health.orphans += 1);
    }
    call
}

/// The stack pointer of a function that begins: it points to the return address.
#[inline(always)]
fn stack_at_entry(ctx: &ProbeContext) -> u64 {
    stack_pointer(ctx)
}

/// The same stack pointer, seen again at the return: the return address was taken off.
#[inline(always)]
fn stack_at_return(ctx: &RetProbeContext) -> u64 {
    stack_pointer(ctx).wrapping_sub(8)
}

#[inline(always)]
fn stack_pointer(ctx: &impl EbpfContext) -> u64 {
    let registers = ctx.as_ptr().cast::<aya_ebpf::bindings::pt_regs>();
    // SAFETY: the context of a kprobe and of a kretprobe is the registers at that point.
    unsafe { (*registers).rsp }
}
