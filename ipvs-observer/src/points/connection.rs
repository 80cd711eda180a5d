//! `ipvs_drop` and `ipvs_end`: what befell a connection beside the scheduler, one event a line.

use super::{Points, decision::destination_fields, event_time};
use crate::{
    line::{Encoder, Line},
    model::{Connection, Drop, End, Refusal, Virtual},
};

impl Points {
    /// Writes refusals and drops, as [`Points::decision`] and [`Points::dropped`] do.
    pub fn refusals<'a>(&mut self, encoder: &mut Encoder, refusals: impl IntoIterator<Item = &'a Refusal>) {
        for refusal in refusals {
            match refusal {
                Refusal::Decision(decision) => self.decision(encoder, decision),
                Refusal::Drop(drop) => self.dropped(encoder, drop),
            }
        }
    }

    /// Writes a drop with its own time, as [`Points::decision`] does.
    pub fn dropped(&mut self, encoder: &mut Encoder, drop: &Drop) {
        let Drop { connection, reason } = drop;
        self.last_drop = event_time(connection.time, self.last_drop);
        let mut line = encoder.line("ipvs_drop");
        self.service_tags(&mut line, &connection.service, |line| self.netns_tag(line));
        line.tag_literal("reason", reason.name());
        fields(&mut line, connection);
        line.end(self.last_drop);
    }

    /// Writes an end with its own time, likewise.
    pub fn ended(&mut self, encoder: &mut Encoder, end: &End) {
        let End {
            connection,
            how,
            state,
        } = end;
        self.last_end = event_time(connection.time, self.last_end);
        let mut line = encoder.line("ipvs_end");
        self.service_tags(&mut line, &connection.service, |line| {
            line.tag_literal("how", how.name());
            self.netns_tag(line);
        });
        fields(&mut line, connection);
        if let Some(state) = state {
            line.string("state", state);
        }
        line.end(self.last_end);
    }
}

fn fields(line: &mut Line<'_>, connection: &Connection) {
    let Connection {
        // The line's own.
        time: _,
        // Tags.
        netns: _,
        service: _,
        client,
        client_port,
        r#virtual: Virtual {
            protocol,
            address,
            port,
        },
        destination,
    } = connection;
    line.string("client", client)
        .unsigned("client_port", (*client_port).into())
        .string("virtual_protocol", protocol)
        .string("virtual_address", address)
        .unsigned("virtual_port", (*port).into());
    if let Some(destination) = destination {
        destination_fields(line, destination);
    }
}
