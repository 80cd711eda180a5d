//! What the value of a flag may be. An error says what is wrong with the one that is refused, with an example.

use std::{io, thread, time::Duration};

use crate::netlink;

/// The shortest interval: below it a gather would only chase the one before.
const SHORTEST: Duration = Duration::from_millis(10);

/// An interval as written by Telegraf: `10s`, `500ms`, `1m`.
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
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("'{text}' is no duration: write it as 30s or 5m")),
    }
}

/// A size in bytes: `16MiB`, `64KiB`, `1GiB` or a number.
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
pub fn entries(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!(
            "'{text}' is no number of entries from 1 to 4294967295: write it as 4096"
        )),
        Ok(entries) => Ok(entries),
    }
}

/// How many refusals are written: any number that the ring buffer can be made for, or none.
pub fn refusals(text: &str) -> Result<u32, String> {
    const MOST: u32 = 1000;
    match text.parse() {
        Ok(refusals) if refusals <= MOST => Ok(refusals),
        _ => Err(format!(
            "'{text}' is no number from 0 to {MOST}: write it as 10, or 0 for none"
        )),
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
}
