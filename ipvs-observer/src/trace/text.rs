//! A trace for people: a line a decision, in columns, the reason in words.

use std::{borrow::Cow, io::Write, net::SocketAddr};

use super::{LocalClock, lost_words, skipped_words};
use crate::model::{
    Action, Address, BegunBy, Candidate, Candidates, Change, Connection, Decision, DestinationState, Drop,
    End, Lost, Outcome, ServiceKey, Traced, Virtual,
};

/// Writes events as text. Columns widen as wider values come, and stay so.
#[derive(Clone, Debug)]
pub struct Text {
    color: bool,
    clock: LocalClock,
    netns: usize,
    service: usize,
    scheduler: usize,
    client: usize,
    destination: usize,
}

#[derive(Clone, Copy)]
enum Color {
    Good,
    Note,
    Bad,
    Faint,
}

impl Text {
    /// Writes in color or without, by this clock.
    pub fn new(color: bool, clock: LocalClock) -> Self {
        Self {
            color,
            clock,
            netns: 0,
            service: 0,
            scheduler: 0,
            client: 0,
            destination: 0,
        }
    }

    /// Appends an event, with its namespace's name where that is to be shown.
    pub fn event(&mut self, event: &Traced, netns: Option<&str>, out: &mut Vec<u8>) {
        match event {
            Traced::Decision(decision) => self.decision(decision, netns, out),
            Traced::Change(change) => self.change(change, netns, out),
            Traced::Drop(Drop { connection, reason }) => {
                let words = format!("dropped: {}", reason.words());
                self.connection("drop", connection, netns, Color::Bad, &words, out);
            }
            Traced::End(End {
                connection,
                how,
                state,
            }) => {
                let state = state.map(|state| format!(" ({state})")).unwrap_or_default();
                let words = format!("ended: {}{state}", how.words());
                self.connection("end", connection, netns, Color::Note, &words, out);
            }
        }
    }

    /// Appends what was lost up to `time` since the last time, in ns since the epoch.
    pub fn lost(&mut self, lost: &Lost, netns: Option<&str>, time: u64, out: &mut Vec<u8>) {
        let mut texts = Vec::new();
        if !lost.had_room() {
            texts.push(format!(
                "lost: {}: more came than could be read",
                lost_words(lost)
            ));
        }
        if lost.skipped > 0 {
            texts.push(format!("skipped: {}", skipped_words(lost.skipped)));
        }
        for text in texts {
            self.begin(time, netns, out);
            put(out, format_args!("{}\n", self.paint(Color::Bad, &text)));
        }
    }

    /// Begins a line with the time and the namespace.
    fn begin(&mut self, time: u64, netns: Option<&str>, out: &mut Vec<u8>) {
        if let Some(heading) = self.clock.heading(time) {
            put(out, format_args!("{}\n", self.paint(Color::Faint, &heading)));
        }
        put(out, format_args!("{}  ", self.clock.time_of_day(time)));
        if let Some(netns) = netns {
            put(out, format_args!("{}  ", pad(&mut self.netns, netns)));
        }
    }

    fn decision(&mut self, decision: &Decision, name: Option<&str>, out: &mut Vec<u8>) {
        let Decision {
            time,
            // By its name, where that is to be shown.
            netns: _,
            service,
            scheduler,
            client,
            client_port,
            r#virtual,
            begun_by,
            destination,
            ns,
            outcome,
            reason,
            candidates,
        } = decision;
        self.begin(*time, name, out);
        let remarks = remarks(service, r#virtual, *begun_by);
        let service = pad(&mut self.service, &service.to_string());
        let scheduler = pad(&mut self.scheduler, scheduler.as_str());
        let path = self.path(*client, *client_port, destination.as_ref());
        let took = ns.map_or_else(|| "-".to_owned(), duration);
        let color = match outcome {
            Outcome::Scheduled => Color::Good,
            Outcome::None | Outcome::Overloaded | Outcome::Fatal => Color::Bad,
            Outcome::Template
            | Outcome::Accepted
            | Outcome::Bypassed
            | Outcome::Reused
            | Outcome::Elsewhere => Color::Note,
        };
        let colon = if reason.is_empty() { "" } else { ": " };
        let words = format!("{}{colon}{reason}{remarks}", outcome.words());
        let words = self.paint(color, &words);
        put(
            out,
            format_args!("{service}  {scheduler}  {path}  {took:>8}  {words}\n"),
        );
        if let Some(candidates) = candidates {
            self.candidates(candidates, out);
        }
    }

    /// From which client to which destination, with the state of that.
    fn path(&mut self, client: Address, port: u16, destination: Option<&DestinationState>) -> String {
        let client = pad(&mut self.client, &SocketAddr::new(client.ip(), port).to_string());
        let (taken, state) = match destination {
            None => ("-".to_owned(), format!("{:20}", "")),
            Some(DestinationState {
                key,
                weight,
                active,
                inactive,
                // No overloaded one is taken but by a template, and the reason says that.
                overloaded: _,
            }) => {
                let [weight, active, inactive] = [("w", weight), ("a", active), ("i", inactive)]
                    .map(|(name, number)| format!("{name}={number}"));
                (key.to_string(), format!("{weight:<6} {active:<6} {inactive:<6}"))
            }
        };
        format!("{client} -> {}  {state}", pad(&mut self.destination, &taken))
    }

    /// What befell a connection, in the columns of decisions.
    fn connection(
        &mut self,
        kind: &str,
        connection: &Connection,
        name: Option<&str>,
        color: Color,
        words: &str,
        out: &mut Vec<u8>,
    ) {
        let Connection {
            time,
            // By its name, where that is to be shown.
            netns: _,
            service,
            client,
            client_port,
            r#virtual,
            destination,
        } = connection;
        self.begin(*time, name, out);
        let words = format!("{words}{}", remarks(service, r#virtual, None));
        let service = pad(&mut self.service, &service.to_string());
        let kind = pad(&mut self.scheduler, kind);
        let path = self.path(*client, *client_port, destination.as_ref());
        let words = self.paint(color, &words);
        put(
            out,
            format_args!("{service}  {kind}  {path}  {:>8}  {words}\n", "-"),
        );
    }

    fn candidates(&self, candidates: &Candidates, out: &mut Vec<u8>) {
        let Candidates {
            list,
            more,
            rule,
            // The rule says it where it is not what was chosen.
            computed: _,
        } = candidates;
        let names: Vec<_> = list
            .iter()
            .map(|candidate| candidate.state.key.to_string())
            .collect();
        let width = names
            .iter()
            .map(String::len)
            .max()
            .unwrap_or_default()
            .max("candidate".len());
        let heading = format!(
            "      {:width$}  {:>7}  {:>8}  {:>8}  {:>12}",
            "candidate", "weight", "active", "inactive", "cost"
        );
        put(out, format_args!("{}\n", self.paint(Color::Faint, &heading)));
        for (Candidate { state, cost, chosen }, name) in list.iter().zip(&names) {
            let DestinationState {
                // By its name.
                key: _,
                weight,
                active,
                inactive,
                overloaded,
            } = state;
            let cost = cost.map_or_else(|| "-".to_owned(), number);
            let mark = if *chosen { "=>" } else { "  " };
            let notes = [
                (*chosen, "chosen"),
                (*overloaded, "overloaded"),
                (*weight == 0, "drained"),
            ];
            let notes: Vec<_> = notes.iter().filter(|note| note.0).map(|note| note.1).collect();
            let row = format!(
                "   {mark} {name:width$}  {weight:>7}  {active:>8}  {inactive:>8}  {cost:>12}  {}",
                notes.join(", ")
            );
            let row = row.trim_end();
            let row = if *chosen {
                self.paint(Color::Good, row)
            } else {
                row.to_owned()
            };
            put(out, format_args!("{row}\n"));
        }
        if *more > 0 {
            let text = format_args!("      and {more} more that an event has no room for\n");
            put(out, text);
        }
        put(out, format_args!("      {}\n", self.paint(Color::Faint, rule)));
    }

    fn change(&mut self, change: &Change, name: Option<&str>, out: &mut Vec<u8>) {
        let Change {
            time,
            // By its name, where that is to be shown.
            netns: _,
            action,
            service,
            destination,
            weight_before,
            weight_after,
            changed: _,
            remaining,
            left,
            comm,
            pid,
            parent_comm,
            parent_pid,
        } = change;
        self.begin(*time, name, out);
        let service = pad(&mut self.service, &service.to_string());
        let destination = destination.map(|key| format!(" {key}")).unwrap_or_default();
        let changed = match (weight_before, weight_after) {
            _ if change.changed.is_some() => String::new(),
            (Some(before), Some(after)) if before != after => format!(", weight {before} -> {after}"),
            (Some(weight), Some(_)) => format!(", weight {weight} as before"),
            (None, Some(weight)) => format!(", weight {weight}"),
            (Some(weight), None) => format!(", weight was {weight}"),
            (None, None) => String::new(),
        };
        let changed = change
            .changed_words()
            .map_or(changed, |words| format!(", {words}"));
        let left = match remaining {
            _ if left.is_empty() => String::new(),
            Some(remaining) if !remaining.is_nothing() => format!("; left: {remaining}: {left}"),
            _ => format!("; left: {left}"),
        };
        let by = match action {
            Action::Overload | Action::Recover => String::new(),
            _ if parent_comm.is_empty() => format!(", by {comm}[{pid}]"),
            _ => format!(", by {comm}[{pid}] of {parent_comm}[{parent_pid}]"),
        };
        let words = format!("{}{destination}{changed}{by}{left}", action.words());
        put(
            out,
            format_args!("{service}  {}\n", self.paint(Color::Note, &words)),
        );
    }

    fn paint(&self, color: Color, text: &str) -> String {
        let text = shown(text);
        if !self.color {
            return text.into_owned();
        }
        let code = match color {
            Color::Good => "32",
            Color::Note => "33",
            Color::Bad => "31;1",
            Color::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Writing to memory does not fail.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// What sets a connection apart: what it asked for, where that is not the service, and what else than a SYN began it.
fn remarks(service: &ServiceKey, asked: &Virtual, begun_by: Option<BegunBy>) -> String {
    let asked = if matches!(service, ServiceKey::Endpoint { port: 1.., .. }) {
        String::new()
    } else {
        let Virtual {
            protocol,
            address,
            port,
        } = asked;
        format!(
            "; asked for {protocol}://{}",
            SocketAddr::new(address.ip(), *port)
        )
    };
    let unusual = begun_by.filter(|&begun_by| begun_by != BegunBy::Syn);
    let begun = unusual.map(|begun_by| format!("; begun by {}", begun_by.words()));
    asked + &begun.unwrap_or_default()
}

/// Text as a terminal may have it. A process gives itself the name that is shown here, and with it could have root's
/// terminal do what it likes: whatever is no letter is written as in a source.
fn shown(text: &str) -> Cow<'_, str> {
    let plain = |letter: char| letter == ' ' || letter.is_ascii_graphic();
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for letter in text.chars() {
        if plain(letter) {
            out.push(letter);
        } else {
            out.extend(letter.escape_debug());
        }
    }
    Cow::Owned(out)
}

fn pad(width: &mut usize, text: &str) -> String {
    let text = shown(text);
    *width = text.len().max(*width);
    format!("{text:<0$}", *width)
}

fn duration(ns: u64) -> String {
    match ns {
        0..=9_999 => format!("{ns}ns"),
        10_000..=9_999_999 => format!("{}.{}us", ns / 1_000, ns % 1_000 / 100),
        _ => format!("{}.{}ms", ns / 1_000_000, ns % 1_000_000 / 100_000),
    }
}

fn number(cost: f64) -> String {
    if cost.fract() == 0.0 {
        format!("{cost:.0}")
    } else {
        format!("{cost:.2}")
    }
}

#[cfg(test)]
mod tests;
