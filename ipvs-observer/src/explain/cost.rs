//! Rules by a cost, and by weight.

use super::{Rule, usable};
use crate::model::{Before, DestinationState};

/// What a cost is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The load alone.
    Load,
    /// The load divided by the weight.
    LoadAndWeight,
    /// The same, and no weight of 0 is looked at.
    LoadAndWeightOfUsable,
}

/// The load of `sed` and `nq`, an `int` in the kernel.
pub(super) fn expected_delay(state: &DestinationState) -> i32 {
    state.active.cast_signed().wrapping_add(1)
}

/// The least cost; of equals the first. Costs are compared as the kernel does: by multiplying crosswise, with no
/// rounding, a load being 32 bits and a product 64.
pub(super) fn least(before: &Before, words: String, by: By, load: impl Fn(&DestinationState) -> i32) -> Rule {
    // The least connections are compared as unsigned, all others as they are.
    let load = |state: &DestinationState| match by {
        By::Load => i64::from(load(state).cast_unsigned()),
        By::LoadAndWeight | By::LoadAndWeightOfUsable => i64::from(load(state)),
    };
    let weight = |state: &DestinationState| match by {
        By::Load => 1,
        By::LoadAndWeight | By::LoadAndWeightOfUsable => i64::from(state.weight),
    };
    let mut winner: Option<(usize, &DestinationState)> = None;
    for (place, state) in before.list.iter().enumerate() {
        let wins = match winner {
            None => usable(state),
            // Behind the first, the kernel does not look whether a weight is 0: by the product, such a destination
            // wins only with a load that has wrapped below 0.
            Some((_, least)) => {
                (usable(state) || by == By::LoadAndWeight && !state.overloaded)
                    && load(least) * weight(state) > load(state) * weight(least)
            }
        };
        if wins {
            winner = Some((place, state));
        }
    }
    let cost = |state| usable(state).then(|| load(state) as f64 / weight(state) as f64);
    Rule {
        costs: before.list.iter().map(cost).collect(),
        computed: winner.map(|winner| winner.0),
        words,
    }
}

/// As the shortest expected delay, but the first idle destination takes all.
pub(super) fn never_queue(before: &Before) -> Rule {
    let rule = least(
        before,
        "the first idle one, else least of (active + 1) / weight".to_owned(),
        By::LoadAndWeightOfUsable,
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
pub(super) fn most(before: &Before, words: &str, fits: impl Fn(&DestinationState) -> bool) -> Rule {
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

#[cfg(test)]
mod tests {
    use super::super::given::{before, explain, overloaded, state, winner};
    use crate::model::{Before, Choice, Memory};

    #[test]
    fn no_state_is_too_great_for_a_cost() {
        let list = [state(i32::MAX as u32, u32::MAX, u32::MAX), state(1, u32::MAX, 0)];
        for scheduler in ["lc", "wlc", "sed", "nq", "lblc"] {
            let before = Before {
                total_connections: true,
                ..before(scheduler, &list)
            };
            let costs = explain(&before, Choice::Unknown).list;
            assert!(
                costs
                    .iter()
                    .all(|candidate| candidate.cost.is_some_and(f64::is_finite))
            );
        }
    }

    #[test]
    fn a_load_wraps_where_the_kernels_does() {
        let below = (1 << 23) - 1;
        for (scheduler, beyond) in [("lc", 0), ("wlc", 1)] {
            let list = [state(1, 0, 0), state(1, below, 0)];
            assert_eq!(winner(scheduler, &list, Memory::Unread), Some(0), "{scheduler}");
            let list = [state(1, 0, 0), state(1, below + 1, 0)];
            assert_eq!(
                winner(scheduler, &list, Memory::Unread),
                Some(beyond),
                "{scheduler}"
            );
        }
        let unsigned = [state(1, 1, 0), state(1, 1 << 24, 0)];
        assert_eq!(winner("lc", &unsigned, Memory::Unread), Some(1), "at 32 bits");
        let list = [state(1, 1, 0), state(1, i32::MAX as u32, 0)];
        for scheduler in ["sed", "nq"] {
            assert_eq!(winner(scheduler, &list, Memory::Unread), Some(1), "{scheduler}");
        }
        let drained = [state(1, 0, 0), state(0, below + 1, 0)];
        assert_eq!(winner("wlc", &drained, Memory::Unread), Some(1));
        let busy = [state(1, 1, 0), state(0, i32::MAX as u32, 0)];
        assert_eq!(winner("nq", &busy, Memory::Unread), Some(0));
        assert_eq!(winner("lc", &drained, Memory::Unread), Some(0));
    }

    #[test]
    fn a_kernel_that_keeps_totals_counts_active_ones_once_more() {
        let list = [state(1, 1, 0), state(1, 0, 257)];
        let before = Before {
            total_connections: true,
            ..before("wlc", &list)
        };
        let explained = explain(&before, Choice::Took(1));
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
    fn each_rule_takes_what_the_kernels_takes() {
        let (idle, light, heavy) = (state(1, 0, 0), state(1, 1, 0), state(3, 1, 0));
        let least = [light, state(1, 0, 255), state(9, 0, 254), state(9, 0, 254)];
        let weighted = [state(3, 1, 0), state(2, 0, 170), state(70_000, 99, 0)];
        let failover = [idle, state(5, 6, 0), overloaded(state(9, 0, 0))];
        for (scheduler, list, expected, why) in [
            (
                "lc",
                &least[..],
                2,
                "active ones count 256 times; of equals the first",
            ),
            (
                "lc",
                &[state(0, 0, 0), state(1, 9, 9)],
                1,
                "a drained one takes none",
            ),
            ("wlc", &weighted, 2, "the load is divided by the weight"),
            (
                "wlc",
                &weighted[..2],
                1,
                "without rounding: 85 against 85 and a third",
            ),
            ("sed", &[idle, heavy], 1, "the connection to come counts"),
            ("nq", &[idle, heavy], 0, "an idle one first"),
            ("nq", &[light, heavy], 1, "none is idle"),
            ("fo", &failover, 1, "by weight, but for an overloaded one"),
            ("ovf", &failover, 0, "active connections above the weight"),
            ("ovf", &[state(5, 5, 0)], 0, "equal is not above"),
        ] {
            assert_eq!(
                winner(scheduler, list, Memory::Unread),
                Some(expected),
                "{scheduler}: {why}"
            );
        }
    }
}
