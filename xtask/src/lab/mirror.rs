//! Debian's packages, read with an apt configuration of the lab's own.
//!
//! The address of the mirror is the one that the host's apt uses. Lists and files go below the build
//! folder; the host's apt is left as it is. Everything is verified with Debian's archive keys.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{needs::KEYRING, process};

/// Names a Debian mirror where the host's apt has none, or one that no longer carries an old suite.
const MIRROR_VARIABLE: &str = "IPVS_OBSERVER_LAB_MIRROR";

/// Where the archive and its security updates are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    archive: String,
    security: String,
}

/// Two suites of Debian that are read together, newest first.
pub(crate) type Suites = [&'static str; 2];
/// Debian 11 with its updates.
pub(crate) const BULLSEYE: Suites = ["bullseye-security", "bullseye"];
/// Debian 12 with its updates.
pub(crate) const BOOKWORM: Suites = ["bookworm-security", "bookworm"];
/// Debian 13 with its updates.
pub(crate) const TRIXIE: Suites = ["trixie-security", "trixie"];
/// What is newer than Debian 13.
pub(crate) const NEWEST: Suites = ["trixie-backports", "sid"];

/// Apt with two suites alone.
pub(crate) struct Apt {
    folder: PathBuf,
    suites: Suites,
}

impl Apt {
    /// Writes the configuration for the suites below `lab`.
    pub(crate) fn new(lab: &Path, suites: Suites) -> Result<Self> {
        let folder = lab.join("apt").join(suites[0]);
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::write(folder.join("sources.list"), sources(suites)?.concat())?;
        Ok(Self { folder, suites })
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.folder.display();
        let mut command = process::command(program);
        for option in [
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State={folder}"),
            format!("Dir::State::Lists={folder}/lists"),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::Cache={folder}/cache"),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            // The build folder may be where apt's own user cannot write.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        // A suite that is no longer updated keeps its last signature, whose date has passed.
        if self.suites == BULLSEYE {
            command.args(["-o", "Acquire::Check-Valid-Until=false"]);
        }
        command
    }

    /// Fetches the suites' lists.
    pub(crate) fn update(&self) -> Result<()> {
        process::capture(self.command("apt-get").args(["-q", "update"]))
            .map(drop)
            .with_context(|| {
                format!(
                    "no package lists of {}: does the mirror in this machine's apt configuration carry them? \
                 {MIRROR_VARIABLE}=URL names another",
                    self.suites.join(" and ")
                )
            })
    }

    /// The names of all kernel packages in the lists.
    pub(crate) fn kernels(&self) -> Result<Vec<String>> {
        let found = process::capture(self.command("apt-cache").args([
            "search",
            "--names-only",
            "^linux-(image|binary|modules|base)-[0-9].*-cloud-amd64(-unsigned)?$",
        ]))?;
        Ok(found
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect())
    }

    /// Downloads one package into `folder`.
    pub(crate) fn download(&self, package: &str, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        process::capture(
            self.command("apt-get")
                .current_dir(folder)
                .args(["-q", "download", package]),
        )
        .map(drop)
    }

    /// Downloads one package into `folder`, and all that it needs on a machine that has nothing.
    pub(crate) fn download_with_dependencies(&self, package: &str, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join("partial"))?;
        process::capture(
            self.command("apt-get")
                .args(["-o", &format!("Dir::Cache::Archives={}", folder.display())])
                .args(["-q", "-y", "--no-install-recommends", "--download-only"])
                .args(["install", package]),
        )
        .map(drop)
    }
}

/// Unpacks all packages of a folder into another.
pub(crate) fn unpack(packages: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(packages)? {
        let package = entry?.path();
        // Beside the packages apt leaves a lock and a folder for what is half there.
        if package.extension().is_some_and(|extension| extension == "deb") {
            process::capture(process::command("dpkg").arg("-x").arg(package).arg(folder))?;
        }
    }
    Ok(())
}

/// Lines for a list of sources, one for each of a release's suites.
pub(crate) fn sources(suites: Suites) -> Result<[String; 2]> {
    let mirror = Mirror::find()?;
    Ok(suites.map(|suite| {
        let address = if suite.ends_with("-security") {
            &mirror.security
        } else {
            &mirror.archive
        };
        format!("deb [arch=amd64 signed-by={KEYRING}] {address} {suite} main\n")
    }))
}

/// One suite at one address, as apt is told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    address: String,
    /// A release's name, or one with a suffix: bookworm-security.
    suite: String,
}

/// The sources in what `apt-get --print-uris update` prints: a line for each file it would fetch, and one of these files
/// is each suite's list.
fn sources_in(printed: &str) -> Vec<Source> {
    printed
        .lines()
        .filter_map(|line| {
            let address = line.strip_prefix('\'')?.split('\'').next()?;
            let (address, suite) = address.strip_suffix("/InRelease")?.rsplit_once("/dists/")?;
            Some(Source {
                address: address.to_owned(),
                suite: suite.to_owned(),
            })
        })
        .collect()
}

impl Mirror {
    fn find() -> Result<Self> {
        if let Ok(address) = env::var(MIRROR_VARIABLE) {
            return Ok(Self::of_archive(&address));
        }
        // It fetches nothing, and neither root nor a lock is needed.
        let printed = process::capture(process::command("apt-get").args(["-q", "--print-uris", "update"]))?;
        Self::of(&sources_in(&printed)).with_context(|| {
            format!(
                "the lab's kernels are Debian packages, and no Debian mirror is in this machine's apt \
                 configuration: {MIRROR_VARIABLE}=URL names one"
            )
        })
    }

    /// Debian's own archive among the host's sources: the one with a release's own suite, whose path ends
    /// in debian; others (a vendor's repository) have suites of the same names at times.
    fn of(sources: &[Source]) -> Option<Self> {
        let archive = sources.iter().find(|source| {
            source.address.trim_end_matches('/').ends_with("debian") && !source.suite.ends_with("-security")
        });
        let security = sources
            .iter()
            .find(|source| source.suite.ends_with("-security") && source.address.contains("debian"));
        let mirror = Self::of_archive(&archive?.address);
        Some(match security {
            Some(source) => Self {
                security: source.address.clone(),
                ..mirror
            },
            None => mirror,
        })
    }

    /// Mirrors keep the security archive beside the main one.
    fn of_archive(address: &str) -> Self {
        let address = address.trim_end_matches('/');
        Self {
            archive: address.to_owned(),
            security: format!("{address}-security"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str, suite: &str) -> Source {
        Source {
            address: address.into(),
            suite: suite.into(),
        }
    }

    #[test]
    fn apts_own_sources_are_the_suites_whose_lists_it_would_fetch() {
        let printed = "'http://mirror.test/debian/dists/bookworm/InRelease' mirror.test_debian_InRelease 0 \n\
                       'http://mirror.test/debian/dists/bookworm/main/binary-amd64/Packages.xz' Packages 0 \n\
                       'https://flat.test/apt/./InRelease' flat.test_apt_._InRelease 0 \n\
                       'http://mirror.test/debian-security/dists/bookworm-security/InRelease' InRelease 0 \n";
        assert_eq!(
            sources_in(printed),
            [
                source("http://mirror.test/debian", "bookworm"),
                source("http://mirror.test/debian-security", "bookworm-security"),
            ]
        );
    }

    #[test]
    fn debians_archive_is_told_from_a_vendors() {
        let sources = [
            source("http://vendor.test/linux/apt", "bookworm"),
            source("http://mirror.test/debian/", "bookworm"),
            source("http://secure.test/debian-security", "bookworm-security"),
        ];
        assert_eq!(
            Mirror::of(&sources),
            Some(Mirror {
                archive: "http://mirror.test/debian".into(),
                security: "http://secure.test/debian-security".into(),
            })
        );
        assert_eq!(Mirror::of(&sources[..1]), None);
    }

    #[test]
    fn a_host_without_security_updates_finds_them_beside_the_archive() {
        let mirror = Mirror::of(&[source("http://mirror.test/debian", "sid")]).unwrap();
        assert_eq!(mirror.security, "http://mirror.test/debian-security");
    }
}
