//! Log-linear buckets of durations: sixteen to each doubling, so that the middle of a bucket is within 3.2 % of
//! anything in it.

/// Number of buckets. The last takes all from 16 ms on: a scheduler runs with softirqs off, far below that.
pub const BUCKETS: usize = 336;

/// Buckets to a doubling, as a power of two.
const STEP: u32 = 4;

/// How many calls took how long. The counts wrap; a reader takes differences.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Calls by bucket.
    pub buckets: [u32; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
        }
    }
}

/// The bucket of a duration in ns.
#[inline]
pub fn bucket(ns: u64) -> usize {
    if ns < 1 << STEP {
        return ns as usize;
    }
    let doubling = (63 - STEP) - ns.leading_zeros();
    let index = (doubling << STEP) as usize + (ns >> doubling) as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The shortest duration in ns that falls into a bucket, and the first above that does not.
pub fn bounds(bucket: usize) -> (u64, u64) {
    let bucket = bucket as u64;
    if bucket < 1 << STEP {
        return (bucket, bucket + 1);
    }
    let doubling = (bucket >> STEP) - 1;
    let low = (bucket - (doubling << STEP)) << doubling;
    (low, low + (1 << doubling))
}

crate::plain!(Histogram: 1344);

#[cfg(test)]
mod tests {
    use super::{BUCKETS, bounds, bucket};

    #[test]
    fn every_bucket_begins_where_the_one_before_ends() {
        for index in 1..BUCKETS {
            assert_eq!(bounds(index).0, bounds(index - 1).1, "bucket {index}");
        }
    }

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bounds_hold_it() {
        for ns in (0..5000).chain([10_000, 99_999, 1_234_567, 15_000_000]) {
            let (low, above) = bounds(bucket(ns));
            assert!(low <= ns && ns < above, "{ns} in {low}..{above}");
        }
    }

    #[test]
    fn the_middle_of_a_bucket_is_within_five_percent_of_all_in_it() {
        for index in 16..BUCKETS {
            let (low, above) = bounds(index);
            let middle = (low + above) as f64 / 2.0;
            assert!((middle - low as f64) / (low as f64) < 0.05, "bucket {index}");
        }
    }

    #[test]
    fn what_is_longer_than_any_bucket_falls_into_the_last() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
