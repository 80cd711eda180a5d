//! `doctor`: what this machine has and lacks for the tasks, and the one command that gets the rest.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    needs::{self, Purpose},
    toolchain::Toolchain,
    workspace::Workspace,
};

/// Prints a row per need; fails if any is missing.
pub(crate) fn report() -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let needs = needs::all(&workspace);
    let apt = needs::has_apt();
    println!(
        "Tree {}, built in {}.\n",
        workspace.root.display(),
        workspace.target.display()
    );
    println!("{:<34} {:<6} state", "need", "for");
    for need in &needs {
        let purpose = match need.purpose {
            Purpose::Build => "build",
            Purpose::Lab | Purpose::Debian => "lab",
            Purpose::Package => "dist",
            Purpose::Test => "test",
            Purpose::Bench => "bench",
            Purpose::Fuzz => "fuzz",
        };
        let state = match &need.missing {
            None => "ok".to_owned(),
            Some(why) if apt => format!("MISSING: {why}: {}", needs::remedy(&need.packages)),
            Some(why) => format!("MISSING: {why}: {}", need.elsewhere),
        };
        println!("{:<34} {purpose:<6} {state}", need.name);
    }
    if let Ok(toolchain) = Toolchain::find() {
        println!("\nThe eBPF object would be built by {toolchain}.");
    }
    let packages: Vec<String> = needs
        .iter()
        .filter(|need| need.missing.is_some())
        .flat_map(|need| need.packages.clone())
        .collect();
    if packages.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if apt {
        println!("\nAll of it at once: {}", needs::remedy(&packages));
    }
    Ok(ExitCode::FAILURE)
}
