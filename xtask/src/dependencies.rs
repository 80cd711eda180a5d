//! What everything that is not written here is held to: licences, sources, and what must not be among it. The rules are
//! in `.cargo/deny.toml`, and cargo-deny's.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{process, tool::Tool, workspace::Workspace};

const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};
/// The program's package.
const PROGRAM: &str = "ipvs-observer/Cargo.toml";
/// What only the program is held to.
const PROGRAMS: [&str; 2] = ["duplicate", "build-script-not-allowed"];

/// The verb: the stage of `test` alone.
pub(crate) fn command() -> Result<ExitCode> {
    check(&Workspace::find()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Every package of the lock file, and then what the program is made of.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let deny = DENY.ensure(workspace, |_| {})?;
    let rules = workspace.root.join(".cargo/deny.toml");
    let of = |graph: &[&str]| {
        let mut command = Command::new(&deny);
        command
            .current_dir(&workspace.root)
            .args(["--locked", "--all-features", "--config"])
            .arg(&rules)
            .args(graph)
            .args(["check", "--hide-inclusion-graph"]);
        command
    };
    let mut all = of(&[]);
    for lint in PROGRAMS {
        all.args(["--allow", lint]);
    }
    process::run(all.args(["licenses", "bans", "sources"]))?;
    process::run(of(&["--manifest-path", PROGRAM, "--exclude-dev"]).arg("bans"))
}
