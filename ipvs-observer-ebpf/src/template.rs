//! Templates of persistence: whether one of them decided for a connection.

use aya_ebpf::{
    EbpfContext,
    macros::map,
    maps::HashMap,
    programs::{ProbeContext, RetProbeContext},
};
use ipvs_observer_common::{event, layout};

use crate::{
    behind::{self, Left},
    call::{self, Call, Function},
    key,
    read::{has, layout, number},
};

/// Templates that were looked at, from there to the return of the function around it.
#[map]
static TEMPLATES: HashMap<u64, Left<Template>> = HashMap::with_max_entries(1024, 0);

/// A template that was looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Template {
    /// The flags of its destination, before this connection.
    pub flags: u32,
    /// Why it was given up: flags of the decision; 0 if it was found good.
    pub given_up: u32,
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
    if call.extra != 0 {
        return;
    }
    let destination = number(call.subject, layout!(connection.dest));
    let flags = if has(layout::STATE) {
        number(destination, layout!(destination.flags)) as u32
    } else {
        0
    };
    let given_up = if ctx.ret::<i32>() != 0 {
        0
    } else if !has(layout::CONNECTIONS) {
        return;
    } else if destination == 0 || key::is_removed(destination) {
        event::TEMPLATE_REMOVED
    } else {
        event::TEMPLATE_DRAINED
    };
    behind::leave(&TEMPLATES, ctx, Template { flags, given_up });
}

/// The template that was looked at within a call that ends. To be taken on every way out
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
