//! Why a scheduler chose: each scheduler's own rule, computed from what it had before it.
//!
//! Owns: the rules, as the kernel's `net/netfilter/ipvs/ip_vs_*.c` have them. Refuses to know: how the state was
//! read. Where the state that decides is not read, or chance decides, it says so and computes no winner.

mod cost;
#[cfg(test)]
mod given;
pub mod hash;
mod maglev;
mod turn;

use crate::model::{Before, Candidate, Candidates, Choice, DestinationState, Memory, Traced};
use cost::{By, expected_delay, least, most, never_queue};
use hash::{Hashed, hashed};
use turn::{round_robin, weighted_round_robin};

/// Buckets of Maglev's table as kernels are built by default. No type and no state of the kernel tells the size.
const MAGLEV: u32 = 4093;

/// Explains decisions, and learns from them what the kernel does not tell.
#[derive(Debug, Default)]
pub struct Explainer {
    /// Whether a choice of `mh` was not that of a table of the default size.
    other_size: bool,
}

impl Explainer {
    /// Adds to a decision what its scheduler had before it, and what the scheduler's rule makes of that.
    pub fn explain(&mut self, mut traced: Traced, before: Option<Before>) -> Traced {
        if let (Traced::Decision(decision), Some(before)) = (&mut traced, before) {
            decision.candidates = Some(self.candidates(&before));
        }
        traced
    }

    fn candidates(&mut self, before: &Before) -> Candidates {
        let Rule {
            costs,
            computed,
            words,
        } = self.rule(before);
        // A destination that is out of sight may have won.
        let computed = computed.filter(|_| before.more == 0);
        let rule = words + &difference(before, computed);
        let list = before.list.iter().enumerate().map(|(place, state)| Candidate {
            state: *state,
            cost: costs.get(place).copied().flatten(),
            chosen: before.choice == Choice::Took(place),
        });
        Candidates {
            list: list.collect(),
            more: before.more,
            rule,
            computed,
        }
    }

    fn rule(&mut self, before: &Before) -> Rule {
        let active_times = if before.total_connections { 257 } else { 256 };
        // The kernel computes loads as `int`, and those that are too great for it wrap.
        let load = move |state: &DestinationState| {
            (i64::from(state.active) * active_times + i64::from(state.inactive)) as i32
        };
        match before.scheduler.as_str() {
            "rr" => round_robin(before),
            "wrr" => weighted_round_robin(before),
            "lc" => least(
                before,
                format!("least of active * {active_times} + inactive"),
                By::Load,
                load,
            ),
            "wlc" => least(
                before,
                format!("least of (active * {active_times} + inactive) / weight"),
                By::LoadAndWeight,
                load,
            ),
            "sed" => least(
                before,
                "least of (active + 1) / weight".to_owned(),
                By::LoadAndWeight,
                expected_delay,
            ),
            "nq" => never_queue(before),
            "fo" => most(before, "the greatest weight that is not overloaded", |_| true),
            "ovf" => most(
                before,
                "the greatest weight whose active connections are not above it",
                |state| state.active.cast_signed() <= state.weight.cast_signed(),
            ),
            "sh" | "mh" | "dh" => hashed(before, self.look_up(before)),
            "lblc" | "lblcr" => {
                let words = format!(
                    "by the packet's destination, as its table of locality has it, which is not read; where that has \
                     nothing, the least of (active * {active_times} + inactive) / weight, which the costs are"
                );
                let by_cost = least(before, words, By::LoadAndWeight, load);
                Rule {
                    computed: None,
                    ..by_cost
                }
            }
            "twos" => unknown(
                before,
                "the less loaded of two destinations drawn at random; the draw is not seen",
            ),
            other => unknown(
                before,
                &format!("the rule of '{other}' is not known to this program"),
            ),
        }
    }

    /// Where the packet comes to in the scheduler's table; none where that is not known.
    fn look_up(&mut self, before: &Before) -> Option<Hashed> {
        let Before { list, packet, .. } = before;
        match (before.scheduler.as_str(), &before.memory) {
            // A table cannot be filled from a part of the destinations.
            _ if before.more > 0 => None,
            ("sh", &Memory::Buckets(size)) => hash::source(list, packet, size),
            ("dh", &Memory::Buckets(size)) => hash::destination(list, packet, size),
            ("mh", Memory::LastWeights(weights)) => {
                let hashed = maglev::maglev(list, weights, packet, MAGLEV)?;
                // From the first choice on that a table of this size would not make, no bucket is known: others may
                // agree by chance.
                self.other_size |= match before.choice {
                    Choice::Took(place) => hashed.taken != Some(place),
                    Choice::TookAnother => true,
                    Choice::Nothing => hashed.taken.is_some(),
                    Choice::Unknown => return None,
                };
                (!self.other_size).then_some(hashed)
            }
            _ => None,
        }
    }
}

/// In words, that the rule computes another destination than the scheduler took; nothing where they agree or where
/// one of them is not known.
fn difference(before: &Before, computed: Option<usize>) -> String {
    let Some(computed) = computed else {
        return String::new();
    };
    let took = match before.choice {
        Choice::Took(place) if place != computed => name(before, place),
        Choice::Nothing => "none".to_owned(),
        Choice::Took(_) | Choice::TookAnother | Choice::Unknown => return String::new(),
    };
    format!(
        "; this rule computes {}, but the scheduler took {took}: the state changed while it was read, or the rule of \
         this kernel is another",
        name(before, computed)
    )
}

fn name(before: &Before, place: usize) -> String {
    let state = before.list.get(place);
    state.map_or_else(String::new, |state| state.key.to_string())
}

struct Rule {
    costs: Vec<Option<f64>>,
    computed: Option<usize>,
    words: String,
}

/// Whether a destination takes connections at all.
fn usable(state: &DestinationState) -> bool {
    state.weight > 0 && !state.overloaded
}

fn unknown(before: &Before, words: &str) -> Rule {
    Rule {
        costs: vec![None; before.list.len()],
        computed: None,
        words: format!("no cost to compute: {words}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Explainer,
        given::{before, explain, state},
    };
    use crate::model::{Before, Choice, Memory};

    #[test]
    fn where_the_deciding_state_is_not_read_no_winner_is_computed_and_it_is_said() {
        let list = [state(1, 0, 0), state(1, 0, 0)];
        for scheduler in ["sh", "dh", "mh", "twos", "rr", "wrr", "lblc", "lblcr", "newest"] {
            let explained = explain(&before(scheduler, &list), Choice::Took(0));
            assert_eq!(explained.computed, None, "{scheduler}");
            assert!(explained.rule.contains("not"), "{scheduler}: {}", explained.rule);
        }
    }

    #[test]
    fn a_choice_that_no_table_of_the_default_size_makes_ends_the_buckets_of_maglev() {
        let list = [state(1, 0, 0)];
        let before = Before {
            memory: Memory::LastWeights(vec![1]),
            ..before("mh", &list)
        };
        let computed = |explainer: &mut Explainer, choice| {
            let before = Before {
                choice,
                ..before.clone()
            };
            explainer.candidates(&before).computed
        };
        for other in [Choice::TookAnother, Choice::Nothing] {
            let explainer = &mut Explainer::default();
            assert_eq!(computed(explainer, Choice::Unknown), None);
            assert_eq!(
                computed(explainer, Choice::Took(0)),
                Some(0),
                "nothing speaks against it"
            );
            assert_eq!(computed(explainer, other), None, "{other:?}");
            assert_eq!(computed(explainer, Choice::Took(0)), None, "by chance");
        }
    }

    #[test]
    fn a_table_that_is_filled_from_more_than_the_list_is_not_computed() {
        let list = [state(1, 0, 0)];
        let whole = Before {
            memory: Memory::Buckets(256),
            ..before("sh", &list)
        };
        assert!(explain(&whole, Choice::Unknown).rule.contains(" of 256,"));
        let partly = Before { more: 1, ..whole };
        assert!(explain(&partly, Choice::Unknown).rule.contains("is not known"));
    }

    #[test]
    fn no_winner_is_computed_where_destinations_are_out_of_sight() {
        let list = [state(1, 0, 0)];
        let before = Before {
            more: 1,
            ..before("wlc", &list)
        };
        assert_eq!(explain(&before, Choice::Unknown).computed, None);
    }

    #[test]
    fn a_choice_that_is_not_the_rules_is_said_and_one_that_is_or_is_unknown_is_not() {
        let list = [state(1, 0, 0), state(1, 5, 0)];
        let before = before("wlc", &list);
        let rule = |before: &Before, choice| explain(before, choice).rule;
        for choice in [Choice::Took(0), Choice::Unknown] {
            assert!(!rule(&before, choice).contains("but"), "{choice:?}");
        }
        assert!(rule(&before, Choice::Took(1)).contains("but the scheduler took 10.0.0.1:80"));
        assert!(rule(&before, Choice::Nothing).contains("but the scheduler took none"));
        let partly = Before { more: 1, ..before };
        assert!(
            !rule(&partly, Choice::Took(1)).contains("but"),
            "the winner is out of sight"
        );
    }
}
