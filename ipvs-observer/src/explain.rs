//! Why a scheduler chose: each scheduler's own rule, computed from what it had before it.
//!
//! Owns: the rules, as the kernel's `net/netfilter/ipvs/ip_vs_*.c` have them. Refuses to know: how the state was
//! read. Where the state that decides is not read, or chance decides, it says so and computes no winner.

mod cost;
#[cfg(test)]
mod given;
pub mod hash;
mod turn;

use crate::model::{Candidate, Candidates, DestinationState};
use cost::{By, expected_delay, least, most, never_queue};
use turn::{round_robin, weighted_round_robin};

/// What a scheduler had before it.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Its name.
    pub scheduler: &'a str,
    /// The service's destinations, in its order.
    pub list: &'a [DestinationState],
    /// Destinations that the service has beyond the list.
    pub more: u32,
    /// Whether this kernel keeps the sum of all connections, and then counts active ones 257 times and not 256.
    pub total_connections: bool,
    /// What the scheduler remembered of its last turn.
    pub memory: Memory,
}

/// What a scheduler remembers from one turn to the next. Places are in the list; none is its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Nothing that was read.
    #[default]
    Unread,
    /// The round robin: the place of the destination taken last.
    Last(Option<usize>),
    /// The weighted round robin.
    Weighted {
        /// The place of the destination taken last.
        last: Option<usize>,
        /// The weight that a destination must have in this round (`cw`).
        current: i32,
        /// The weight with which rounds begin (`mw`), 0: no destination has a weight.
        greatest: i32,
        /// By how much it goes down from round to round (`di`).
        step: i32,
    },
    /// A table by a hash, and where this packet comes to in it.
    Hashed(Hashed),
}

/// Where a packet comes to in a scheduler's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// What of the packet the hash goes by, in words.
    pub by: &'static str,
    /// Its bucket.
    pub bucket: u32,
    /// How many there are.
    pub size: u32,
    /// Whose it is, by the place in the list.
    pub owner: usize,
    /// Who takes the packet, if anybody does.
    pub taken: Option<usize>,
}

/// What the scheduler did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It took the destination at this place in the list.
    Took(usize),
    /// It took none.
    Nothing,
    /// What it took is not known.
    Unknown,
}

/// What the scheduler's rule makes of what it had, beside what it did.
pub fn explain(before: &Before<'_>, choice: Choice) -> Candidates {
    let Rule {
        costs,
        computed,
        words,
    } = rule(before);
    // A destination that is out of sight may have won.
    let computed = computed.filter(|_| before.more == 0);
    let rule = words + &difference(before, computed, choice);
    let chosen = match choice {
        Choice::Took(place) => Some(place),
        Choice::Nothing | Choice::Unknown => None,
    };
    let list = before.list.iter().enumerate().map(|(place, state)| Candidate {
        state: *state,
        cost: costs.get(place).copied().flatten(),
        chosen: chosen == Some(place),
    });
    Candidates {
        list: list.collect(),
        more: before.more,
        rule,
        computed,
    }
}

/// In words, that the rule computes another destination than the scheduler took; nothing where they agree or where
/// one of them is not known.
fn difference(before: &Before<'_>, computed: Option<usize>, choice: Choice) -> String {
    let Some(computed) = computed else {
        return String::new();
    };
    let took = match choice {
        Choice::Took(place) if place != computed => name(before, place),
        Choice::Nothing => "none".to_owned(),
        Choice::Took(_) | Choice::Unknown => return String::new(),
    };
    format!(
        "; this rule computes {}, but the scheduler took {took}: the state changed while it was read, or the rule of \
         this kernel is another",
        name(before, computed)
    )
}

fn name(before: &Before<'_>, place: usize) -> String {
    let state = before.list.get(place);
    state.map_or_else(String::new, |state| state.key.to_string())
}

struct Rule {
    costs: Vec<Option<f64>>,
    computed: Option<usize>,
    words: String,
}

fn rule(before: &Before<'_>) -> Rule {
    let active_times = if before.total_connections { 257 } else { 256 };
    // The kernel computes loads as `int`, and those that are too great for it wrap.
    let load = move |state: &DestinationState| {
        (i64::from(state.active) * active_times + i64::from(state.inactive)) as i32
    };
    match before.scheduler {
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
        "sh" | "mh" | "dh" => hashed(before),
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

/// Whether a destination takes connections at all.
fn usable(state: &DestinationState) -> bool {
    state.weight > 0 && !state.overloaded
}

fn unknown(before: &Before<'_>, words: &str) -> Rule {
    Rule {
        costs: vec![None; before.list.len()],
        computed: None,
        words: format!("no cost to compute: {words}"),
    }
}

fn hashed(before: &Before<'_>) -> Rule {
    let Memory::Hashed(Hashed {
        by,
        bucket,
        size,
        owner,
        taken,
    }) = before.memory
    else {
        return unknown(
            before,
            "a hash of the packet names a bucket; whose that is is not known",
        );
    };
    let owned = name(before, owner);
    // No type and no state of the kernel tells the size of Maglev's table.
    let default = if before.scheduler == "mh" {
        " (the size by default, which the choice does not contradict)"
    } else {
        ""
    };
    let otherwise = match taken {
        Some(taken) if taken == owner => "",
        Some(_) => "; that takes none, and the service falls back to another bucket",
        None => "; that takes none, and the service does not fall back",
    };
    Rule {
        costs: vec![None; before.list.len()],
        computed: taken,
        words: format!(
            "a hash of {by} names bucket {bucket} of {size}{default}, which is of {owned}{otherwise}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Before, Choice, explain,
        given::{before, state},
    };

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
        let rule = |before: &Before<'_>, choice| explain(before, choice).rule;
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
