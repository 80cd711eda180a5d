//! How events look, whatever was asked for.

use bytes::Bytes;

use crate::{
    line::Encoder,
    log,
    model::{Lost, Netns, Traced},
    output::Outputs,
    points::{Points, Schema},
    settings::TraceFormat,
    trace::{Json, LocalClock, Text, lost_words},
    trigger,
};

/// How events look.
pub(super) enum Shape {
    Text(Text),
    Json(Json),
    Line(Box<(Points, Encoder)>),
}

impl Shape {
    /// The shape that is asked for, in color or without.
    pub(super) fn new(format: TraceFormat, color: bool, clock: LocalClock) -> Self {
        match format {
            TraceFormat::Text => Self::Text(Text::new(color, clock)),
            TraceFormat::Json => Self::Json(Json),
            TraceFormat::Line => Self::Line(Box::new((Points::new(Schema::Full, None), Encoder::new(false)))),
        }
    }

    /// Appends an event, with its namespace's name where it was given one.
    pub(super) fn event(&mut self, event: &Traced, name: Option<&str>, out: &mut Vec<u8>) {
        if let Self::Line(line) = self {
            line.0.in_netns(name);
        }
        match (self, event) {
            (Self::Text(text), event) => text.event(event, name, out),
            (Self::Json(json), event) => json.event(event, name, out),
            (Self::Line(line), Traced::Decision(decision)) => line.0.decision(&mut line.1, decision),
            (Self::Line(line), Traced::Change(change)) => line.0.changes(&mut line.1, [change]),
            (Self::Line(line), Traced::Drop(drop)) => line.0.dropped(&mut line.1, drop),
            (Self::Line(line), Traced::End(end)) => line.0.ended(&mut line.1, end),
        }
    }

    /// Appends what was lost, and where if that is known. Line protocol has no place for it: there it is said on
    /// stderr.
    pub(super) fn lost(&mut self, lost: &Lost, netns: Option<(Netns, Option<&str>)>, out: &mut Vec<u8>) {
        let name = netns.and_then(|(_, name)| name);
        match self {
            Self::Text(text) => text.lost(lost, name, trigger::now(), out),
            Self::Json(json) => json.lost(lost, netns, trigger::now(), out),
            Self::Line(_) => log::write(log::Level::Warning, &format!("lost {}", lost_words(lost))),
        }
    }

    /// Gives the outputs what was appended.
    pub(super) fn send(&mut self, text: Vec<u8>, outputs: &Outputs) {
        let lines = match self {
            Self::Line(line) => line.1.take(),
            Self::Text(_) | Self::Json(_) => Bytes::from(text),
        };
        outputs.send(&lines);
    }
}
