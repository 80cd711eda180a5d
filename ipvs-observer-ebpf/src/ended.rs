//! What a call of `ip_vs_schedule` ended with.

use aya_ebpf::programs::RetProbeContext;
use ipvs_observer_common::layout;

use crate::{
    call::Call,
    read::{bytes, has, layout, number},
    template::{self, Template},
};

/// `IP_VS_SVC_F_PERSISTENT`.
const PERSISTENT: u64 = 1;

/// The end of a call.
pub struct Ended {
    /// The connection; 0 if there is none.
    pub connection: u64,
    /// The function's own word on why there is none: positive if the packet is not to be scheduled, negative if
    /// something failed, and 0 if `ip_vs_leave` is asked next.
    pub ignored: i32,
    /// Whether the service is persistent.
    pub persistent: bool,
    /// The template that decided.
    pub template: Option<Template>,
}

impl Ended {
    #[inline(always)]
    pub fn of(ctx: &RetProbeContext, call: &Call) -> Self {
        let persistent =
            has(layout::PERSISTENCE) && number(call.subject, layout!(service.flags)) & PERSISTENT != 0;
        Self {
            connection: ctx.ret(),
            ignored: i32::from_ne_bytes(bytes(call.extra)),
            persistent,
            template: if persistent {
                template::take(ctx, call)
            } else {
                None
            },
        }
    }

    /// Whether `ip_vs_leave` is asked next.
    #[inline(always)]
    pub fn leaves(&self) -> bool {
        self.connection == 0 && self.ignored == 0
    }
}
