//! Rules by turns.

use super::{Rule, unknown, usable};
use crate::model::{Before, DestinationState, Memory};

pub(super) fn round_robin(before: &Before) -> Rule {
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

pub(super) fn weighted_round_robin(before: &Before) -> Rule {
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
        computed: weighted_turn(&before.list, last, current, greatest, step),
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
    use super::{
        super::given::{overloaded, state, winner},
        weighted_turn,
    };
    use crate::model::Memory;

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
}
