//! Pairs the return of a function with its entry.
//!
//! By call, never by task: the path runs in softirq, on top of whatever task was there, and a softirq may
//! interrupt a task that is itself inside the same function. The stack pointer is unique to a call while it
//! lasts.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_NOEXIST, pt_regs},
    helpers::bpf_ktime_get_ns,
    macros::map,
    maps::HashMap,
    programs::{ProbeContext, RetProbeContext},
};

use crate::{maps::health, read::bytes};

/// Calls under way: as many as CPUs and preempted tasks can be inside probed functions at one time.
#[map]
static CALLS: HashMap<CallKey, Call> = HashMap::with_max_entries(4096, 0);

/// A probed function. A function may end in a jump to another, which then begins with the same stack pointer,
/// so the function is part of the key.
#[repr(u64)]
#[derive(Clone, Copy)]
pub enum Function {
    /// `ip_vs_schedule`.
    Schedule,
    /// The function of any scheduler.
    Scheduler,
    /// `ip_vs_check_template`.
    Template,
    /// `ip_vs_leave`.
    Leave,
    /// `ip_vs_new_conn_out`.
    NewConnectionOut,
    /// `ip_vs_dest_update_overload`.
    Overload,
    /// `__ip_vs_update_dest`.
    Update,
    /// `tcp_conn_schedule` and its like.
    ConnectionSchedule,
    /// `ip_vs_conn_in_get_proto`.
    Lookup,
}

/// What names a call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CallKey {
    stack: u64,
    function: u64,
}

/// What is remembered from entry to return: registers are gone by then.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Call {
    /// When it began, in ns of the monotonic clock.
    pub began: u64,
    /// The service, or the destination where the function is about one.
    pub subject: u64,
    /// The packet.
    pub packet: u64,
    /// The packet's header as IPVS has parsed it.
    pub header: u64,
    /// Where the function puts what else it has to say, or what was so before it.
    pub extra: u64,
}

impl Call {
    /// The name of a scheduler's call: a packet is scheduled once at a time.
    #[inline(always)]
    pub fn name(&self) -> u64 {
        self.packet.rotate_left(20) ^ self.began
    }
}

/// Remembers a call that begins; the moment is filled in.
#[inline(always)]
pub fn begin(ctx: &ProbeContext, function: Function, mut call: Call) -> Call {
    entered();
    call.began = now();
    let key = CallKey {
        stack: stack_at_entry(ctx),
        function: function as u64,
    };
    if CALLS.insert(key, call, u64::from(BPF_NOEXIST)).is_err() {
        // Either an entry is there, of a call whose end was never seen, or there is no room.
        if CALLS.get_ptr(key).is_some() {
            health(|health| health.abandoned += 1);
        }
        if CALLS.insert(key, call, 0).is_err() {
            health(|health| health.calls_full += 1);
        }
    }
    call
}

/// Takes back what was remembered of a call that ends.
#[inline(always)]
pub fn end(ctx: &RetProbeContext, function: Function) -> Option<Call> {
    left();
    let key = CallKey {
        stack: stack_at_return(ctx),
        function: function as u64,
    };
    // SAFETY: only the call itself writes or removes its entry, and it is here.
    let call = unsafe { CALLS.get(key) }.copied();
    if call.is_some() {
        let _ = CALLS.remove(key);
    } else {
        health(|health| {
            health.orphans += 1;
            // Where decisions are told, this is the end of one, or of one that waits for it.
            if matches!(function, Function::Schedule | Function::Leave) {
                health.decisions_orphaned += 1;
            }
        });
    }
    call
}

/// Counts the entry of a probed function.
#[inline(always)]
pub fn entered() {
    health(|health| {
        health.runs += 1;
        health.entries += 1;
    });
}

/// Counts the return of a probed function.
#[inline(always)]
pub fn left() {
    health(|health| {
        health.runs += 1;
        health.returns += 1;
    });
}

/// The stack pointer of a call that begins.
#[inline(always)]
pub fn stack_at_entry(ctx: &ProbeContext) -> u64 {
    stack_pointer(ctx)
}

/// The stack pointer of a call that ends, as it was at its entry: then it pointed to the return address, which is
/// now taken off.
#[inline(always)]
pub fn stack_at_return(ctx: &RetProbeContext) -> u64 {
    stack_pointer(ctx).wrapping_sub(8)
}

/// The seventh argument of a function that begins: it lies behind the return address.
#[inline(always)]
pub fn seventh(ctx: &ProbeContext) -> u64 {
    u64::from_ne_bytes(bytes(stack_at_entry(ctx) + 8))
}

/// Counts a run of a probe that needs no pairing.
#[inline(always)]
pub fn seen() {
    health(|health| health.runs += 1);
}

/// Nanoseconds of the monotonic clock.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_ktime_get_ns() }
}

/// The stack pointer as the probe finds it.
#[inline(always)]
pub fn stack_pointer(ctx: &impl EbpfContext) -> u64 {
    let registers = ctx.as_ptr().cast::<pt_regs>();
    // SAFETY: the context of a kprobe and of a kretprobe is the registers at that point.
    unsafe { (*registers).rsp }
}
