//! The Debian package: what is where, and what dpkg is told of it.
//!
//! Made by dpkg-deb, which every Debian has, of a tree that is laid out here. The maintainer scripts beside this
//! file do what debhelper's would.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Parts, VERSION, documents, references::Shipped, tree::Tree};
use crate::process;

/// The packaging of one version of the program.
const REVISION: u32 = 1;
const MAINTAINER: &str = "The ipvs-observer authors <maintainers@ipvs-observer.invalid>";
/// Documents of this package.
const DOC: &str = "usr/share/doc/ipvs-observer/";

const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("debian/postinst")),
    ("prerm", include_str!("debian/prerm")),
    ("postrm", include_str!("debian/postrm")),
];

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: ipvs-observer
Comment: Code of other authors is linked into the program:
 /usr/share/doc/ipvs-observer/licences.gz names each crate with its licence.

Files: *
Copyright: 2026 The ipvs-observer authors
License: MIT or Apache-2.0

License: Apache-2.0
 On Debian systems the text of this licence is in
 /usr/share/common-licenses/Apache-2.0.

License: MIT
";

const DESCRIPTION: &str = "\
IPVS counters and scheduling decisions as line protocol
 Linux Virtual Server (IPVS) spreads connections over real servers inside the
 kernel; keepalived and Kubernetes' kube-proxy run on it. ipvs-observer reads
 everything IPVS exposes over netlink and watches its scheduler with eBPF
 probes.
 .
 It writes InfluxDB line protocol, for Telegraf or any other reader, and shows
 each scheduling decision with its reason. The service runs as a user of its
 own and only reads.";

/// Where it is laid out.
pub(super) fn folder(parts: &Parts<'_>) -> PathBuf {
    parts.workspace.target.join("dist-tree/deb")
}

/// Makes the package in `folder`.
pub(super) fn make(parts: &Parts<'_>, folder: &Path) -> Result<PathBuf> {
    let name = format!("ipvs-observer_{VERSION}-{REVISION}_amd64");
    let tree = laid_out(parts)?;
    let path = folder.join(format!("{name}.deb"));
    process::capture(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--build"])
            .arg(&tree.folder)
            .arg(&path)
            .env("SOURCE_DATE_EPOCH", parts.epoch.to_string())
            // How many threads compress would show in the bytes.
            .env("DPKG_DEB_THREADS_MAX", "1"),
    )?;
    Ok(path)
}

/// The package as a folder.
pub(super) fn laid_out(parts: &Parts<'_>) -> Result<Tree> {
    let tree = Tree::new(&folder(parts))?;
    files(parts, &tree)?;
    let size = tree.size()?;
    let sums = sums(&tree.folder)?;
    tree.put(
        "DEBIAN/control",
        0o644,
        control(parts.programs.glibc, size).as_bytes(),
    )?;
    tree.put("DEBIAN/conffiles", 0o644, b"/etc/default/ipvs-observer\n")?;
    tree.put("DEBIAN/md5sums", 0o644, sums.as_bytes())?;
    for (script, text) in SCRIPTS {
        tree.put(&format!("DEBIAN/{script}"), 0o755, text.as_bytes())?;
    }
    Shipped {
        folder: &tree.folder,
        documents: &tree.folder.join(DOC),
        installed: &tree.folder,
        source: &parts.workspace.root,
    }
    .check()?;
    Ok(tree)
}

fn files(parts: &Parts<'_>, tree: &Tree) -> Result<()> {
    let deploy = parts.workspace.root.join("docs/deploy/systemd");
    tree.put(
        "usr/bin/ipvs-observer",
        0o755,
        &fs::read(&parts.programs.dynamic)?,
    )?;
    for (from, to) in [
        (
            "ipvs-observer.service",
            "usr/lib/systemd/system/ipvs-observer.service",
        ),
        ("ipvs-observer.default", "etc/default/ipvs-observer"),
        ("sysusers.conf", "usr/lib/sysusers.d/ipvs-observer.conf"),
        ("tmpfiles.conf", "usr/lib/tmpfiles.d/ipvs-observer.conf"),
    ] {
        tree.copy(&deploy.join(from), to)?;
    }
    for (page, text) in &parts.pages {
        tree.put_compressed(&format!("usr/share/man/man8/{page}.gz"), text)?;
    }
    for (shell, script) in &parts.completions {
        let path = match *shell {
            "bash" => "usr/share/bash-completion/completions/ipvs-observer",
            "zsh" => "usr/share/zsh/vendor-completions/_ipvs-observer",
            _ => "usr/share/fish/vendor_completions.d/ipvs-observer.fish",
        };
        tree.put(path, 0o644, script)?;
    }
    documents(&parts.workspace.root, tree, DOC)?;
    tree.link(&format!("{DOC}telegraf"), "docs/deploy/telegraf")?;
    let changelog = fs::read(parts.workspace.root.join("CHANGELOG.md"))?;
    tree.put_compressed(&format!("{DOC}changelog.gz"), &changelog)?;
    tree.put_compressed(
        &format!("{DOC}changelog.Debian.gz"),
        debian_changelog(parts.epoch)?.as_bytes(),
    )?;
    tree.put_compressed(&format!("{DOC}licences.gz"), parts.licences.as_bytes())?;
    let mit = fs::read_to_string(parts.workspace.root.join("LICENSE-MIT"))?;
    tree.put(&format!("{DOC}copyright"), 0o644, copyright(&mit).as_bytes())
}

fn control(glibc: (u32, u32), size: u64) -> String {
    format!(
        "Package: ipvs-observer\nVersion: {VERSION}-{REVISION}\nArchitecture: amd64\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {}.{}), libgcc-s1 (>= 4.2), systemd | systemd-standalone-sysusers | systemd-sysusers\n\
         Suggests: ipvsadm, telegraf\nSection: net\nPriority: optional\nDescription: {DESCRIPTION}\n",
        glibc.0, glibc.1
    )
}

fn debian_changelog(epoch: u64) -> Result<String> {
    let date = process::capture(Command::new("date").env("LC_ALL", "C").args([
        "--utc",
        "--rfc-email",
        &format!("--date=@{epoch}"),
    ]))?;
    Ok(format!(
        "ipvs-observer ({VERSION}-{REVISION}) stable; urgency=medium\n\n  * Package of version {VERSION}; \
         changelog.gz has what is in it.\n\n -- {MAINTAINER}  {date}"
    ))
}

/// The licence's text as a paragraph of Debian's format: indented, empty lines as dots.
fn copyright(mit: &str) -> String {
    let mut text = COPYRIGHT.to_owned();
    for line in mit.lines().skip_while(|line| !line.starts_with("Permission")) {
        let line = if line.is_empty() { "." } else { line };
        // Writing to a string cannot fail.
        let _ = writeln!(text, " {line}");
    }
    text
}

/// What `dpkg --verify` compares with.
fn sums(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(folder, folder, &mut files)?;
    files.sort();
    process::capture(Command::new("md5sum").current_dir(folder).args(files))
}

fn collect(base: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(base, &entry.path(), files)?;
        } else if entry.file_type()?.is_file() {
            files.push(
                entry
                    .path()
                    .strip_prefix(base)
                    .context("outside of its tree")?
                    .to_owned(),
            );
        }
    }
    Ok(())
}
