//! Kernels: Debian's packages, unpacked below the build folder and never installed.
//!
//! A series is resolved to its newest version once; from then on the cache answers, without the mirror.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    cache,
    mirror::{Apt, BOOKWORM, BULLSEYE, NEWEST, Suites, unpack},
    series::{self, Series},
};
use crate::progress::{say, step};

/// A kernel in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// What `uname -r` says in the guest, but for the flavour.
    pub(crate) version: String,
    /// Its folder in the cache.
    pub(crate) folder: PathBuf,
}

impl Kernel {
    /// The bootable image.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Unpacks its packages into `folder` and returns the folder with its modules, `…/lib/modules/RELEASE`.
    pub(crate) fn unpack(&self, folder: &Path) -> Result<PathBuf> {
        unpack(&self.folder.join("packages"), folder)?;
        for base in ["lib/modules", "usr/lib/modules"] {
            if let Ok(mut entries) = fs::read_dir(folder.join(base))
                && let Some(entry) = entries.next()
            {
                return Ok(entry?.path());
            }
        }
        bail!(
            "the packages of kernel {} hold no modules: the lab does not know their new layout",
            self.version
        )
    }
}

/// The kernel of a series: from the cache, or fetched if it is not there or `refresh` asks for the newest.
pub(crate) fn ensure(lab: &Path, series: &Series, refresh: bool) -> Result<Kernel> {
    let _lock = cache::lock(lab)?;
    fs::create_dir_all(lab.join("series"))?;
    let resolved = lab.join("series").join(series.to_string());
    if !refresh
        && let Ok(version) = fs::read_to_string(&resolved)
        && let Some(kernel) = cached(lab, version.trim())
    {
        return Ok(kernel);
    }
    let kernel = step(&format!("fetching the newest {series} kernel"), || {
        fetch(lab, series)
    })
    .with_context(|| format!("no kernel of series {series} can be had"))?;
    fs::write(&resolved, &kernel.version)?;
    say(&format!("kernel {series} is {}", kernel.version));
    Ok(kernel)
}

fn cached(lab: &Path, version: &str) -> Option<Kernel> {
    let kernel = Kernel {
        version: version.to_owned(),
        folder: lab.join("kernels").join(version),
    };
    // The image is put there last, so its presence says that all is.
    kernel.image().is_file().then_some(kernel)
}

/// The suites that carry a series.
fn suites(series: &Series) -> Suites {
    if series.is(5, 10) {
        BULLSEYE
    } else if series.is(6, 1) || series.is(6, 12) {
        BOOKWORM
    } else {
        NEWEST
    }
}

fn fetch(lab: &Path, series: &Series) -> Result<Kernel> {
    let apt = Apt::new(lab, suites(series))?;
    apt.update()?;
    let mut failures = Vec::new();
    for (version, packages) in versions(&apt.kernels()?, series) {
        if let Some(kernel) = cached(lab, &version) {
            return Ok(kernel);
        }
        match download(lab, &apt, &version, &packages) {
            Ok(kernel) => return Ok(kernel),
            // Mirrors list packages that they no longer serve; an older one of the series does as well.
            Err(error) => {
                say(&format!(
                    "kernel {version} is listed and cannot be had, trying the one before"
                ));
                failures.push(format!("{version}: {error:#}"));
            }
        }
    }
    match failures.first() {
        Some(failure) => bail!(
            "{} versions are listed, and none can be downloaded; {failure}",
            failures.len()
        ),
        None => bail!("the mirror lists none"),
    }
}

/// The versions of a series with their packages, newest first.
fn versions(packages: &[String], series: &Series) -> Vec<(String, Vec<String>)> {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        if let Some(version) = series::version_of(package)
            && series.holds(version)
        {
            versions
                .entry(version.to_owned())
                .or_default()
                .push(package.clone());
        }
    }
    let mut versions: Vec<_> = versions.into_iter().collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(series::rank(version)));
    versions
}

fn download(lab: &Path, apt: &Apt, version: &str, packages: &[String]) -> Result<Kernel> {
    let folder = lab.join("kernels").join(version);
    let _ = fs::remove_dir_all(&folder);
    let into = folder.join("packages");
    // The signed image and the unsigned one hold the same kernel: one of them is enough.
    let (images, others): (Vec<_>, Vec<_>) = packages
        .iter()
        .partition(|package| package.starts_with("linux-image-"));
    let mut failure = None;
    for image in &images {
        match apt.download(image, &into) {
            Ok(()) => {
                failure = None;
                break;
            }
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    for package in others {
        apt.download(package, &into)?;
    }
    let unpacked = folder.join("unpacked");
    unpack(&into, &unpacked)?;
    let image = image_in(&unpacked)
        .with_context(|| format!("the packages of kernel {version} hold no image: their layout is new"))?;
    fs::rename(image, folder.join("vmlinuz"))?;
    fs::remove_dir_all(&unpacked)?;
    Ok(Kernel {
        version: version.to_owned(),
        folder,
    })
}

/// The image: in /boot, or from 7.0 on beside the modules.
fn image_in(unpacked: &Path) -> Option<PathBuf> {
    let folders = [unpacked.join("boot")].into_iter().chain(
        ["lib/modules", "usr/lib/modules"]
            .iter()
            .filter_map(|base| fs::read_dir(unpacked.join(base)).ok())
            .flat_map(|entries| entries.flatten().map(|entry| entry.path())),
    );
    folders
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_a_series_comes_first_with_all_its_packages() {
        let names = [
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-image-7.2.13+deb14-cloud-amd64",
        ]
        .map(str::to_owned);
        let versions = versions(&names, &"7".parse().unwrap());
        assert_eq!(versions[0].0, "7.3.4+deb13");
        assert_eq!(versions[0].1.len(), 3);
        assert_eq!(versions[1].0, "7.2.13+deb14");
        assert_eq!(versions.len(), 2);
    }
}
