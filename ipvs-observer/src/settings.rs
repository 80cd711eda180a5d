//! Settings as checked: what a run does, whatever way it was told.

mod service;

use std::{io, path::PathBuf, thread, time::Duration};

use crate::{
    netlink,
    output::Target,
    points::Schema,
    privilege::Privileges,
    probe::{ProbeMode, Sizes},
    trace::Filter,
    trigger::Start,
};

pub use service::ServiceSpec;

/// What `collect` does.
#[derive(Clone, Debug)]
pub struct Collect {
    /// What starts a gather.
    pub trigger: Start,
    /// The gather period.
    pub interval: Duration,
    /// How many gathers; none: until stopped.
    pub count: Option<u64>,
    /// Gather at once and exit, without waiting for the clock.
    pub once: bool,
    /// Which series.
    pub schema: Schema,
    /// Whether unsigned fields are written as such.
    pub unsigned: bool,
    /// What timestamps are rounded down to.
    pub precision: Precision,
    /// Where lines go.
    pub outputs: Vec<Target>,
    /// Bytes of lines kept for an output that is away.
    pub backlog: usize,
    /// What is asked of the probes.
    pub probes: ProbeMode,
    /// Whether the module is loaded if it is absent.
    pub load_module: bool,
    /// What is given up of privileges, and when.
    pub privileges: Privileges,
    /// Where BTF is read from, if not from the running kernel.
    pub btf: Option<PathBuf>,
    /// How large the probes' maps are.
    pub sizes: Sizes,
    /// Only these services; none: all.
    pub services: Vec<ServiceSpec>,
    /// The network namespaces, by name or path; none: this one.
    pub namespaces: Vec<String>,
}

impl Collect {
    /// Which probes are wanted, in the end.
    pub fn probes_wanted(&self) -> ProbeMode {
        match self.probes {
            // Counters since the probes were attached say nothing in the one gather right after it.
            ProbeMode::Auto if self.once => ProbeMode::Off,
            mode => mode,
        }
    }
}

/// What `trace` does.
#[derive(Clone, Debug)]
pub struct Trace {
    /// How events look.
    pub format: TraceFormat,
    /// Whether each decision comes with what the scheduler had before it.
    pub explain: bool,
    /// Which events are wanted.
    pub filter: Filter,
    /// The network namespaces, by name or path; none: this one.
    pub namespaces: Vec<String>,
    /// How many decisions and changes; none: until stopped.
    pub count: Option<u64>,
    /// How long; none: until stopped.
    pub duration: Option<Duration>,
    /// Where events go.
    pub outputs: Vec<Target>,
    /// Bytes kept for an output that is away.
    pub backlog: usize,
    /// What is given up of privileges, and when.
    pub privileges: Privileges,
    /// Where BTF is read from, if not from the running kernel.
    pub btf: Option<PathBuf>,
    /// How large the probes' maps are.
    pub sizes: Sizes,
}

/// How the events of `trace` look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// Line protocol.
    Line,
}

/// What `check` does.
#[derive(Clone, Debug)]
pub struct Check {
    /// How the rows look.
    pub format: CheckFormat,
    /// Where BTF is read from, if not from the running kernel.
    pub btf: Option<PathBuf>,
}

/// How the rows of `check` look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What timestamps are rounded down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

impl Precision {
    /// The precision that fits an interval: seconds, or milliseconds where it is shorter than one.
    pub fn fitting(interval: Duration) -> Self {
        if interval < Duration::from_secs(1) {
            Self::Milliseconds
        } else {
            Self::Seconds
        }
    }

    /// A time in nanoseconds, rounded down; still in nanoseconds.
    pub fn round(self, nanoseconds: u64) -> u64 {
        let unit = match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
        };
        nanoseconds - nanoseconds % unit
    }
}

/// The shortest interval: below it a gather would only chase the one before.
const SHORTEST: Duration = Duration::from_millis(10);

/// An interval as written by Telegraf: `10s`, `500ms`, `1m`.
///
/// # Errors
/// What is wrong with it, with an example.
pub fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text)
        .map_err(|_| format!("'{text}' is no duration: write it as 10s, 500ms or 1m"))?;
    if interval < SHORTEST {
        return Err("it is shorter than 10ms: write it as 10s, 500ms or 1m".to_owned());
    }
    if u64::try_from(interval.as_nanos()).is_err() {
        return Err("it is longer than time is counted: write it as 10s, 500ms or 1m".to_owned());
    }
    Ok(interval)
}

/// How many of something: at least one. `nothing` says what none would mean.
///
/// # Errors
/// What is wrong with it, with an example.
pub fn count(text: &str, nothing: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err(format!("{nothing}: write how many, as in --count 3")),
        Ok(count) => Ok(count),
        Err(_) => Err(format!(
            "'{text}' is no number from 1 on: write how many, as in --count 3"
        )),
    }
}

/// How long something lasts: `30s`, `5m`.
///
/// # Errors
/// What is wrong with it, with an example.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("'{text}' is no duration: write it as 30s or 5m")),
    }
}

/// A size in bytes: `16MiB`, `64KiB`, `1GiB` or a number.
///
/// # Errors
/// What is wrong with it, with an example.
pub fn size(text: &str) -> Result<usize, String> {
    const EXAMPLES: &str = "write it as 16MiB, 512KiB or 1048576";
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: usize = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("'{text}' is no size: {EXAMPLES}")),
    };
    let number: usize = number
        .parse()
        .map_err(|_| format!("'{text}' is no size: {EXAMPLES}"))?;
    number
        .checked_mul(scale)
        .ok_or_else(|| format!("'{text}' is more than a machine has: {EXAMPLES}"))
}

/// A network namespace, by its name, a path to it or its inode number. It may be absent, and come later.
///
/// # Errors
/// What is wrong with it, with an example.
pub fn netns(text: &str) -> Result<String, String> {
    const EXAMPLES: &str = "write it as blue, a name that `ip netns` lists, or /proc/1234/ns/net";
    match text {
        "" => return Err(format!("an empty name is no network namespace: {EXAMPLES}")),
        "." | ".." => return Err(format!("'{text}' is a folder: {EXAMPLES}")),
        _ => {}
    }
    let other =
        || netlink::namespace_of(text).is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput);
    let mut looks = if text.contains(['/', '\0']) { 1 } else { MOUNTING };
    while other() {
        looks -= 1;
        if looks == 0 {
            return Err(format!("'{text}' is no network namespace: {EXAMPLES}"));
        }
        // `ip netns add` makes the file first, and then mounts the namespace on it.
        thread::sleep(Duration::from_millis(20));
    }
    Ok(text.to_owned())
}

/// How often a name is looked at that is no network namespace yet.
const MOUNTING: u32 = 5;

/// How many entries a map of the probes has: at least one.
///
/// # Errors
/// What is wrong with it, with an example.
pub fn entries(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!(
            "'{text}' is no number of entries from 1 to 4294967295: write it as 4096"
        )),
        Ok(entries) => Ok(entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_that_is_none_says_so_with_an_example() {
        assert_eq!(interval("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        // As a trace shows how long the scheduler took.
        assert_eq!(duration("850ns"), Ok(Duration::from_nanos(850)));
        assert_eq!(duration("12.3us"), Ok(Duration::from_nanos(12_300)));
        assert_eq!(duration("45.6ms"), Ok(Duration::from_micros(45_600)));
        for text in ["0s", "-1s", "lots", "10", "9ms", "", "600years"] {
            assert!(
                matches!(interval(text), Err(error) if error.contains("10s, 500ms or 1m")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_size_is_read_with_its_unit() {
        assert_eq!(
            (size("16MiB"), size("512KiB"), size("7")),
            (Ok(16 << 20), Ok(512 << 10), Ok(7))
        );
        assert_eq!(size("64 KiB"), Ok(64 << 10), "as it is shown");
        for text in ["lots", "-1", "16MB", "MiB", "", " 7", "99999999999999GiB"] {
            assert!(
                matches!(size(text), Err(error) if error.contains("16MiB, 512KiB")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_namespace_has_a_name_or_a_path() {
        for text in ["blue", "/proc/self/ns/net", "./net", "/nonexistent/net"] {
            assert_eq!(netns(text), Ok(text.to_owned()));
        }
        for text in ["", ".", "..", "/proc/self/status", "/proc/self/ns/mnt", "/"] {
            assert!(
                matches!(netns(text), Err(error) if error.contains("/proc/1234/ns/net")),
                "{text}"
            );
        }
    }

    #[test]
    fn timestamps_are_rounded_down_and_stay_nanoseconds() {
        let time = 1_700_000_000_123_456_789;
        assert_eq!(Precision::Nanoseconds.round(time), time);
        assert_eq!(Precision::Microseconds.round(time), 1_700_000_000_123_456_000);
        assert_eq!(Precision::Milliseconds.round(time), 1_700_000_000_123_000_000);
        assert_eq!(Precision::Seconds.round(time), 1_700_000_000_000_000_000);
        assert_eq!(
            Precision::fitting(Duration::from_millis(500)),
            Precision::Milliseconds
        );
        assert_eq!(Precision::fitting(Duration::from_secs(1)), Precision::Seconds);
    }
}
