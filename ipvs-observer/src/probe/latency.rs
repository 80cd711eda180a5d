//! From counts by bucket to percentiles.

use std::{
    iter,
    sync::atomic::{AtomicU64, Ordering},
};

use ipvs_observer_common::histogram::{BUCKETS, Histogram, bounds};

use crate::model::Durations;

/// Buckets that are looked at together, a doubling: a service's calls are in a few of these.
const GROUP: usize = 16;
const GROUPS: usize = BUCKETS / GROUP;
const _: () = assert!(BUCKETS.is_multiple_of(GROUP) && GROUPS <= u32::BITS as usize);

/// Counts of a group as they lie in memory, two to a word.
pub(super) type Words = [u64; GROUP / 2];
const _: () = assert!(size_of::<Words>() * GROUPS == size_of::<Histogram>());

/// A service's histogram as of the last reading: the groups of it that have counts.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// A bit for each group that is kept.
    kept: u32,
    /// These groups, in their order.
    groups: Vec<Words>,
}

/// What was counted between two readings. Its room is used again: what is not counted in is not looked at.
#[derive(Debug)]
pub(super) struct Interval {
    /// A bit for each group in which something was.
    counted: u32,
    counts: [[u32; GROUP]; GROUPS],
}

impl Reading {
    /// Takes what was counted since the last reading, now that the histogram reads `now`, by group. A histogram that
    /// lost counts is another one, of a service that was deleted and added again: it counts from nothing.
    pub(super) fn since(&mut self, now: impl Fn(usize) -> Words, interval: &mut Interval) {
        if !self.update(&now, interval, false) {
            *self = Self::default();
            self.update(now, interval, true);
        }
    }

    /// Whether this is the histogram of the last reading, or `anew` whatever it is.
    #[inline]
    fn update(&mut self, now: impl Fn(usize) -> Words, interval: &mut Interval, anew: bool) -> bool {
        interval.counted = 0;
        let mut place = 0;
        for group in 0..GROUPS {
            let (bit, now) = (1 << group, now(group));
            let kept = if self.kept & bit == 0 {
                None
            } else {
                place += 1;
                self.groups.get_mut(place - 1)
            };
            let before = match &kept {
                Some(before) if same(&now, before) => continue,
                Some(before) => **before,
                None if now.iter().fold(0, |all, word| all | word) == 0 => continue,
                None => Words::default(),
            };
            let counts = &mut interval.counts[group];
            let mut all = 0;
            for (count, (now, before)) in counts.iter_mut().zip(each(now).into_iter().zip(each(before))) {
                *count = now.wrapping_sub(before);
                all |= *count;
            }
            // The highest bit of any.
            if all > u32::MAX / 2 && !anew {
                return false;
            }
            interval.counted |= bit;
            if let Some(kept) = kept {
                *kept = now;
            } else {
                // There will hardly be more.
                self.groups.reserve_exact(1);
                self.groups.insert(place, now);
                self.kept |= bit;
                place += 1;
            }
        }
        true
    }
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            counted: 0,
            counts: [[0; GROUP]; GROUPS],
        }
    }
}

impl Interval {
    /// The groups in which something was, each with its first bucket and its sum.
    #[inline]
    fn groups(&self) -> impl Iterator<Item = (usize, &[u32; GROUP], u64)> {
        let mut left = self.counted;
        let next = move || {
            let group = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            let counts = self.counts.get(group)?;
            Some((
                group * GROUP,
                counts,
                counts.iter().map(|&count| u64::from(count)).sum(),
            ))
        };
        iter::from_fn(next)
    }

    /// The percentiles, where the longest call is known exactly.
    pub(super) fn durations(&self, longest: u64) -> Option<Durations> {
        let calls: u64 = self.groups().map(|(_, _, sum)| sum).sum();
        if calls == 0 {
            return None;
        }
        let mut groups = self.groups();
        let (mut first, mut counts, mut sum) = groups.next()?;
        let mut below = 0;
        let [p50, p90, p99] = [50, 90, 99].map(|percent| {
            // The call that so many of a hundred are not longer than, counted from the shortest.
            let rank = (calls * percent).div_ceil(100);
            while below + sum < rank
                && let Some(next) = groups.next()
            {
                below += sum;
                (first, counts, sum) = next;
            }
            let mut within = rank - below;
            let bucket = counts.iter().position(|&count| {
                let found = within <= u64::from(count);
                within = within.saturating_sub(count.into());
                found
            });
            let (low, above) = bounds(first + bucket.unwrap_or(GROUP - 1));
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
}

/// Whether two groups are the same. Without a branch for each word, and without a call.
#[inline]
fn same(one: &Words, other: &Words) -> bool {
    let different = one
        .iter()
        .zip(other)
        .fold(0, |all, (one, other)| all | (one ^ other));
    different == 0
}

/// A group as it is now in a mapped histogram. What is not there reads as nothing.
#[inline]
pub(super) fn group(histogram: &[AtomicU64], group: usize) -> Words {
    let first = group * size_of::<Words>() / size_of::<u64>();
    let words = histogram.get(first..).and_then(<[AtomicU64]>::first_chunk);
    words.map_or_else(Words::default, |words: &[AtomicU64; GROUP / 2]| {
        words.each_ref().map(|word| word.load(Ordering::Relaxed))
    })
}

/// The counts of a group, in the order of their bytes in memory.
#[inline]
fn each(words: Words) -> [u32; GROUP] {
    let mut counts = [0; GROUP];
    for (pair, word) in counts.as_chunks_mut().0.iter_mut().zip(words) {
        let (low, high) = (word as u32, (word >> 32) as u32);
        *pair = if cfg!(target_endian = "little") {
            [low, high]
        } else {
            [high, low]
        };
    }
    counts
}

#[cfg(test)]
mod tests {
    use ipvs_observer_common::histogram::{BUCKETS, Histogram, bounds, bucket};

    use super::{GROUP, Interval, Reading, Words};
    use crate::model::Durations;

    fn of(calls: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        for ns in calls {
            histogram.buckets[bucket(ns)] += 1;
        }
        histogram
    }

    fn group(histogram: &Histogram, group: usize) -> Words {
        let mut buckets = histogram.buckets[group * GROUP..].iter();
        Words::default().map(|_| {
            let mut bytes = [0; 8];
            for half in bytes.chunks_mut(4) {
                half.copy_from_slice(&buckets.next().expect("a bucket").to_ne_bytes());
            }
            u64::from_ne_bytes(bytes)
        })
    }

    fn since(reading: &mut Reading, now: &Histogram) -> Histogram {
        // The room of another.
        let mut interval = Interval {
            counted: 7,
            counts: [[9; GROUP]; BUCKETS / GROUP],
        };
        reading.since(|place| group(now, place), &mut interval);
        let mut histogram = Histogram::default();
        for (first, counts, _) in interval.groups() {
            histogram.buckets[first..first + GROUP].copy_from_slice(counts);
        }
        histogram
    }

    fn between(before: &Histogram, now: &Histogram) -> Histogram {
        let mut reading = Reading::default();
        since(&mut reading, before);
        let found = since(&mut reading, now);
        // And now it is known as it is.
        assert_eq!(since(&mut reading, now), Histogram::default());
        found
    }

    fn durations(histogram: &Histogram, longest: u64) -> Option<Durations> {
        let mut interval = Interval::default();
        Reading::default().since(|place| group(histogram, place), &mut interval);
        interval.durations(longest)
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
