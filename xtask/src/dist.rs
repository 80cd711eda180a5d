//! `dist`: a Debian package, and a tarball whose program runs on any x86-64 Linux, in `target/dist`.
//!
//! The same commit gives the same bytes: no path of the builder is in the programs, and no time but the commit's
//! in the packages.

mod deb;
mod licences;
mod programs;
mod references;
pub(crate) mod tree;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    build,
    needs::{self, Purpose},
    package, process,
    progress::{say, step},
    workspace::Workspace,
};
use references::Shipped;
use tree::Tree;

/// The version of everything in the workspace.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `dist`'s arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Then install, run, upgrade and remove the package on a Debian in the lab, as `test` does
    #[arg(long)]
    test: bool,
    #[command(flatten)]
    needs: needs::Install,
}

/// What `dist` leaves.
#[derive(Debug, Clone)]
pub(crate) struct Packages {
    /// The Debian package.
    pub(crate) deb: PathBuf,
    /// The tarball.
    pub(crate) tarball: PathBuf,
}

/// What both packages are made of.
struct Parts<'a> {
    workspace: &'a Workspace,
    programs: programs::Programs,
    /// Seconds of the commit.
    epoch: u64,
    pages: Vec<(String, Vec<u8>)>,
    completions: Vec<(&'static str, Vec<u8>)>,
    licences: String,
}

/// The verb: makes both and says where they are.
pub(crate) fn make(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut purposes = vec![Purpose::Build, Purpose::Package];
    if args.test {
        purposes.extend([Purpose::Lab, Purpose::Debian]);
    }
    needs::ensure(&workspace, &purposes, args.needs)?;
    let packages = packages(&workspace, args.needs)?;
    for path in [&packages.deb, &packages.tarball] {
        say(&format!("{}", path.display()));
    }
    if args.test {
        package::live(&workspace, &packages.deb, &packages.tarball)?;
    }
    Ok(())
}

/// Makes both packages and their checksums.
pub(crate) fn packages(workspace: &Workspace, args: needs::Install) -> Result<Packages> {
    build::ebpf(args)?;
    let programs = step("building the programs of the packages", || {
        programs::build(workspace)
    })?;
    let epoch = epoch(workspace)?;
    let parts = Parts {
        pages: pages(&programs.portable, epoch)?,
        completions: completions(&programs.portable)?,
        licences: licences::text(workspace)?,
        workspace,
        programs,
        epoch,
    };
    let folder = workspace.target.join("dist");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let packages = Packages {
        deb: deb::make(&parts, &folder)?,
        tarball: tarball(&parts, &folder)?,
    };
    let names = [&packages.deb, &packages.tarball].map(|path| path.file_name().unwrap_or_default());
    let sums = process::capture(Command::new("sha256sum").current_dir(&folder).args(names))?;
    fs::write(folder.join("SHA256SUMS"), sums)?;
    Ok(packages)
}

/// When the commit was made, or what builders of distributions set in its place.
fn epoch(workspace: &Workspace) -> Result<u64> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => process::capture(Command::new("git").current_dir(&workspace.root).args([
            "log",
            "-1",
            "--format=%ct",
        ]))
        .context("the packages carry the time of the commit; without git, set SOURCE_DATE_EPOCH")?,
    };
    text.trim().parse().context("SOURCE_DATE_EPOCH is no number")
}

/// The manual pages by their file names, from the program.
fn pages(program: &Path, epoch: u64) -> Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    for verb in ["", "collect", "trace", "check"] {
        let mut command = Command::new(program);
        command.env("SOURCE_DATE_EPOCH", epoch.to_string()).arg("man");
        let name = if verb.is_empty() {
            "ipvs-observer.8".to_owned()
        } else {
            command.arg(verb);
            format!("ipvs-observer-{verb}.8")
        };
        pages.push((name, process::capture(&mut command)?.into_bytes()));
    }
    Ok(pages)
}

/// The completion scripts by shell.
fn completions(program: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    ["bash", "zsh", "fish"]
        .into_iter()
        .map(|shell| {
            let script = process::capture(Command::new(program).args(["completions", shell]))?;
            Ok((shell, script.into_bytes()))
        })
        .collect()
}

/// README, SECURITY and docs, as they stand in the repository: their links to each other hold.
fn documents(root: &Path, tree: &Tree, base: &str) -> Result<()> {
    for file in ["README.md", "SECURITY.md"] {
        tree.copy(&root.join(file), &format!("{base}{file}"))?;
    }
    tree.copy_all(&root.join("docs"), &format!("{base}docs"))
}

fn tarball(parts: &Parts<'_>, folder: &Path) -> Result<PathBuf> {
    let name = format!("ipvs-observer-{VERSION}-x86_64-linux");
    let tree = laid_out(parts, &name)?;
    let path = folder.join(format!("{name}.tar.gz"));
    let above = tree.folder.parent().context("the tree has no folder above it")?;
    process::run(
        Command::new("tar")
            .current_dir(above)
            .args([
                "--sort=name",
                "--format=gnu",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
            ])
            .arg(format!("--mtime=@{}", parts.epoch))
            .args(["--use-compress-program", "gzip -9n", "-cf"])
            .arg(&path)
            .arg(&name),
    )?;
    Ok(path)
}

/// The tarball as a folder.
fn laid_out(parts: &Parts<'_>, name: &str) -> Result<Tree> {
    let tree = Tree::new(&parts.workspace.target.join("dist-tree").join(name))?;
    let program = fs::read(&parts.programs.portable)?;
    tree.put("ipvs-observer", 0o755, &program)?;
    for (page, text) in &parts.pages {
        tree.put(&format!("man/{page}"), 0o644, text)?;
    }
    for (shell, script) in &parts.completions {
        let file = match *shell {
            "zsh" => "_ipvs-observer".to_owned(),
            shell => format!("ipvs-observer.{shell}"),
        };
        tree.put(&format!("completions/{file}"), 0o644, script)?;
    }
    documents(&parts.workspace.root, &tree, "")?;
    for file in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        tree.copy(&parts.workspace.root.join(file), file)?;
    }
    let licences = format!("{}\n{}", parts.licences, parts.programs.static_notice);
    tree.put("LICENSES-THIRD-PARTY", 0o644, licences.as_bytes())?;
    Shipped {
        folder: &tree.folder,
        documents: &tree.folder,
        installed: &deb::folder(parts),
        source: &parts.workspace.root,
    }
    .check()?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `dist` checks it, but without programs, whose pages and completions come from them.
    #[test]
    fn whatever_the_packages_files_name_is_there() {
        let base = env::temp_dir().join(format!("ipvs-observer-dist-{}", std::process::id()));
        let program = base.join("program");
        fs::create_dir_all(&base).unwrap();
        fs::write(&program, [0xff]).unwrap();
        let workspace = Workspace {
            root: Workspace::find().unwrap().root,
            target: base.clone(),
        };
        let page = |name: &str| (name.to_owned(), Vec::new());
        let parts = Parts {
            workspace: &workspace,
            programs: programs::Programs {
                dynamic: program.clone(),
                portable: program,
                glibc: (2, 36),
                static_notice: String::new(),
            },
            epoch: 0,
            pages: ["ipvs-observer.8", "ipvs-observer-collect.8"].map(page).to_vec(),
            completions: Vec::new(),
            licences: String::new(),
        };
        deb::laid_out(&parts).unwrap();
        laid_out(&parts, "tarball").unwrap();
        fs::remove_dir_all(base).unwrap();
    }
}
