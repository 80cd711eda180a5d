//! From the clock of the kernel's events to that of people.

use rustix::time::{ClockId, clock_gettime};

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
