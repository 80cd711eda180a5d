//! Templates of persistence: which of them decided for a connection.

use aya_ebpf::programs::{ProbeContext, RetProbeContext};

use crate::{
    call::{self, Call, Function},
    maps::{TEMPLATES, health},
    read::{layout, number},
};
/// A template that was found good, on the stack where that was.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Template {
    /// Where the kernel keeps it: a connection of its own.
    connection: u64,
    /// The stack.
    context: u64,
}

/// `ip_vs_check_template(ct, cdest)` begins.
#[inline(always)]
pub fn entry(ctx: &ProbeContext) {
    call::begin(
        ctx,
        Function::Template,
        Call {
            subject: ctx.arg(0).unwrap_or(0),
            extra: ctx.arg(1).unwrap_or(0),
            ..Call::default()
        },
    );
}

/// It ends: the template is good, or not. With a destination to hold it against, it is asked for a connection
/// that goes out.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::Template) else {
        return;
    };
    let template = Template {
        connection: call.subject,
        context: call::context(ctx),
    };
    let good = ctx.ret::<i32>() != 0;
    if good && call.extra == 0 && TEMPLATES.insert(template, 1, 0).is_err() {
        health(|health| health.calls_full += 1);
    }
}

/// Whether the template behind a new connection was there before, so that nobody asked the scheduler.
#[inline(always)]
pub fn decided(ctx: &RetProbeContext, connection: u64) -> bool {
    let control = number(connection, layout!(connection.control));
    if control == 0 {
        return false;
    }
    let mut template = Template {
        connection: control,
        context: call::context(ctx),
    };
    if TEMPLATES.remove(template).is_ok() {
        return true;
    }
    // The stacks of interrupts are aligned to pages only: the call within this one may have been on the far side of a
    // boundary.
    template.context = template.context.wrapping_sub(1);
    TEMPLATES.remove(template).is_ok()
}
