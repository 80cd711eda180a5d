//! Where things are: the repository, cargo's target directory, and cargo itself with a clean environment.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// What a directory has that is the root of a tree.
const MEMBERS: [&str; 3] = ["Cargo.toml", "ipvs-observer/Cargo.toml", "xtask/Cargo.toml"];

/// The places that tasks read from and write to.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory: everything that is built or fetched goes below it.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The tree that the task is called in, and what cargo says of it: `CARGO_TARGET_DIR` and configuration files count.
    pub(crate) fn find() -> Result<Self> {
        let called_in = env::current_dir().context("the current directory is gone")?;
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let root = root(
            &called_in,
            manifest.as_deref(),
            env::current_exe().ok().as_deref(),
        )
        .with_context(|| format!("{} is not inside a tree of ipvs-observer", called_in.display()))?;
        let mut command = Command::new(cargo_path());
        // In the caller's directory: a relative `CARGO_TARGET_DIR` is relative to that.
        command
            .args([
                "metadata",
                "--no-deps",
                "--format-version",
                "1",
                "--manifest-path",
            ])
            .arg(root.join("Cargo.toml"));
        let metadata: Value = serde_json::from_str(&process::capture(&mut command)?)?;
        let target = metadata["target_directory"]
            .as_str()
            .context("cargo names no target directory")?;
        Ok(Self {
            root,
            target: PathBuf::from(target),
        })
    }

    /// The eBPF object: `ipvs-observer/build.rs` looks for it here.
    pub(crate) fn object(&self) -> PathBuf {
        self.target.join("ebpf/ipvs-observer.bpf.o")
    }

    /// The released program.
    pub(crate) fn program(&self) -> PathBuf {
        self.target.join("release/ipvs-observer")
    }

    /// Tools built for this workspace alone.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Kernels, package lists and everything else of the lab.
    pub(crate) fn lab(&self) -> PathBuf {
        self.target.join("lab")
    }

    /// Flags that take the builder's own paths out of what is compiled: an equal commit gives equal bytes.
    pub(crate) fn remap(&self) -> Vec<String> {
        let home = env::home_dir().filter(|home| home.components().count() > 1);
        let cargo = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(home.as_ref()?.join(".cargo")));
        // The last that fits counts.
        [
            (home, "/home"),
            (cargo, "/cargo"),
            (Some(self.root.clone()), "/ipvs-observer"),
        ]
        .into_iter()
        .filter_map(|(path, instead)| Some(format!("--remap-path-prefix={}={instead}", path?.display())))
        .collect()
    }

    /// Cargo as the caller runs it, in the repository.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo_path());
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Cargo for a release build of the program or of what is tested with it. All of them have the same flags, so that
    /// each dependency is compiled once for all.
    pub(crate) fn release(&self, verb: &str) -> Command {
        let mut command = self.cargo();
        command
            .arg(verb)
            // As configuration, which a user's RUSTFLAGS come before. An array of strings is written alike in TOML.
            .args(["--config", &format!("build.rustflags={:?}", self.remap())])
            .args(["--release", "-p", "ipvs-observer"]);
        command
    }

    /// Another toolchain's cargo: what the running one put into the environment would mislead it.
    pub(crate) fn foreign_cargo(&self, cargo: &Path) -> Command {
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        for name in [
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "LD_LIBRARY_PATH",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTDOC",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            command.env_remove(name);
        }
        command
    }
}

/// The root of the tree around `called_in`; outside of any tree, of the one that `cargo run` names or the program is in.
///
/// Nothing here is compiled in: cargo takes a copied or moved tree's xtask for up to date and does not build it again.
fn root(called_in: &Path, manifest: Option<&Path>, program: Option<&Path>) -> Option<PathBuf> {
    called_in
        .ancestors()
        .chain(manifest.and_then(Path::parent))
        .chain(program.into_iter().flat_map(Path::ancestors))
        .find(|folder| MEMBERS.iter().all(|member| folder.join(member).is_file()))
        .map(Path::to_owned)
}

fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
