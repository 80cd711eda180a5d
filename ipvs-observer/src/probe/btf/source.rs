//! Where BTF is read from.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    reader::{Btf, Malformed},
    resolve::{Resolved, WrrMark, field, layout, wrr_mark},
};

const SYSFS: &str = "/sys/kernel/btf";
const KERNEL: &str = "vmlinux";
const MODULE: &str = "ip_vs";

/// Why there is no layout at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The kernel has no BTF.
    #[error("{} cannot be read ({error})", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    /// A file is not what it should be.
    #[error("{} is no BTF: {error}", path.display())]
    Malformed { path: PathBuf, error: Malformed },
    /// Neither a module's BTF nor the kernel's tells of IPVS.
    #[error("no BTF tells of ip_vs")]
    NotThere,
}

/// A folder with one file for the kernel and one for each module, as `/sys/kernel/btf` is.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    folder: PathBuf,
}

impl Source {
    /// The running kernel's folder, or another.
    pub(crate) fn new(folder: Option<&Path>) -> Self {
        Self {
            folder: folder.unwrap_or_else(|| Path::new(SYSFS)).to_owned(),
        }
    }

    /// The offsets. Reads the whole kernel's BTF, some megabytes, and keeps none of it.
    pub(crate) fn layout(&self) -> Result<Resolved, SourceError> {
        self.with(MODULE, layout)?.ok_or(SourceError::NotThere)
    }

    /// Where the state of `wrr` is kept; none where that scheduler is not loaded.
    pub(crate) fn wrr_mark(&self) -> Option<WrrMark> {
        self.with("ip_vs_wrr", wrr_mark).ok()?
    }

    /// How many pointers an array has, by its path from a structure of a module; none where that is not loaded.
    pub(crate) fn buckets(&self, module: &str, path: &str) -> Option<u32> {
        let array = self.with(module, |btf| field(btf, path)).ok()?;
        let pointer = size_of::<usize>() as u16;
        array.present().then_some(u32::from(array.size / pointer))
    }

    /// Reads in a module's BTF, or in the kernel's alone: what is built in is there.
    fn with<T>(&self, module: &str, read: impl FnOnce(&Btf<'_>) -> T) -> Result<T, SourceError> {
        let kernel_blob = self.blob(KERNEL)?;
        let kernel = self.parse(KERNEL, &kernel_blob, None)?;
        match self.blob(module) {
            Ok(blob) => Ok(read(&self.parse(module, &blob, Some(&kernel))?)),
            Err(SourceError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Ok(read(&kernel))
            }
            Err(error) => Err(error),
        }
    }

    fn blob(&self, name: &str) -> Result<Vec<u8>, SourceError> {
        let path = self.folder.join(name);
        fs::read(&path).map_err(|error| SourceError::Unreadable { path, error })
    }

    fn parse<'a>(
        &self,
        name: &str,
        blob: &'a [u8],
        base: Option<&'a Btf<'a>>,
    ) -> Result<Btf<'a>, SourceError> {
        Btf::parse(blob, base).map_err(|error| SourceError::Malformed {
            path: self.folder.join(name),
            error,
        })
    }
}
