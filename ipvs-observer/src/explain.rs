//! Why a scheduler chose: each scheduler's own rule, computed from what it had before it.
//!
//! Owns: the rules, as the kernel's `net/netfilter/ipvs/ip_vs_*.c` have them. Refuses to know: how the state was
//! read. Where the state that decides is not read, or chance decides, it says so and computes no winner.

pub mod hash;

use std::net::SocketAddr;

use crate::model::{Candidate, Candidates, DestinationState};

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

/// A cost as a fraction, compared as the kernel does: by multiplying crosswise, with no rounding. What is too great
/// for 64 bits wraps there, and so it does here.
#[derive(Clone, Copy)]
struct Cost {
    load: i64,
    weight: i64,
}

impl Cost {
    fn below(self, other: Self) -> bool {
        other.load.wrapping_mul(self.weight) > self.load.wrapping_mul(other.weight)
    }

    fn value(self) -> f64 {
        self.load as f64 / self.weight as f64
    }
}

/// What the scheduler's rule makes of what it had; `chosen` is the place of the destination that it took.
pub fn explain(before: &Before<'_>, chosen: Option<usize>) -> Candidates {
    let Rule {
        costs,
        computed,
        words,
    } = rule(before);
    // A destination that is out of sight may have won.
    let computed = computed.filter(|_| before.more == 0);
    let list = before.list.iter().enumerate().map(|(place, state)| Candidate {
        state: *state,
        cost: costs.get(place).copied().flatten(),
        chosen: chosen == Some(place),
    });
    Candidates {
        list: list.collect(),
        more: before.more,
        rule: words,
        computed,
    }
}

struct Rule {
    costs: Vec<Option<f64>>,
    computed: Option<usize>,
    words: String,
}

fn rule(before: &Before<'_>) -> Rule {
    let active_times = if before.total_connections { 257 } else { 256 };
    let load =
        move |state: &DestinationState| i64::from(state.active) * active_times + i64::from(state.inactive);
    match before.scheduler {
        "rr" => round_robin(before),
        "wrr" => weighted_round_robin(before),
        "lc" => least(
            before,
            format!("least of active * {active_times} + inactive"),
            |state| {
                usable(state).then(|| Cost {
                    load: load(state),
                    weight: 1,
                })
            },
        ),
        "wlc" => least(
            before,
            format!("least of (active * {active_times} + inactive) / weight"),
            |state| {
                usable(state).then(|| Cost {
                    load: load(state),
                    weight: state.weight.into(),
                })
            },
        ),
        "sed" => least(
            before,
            "least of (active + 1) / weight".to_owned(),
            expected_delay,
        ),
        "nq" => never_queue(before),
        "fo" => most(before, "the greatest weight that is not overloaded", |_| true),
        "ovf" => most(
            before,
            "the greatest weight whose active connections are not above it",
            |state| state.active <= state.weight,
        ),
        "sh" | "mh" | "dh" => hashed(before),
        "lblc" | "lblcr" => {
            let words = format!(
                "by the packet's destination, as its table of locality has it, which is not read; where that has \
                 nothing, the least of (active * {active_times} + inactive) / weight, which the costs are"
            );
            let by_cost = least(before, words, |state| {
                usable(state).then(|| Cost {
                    load: load(state),
                    weight: state.weight.into(),
                })
            });
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

fn expected_delay(state: &DestinationState) -> Option<Cost> {
    usable(state).then(|| Cost {
        load: i64::from(state.active) + 1,
        weight: state.weight.into(),
    })
}

fn unknown(before: &Before<'_>, words: &str) -> Rule {
    Rule {
        costs: vec![None; before.list.len()],
        computed: None,
        words: format!("no cost to compute: {words}"),
    }
}

/// The least cost; of equals the first.
fn least(before: &Before<'_>, words: String, cost: impl Fn(&DestinationState) -> Option<Cost>) -> Rule {
    let costs: Vec<_> = before.list.iter().map(cost).collect();
    let mut winner: Option<(usize, Cost)> = None;
    for (place, cost) in costs.iter().enumerate() {
        if let Some(cost) = cost
            && winner.is_none_or(|(_, least)| cost.below(least))
        {
            winner = Some((place, *cost));
        }
    }
    let costs = costs.iter().map(|cost| cost.map(Cost::value)).collect();
    Rule {
        costs,
        computed: winner.map(|winner| winner.0),
        words,
    }
}

/// As the shortest expected delay, but the first idle destination takes all.
fn never_queue(before: &Before<'_>) -> Rule {
    let rule = least(
        before,
        "the first idle one, else least of (active + 1) / weight".to_owned(),
        expected_delay,
    );
    let idle = before
        .list
        .iter()
        .position(|state| usable(state) && state.active == 0);
    Rule {
        computed: idle.or(rule.computed),
        ..rule
    }
}

/// The greatest weight; of equals the first.
fn most(before: &Before<'_>, words: &str, fits: impl Fn(&DestinationState) -> bool) -> Rule {
    let mut winner: Option<(usize, u32)> = None;
    for (place, state) in before.list.iter().enumerate() {
        if usable(state) && fits(state) && winner.is_none_or(|(_, weight)| state.weight > weight) {
            winner = Some((place, state.weight));
        }
    }
    let costs = before.list.iter().map(|state| Some(f64::from(state.weight)));
    Rule {
        costs: costs.collect(),
        computed: winner.map(|winner| winner.0),
        words: format!("{words}; the number is the weight"),
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
    let owned = before.list.get(owner).map_or_else(String::new, |state| {
        let owner = SocketAddr::new(state.key.address.ip(), state.key.port);
        format!(", which is of {owner}")
    });
    let otherwise = match taken {
        Some(taken) if taken == owner => "",
        Some(_) => "; that takes none, and the service falls back to another bucket",
        None => "; that takes none, and the service does not fall back",
    };
    Rule {
        costs: vec![None; before.list.len()],
        computed: taken,
        words: format!("a hash of {by} names bucket {bucket} of {size}{owned}{otherwise}"),
    }
}

fn round_robin(before: &Before<'_>) -> Rule {
    let words = "the next in turn that has a weight and is not overloaded";
    let Memory::Last(last) = before.memory else {
        return unknown(before, "the next in turn; whose turn it was is not read");
    };
    let length = before.list.len();
    let first = last.map_or(0, |last| last + 1);
    let computed = (0..length)
        .map(|step| (first + step) % length)
        .find(|&place| usable(&before.list[place]));
    Rule {
        costs: vec![None; length],
        computed,
        words: words.to_owned(),
    }
}

fn weighted_round_robin(before: &Before<'_>) -> Rule {
    let Memory::Weighted {
        last,
        current,
        greatest,
        step,
    } = before.memory
    else {
        return unknown(
            before,
            "the next in turn whose weight reaches the round's; the round is not read",
        );
    };
    let words =
        format!("the next in turn whose weight reaches the round's, {current} of {greatest} down by {step}");
    let costs = vec![None; before.list.len()];
    Rule {
        costs,
        computed: weighted_turn(before.list, last, current, greatest, step),
        words,
    }
}

/// The next turn of the weighted round robin: around the list, with a bar that each round lowers by a step, and
/// that begins anew when it is below one.
fn weighted_turn(
    list: &[DestinationState],
    last: Option<usize>,
    bar: i32,
    greatest: i32,
    step: i32,
) -> Option<usize> {
    if greatest <= 0 || step <= 0 {
        return None;
    }
    let (mut bar, greatest, step) = (i64::from(bar), i64::from(greatest), i64::from(step));
    let reaches = |place: &usize, bar: i64| {
        let state = &list[*place];
        !state.overloaded && i64::from(state.weight) >= bar
    };
    let able = list.iter().filter(|state| !state.overloaded);
    let top = able.map(|state| i64::from(state.weight)).max()?;
    let mut from = last.map_or(0, |last| last + 1);
    // Down to one, and once more from the top to one: by then every destination was seen at every bar.
    let mut begun_anew = 0;
    while begun_anew < 2 {
        if let Some(place) = (from..list.len()).find(|place| reaches(place, bar)) {
            return Some(place);
        }
        from = 0;
        // Rounds in which nobody reaches the bar are gone through at once: there may be thousands of millions.
        let rounds = 1 + (bar - step - top).max(0).div_euclid(step);
        bar -= rounds * step;
        if bar <= 0 {
            bar = greatest;
            begun_anew += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{Address, DestinationKey};

    fn state(weight: u32, active: u32, inactive: u32) -> DestinationState {
        let key = DestinationKey {
            address: Address::from(IpAddr::from([10, 0, 0, 1])),
            port: 80,
        };
        DestinationState {
            key,
            weight,
            active,
            inactive,
            overloaded: false,
        }
    }

    fn overloaded(state: DestinationState) -> DestinationState {
        DestinationState {
            overloaded: true,
            ..state
        }
    }

    fn winner(scheduler: &str, list: &[DestinationState], memory: Memory) -> Option<usize> {
        let before = Before {
            scheduler,
            list,
            more: 0,
            total_connections: false,
            memory,
        };
        explain(&before, None).computed
    }

    #[test]
    fn least_connections_count_active_ones_256_times() {
        let list = [
            state(1, 1, 0),
            state(1, 0, 255),
            state(9, 0, 254),
            state(9, 0, 254),
        ];
        assert_eq!(
            winner("lc", &list, Memory::Unread),
            Some(2),
            "of equals the first"
        );
        assert_eq!(
            winner("lc", &[state(0, 0, 0), state(1, 9, 9)], Memory::Unread),
            Some(1)
        );
    }

    #[test]
    fn no_state_is_too_great_for_a_cost() {
        let list = [state(i32::MAX as u32, u32::MAX, u32::MAX), state(1, u32::MAX, 0)];
        for scheduler in ["lc", "wlc", "sed", "nq", "lblc"] {
            let before = Before {
                scheduler,
                list: &list,
                more: 0,
                total_connections: true,
                memory: Memory::Unread,
            };
            let costs = explain(&before, None).list;
            assert!(
                costs
                    .iter()
                    .all(|candidate| candidate.cost.is_some_and(f64::is_finite))
            );
        }
    }

    #[test]
    fn a_turn_is_found_at_once_whatever_the_round_is_at() {
        let list = [state(1, 0, 0), state(3, 0, 0)];
        for (current, greatest, step, expected) in [
            (i32::MAX, i32::MAX, 1, Some(1)),
            (i32::MIN, i32::MAX, i32::MAX, Some(0)),
            (5, 3, 1, Some(1)),
            (0, i32::MAX, 2, Some(0)),
            (2, i32::MAX, 2, Some(1)),
        ] {
            let memory = Memory::Weighted {
                last: None,
                current,
                greatest,
                step,
            };
            assert_eq!(
                winner("wrr", &list, memory),
                expected,
                "{current} {greatest} {step}"
            );
        }
        let memory = Memory::Weighted {
            last: Some(1),
            current: i32::MAX,
            greatest: i32::MAX,
            step: 1,
        };
        assert_eq!(
            winner("wrr", &[overloaded(state(1, 0, 0)), state(0, 0, 0)], memory),
            None
        );
    }

    #[test]
    fn weighted_least_connections_divide_by_the_weight_without_rounding() {
        let list = [state(3, 1, 0), state(2, 0, 170), state(70_000, 99, 0)];
        assert_eq!(winner("wlc", &list, Memory::Unread), Some(2));
        assert_eq!(
            winner("wlc", &list[..2], Memory::Unread),
            Some(1),
            "85 against 85 and a third"
        );
    }

    #[test]
    fn a_kernel_that_keeps_totals_counts_active_ones_once_more() {
        let list = [state(1, 1, 0), state(1, 0, 257)];
        let before = Before {
            scheduler: "wlc",
            list: &list,
            more: 0,
            total_connections: true,
            memory: Memory::Unread,
        };
        let explained = explain(&before, Some(1));
        assert_eq!(
            explained
                .list
                .iter()
                .map(|candidate| candidate.cost)
                .collect::<Vec<_>>(),
            [Some(257.0); 2]
        );
        assert_eq!(explained.computed, Some(0));
        assert!(explained.list[1].chosen && !explained.list[0].chosen);
    }

    #[test]
    fn the_shortest_expected_delay_counts_the_connection_to_come() {
        assert_eq!(
            winner("sed", &[state(1, 0, 0), state(3, 1, 0)], Memory::Unread),
            Some(1)
        );
        assert_eq!(
            winner("nq", &[state(1, 0, 0), state(3, 1, 0)], Memory::Unread),
            Some(0),
            "an idle one first"
        );
        assert_eq!(
            winner("nq", &[state(1, 1, 0), state(3, 1, 0)], Memory::Unread),
            Some(1)
        );
    }

    #[test]
    fn failover_goes_by_weight_and_overflow_by_what_it_holds() {
        let list = [state(1, 0, 0), state(5, 6, 0), overloaded(state(9, 0, 0))];
        assert_eq!(winner("fo", &list, Memory::Unread), Some(1));
        assert_eq!(winner("ovf", &list, Memory::Unread), Some(0));
        assert_eq!(
            winner("ovf", &[state(5, 5, 0)], Memory::Unread),
            Some(0),
            "equal is not above"
        );
    }

    #[test]
    fn round_robin_goes_on_behind_the_last_and_leaves_out_who_takes_none() {
        let list = [
            state(1, 0, 0),
            state(0, 0, 0),
            overloaded(state(1, 0, 0)),
            state(1, 0, 0),
        ];
        assert_eq!(winner("rr", &list, Memory::Last(None)), Some(0));
        assert_eq!(winner("rr", &list, Memory::Last(Some(0))), Some(3));
        assert_eq!(winner("rr", &list, Memory::Last(Some(3))), Some(0));
        assert_eq!(winner("rr", &list[1..3], Memory::Last(Some(0))), None);
        assert_eq!(winner("rr", &[], Memory::Last(None)), None);
    }

    #[test]
    fn weighted_round_robin_gives_each_its_weight_in_a_cycle() {
        let list = [state(1, 0, 0), state(3, 0, 0), state(0, 0, 0), state(2, 0, 0)];
        let (mut last, mut bar) = (None, 3);
        let mut picks = [0; 4];
        for _ in 0..60 {
            let place = weighted_turn(&list, last, bar, 3, 1).expect("somebody has a weight");
            // What the kernel remembers: where it stopped, and at which bar.
            let mut at = last.map_or(0, |last: usize| last + 1);
            while !(at..list.len()).any(|place| i64::from(list[place].weight) >= i64::from(bar)) {
                at = 0;
                bar = if bar == 1 { 3 } else { bar - 1 };
            }
            last = Some(place);
            picks[place] += 1;
        }
        assert_eq!(picks, [10, 30, 0, 20]);
    }

    #[test]
    fn weighted_round_robin_ends_where_nobody_takes_connections() {
        let list = [overloaded(state(3, 0, 0)), state(0, 0, 0)];
        assert_eq!(weighted_turn(&list, Some(0), 3, 3, 1), None);
        assert_eq!(weighted_turn(&list, None, 0, 0, 1), None);
        assert_eq!(weighted_turn(&[], None, 3, 3, 1), None);
    }

    #[test]
    fn where_the_deciding_state_is_not_read_no_winner_is_computed_and_it_is_said() {
        let list = [state(1, 0, 0), state(1, 0, 0)];
        for scheduler in ["sh", "dh", "mh", "twos", "rr", "wrr", "lblc", "lblcr", "newest"] {
            let before = Before {
                scheduler,
                list: &list,
                more: 0,
                total_connections: false,
                memory: Memory::Unread,
            };
            let explained = explain(&before, Some(0));
            assert_eq!(explained.computed, None, "{scheduler}");
            assert!(explained.rule.contains("not"), "{scheduler}: {}", explained.rule);
        }
    }

    #[test]
    fn no_winner_is_computed_where_destinations_are_out_of_sight() {
        let list = [state(1, 0, 0)];
        let before = Before {
            scheduler: "wlc",
            list: &list,
            more: 1,
            total_connections: false,
            memory: Memory::Unread,
        };
        assert_eq!(explain(&before, None).computed, None);
    }
}
