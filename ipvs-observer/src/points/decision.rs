//! `ipvs_decision`: what the scheduler decided, one connection a line.

use super::{Points, event_time};
use crate::{
    line::{Encoder, Line},
    model::{Decision, DestinationState, Virtual},
};

impl Points {
    /// Writes a decision with its own time. Two at the same nanosecond would be one point of one series: the
    /// second is a nanosecond later.
    pub fn decision(&mut self, encoder: &mut Encoder, decision: &Decision) {
        let Decision {
            time,
            // By its name, as a tag, if it was asked for.
            netns: _,
            service,
            scheduler,
            client,
            client_port,
            r#virtual:
                Virtual {
                    protocol,
                    address,
                    port,
                },
            begun_by,
            destination,
            ns,
            outcome,
            reason,
            // A line has no room for a list.
            candidates: _,
        } = decision;
        self.last_decision = event_time(*time, self.last_decision);
        let mut line = encoder.line("ipvs_decision");
        self.service_tags(&mut line, service, |line| {
            self.netns_tag(line);
            line.tag_literal("outcome", outcome.name());
        });
        line.tag("sched", scheduler);
        line.string("client", client)
            .unsigned("client_port", (*client_port).into())
            .string("virtual_protocol", protocol)
            .string("virtual_address", address)
            .unsigned("virtual_port", (*port).into());
        if let Some(begun_by) = begun_by {
            line.string("begun_by", begun_by.name());
        }
        if let Some(destination) = destination {
            destination_fields(&mut line, destination);
        }
        if let Some(ns) = *ns {
            line.unsigned("ns", ns);
        }
        line.string("reason", reason);
        line.end(self.last_decision);
    }
}

/// A destination as it was at an event.
pub(super) fn destination_fields(line: &mut Line<'_>, destination: &DestinationState) {
    let DestinationState {
        key,
        weight,
        active,
        inactive,
        // No overloaded one is taken but by a template, and the reason says that.
        overloaded: _,
    } = destination;
    line.string("destination", key)
        .unsigned("weight", (*weight).into())
        .unsigned("active", (*active).into())
        .unsigned("inactive", (*inactive).into());
}
