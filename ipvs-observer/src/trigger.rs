//! What starts a gather.
//!
//! Owns: the clock's ticks and those left out, newlines on standard input, signals. Refuses to know: what a
//! gather does.

use std::{
    io::{self, BufRead},
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use crate::privilege;

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

/// What starts a gather.
#[derive(Debug)]
pub enum Trigger {
    /// Nothing: the first gather is at once, and those after it too.
    Always,
    /// The clock.
    Clock(Clock),
    /// A newline on standard input.
    Stdin(Stdin),
    /// A signal. A burst of them while a gather runs is one more gather, not a queue of them.
    Signal(Signal),
}

/// What starts a gather, as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Start {
    /// The clock.
    Interval,
    /// A newline on standard input.
    Stdin,
    /// SIGHUP.
    Sighup,
    /// SIGUSR1.
    Sigusr1,
    /// SIGUSR2.
    Sigusr2,
}

impl Trigger {
    /// Puts the trigger in place. Must be done within the event loop and before anything slow: the default
    /// action of these signals is to end the process.
    ///
    /// # Errors
    /// The system takes no handler.
    pub fn install(start: Start, interval: Duration) -> io::Result<Self> {
        Ok(match start {
            Start::Interval => Self::Clock(Clock::new(interval)),
            Start::Stdin => Self::Stdin(Stdin::default()),
            Start::Sighup => Self::Signal(signal(SignalKind::hangup())?),
            Start::Sigusr1 => Self::Signal(signal(SignalKind::user_defined1())?),
            Start::Sigusr2 => Self::Signal(signal(SignalKind::user_defined2())?),
        })
    }

    /// Starts what takes a thread; what is on standard input waits there until then.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn begin(&self) -> io::Result<()> {
        match self {
            Self::Stdin(stdin) => stdin.watch(),
            _ => Ok(()),
        }
    }

    /// Waits for the next; false if there will be none.
    pub async fn next(&mut self) -> bool {
        match self {
            Self::Always => true,
            Self::Clock(clock) => {
                clock.tick().await;
                true
            }
            Self::Stdin(stdin) => stdin.newline().await,
            Self::Signal(signal) => signal.recv().await.is_some(),
        }
    }

    /// Ticks left out so far, because a gather took longer than the interval.
    pub fn skipped(&self) -> u64 {
        match self {
            Self::Clock(clock) => clock.skipped(),
            _ => 0,
        }
    }
}

/// Standard input: newlines, and its end.
#[derive(Debug, Default)]
pub struct Stdin {
    newlines: Arc<Notify>,
    end: Arc<Notify>,
}

impl Stdin {
    /// Reads from now on, in a thread of its own.
    fn watch(&self) -> io::Result<()> {
        let (newlines, end) = (Arc::clone(&self.newlines), Arc::clone(&self.end));
        thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            privilege::only_wait();
            let mut stdin = io::stdin().lock();
            // An error is an end too: there is nothing more to come.
            while let Ok(bytes) = stdin.fill_buf() {
                if bytes.is_empty() {
                    break;
                }
                for _ in bytes.iter().filter(|&&byte| byte == b'\n') {
                    newlines.notify_one();
                }
                let read = bytes.len();
                stdin.consume(read);
            }
            end.notify_one();
        })?;
        Ok(())
    }

    /// Waits for a newline; false at the end. Newlines that came before the end come first.
    async fn newline(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.newlines.notified() => true,
            () = self.end.notified() => false,
        }
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
