//! Templates of persistence: whether one of them decided for a connection.

use aya_ebpf::{
    EbpfContext,
    macros::map,
    maps::HashMap,
    programs::{ProbeContext, RetProbeContext},
};
use ipvs_observer_common::layout;

use crate::{
    behind::{self, Left},
    call::{self, Call, Function},
    read::{has, layout, number},
};

/// Templates that were found good, from there to the return of the function around it.
#[map]
static TEMPLATES: HashMap<u64, Left<Template>> = HashMap::with_max_entries(1024, 0);

/// A template that was found good.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Template {
    /// The flags of its destination, before this connection.
    pub flags: u64,
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

/// Return of `ip_vs_check_template`: the template is good, or not. With a destination to hold it against, it is asked
/// for a connection that goes out.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    let Some(call) = call::end(ctx, Function::Template) else {
        return;
    };
    if ctx.ret::<i32>() == 0 || call.extra != 0 {
        return;
    }
    let flags = if has(layout::STATE) {
        number(
            number(call.subject, layout!(connection.dest)),
            layout!(destination.flags),
        )
    } else {
        0
    };
    behind::leave(&TEMPLATES, ctx, Template { flags });
}

/// The template that decided within a call that ends, so that nobody asked the scheduler. To be taken on every way out
/// of a persistent service's call.
#[inline(always)]
pub fn take(ctx: &impl EbpfContext, call: &Call) -> Option<Template> {
    let found = behind::find(&TEMPLATES, ctx)?;
    let template = found.since(call).copied();
    behind::take_out(&TEMPLATES, &found);
    template
}

/// Forgets what was left for a call of which nothing else is known.
#[inline(always)]
pub fn forget(ctx: &impl EbpfContext) {
    if let Some(found) = behind::find(&TEMPLATES, ctx) {
        behind::take_out(&TEMPLATES, &found);
    }
}
