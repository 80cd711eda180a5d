//! Kernel series and versions: which version belongs to a series, which of two is newer.

use std::{fmt, str::FromStr};

/// A series as the user names it: `7`, `6.12`, `6.12.117`. All versions that begin with these numbers.
/// They are ordered by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    numbers: Vec<u64>,
}

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u64>, _> = text.split('.').map(str::parse).collect();
        match numbers {
            Ok(numbers) if numbers.len() <= 3 => Ok(Self { numbers }),
            _ => Err("a series is like 6.12, or 7 for the newest 7.x".to_owned()),
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.numbers.iter().map(u64::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

impl Series {
    /// The lab's usual one: Debian 12 has it in its backports.
    pub(crate) fn usual() -> Self {
        Self { numbers: vec![6, 12] }
    }

    /// Whether this is the usual one or one of its versions.
    pub(crate) fn is_usual(&self) -> bool {
        self.is(6, 12)
    }

    /// Whether `version` is of this series.
    pub(crate) fn holds(&self, version: &str) -> bool {
        rank(version).starts_with(&self.numbers)
    }

    /// Whether this is `major.minor` or one of its versions.
    pub(crate) fn is(&self, major: u64, minor: u64) -> bool {
        self.numbers.starts_with(&[major, minor])
    }
}

/// The numbers of a version in their order, for comparing: 6.12.117+deb12 is [6, 12, 117, 12].
pub(crate) fn rank(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The version in the name of a kernel's package, if it is one of the cloud kernels, which are small and
/// have all that the lab needs. Packages that only depend on the current version have none.
pub(crate) fn version_of(package: &str) -> Option<&str> {
    let rest = ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"]
        .iter()
        .find_map(|prefix| package.strip_prefix(prefix))?;
    let version = rest
        .strip_suffix("-unsigned")
        .unwrap_or(rest)
        .strip_suffix("-cloud-amd64")?;
    let upstream: Vec<&str> = version.split(['+', '-']).next()?.split('.').collect();
    let numbered = upstream.len() >= 3 && upstream.iter().all(|number| number.parse::<u64>().is_ok());
    (numbered && !version.contains("rc")).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(text: &str) -> Series {
        text.parse().unwrap()
    }

    #[test]
    fn a_series_holds_its_versions_and_no_namesakes() {
        assert!(series("6.1").holds("6.1.0-56"));
        assert!(!series("6.1").holds("6.12.117+deb12"));
        assert!(series("7").holds("7.3.4+deb13"));
        assert!(series("7.3").holds("7.3.4+deb13"));
        assert!(!series("7").holds("6.7.1"));
    }

    #[test]
    fn the_newest_version_has_the_highest_rank() {
        let mut versions = [
            "6.12.90+deb12",
            "6.12.117+deb12",
            "6.12.90+deb12.1",
            "6.12.9+deb12",
        ];
        versions.sort_by_key(|version| rank(version));
        assert_eq!(
            versions,
            [
                "6.12.9+deb12",
                "6.12.90+deb12",
                "6.12.90+deb12.1",
                "6.12.117+deb12"
            ]
        );
        assert!(rank("5.10.0-46") > rank("5.10.0-9"));
    }

    #[test]
    fn only_packages_of_one_cloud_kernel_have_a_version() {
        assert_eq!(version_of("linux-image-5.10.0-46-cloud-amd64"), Some("5.10.0-46"));
        assert_eq!(
            version_of("linux-image-6.12.117+deb12-cloud-amd64-unsigned"),
            Some("6.12.117+deb12")
        );
        assert_eq!(
            version_of("linux-binary-7.3.4+deb13-cloud-amd64"),
            Some("7.3.4+deb13")
        );
        for other in [
            "linux-image-6.12-cloud-amd64",
            "linux-image-cloud-amd64",
            "linux-image-6.1.0-56-amd64",
        ] {
            assert_eq!(version_of(other), None, "{other}");
        }
        assert_eq!(version_of("linux-image-6.12.117+deb12-cloud-amd64-dbg"), None);
    }

    #[test]
    fn what_is_no_series_is_refused_with_an_example() {
        for wrong in ["", "six", "6.", "6.12-rc1", "6.1.2.3"] {
            assert!(wrong.parse::<Series>().unwrap_err().contains("6.12"), "{wrong}");
        }
    }
}
