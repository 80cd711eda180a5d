//! Packets that found no destination or were dropped, where only some of them are told.

use std::collections::HashSet;

use super::{Decision, Drop, DropReason, Netns, Outcome, ServiceKey};

/// A packet that was turned away.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// By the decision that there is no destination for it.
    Decision(Box<Decision>),
    /// Before or after a decision.
    Drop(Drop),
}

/// Why it was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Why {
    Outcome(Outcome),
    Reason(DropReason),
}

impl Refusal {
    /// The namespace that it happened in.
    pub fn netns(&self) -> Netns {
        match self {
            Self::Decision(decision) => decision.netns,
            Self::Drop(drop) => drop.connection.netns,
        }
    }

    /// The service that it was for.
    pub fn service(&self) -> &ServiceKey {
        match self {
            Self::Decision(decision) => &decision.service,
            Self::Drop(drop) => &drop.connection.service,
        }
    }

    fn why(&self) -> Why {
        match self {
            Self::Decision(decision) => Why::Outcome(decision.outcome),
            Self::Drop(drop) => Why::Reason(drop.reason),
        }
    }

    /// At most so many of these, in their order: the first of each service and reason before others.
    pub fn chosen<'a>(all: impl IntoIterator<Item = &'a Self>, most: usize) -> Vec<&'a Self> {
        let mut seen = HashSet::new();
        let mut ranked: Vec<_> = all
            .into_iter()
            .enumerate()
            .map(|(place, refusal)| {
                let repeated = !seen.insert((refusal.service(), refusal.why()));
                (repeated, place, refusal)
            })
            .collect();
        ranked.sort_by_key(|&(repeated, place, _)| (repeated, place));
        ranked.truncate(most);
        ranked.sort_by_key(|&(_, place, _)| place);
        ranked.into_iter().map(|(_, _, refusal)| refusal).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::Refusal;
    use crate::model::{Address, Connection, Drop, DropReason, Family, Netns, Protocol, ServiceKey, Virtual};

    fn drop(mark: u32, reason: DropReason, client_port: u16) -> Refusal {
        let address = Address::from(IpAddr::from([10, 0, 0, 1]));
        Refusal::Drop(Drop {
            connection: Connection {
                time: 0,
                netns: Netns(1),
                service: ServiceKey::Fwmark {
                    family: Family::INET,
                    mark,
                },
                client: address,
                client_port,
                r#virtual: Virtual {
                    protocol: Protocol::UDP,
                    address,
                    port: 53,
                },
                destination: None,
            },
            reason,
        })
    }

    /// The clients' ports of those that are chosen.
    fn chosen(all: &[Refusal], most: usize) -> Vec<u16> {
        Refusal::chosen(all, most)
            .into_iter()
            .map(|refusal| match refusal {
                Refusal::Drop(drop) => drop.connection.client_port,
                Refusal::Decision(decision) => decision.client_port,
            })
            .collect()
    }

    #[test]
    fn the_first_of_each_service_and_reason_comes_before_others_and_all_keep_their_order() {
        use DropReason::{OldConntrack, ServerRemoved};
        let all = [
            drop(1, OldConntrack, 0),
            drop(1, OldConntrack, 1),
            drop(1, OldConntrack, 2),
            drop(2, OldConntrack, 3),
            drop(1, ServerRemoved, 4),
            drop(2, OldConntrack, 5),
        ];
        assert!(chosen(&all, 0).is_empty());
        assert_eq!(chosen(&all, 2), [0, 3]);
        assert_eq!(chosen(&all, 3), [0, 3, 4]);
        assert_eq!(chosen(&all, 4), [0, 1, 3, 4]);
        assert_eq!(chosen(&all, 9), [0, 1, 2, 3, 4, 5]);
    }
}
