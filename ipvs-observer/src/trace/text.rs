//! A trace for people: a line a decision, in columns, the reason in words.

use std::{borrow::Cow, io::Write};

use super::{LocalClock, lost_words};
use crate::{
    model::{Action, BegunBy, Candidates, Change, Decision, Lost, Outcome, ServiceKey, Traced, Virtual},
    points::Endpoint,
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
            Traced::Decision(decision) => {
                self.begin(decision.time, netns, out);
                self.decision(decision, out);
            }
            Traced::Change(change) => {
                self.begin(change.time, netns, out);
                self.change(change, out);
            }
        }
    }

    /// Appends what was lost up to `time` since the last time, in ns since the epoch.
    pub fn lost(&mut self, lost: &Lost, netns: Option<&str>, time: u64, out: &mut Vec<u8>) {
        let text = format!("lost: {}: more came than could be read", lost_words(lost));
        self.begin(time, netns, out);
        put(out, format_args!("{}\n", self.paint(Color::Bad, &text)));
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

    fn decision(&mut self, decision: &Decision, out: &mut Vec<u8>) {
        let service = pad(&mut self.service, &decision.service.to_string());
        let scheduler = pad(&mut self.scheduler, decision.scheduler.as_str());
        let client = Endpoint::of(decision.client, decision.client_port).to_string();
        let client = pad(&mut self.client, &client);
        let destination = match &decision.destination {
            Some(state) => Endpoint(state.key).to_string(),
            None => "-".to_owned(),
        };
        let destination = pad(&mut self.destination, &destination);
        let state = decision.destination.map_or_else(
            || format!("{:>6} {:>6} {:>6}", "", "", ""),
            |state| {
                let [weight, active, inactive] =
                    [("w", state.weight), ("a", state.active), ("i", state.inactive)]
                        .map(|(name, number)| format!("{name}={number}"));
                format!("{weight:<6} {active:<6} {inactive:<6}")
            },
        );
        let took = decision.ns.map_or_else(|| "-".to_owned(), duration);
        let (color, words) = match (decision.outcome, decision.reason.as_str()) {
            (Outcome::Scheduled, reason) => (Color::Good, words("scheduled", reason)),
            (Outcome::Template, reason) => (Color::Note, words("persistence template", reason)),
            (Outcome::Fatal, reason) => (Color::Bad, words("fatal", reason)),
            (Outcome::None | Outcome::Overloaded, reason) => (Color::Bad, words("no destination", reason)),
            (Outcome::Accepted, reason) => (Color::Note, words("handed on to this host", reason)),
            (Outcome::Bypassed, reason) => (Color::Note, words("bypassed", reason)),
        };
        let words = format!("{words}{}", remarks(decision));
        put(
            out,
            format_args!(
                "{service}  {scheduler}  {client} -> {destination}  {state}  {took:>8}  {}\n",
                self.paint(color, &words)
            ),
        );
        if let Some(candidates) = &decision.candidates {
            self.candidates(candidates, out);
        }
    }

    fn candidates(&self, candidates: &Candidates, out: &mut Vec<u8>) {
        let names: Vec<_> = candidates
            .list
            .iter()
            .map(|candidate| Endpoint(candidate.state.key).to_string())
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
        for (candidate, name) in candidates.list.iter().zip(&names) {
            let state = &candidate.state;
            let cost = candidate.cost.map_or_else(|| "-".to_owned(), number);
            let mark = if candidate.chosen { "=>" } else { "  " };
            let notes = [
                (candidate.chosen, "chosen"),
                (state.overloaded, "overloaded"),
                (state.weight == 0, "drained"),
            ];
            let notes: Vec<_> = notes.iter().filter(|note| note.0).map(|note| note.1).collect();
            let row = format!(
                "   {mark} {name:width$}  {:>7}  {:>8}  {:>8}  {cost:>12}  {}",
                state.weight,
                state.active,
                state.inactive,
                notes.join(", ")
            );
            let row = row.trim_end();
            let row = if candidate.chosen {
                self.paint(Color::Good, row)
            } else {
                row.to_owned()
            };
            put(out, format_args!("{row}\n"));
        }
        if candidates.more > 0 {
            put(
                out,
                format_args!(
                    "      and {} more that an event has no room for\n",
                    candidates.more
                ),
            );
        }
        put(
            out,
            format_args!("      {}\n", self.paint(Color::Faint, &candidates.rule)),
        );
    }

    fn change(&mut self, change: &Change, out: &mut Vec<u8>) {
        let service = pad(&mut self.service, &change.service.to_string());
        let action = change.action.name().replace('_', " ");
        let destination = change
            .destination
            .map(|key| format!(" {}", Endpoint(key)))
            .unwrap_or_default();
        let weight = match (change.weight_before, change.weight_after) {
            (Some(before), Some(after)) if before != after => format!(", weight {before} -> {after}"),
            (Some(weight), Some(_)) => format!(", weight {weight} as before"),
            (None, Some(weight)) => format!(", weight {weight}"),
            (Some(weight), None) => format!(", weight was {weight}"),
            (None, None) => String::new(),
        };
        let by = match change.action {
            Action::Overload | Action::Recover => String::new(),
            _ if change.parent_comm.is_empty() => format!(", by {}[{}]", change.comm, change.pid),
            _ => format!(
                ", by {}[{}] of {}[{}]",
                change.comm, change.pid, change.parent_comm, change.parent_pid
            ),
        };
        let words = format!("{action}{destination}{weight}{by}");
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

fn words(outcome: &str, reason: &str) -> String {
    if reason.is_empty() {
        outcome.to_owned()
    } else {
        format!("{outcome}: {reason}")
    }
}

/// What sets a connection apart: what it asked for, where that is not the service, and what else than a SYN began it.
fn remarks(decision: &Decision) -> String {
    let by_name = matches!(decision.service, ServiceKey::Endpoint { port: 1.., .. });
    let asked = if by_name {
        String::new()
    } else {
        let Virtual {
            protocol,
            address,
            port,
        } = decision.r#virtual;
        format!("; asked for {protocol}://{}", Endpoint::of(address, port))
    };
    let begun = match decision.begun_by {
        None | Some(BegunBy::Syn) => "",
        Some(BegunBy::Data) => "; begun by a packet that is no SYN (sloppy_tcp or sloppy_sctp)",
        Some(BegunBy::Icmp) => "; begun by a packet within an ICMP message (schedule_icmp)",
    };
    asked + begun
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
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{Address, Candidate, DestinationKey, DestinationState, Family, Name, Netns, Protocol};

    fn state(last: u8, weight: u32) -> DestinationState {
        let address = Address::from(IpAddr::from([10, 8, 0, last]));
        DestinationState {
            key: DestinationKey { address, port: 8080 },
            weight,
            active: 2,
            inactive: 10,
            overloaded: false,
        }
    }

    fn decision(outcome: Outcome, destination: Option<DestinationState>, reason: &str) -> Decision {
        Decision {
            time: 1_700_000_000_123_456_789,
            netns: Netns(1),
            service: ServiceKey::Fwmark {
                family: Family::INET,
                mark: 47,
            },
            scheduler: Name::from("wlc"),
            client: Address::from(IpAddr::from([192, 0, 2, 7])),
            client_port: 40_000,
            r#virtual: Virtual {
                protocol: Protocol::TCP,
                address: Address::from(IpAddr::from([192, 0, 2, 1])),
                port: 443,
            },
            begun_by: Some(BegunBy::Syn),
            destination,
            ns: destination.map(|_| 1_234),
            outcome,
            reason: reason.to_owned(),
            candidates: None,
        }
    }

    /// What is written below the heading.
    fn written(events: &[Traced]) -> String {
        let (mut text, mut out) = (Text::new(false, LocalClock::fixed(0)), Vec::new());
        for event in events {
            text.event(event, None, &mut out);
        }
        let text = String::from_utf8_lossy(&out);
        let below = text.strip_prefix("times are local, UTC+00:00\n");
        below.expect("a heading").to_owned()
    }

    #[test]
    fn a_decision_is_a_line_with_its_reason_in_words() {
        let events = [
            decision(Outcome::Scheduled, Some(state(1, 3)), ""),
            decision(Outcome::None, None, "all weights are 0"),
        ];
        let text = written(&events.map(|decision| Traced::Decision(Box::new(decision))));
        assert_eq!(
            text,
            "22:13:20.123456  fwmark:47/inet  wlc  192.0.2.7:40000 -> 10.8.0.1:8080  w=3    a=2    i=10      1234ns  scheduled; asked for tcp://192.0.2.1:443\n\
             22:13:20.123456  fwmark:47/inet  wlc  192.0.2.7:40000 -> -                                           -  no destination: all weights are 0; asked for tcp://192.0.2.1:443\n"
        );
    }

    #[test]
    fn a_connection_that_something_else_than_a_syn_began_says_so() {
        let mut decision = decision(Outcome::Accepted, None, "the packet is for another port");
        decision.service = ServiceKey::Endpoint {
            address: Address::from(IpAddr::from([192, 0, 2, 1])),
            protocol: Protocol::TCP,
            port: 21,
        };
        for (begun_by, end) in [
            (None, "port\n"),
            (Some(BegunBy::Syn), "port\n"),
            (
                Some(BegunBy::Data),
                "port; begun by a packet that is no SYN (sloppy_tcp or sloppy_sctp)\n",
            ),
            (
                Some(BegunBy::Icmp),
                "port; begun by a packet within an ICMP message (schedule_icmp)\n",
            ),
        ] {
            decision.begun_by = begun_by;
            let text = written(&[Traced::Decision(Box::new(decision.clone()))]);
            let expected = format!("  handed on to this host: the packet is for another {end}");
            assert!(text.ends_with(&expected), "{text}");
        }
    }

    #[test]
    fn candidates_stand_below_with_the_winner_marked_and_the_rule_named() {
        let mut decision = decision(Outcome::Scheduled, Some(state(1, 3)), "");
        let candidate = |last, weight, cost, chosen| Candidate {
            state: state(last, weight),
            cost,
            chosen,
        };
        decision.candidates = Some(Candidates {
            list: vec![candidate(1, 3, Some(174.0), true), candidate(2, 0, None, false)],
            more: 5,
            rule: "least of (active * 256 + inactive) / weight".to_owned(),
            computed: Some(0),
        });
        let text = written(&[Traced::Decision(Box::new(decision))]);
        let below = text.split_once('\n').map(|parts| parts.1);
        assert_eq!(
            below,
            Some(
                "      candidate       weight    active  inactive          cost\n   \
                 => 10.8.0.1:8080        3         2        10           174  chosen\n      \
                 10.8.0.2:8080        0         2        10             -  drained\n      \
                 and 5 more that an event has no room for\n      \
                 least of (active * 256 + inactive) / weight\n"
            )
        );
    }

    #[test]
    fn a_name_cannot_speak_to_the_terminal_or_turn_the_line_around() {
        let mut decision = decision(Outcome::None, None, "says \u{1b}]0;x\u{7}");
        decision.scheduler = Name::from("a\u{1b}[2J\u{202e}\n");
        let text = written(&[Traced::Decision(Box::new(decision))]);
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("a\\u{1b}[2J\\u{202e}\\n"), "{text}");
        assert!(text.contains("says \\u{1b}]0;x\\u{7}"), "{text}");
    }

    #[test]
    fn how_long_a_scheduler_took_can_be_typed_as_it_is_shown() {
        for (ns, shown) in [
            (850, 850),
            (12_345, 12_300),
            (9_999_999, 9_999_900),
            (45_678_901, 45_600_000),
        ] {
            let typed = crate::settings::duration(&duration(ns));
            assert_eq!(typed, Ok(std::time::Duration::from_nanos(shown)));
        }
    }

    #[test]
    fn a_change_names_what_was_done_and_who_did_it() {
        let change = Change {
            time: 1_700_000_000_000_000_000,
            netns: Netns(1),
            action: Action::EditDestination,
            service: ServiceKey::Fwmark {
                family: Family::INET,
                mark: 47,
            },
            destination: Some(state(1, 3).key),
            weight_before: Some(3),
            weight_after: Some(0),
            comm: Name::from("ipvsadm"),
            pid: 42,
            parent_comm: Name::from("drain.sh"),
            parent_pid: 41,
        };
        assert_eq!(
            written(&[Traced::Change(change)]),
            "22:13:20.000000  fwmark:47/inet  edit destination 10.8.0.1:8080, weight 3 -> 0, by ipvsadm[42] of drain.sh[41]\n"
        );
    }
}
