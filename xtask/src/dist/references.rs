//! What shipped files name: every path that is in one of them, and every manual page, must be there.
//!
//! A path below `/etc`, `/usr` and the like is one of the Debian package's own, or lies in a place that others own. A
//! relative one is seen from the file that names it, from the top of the package or of the documents, or from the repository, of which
//! the documents speak as well.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process;

/// Where others put their files, or an administrator those of the documents: nothing here is in the package.
const OTHERS: [&str; 9] = [
    "/etc/modules-load.d/",
    "/etc/sudoers.d/",
    "/etc/sysctl.d/",
    "/etc/systemd/system/",
    "/etc/sysusers.d/",
    "/etc/telegraf",
    "/etc/tmpfiles.d/",
    "/usr/sbin/nologin",
    "/usr/share/common-licenses/Apache-2.0",
];
/// Places whose files the package has itself, or names as those of others.
const PLACES: [&str; 6] = ["/etc/", "/lib/", "/opt/", "/srv/", "/usr/", "/var/"];
/// What the names of files end with that a relative path may lead to.
const KINDS: [&str; 14] = [
    "bt", "conf", "default", "gz", "json", "lp", "md", "rs", "rules", "service", "sh", "toml", "txt", "yaml",
];

/// A package laid out, and what it is seen from.
pub(super) struct Shipped<'a> {
    /// The folder that holds it.
    pub(super) folder: &'a Path,
    /// README and docs below that.
    pub(super) documents: &'a Path,
    /// The Debian package laid out: absolute paths are its own in both packages.
    pub(super) installed: &'a Path,
    /// The repository.
    pub(super) source: &'a Path,
}

impl Shipped<'_> {
    /// Fails with each path and page that is named and is not there.
    pub(super) fn check(&self) -> Result<()> {
        let missing = self.missing()?;
        if !missing.is_empty() {
            bail!("shipped files name what is not there:\n{}", missing.join("\n"));
        }
        Ok(())
    }

    fn missing(&self) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for file in files(self.folder)? {
            let shown = file.strip_prefix(self.folder).unwrap_or(&file).display();
            if file.is_symlink() {
                if !file.exists() {
                    missing.push(format!("{shown}: a link to nothing"));
                }
                continue;
            }
            // Programs are no text.
            let Some(text) = text(&file)? else { continue };
            let above = file.parent().context("a file has a folder")?;
            if file.extension().is_some_and(|kind| kind == "md") {
                for link in links(&text) {
                    if !self.leads(&file, link)? {
                        missing.push(format!("{shown}: the link {link}"));
                    }
                }
            }
            for path in paths(&text) {
                if !self.has(above, path) {
                    missing.push(format!("{shown}: {path}"));
                }
            }
            for page in pages(&text) {
                if !self.has_page(&page)? {
                    missing.push(format!("{shown}: the page {page}"));
                }
            }
        }
        missing.sort();
        missing.dedup();
        Ok(missing)
    }

    /// Whether a link of a document leads to a shipped file, and to a heading of it.
    fn leads(&self, file: &Path, link: &str) -> Result<bool> {
        let (path, heading) = link.split_once('#').unwrap_or((link, ""));
        let to = match file.parent() {
            Some(above) if !path.is_empty() => normal(&above.join(path)),
            _ => file.to_owned(),
        };
        // Not out of the package: what only the repository has is no file that a reader of the package can open.
        if !to.starts_with(self.folder) || !to.exists() {
            return Ok(false);
        }
        Ok(heading.is_empty()
            || anchors(&fs::read_to_string(to)?)
                .iter()
                .any(|anchor| anchor == heading))
    }

    fn has(&self, above: &Path, path: &str) -> bool {
        if let Some(below) = path.strip_prefix('/') {
            return self.installed.join(below).exists() || OTHERS.iter().any(|other| path.starts_with(other));
        }
        [above, self.folder, self.documents, self.source]
            .iter()
            .any(|from| normal(&from.join(path)).exists())
    }

    fn has_page(&self, page: &str) -> Result<bool> {
        Ok(files(self.folder)?.iter().any(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.strip_suffix(".gz").unwrap_or(&name) == page
        }))
    }
}

/// Every file and symbolic link below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// What is in a file, if it is text: without compression, and without the marks of a manual page.
fn text(file: &Path) -> Result<Option<String>> {
    let bytes = if file.extension().is_some_and(|kind| kind == "gz") {
        process::capture(Command::new("gzip").arg("-dc").arg(file))?.into_bytes()
    } else {
        fs::read(file)?
    };
    let Ok(mut text) = String::from_utf8(bytes) else {
        return Ok(None);
    };
    for (mark, instead) in [
        ("\\-", "-"),
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\&", ""),
    ] {
        text = text.replace(mark, instead);
    }
    Ok(Some(text))
}

/// Where a document's links to files lead.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.contains(char::is_whitespace))
}

/// Words that are paths of files.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "`'\"()[]<>{}|,;:=#!&*".contains(c))
        .map(|word| word.trim_end_matches(['.', '?']))
        .filter(|word| !word.contains(['…', '$', '\\', '%', '@']) && is_path(word))
}

fn is_path(word: &str) -> bool {
    if word.starts_with('/') {
        return PLACES
            .iter()
            .any(|place| word.strip_prefix(place).is_some_and(|below| !below.is_empty()));
    }
    // What a build makes is not there before it.
    let built = ["./target/", "target/"]
        .iter()
        .any(|built| word.starts_with(built));
    let kind = Path::new(word).extension().and_then(|kind| kind.to_str());
    let directory = word.strip_suffix('/').is_some_and(|name| !name.is_empty());
    !built && (directory || word.contains('/') && kind.is_some_and(|kind| KINDS.contains(&kind)))
}

/// Manual pages of this program, as `name(section)`, by the names of their files.
fn pages(text: &str) -> Vec<String> {
    let mut pages = Vec::new();
    for (at, _) in text.match_indices("(8)") {
        let name = text[..at]
            .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .next();
        if let Some(name) = name.filter(|name| name.starts_with("ipvs-observer")) {
            pages.push(format!("{name}.8"));
        }
    }
    pages
}

/// The names of a document's headings in links: lower case, blanks as hyphens, nothing but letters and digits else.
fn anchors(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .chars()
                .filter_map(|c| match c {
                    ' ' => Some('-'),
                    c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
                    _ => None,
                })
                .collect()
        })
        .collect()
}

/// The path without `.` and `..`, whether it is there or not.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::tree::Tree;

    /// A package of these files, and what is said to be missing of what they name.
    fn missing(name: &str, files: &[(&str, &str)]) -> Vec<String> {
        let base = std::env::temp_dir().join(format!("ipvs-observer-{name}-{}", std::process::id()));
        let tree = Tree::new(&base.join("package")).unwrap();
        for (path, text) in files {
            if path.contains(".8.") {
                tree.put_compressed(path, text.as_bytes()).unwrap();
            } else {
                tree.put(path, 0o644, text.as_bytes()).unwrap();
            }
        }
        let source = Tree::new(&base.join("source")).unwrap();
        source.put("src/main.rs", 0o644, b"").unwrap();
        let shipped = Shipped {
            folder: &tree.folder,
            documents: &tree.folder.join("usr/share/doc/x"),
            installed: &tree.folder,
            source: &source.folder,
        };
        let missing = shipped.missing().unwrap();
        fs::remove_dir_all(base).unwrap();
        missing
    }

    #[test]
    fn what_is_there_may_be_named() {
        let files = [
            (
                "etc/default/x",
                "# See /usr/share/doc/x/docs/a.conf, x(8).\n#A=/usr/bin/x\n",
            ),
            ("usr/bin/x", "\u{0}\u{ff}"),
            (
                "usr/share/doc/x/README.md",
                "[a](docs/a.md#two-words), `src/main.rs`, [b](https://b/c.md), and/or\n",
            ),
            (
                "usr/share/doc/x/docs/a.md",
                "## Two words\n[here](#two-words) [up](../README.md) docs/a.conf, /etc/sysctl.d/a.conf.\n",
            ),
            ("usr/share/doc/x/docs/a.conf", ""),
            (
                "usr/share/man/man8/ipvs-observer.8.gz",
                "\\fI/etc/default/x\\fR ipvs\\-observer(8)\n",
            ),
        ];
        assert_eq!(missing("there", &files), [""; 0]);
    }

    #[test]
    fn what_is_not_there_is_found_wherever_it_is_named() {
        let files = [
            ("etc/default/x", "# /usr/share/doc/x/examples/netns.conf\n"),
            (
                "usr/share/doc/x/README.md",
                "[a](SECURITY.md), [b](docs/a.md#three), [c](../../../../../etc/passwd)\n",
            ),
            ("usr/share/doc/x/docs/a.md", "## Two\n`src/other.rs`, `tests/`\n"),
            (
                "usr/share/man/man8/ipvs-observer.8.gz",
                "\\fBipvs\\-observer\\-top\\fR(8) \\fI/usr/share/doc/x/none\\fR\n",
            ),
        ];
        assert_eq!(
            missing("not-there", &files),
            [
                "etc/default/x: /usr/share/doc/x/examples/netns.conf",
                "usr/share/doc/x/README.md: the link ../../../../../etc/passwd",
                "usr/share/doc/x/README.md: the link SECURITY.md",
                "usr/share/doc/x/README.md: the link docs/a.md#three",
                "usr/share/doc/x/docs/a.md: src/other.rs",
                "usr/share/doc/x/docs/a.md: tests/",
                "usr/share/man/man8/ipvs-observer.8.gz: /usr/share/doc/x/none",
                "usr/share/man/man8/ipvs-observer.8.gz: the page ipvs-observer-top.8",
            ]
        );
    }
}
