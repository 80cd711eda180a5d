//! From the clock of the kernel's events to that of people.

use rustix::time::{ClockId, clock_getres, clock_gettime};

/// How far the one is from the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Nanoseconds from the zero of the monotonic clock to the epoch, backwards.
    pub(super) ahead: u64,
}

impl Clock {
    /// As it is now: it changes where the machine's time is set, or corrected step by step.
    pub(super) fn now() -> Self {
        let [monotonic, real] = [ClockId::Monotonic, ClockId::Realtime].map(|clock| {
            let time = clock_gettime(clock);
            let seconds = time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000);
            seconds.wrapping_add(time.tv_nsec.cast_unsigned())
        });
        Self {
            ahead: real.wrapping_sub(monotonic),
        }
    }

    /// Nanoseconds since the epoch.
    pub(super) fn real(self, monotonic: u64) -> u64 {
        monotonic.wrapping_add(self.ahead)
    }
}

/// How often a second the kernel's clock ticks, in which it keeps timeouts: its coarse clock moves on with each.
pub(super) fn ticks_per_second() -> u32 {
    const SECOND: u64 = 1_000_000_000;
    let tick = clock_getres(ClockId::MonotonicCoarse)
        .tv_nsec
        .unsigned_abs()
        .max(1);
    ((SECOND + tick / 2) / tick) as u32
}

#[cfg(test)]
mod tests {
    use super::ticks_per_second;

    #[test]
    fn ticks_are_as_many_as_kernels_are_built_with() {
        let ticks = ticks_per_second();
        assert!([100, 250, 300, 1000].contains(&ticks), "{ticks}");
    }
}
