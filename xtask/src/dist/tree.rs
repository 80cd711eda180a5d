//! A folder laid out as a package: every mode as given, whatever the umask.

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The folder, made anew.
pub(crate) struct Tree {
    pub(crate) folder: PathBuf,
}

impl Tree {
    /// An empty one at `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// A file, and the folders above it.
    pub(crate) fn put(&self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let file = self.place(path)?;
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// A file compressed as Debian wants pages and changelogs.
    pub(crate) fn put_compressed(&self, path: &str, content: &[u8]) -> Result<()> {
        let mut gzip = Command::new("gzip")
            .args(["-9n", "-c"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run gzip")?;
        // It reads all before it writes more than a pipe holds: pages and changelogs are small.
        gzip.stdin
            .take()
            .context("gzip takes nothing")?
            .write_all(content)?;
        let output = gzip.wait_with_output()?;
        if !output.status.success() {
            bail!("gzip failed ({})", output.status);
        }
        self.put(path, 0o644, &output.stdout)
    }

    /// A file of the repository.
    pub(crate) fn copy(&self, from: &Path, path: &str) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.put(path, 0o644, &content)
    }

    /// A folder of the repository with all that is in it.
    pub(crate) fn copy_all(&self, from: &Path, path: &str) -> Result<()> {
        for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
            let entry = entry?;
            let below = format!("{path}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.copy_all(&entry.path(), &below)?;
            } else {
                self.copy(&entry.path(), &below)?;
            }
        }
        Ok(())
    }

    /// A symbolic link.
    pub(crate) fn link(&self, path: &str, to: &str) -> Result<()> {
        Ok(symlink(to, self.place(path)?)?)
    }

    /// KiB of all files, as Debian counts: each rounded up.
    pub(crate) fn size(&self) -> Result<u64> {
        fn of(folder: &Path) -> Result<u64> {
            let mut size = 1;
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                size += if entry.file_type()?.is_dir() {
                    of(&entry.path())?
                } else {
                    entry.metadata()?.len().div_ceil(1024)
                };
            }
            Ok(size)
        }
        of(&self.folder)
    }

    fn place(&self, path: &str) -> Result<PathBuf> {
        let mut folder = self.folder.clone();
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in above.split('/').filter(|part| !part.is_empty()) {
            folder.push(part);
            if !folder.is_dir() {
                fs::create_dir(&folder)?;
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            }
        }
        Ok(folder.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_given_and_folders_are_readable() {
        let base = std::env::temp_dir().join(format!("ipvs-observer-tree-{}", std::process::id()));
        let tree = Tree::new(&base).unwrap();
        tree.put("a/b/script", 0o755, b"x").unwrap();
        tree.put("a/text", 0o644, &[b'x'; 2000]).unwrap();
        tree.link("a/link", "b/script").unwrap();
        let mode = |path: &str| fs::metadata(base.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode("a"), mode("a/b/script"), mode("a/text")),
            (0o755, 0o755, 0o644)
        );
        assert_eq!(fs::read(base.join("a/link")).unwrap(), b"x");
        assert!(tree.size().unwrap() >= 5);
        fs::remove_dir_all(base).unwrap();
    }
}
