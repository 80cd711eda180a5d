//! What some probes are attached for only while it is so: they run for packets that others leave alone.

use std::{
    fs,
    ops::BitOr,
    time::{Duration, Instant},
};

use ipvs_observer_common::{
    control,
    counter::{Health, SEEN_BACKUP, SEEN_DROP_ENTRY, SEEN_DROP_PACKET},
};
use rustix::time::{ClockId, clock_gettime};

/// The kernel looks at each namespace once a second; what was not seen for so long is over.
const OVER: Duration = Duration::from_secs(3);

/// A set of occasions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occasions(u8);

impl Occasions {
    /// None: probes that are always attached.
    pub const NONE: Self = Self(0);
    /// `drop_packet` is not 0.
    pub const DROP_PACKET: Self = Self(1);
    /// `drop_entry` is not 0.
    pub const DROP_ENTRY: Self = Self(1 << 1);
    /// Connections are learnt from another director.
    pub const BACKUP: Self = Self(1 << 2);
    /// What only the path of each packet tells is asked for.
    pub const PACKETS: Self = Self(1 << 3);
    /// Every one.
    pub const ALL: Self = Self(0b1111);

    /// Whether all of another set are in it.
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// How the programs that are always attached are to go about it with those that these are for: a set of the
    /// constants of [`control`].
    pub(super) fn ways(self) -> u32 {
        [
            (Self::DROP_PACKET, control::LOOK_FOR_DEFENCE),
            (Self::PACKETS, control::LOOK_AT_PACKETS),
        ]
        .into_iter()
        .filter(|(occasion, _)| self.has(*occasion))
        .fold(0, |ways, (_, way)| ways | way)
    }

    /// Those that the programs saw a moment ago.
    fn seen(health: &Health) -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
        [
            (SEEN_DROP_PACKET, Self::DROP_PACKET),
            (SEEN_DROP_ENTRY, Self::DROP_ENTRY),
            (SEEN_BACKUP, Self::BACKUP),
        ]
        .into_iter()
        .filter(|(what, _)| {
            let last = health.seen[*what];
            last != 0 && now.saturating_sub(Duration::from_nanos(last)) < OVER
        })
        .fold(Self::NONE, |seen, (_, occasion)| seen | occasion)
    }

    /// Those of this thread's namespace by its settings.
    fn set() -> Self {
        let set = |name: &str| {
            fs::read_to_string(format!("/proc/sys/net/ipv4/vs/{name}"))
                .is_ok_and(|value| !matches!(value.trim(), "" | "0"))
        };
        [
            ("drop_packet", Self::DROP_PACKET),
            ("drop_entry", Self::DROP_ENTRY),
        ]
        .into_iter()
        .filter(|(name, _)| set(name))
        .fold(Self::NONE, |all, (_, occasion)| all | occasion)
    }
}

impl BitOr for Occasions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What is so from one look to the next.
pub(super) struct Present {
    /// What is so whatever the programs see.
    always: Occasions,
    /// What was set when probing began, until the programs can have seen it.
    first: Option<(Instant, Occasions)>,
}

impl Present {
    /// Before anything is attached.
    pub(super) fn new(always: Occasions) -> Self {
        Self { always, first: None }
    }

    /// Probing begins anew, and nothing is seen yet.
    pub(super) fn begin(&mut self) {
        self.first = Some((Instant::now(), Occasions::set()));
    }

    /// What is so now.
    pub(super) fn now(&mut self, health: &Health) -> Occasions {
        self.first = self.first.filter(|(begin, _)| begin.elapsed() < OVER);
        let first = self.first.map_or(Occasions::NONE, |(_, first)| first);
        self.always | first | Occasions::seen(health)
    }
}
