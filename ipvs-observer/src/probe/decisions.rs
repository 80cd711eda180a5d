//! Scheduling decisions, from the programs' words to the model's: the outcome, the reason in words, and what the
//! scheduler had before it.

use std::collections::{HashMap, VecDeque};

use ipvs_observer_common::event::{
    self, CandidatesHeader, Decision as KernelDecision, DestinationState as KernelState, Summary,
};

use super::{
    btf::Source,
    changes,
    clock::Clock,
    connections, convert,
    events::Event,
    memory::{Memories, Seen},
};
use crate::model::{
    Address, Before, BegunBy, Choice, Decision, DestinationState, Family, Name, Outcome, Packet, Protocol,
    Traced, Virtual,
};

/// Lists of candidates kept until their decision comes. A list comes first, and its decision some microseconds
/// later; a decision that was lost leaves its list behind.
const KEPT: usize = 1024;

/// Puts decisions and their candidates together.
pub(super) struct Decisions {
    waiting: HashMap<u64, Seen>,
    order: VecDeque<u64>,
    memories: Memories,
}

impl Decisions {
    /// Nothing is waiting. What a scheduler remembers is read with the help of `source`.
    pub(super) fn new(source: Source) -> Self {
        Self {
            waiting: HashMap::new(),
            order: VecDeque::new(),
            memories: Memories::new(source),
        }
    }

    /// What an event tells, beside a decision with what the scheduler had before it, if that came. Candidates tell
    /// nothing until their decision comes.
    pub(super) fn told(&mut self, event: Event, clock: Clock) -> Option<(Traced, Option<Before>)> {
        match event {
            Event::Change(told) => changes::change(&told, clock).map(|change| (Traced::Change(change), None)),
            Event::Connection(told) => connections::befell(&told, clock).map(|befell| (befell, None)),
            Event::Candidates(header, list) => {
                self.keep(header, list);
                None
            }
            Event::Decision(told) => {
                let decision = Traced::Decision(Box::new(decision(&told, clock)));
                Some((decision, self.before(&told)))
            }
        }
    }

    /// Forgets what is waiting.
    #[cfg(feature = "fuzzing")]
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.order.clear();
    }

    /// Keeps a list until its decision comes.
    fn keep(&mut self, header: Box<CandidatesHeader>, list: Vec<KernelState>) {
        if self.order.len() >= KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
        self.order.push_back(header.call);
        self.waiting.insert(header.call, Seen { header, list });
    }

    /// What the scheduler had before it, once.
    fn before(&mut self, told: &KernelDecision) -> Option<Before> {
        if told.flags & event::HAS_CANDIDATES == 0 {
            return None;
        }
        let seen = self.waiting.remove(&told.call)?;
        let scheduler = Name::from_bytes(&told.scheduler);
        let total_connections = total(told);
        let family = Family(told.service.family);
        let chosen = |candidate: &KernelState| candidate.pointer == told.destination.pointer;
        Some(Before {
            scheduler,
            list: seen
                .list
                .iter()
                .map(|candidate| convert::state(candidate, total_connections))
                .collect(),
            more: seen.header.all.saturating_sub(seen.header.count),
            total_connections,
            packet: Packet {
                client: Address::new(family, told.client),
                client_port: (told.flags & event::PORTS_UNKNOWN == 0).then_some(told.client_port),
                target: Address::new(family, seen.header.target),
                service_flags: seen.header.service_flags,
            },
            memory: self.memories.of(scheduler.as_str(), &seen),
            choice: match (seen.list.iter().position(chosen), told.outcome) {
                (Some(place), _) => Choice::Took(place),
                (None, event::OUTCOME_SCHEDULED) => Choice::TookAnother,
                (None, event::OUTCOME_NONE) => Choice::Nothing,
                (None, _) => Choice::Unknown,
            },
        })
    }
}

fn decision(told: &KernelDecision, clock: Clock) -> Decision {
    let (netns, service) = convert::service(&told.service);
    let destination = (told.destination.family != 0).then(|| convert::state(&told.destination, total(told)));
    let scheduler = Name::from_bytes(&told.scheduler);
    let (outcome, reason) = reason(told, destination.as_ref(), scheduler.as_str());
    Decision {
        time: clock.real(told.time),
        netns,
        service,
        scheduler,
        client: Address::new(service.family(), told.client),
        client_port: told.client_port,
        r#virtual: Virtual {
            protocol: Protocol(told.protocol as u16),
            address: Address::new(service.family(), told.virtual_address),
            port: told.virtual_port,
        },
        begun_by: match told.begun_by {
            event::BEGUN_BY_SYN => Some(BegunBy::Syn),
            event::BEGUN_BY_DATA => Some(BegunBy::Data),
            event::BEGUN_BY_ICMP => Some(BegunBy::Icmp),
            _ => None,
        },
        destination,
        ns: (told.ns != 0).then_some(told.ns),
        outcome,
        reason,
        candidates: None,
    }
}

/// Whether this kernel counts all connections of a destination.
fn total(told: &KernelDecision) -> bool {
    told.flags & event::TOTAL_CONNECTIONS != 0
}

/// What became of the packet, and why. Of one without a destination, the function after the scheduler decides.
fn reason(
    told: &KernelDecision,
    destination: Option<&DestinationState>,
    scheduler: &str,
) -> (Outcome, String) {
    let (outcome, reason) = by_scheduling(told, destination, scheduler);
    let reason = match given_up(told.flags) {
        None => reason,
        Some(why) if reason.is_empty() => why.to_owned(),
        Some(why) => format!("{reason}; {why}"),
    };
    if told.flags & event::ACCEPTED != 0 {
        (Outcome::Accepted, reason)
    } else if told.flags & event::BYPASSED != 0 {
        (
            Outcome::Bypassed,
            format!("{reason} (net.ipv4.vs.cache_bypass is on)"),
        )
    } else {
        (outcome, reason)
    }
}

fn by_scheduling(
    told: &KernelDecision,
    destination: Option<&DestinationState>,
    scheduler: &str,
) -> (Outcome, String) {
    match told.outcome {
        event::OUTCOME_SCHEDULED => (Outcome::Scheduled, String::new()),
        event::OUTCOME_TEMPLATE => (Outcome::Template, held(destination).to_owned()),
        event::OUTCOME_FATAL => (Outcome::Fatal, failed_by(told).to_owned()),
        event::OUTCOME_UNASKED if told.service.fwmark == 0 && told.service.port == 0 => (
            Outcome::None,
            "only a persistent service can have port 0".to_owned(),
        ),
        event::OUTCOME_UNASKED if !scheduler.is_empty() => (
            Outcome::None,
            "the packet is for another port than the service's".to_owned(),
        ),
        _ if scheduler.is_empty() => (Outcome::None, "the service has no scheduler".to_owned()),
        _ => nothing(&told.summary, &told.message),
    }
}

/// What made scheduling fail.
fn failed_by(told: &KernelDecision) -> &'static str {
    if told.flags & event::FAILED_BY_ENGINE != 0 {
        "the persistence engine finds nothing in the packet to go by"
    } else if told.flags & event::FAILED_BY_LIMIT != 0 {
        "the namespace has as many connections as net.ipv4.vs.conn_max allows"
    } else {
        "no memory for the connection"
    }
}

/// Why the client's template was given up, if it had one.
fn given_up(flags: u32) -> Option<&'static str> {
    if flags & event::TEMPLATE_REMOVED != 0 {
        Some("the real server of this client's template was removed")
    } else if flags & event::TEMPLATE_DRAINED != 0 {
        Some(
            "the real server of this client's template has weight 0 (net.ipv4.vs.expire_quiescent_template is on)",
        )
    } else {
        None
    }
}

/// A template goes on giving what no scheduler would.
fn held(destination: Option<&DestinationState>) -> &'static str {
    match destination {
        Some(state) if state.weight == 0 => {
            "although the weight is 0 (net.ipv4.vs.expire_quiescent_template would end that)"
        }
        Some(state) if state.overloaded => "although it is overloaded",
        _ => "",
    }
}

/// Why a scheduler gave none.
fn nothing(summary: &Summary, message: &[u8]) -> (Outcome, String) {
    let Summary {
        looked_at,
        drained,
        overloaded,
        all,
    } = *summary;
    if all == 0 {
        return (Outcome::None, "the service has no real servers".to_owned());
    }
    let whole = looked_at >= all;
    let unable = drained.saturating_add(overloaded);
    if whole && drained == looked_at {
        return (Outcome::None, "all weights are 0".to_owned());
    }
    if summary.is_overload() {
        let rest = if drained > 0 {
            format!(", and {drained} have weight 0")
        } else {
            String::new()
        };
        return (
            Outcome::Overloaded,
            format!("{overloaded} of {all} real servers are overloaded{rest}"),
        );
    }
    let able = looked_at.saturating_sub(unable);
    let end = message
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(message.len());
    let said = match String::from_utf8_lossy(&message[..end]).trim() {
        "" => String::new(),
        words => format!("the scheduler says \"{words}\", though "),
    };
    let examined = if whole {
        all.to_string()
    } else {
        format!("the first {looked_at} of {all}")
    };
    (
        Outcome::None,
        format!("{said}{able} of {examined} real servers could take connections"),
    )
}

#[cfg(test)]
mod tests;
