//! From counts by bucket to percentiles.

use ipvs_observer_common::histogram::{BUCKETS, Histogram, bounds};

use crate::model::Durations;

/// What was counted between two readings. A histogram that lost counts is another one, of a service that was
/// deleted and added again: it counts from nothing.
pub(super) fn between(before: &Histogram, now: &Histogram) -> Histogram {
    let mut difference = Histogram::default();
    let counts = before.buckets.iter().zip(&now.buckets);
    let mut all = 0;
    for (count, (before, now)) in difference.buckets.iter_mut().zip(counts) {
        *count = now.wrapping_sub(*before);
        all |= *count;
    }
    // The highest bit of any.
    if all > u32::MAX / 2 { *now } else { difference }
}

/// The percentiles of an interval, whose longest call is known exactly.
pub(super) fn durations(interval: &Histogram, longest: u64) -> Option<Durations> {
    let calls: u64 = interval.buckets.iter().map(|&count| u64::from(count)).sum();
    if calls == 0 {
        return None;
    }
    let mut below = 0;
    let mut bucket = 0;
    let [p50, p90, p99] = [50, 90, 99].map(|percent| {
        // The call that so many of a hundred are not longer than, counted from the shortest.
        let rank = (calls * percent).div_ceil(100);
        while bucket < BUCKETS - 1 && below + u64::from(interval.buckets[bucket]) < rank {
            below += u64::from(interval.buckets[bucket]);
            bucket += 1;
        }
        let (low, above) = bounds(bucket);
        let middle = low.midpoint(above - 1);
        if longest == 0 { middle } else { middle.min(longest) }
    });
    Some(Durations {
        p50,
        p90,
        p99,
        max: if longest == 0 { p99 } else { longest },
    })
}

#[cfg(test)]
mod tests {
    use ipvs_observer_common::histogram::{BUCKETS, Histogram, bounds, bucket};

    use super::{between, durations};

    fn of(calls: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        for ns in calls {
            histogram.buckets[bucket(ns)] += 1;
        }
        histogram
    }

    #[test]
    fn percentiles_are_within_five_percent_of_the_exact_ones() {
        // A long tail: 100 ns to 1 ms.
        let mut calls: Vec<u64> = (0..10_000_u64).map(|index| 100 + index * index / 100).collect();
        calls.sort_unstable();
        let found = durations(&of(calls.iter().copied()), *calls.last().expect("calls")).expect("calls");
        for (percent, found) in [(50, found.p50), (90, found.p90), (99, found.p99)] {
            let exact = calls[(calls.len() * percent).div_ceil(100) - 1];
            assert!(
                found.abs_diff(exact) * 20 <= exact,
                "p{percent}: {found} for {exact}"
            );
        }
        assert_eq!(found.max, 100 + 9999 * 9999 / 100);
    }

    #[test]
    fn one_call_is_every_percentile_and_none_is_longer_than_the_longest() {
        let found = durations(&of([1000]), 1000).expect("a call");
        assert!(found.p50 == found.p99 && found.p99 <= found.max && found.max == 1000);
    }

    #[test]
    fn an_interval_without_calls_has_no_percentiles() {
        let same = of([500, 600]);
        assert_eq!(durations(&between(&same, &same), 0), None);
    }

    #[test]
    fn only_what_came_between_two_readings_counts_and_counters_may_wrap() {
        let mut before = of([]);
        before.buckets[100] = u32::MAX;
        let mut now = before;
        now.buckets[100] = 1;
        assert_eq!(between(&before, &now).buckets[100], 2);
    }

    #[test]
    fn whatever_was_counted_and_however_it_wraps_the_percentiles_are_in_order() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u32
        };
        for _ in 0..2000 {
            let (mut before, mut added) = (of([]), of([]));
            for _ in 0..=random() % 8 {
                before.buckets[random() as usize % BUCKETS] = random().wrapping_mul(2);
                added.buckets[random() as usize % BUCKETS] = random() >> (random() % 31);
            }
            let mut now = before;
            for (now, added) in now.buckets.iter_mut().zip(added.buckets) {
                *now = now.wrapping_add(added);
            }
            assert_eq!(between(&before, &now), added);
            let longest = added.buckets.iter().rposition(|&count| count > 0);
            let found = durations(&added, longest.map_or(0, |bucket| bounds(bucket).0));
            assert_eq!(found.is_some(), longest.is_some());
            if let Some(found) = found {
                assert!(
                    found.p50 <= found.p90 && found.p90 <= found.p99 && found.p99 <= found.max,
                    "{found:?}"
                );
            }
        }
    }

    #[test]
    fn a_service_that_was_made_anew_counts_from_nothing() {
        let before = of([500; 1000]);
        let now = of([500; 3]);
        assert_eq!(between(&before, &now), now);
    }
}
