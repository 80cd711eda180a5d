//! The time of day where this runs, for people.
//!
//! Owns: the local time zone. Refuses to know: what is told of the time.

use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};

/// The local clock, and which offset from UTC was last told.
#[derive(Clone, Debug)]
pub struct LocalClock {
    zone: TimeZone,
    known: bool,
    told: Option<Offset>,
}

impl LocalClock {
    /// The clock of this system: by `TZ`, else by `/etc/localtime`, else in UTC. Reads files that the sandbox forbids
    /// to read later.
    pub fn of_system() -> Self {
        let zone = TimeZone::try_system();
        Self {
            known: zone.is_ok(),
            zone: zone.unwrap_or(TimeZone::UTC),
            told: None,
        }
    }

    /// A clock with this offset from UTC, in hours.
    pub fn fixed(hours: i8) -> Self {
        Self {
            zone: Offset::from_hours(hours).map_or(TimeZone::UTC, TimeZone::fixed),
            known: true,
            told: None,
        }
    }

    /// What is to be said of the times from `time` on, in ns since the epoch: at the first, and again where the offset
    /// from UTC is another than before.
    pub(super) fn heading(&mut self, time: u64) -> Option<String> {
        let offset = self.offset(time);
        let before = self.told.replace(offset);
        if before == Some(offset) {
            return None;
        }
        let from_here = if before.is_some() { " from here on" } else { "" };
        Some(if self.known {
            format!("times are local, UTC{}{from_here}", shown(offset))
        } else {
            "times are in UTC: neither TZ nor /etc/localtime gives a local time zone".to_owned()
        })
    }

    /// The time of day, to the microsecond: the part of the date that changes.
    pub(super) fn time_of_day(&self, time: u64) -> String {
        let time_of_day = self.offset(time).to_datetime(moment(time)).time();
        format!(
            "{:02}:{:02}:{:02}.{:06}",
            time_of_day.hour(),
            time_of_day.minute(),
            time_of_day.second(),
            time_of_day.subsec_nanosecond() / 1_000
        )
    }

    fn offset(&self, time: u64) -> Offset {
        self.zone.to_offset(moment(time))
    }
}

fn moment(nanoseconds: u64) -> Timestamp {
    // Every such time has a year of four digits.
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default()
}

/// An offset as RFC 3339 has it, with seconds where it has some.
fn shown(offset: Offset) -> String {
    let (sign, seconds) = (
        if offset.is_negative() { '-' } else { '+' },
        offset.seconds().unsigned_abs(),
    );
    let text = format!("{sign}{:02}:{:02}", seconds / 3600, seconds / 60 % 60);
    match seconds % 60 {
        0 => text,
        seconds => format!("{text}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14 22:13:20 in UTC.
    const TIME: u64 = 1_700_000_000_123_456_789;

    fn in_zone(rule: &str) -> LocalClock {
        LocalClock {
            zone: TimeZone::posix(rule).expect("a rule"),
            known: true,
            told: None,
        }
    }

    #[test]
    fn the_offset_is_told_once_and_again_when_it_changes() {
        // Summer time ends on 2023-10-29 at 01:00 in UTC.
        const END: u64 = 1_698_541_200_000_000_000;
        let mut clock = in_zone("CET-1CEST,M3.5.0,M10.5.0/3");
        let before = END - 1_000;
        assert_eq!(
            clock.heading(before).as_deref(),
            Some("times are local, UTC+02:00")
        );
        assert_eq!(clock.time_of_day(before), "02:59:59.999999");
        assert_eq!(clock.heading(before), None);
        assert_eq!(
            clock.heading(END).as_deref(),
            Some("times are local, UTC+01:00 from here on")
        );
        assert_eq!(clock.time_of_day(END), "02:00:00.000000");
        assert_eq!(clock.heading(END + 1), None);
    }

    #[test]
    fn an_offset_may_be_negative_and_of_half_an_hour() {
        let mut newfoundland = in_zone("NST3:30");
        assert_eq!(
            newfoundland.heading(TIME).as_deref(),
            Some("times are local, UTC-03:30")
        );
        assert_eq!(newfoundland.time_of_day(TIME), "18:43:20.123456");
        assert_eq!(shown(Offset::from_seconds(20_700).expect("an offset")), "+05:45");
        assert_eq!(
            shown(Offset::from_seconds(-2_670).expect("an offset")),
            "-00:44:30"
        );
    }
}
