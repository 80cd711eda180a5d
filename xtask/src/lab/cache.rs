//! What the lab keeps below the build folder: one task at a time fills it, and an archive is named after what it is
//! made of.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::progress::step;

/// Waits until no other task fills the cache. The lock goes with the file that is returned.
pub(crate) fn lock(lab: &Path) -> Result<File> {
    fs::create_dir_all(lab)?;
    let file = File::create(lab.join("lock"))?;
    file.lock()?;
    Ok(file)
}

/// The archive `KIND-….cpio` in `folder`, for which `state` is all that it depends on. One that is not there is made by
/// `write` at the path it is given, and succeeds those of its kind.
pub(crate) fn archive(
    folder: &Path,
    kind: &str,
    state: impl Hash,
    what: &str,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    let path = folder.join(format!("{kind}-{:016x}.cpio", hasher.finish()));
    if path.is_file() {
        return Ok(path);
    }
    step(what, || {
        let fresh = path.with_extension("new");
        write(&fresh)?;
        fs::rename(fresh, &path)?;
        for entry in fs::read_dir(folder)? {
            let other = entry?.path();
            let name = other.file_name().unwrap_or_default().to_string_lossy();
            let of_kind = name.starts_with(kind) && name.ends_with(".cpio");
            if of_kind && other != path {
                fs::remove_file(&other)?;
            }
        }
        Ok(())
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_made_again_only_if_its_state_is_another() {
        let folder = std::env::temp_dir().join(format!("ipvs-observer-cache-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let made = |state: &str| {
            let mut written = false;
            let path = archive(&folder, "kind", state, "making it", |path| {
                written = true;
                Ok(fs::write(path, state)?)
            });
            (path.unwrap(), written)
        };
        let (first, written) = made("one");
        assert!(written);
        assert_eq!(made("one"), (first.clone(), false));
        let (second, written) = made("two");
        assert!(written && second.is_file());
        assert!(!first.exists(), "its successor takes its place");
        fs::remove_dir_all(folder).unwrap();
    }
}
