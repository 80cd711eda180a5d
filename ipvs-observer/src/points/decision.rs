//! `ipvs_decision`: what the scheduler decided, one connection a line.

use super::{Points, Schema, change::Endpoint, event_time, family_tag, ip};
use crate::{
    line::Encoder,
    model::{Decision, ServiceKey},
};

impl Points {
    /// Writes a decision with its own time. Two at the same nanosecond would be one point of one series: the
    /// second is a nanosecond later.
    pub fn decision(&mut self, encoder: &mut Encoder, decision: &Decision) {
        self.last_decision = event_time(decision.time, self.last_decision);
        let mut line = encoder.line("ipvs_decision");
        match &decision.service {
            ServiceKey::Fwmark { family, mark } => {
                family_tag(&mut line, *family);
                line.tag_number("fwmark", *mark);
                self.netns_tag(&mut line);
                line.tag_literal("outcome", decision.outcome.name());
            }
            ServiceKey::Endpoint {
                address,
                protocol,
                port,
            } => {
                line.tag_ip("address", ip(*address, Schema::Full));
                family_tag(&mut line, address.family());
                self.netns_tag(&mut line);
                line.tag_literal("outcome", decision.outcome.name());
                line.tag_number("port", *port).tag("protocol", protocol);
            }
        }
        line.tag("sched", decision.scheduler);
        line.string("client", decision.client)
            .unsigned("client_port", decision.client_port.into())
            .string("virtual_protocol", decision.r#virtual.protocol)
            .string("virtual_address", decision.r#virtual.address)
            .unsigned("virtual_port", decision.r#virtual.port.into());
        if let Some(begun_by) = decision.begun_by {
            line.string("begun_by", begun_by.name());
        }
        if let Some(state) = &decision.destination {
            line.string("destination", Endpoint(state.key))
                .unsigned("weight", state.weight.into())
                .unsigned("active", state.active.into())
                .unsigned("inactive", state.inactive.into());
        }
        if let Some(ns) = decision.ns {
            line.unsigned("ns", ns);
        }
        line.string("reason", &decision.reason);
        line.end(self.last_decision);
    }
}
