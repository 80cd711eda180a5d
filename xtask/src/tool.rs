//! Programs from crates.io that the tasks use: built once, below the build folder, and installed nowhere else.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{process, progress::step, workspace::Workspace};

/// A program in one version.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    /// Of the package and of the program in it.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

impl Tool {
    /// Where it is, if it is built and runs.
    pub(crate) fn find(self, workspace: &Workspace) -> Option<PathBuf> {
        let program = workspace.tools().join("bin").join(self.name);
        let version = process::capture(Command::new(&program).arg("--version")).ok()?;
        version.contains(self.version).then_some(program)
    }

    /// Where it is; built first if it is not there. `prepare` says of the build what is not usual.
    pub(crate) fn ensure(self, workspace: &Workspace, prepare: impl FnOnce(&mut Command)) -> Result<PathBuf> {
        if let Some(program) = self.find(workspace) {
            return Ok(program);
        }
        let Self { name, version } = self;
        step(&format!("building {name} {version}"), || {
            let mut cargo = workspace.cargo();
            cargo
                .env_remove("CARGO_TARGET_DIR")
                .args(["install", name, "--version", version, "--locked", "--quiet"])
                // Each runs for a second or two, and optimising cargo-deny takes minutes.
                .arg("--debug")
                .arg("--root")
                .arg(workspace.tools());
            prepare(&mut cargo);
            process::run(&mut cargo)
        })?;
        match self.find(workspace) {
            Some(program) => Ok(program),
            None => bail!("{name} was built and does not run: is every library where it was?"),
        }
    }
}
