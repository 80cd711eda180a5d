//! Where things are: the repository, cargo's target directory, and cargo itself with a clean environment.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// The places that tasks read from and write to.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory: everything that is built or fetched goes below it.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo, so that `CARGO_TARGET_DIR` and configuration files count.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask is not inside a workspace")?
            .to_owned();
        let mut command = Command::new(cargo_path());
        command
            .current_dir(&root)
            .args(["metadata", "--no-deps", "--format-version", "1"]);
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

fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
