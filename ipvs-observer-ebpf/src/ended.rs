//! What a call of `ip_vs_schedule` ended with.

use aya_ebpf::programs::RetProbeContext;
use ipvs_observer_common::layout;

use crate::{
    call::Call,
    connection, packet,
    read::{bytes, has, layout, number},
    template::{self, Template},
};

/// `IP_VS_SVC_F_PERSISTENT`.
const PERSISTENT: u64 = 1;
/// `IP_VS_SVC_F_ONEPACKET`.
const ONE_PACKET: u64 = 4;

/// Whether a connection that the call's packet begins is over with it, by its service.
#[inline(always)]
pub fn with_its_packet(call: &Call) -> bool {
    const UDP: u64 = 17;
    has(layout::PERSISTENCE)
        && number(call.subject, layout!(service.flags)) & ONE_PACKET != 0
        && packet::protocol(call) == UDP
}

/// The end of a call.
pub struct Ended {
    /// The connection; 0 if there is none.
    pub connection: u64,
    /// The function's own word on why there is none: positive if the packet is not to be scheduled, negative if
    /// something failed, and 0 if `ip_vs_leave` is asked next.
    pub ignored: i32,
    /// Whether the service is persistent.
    pub persistent: bool,
    /// Whether the connection is of one packet, and over with it.
    pub one_packet: bool,
    /// The template that decided, so that nobody asked the scheduler.
    pub template: Option<Template>,
    /// Why the client's template was given up: flags of the decision.
    pub given_up: u32,
}

impl Ended {
    #[inline(always)]
    pub fn of(ctx: &RetProbeContext, call: &Call) -> Self {
        let connection = ctx.ret();
        let flags = if has(layout::PERSISTENCE) {
            number(call.subject, layout!(service.flags))
        } else {
            0
        };
        let persistent = flags & PERSISTENT != 0;
        let (template, given_up) = match persistent.then(|| template::take(ctx, call)).flatten() {
            Some(template) if template.given_up == 0 => (Some(template), 0),
            Some(template) => (None, template.given_up),
            None => (None, 0),
        };
        // Such a service has other connections too, of other protocols than UDP.
        let one_packet =
            flags & ONE_PACKET != 0 && connection != 0 && connection::is_of_one_packet(connection);
        Self {
            connection,
            one_packet,
            ignored: i32::from_ne_bytes(bytes(call.extra)),
            persistent,
            template,
            given_up,
        }
    }

    /// Whether `ip_vs_leave` is asked next.
    #[inline(always)]
    pub fn leaves(&self) -> bool {
        self.connection == 0 && self.ignored == 0
    }
}
