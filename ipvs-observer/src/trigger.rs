//! What starts a gather.
//!
//! Owns: the clock's ticks and those left out. Refuses to know: what a gather does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock: ticks at multiples of the interval since 1970, as Telegraf aligns its gathers.
#[derive(Debug)]
pub struct Clock {
    interval: u64,
    last: Option<u64>,
    skipped: u64,
}

impl Clock {
    /// A clock that ticks every `interval`.
    pub fn new(interval: Duration) -> Self {
        // Settings refuse what does not fit.
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self {
            interval,
            last: None,
            skipped: 0,
        }
    }

    /// Ticks left out so far, because a gather took longer than the interval.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Waits for the next tick.
    pub async fn tick(&mut self) {
        let wait = self.plan(now());
        tokio::time::sleep(Duration::from_nanos(wait)).await;
    }

    /// Nanoseconds from `now` to the next tick, which is remembered as made.
    fn plan(&mut self, now: u64) -> u64 {
        let next = (now / self.interval)
            .saturating_add(1)
            .saturating_mul(self.interval);
        if let Some(last) = self.last {
            // A clock set back makes no ticks that were left out, and one set forward by more than a few
            // intervals does: they are times without data.
            self.skipped += (next.saturating_sub(last) / self.interval).saturating_sub(1);
        }
        self.last = Some(next);
        next - now
    }
}

/// The time, in nanoseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_multiples_of_the_interval() {
        let mut clock = Clock::new(Duration::from_nanos(100));
        assert_eq!(clock.plan(1_030), 70);
        assert_eq!(clock.plan(1_100), 100);
        assert_eq!(clock.skipped(), 0);
    }

    #[test]
    fn a_gather_that_overruns_leaves_ticks_out_and_they_are_counted() {
        let mut clock = Clock::new(Duration::from_nanos(100));
        clock.plan(1_000);
        assert_eq!(clock.plan(1_350), 50);
        assert_eq!(clock.skipped(), 2);
    }

    #[test]
    fn a_clock_set_back_leaves_nothing_out() {
        let mut clock = Clock::new(Duration::from_nanos(100));
        clock.plan(5_000);
        assert_eq!(clock.plan(1_010), 90);
        assert_eq!(clock.skipped(), 0);
    }
}
