//! Cpio archives in the "newc" format, which the kernel unpacks as its first file system.
//!
//! Written here rather than by cpio(1): no folder has to be staged, and everything belongs to root
//! without anybody being root.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_777;

/// An archive under way. Folders above an entry are made as they are needed.
pub(crate) struct Archive<W> {
    out: W,
    written: usize,
    number: u32,
    present: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An empty archive, written to `out` as it grows.
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            written: 0,
            number: 0,
            present: BTreeSet::new(),
        }
    }

    /// A folder, and those above it.
    pub(crate) fn folder(&mut self, path: &str) -> io::Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.present.insert(path.to_owned()) {
            return Ok(());
        }
        self.above(path)?;
        self.entry(path, FOLDER, b"")
    }

    /// A file with the permissions given; a second one of the same path is left out.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.leaf(path, FILE | (permissions & 0o7777), content)
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, to: &str) -> io::Result<()> {
        self.leaf(path, SYMLINK, to.as_bytes())
    }

    /// A file of the host, links followed.
    pub(crate) fn copy(&mut self, path: &str, host: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let content = fs::read(host).with_context(|| format!("cannot read {}", host.display()))?;
        let permissions = fs::metadata(host)?.permissions().mode();
        self.file(path, permissions, &content)?;
        Ok(())
    }

    /// Ends the archive; another may follow it in the same file.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, b"")?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn leaf(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let path = path.trim_matches('/');
        if !self.present.insert(path.to_owned()) {
            return Ok(());
        }
        self.above(path)?;
        self.entry(path, mode, content)
    }

    fn above(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((above, _)) => self.folder(above),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.number += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [self.number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        let mut header = "070701".to_owned();
        for field in fields {
            // Writing to a string cannot fail.
            let _ = write!(header, "{field:08x}");
        }
        header.push_str(path);
        header.push('\0');
        self.put(header.as_bytes())?;
        self.put(content)
    }

    /// Writes, then fills up to a multiple of four bytes, as the format has it.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len();
        let fill = self.written.next_multiple_of(4) - self.written;
        self.out.write_all(&[0; 4][..fill])?;
        self.written += fill;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_folders_above_a_file_once_and_ends_aligned() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/a/b/one", 0o755, b"12345").unwrap();
        archive.file("/a/b/two", 0o644, b"").unwrap();
        archive.file("/a/b/one", 0o644, b"again").unwrap();
        archive.link("/sh", "a/b/one").unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(
            text.matches("070701").count(),
            6,
            "a, a/b, one, two, sh and the trailer"
        );
        assert!(text.contains("000081ed"), "mode of an executable file");
        assert!(text.contains("12345\0\0\0"));
        assert!(!text.contains("again"));
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }
}
