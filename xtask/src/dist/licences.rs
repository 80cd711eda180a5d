//! The licences of what is linked into the program: every crate, with the texts that it came with.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{process, workspace::Workspace};

/// The members of the workspace that end up in the program.
const OURS: [&str; 2] = ["ipvs-observer", "ipvs-observer-ebpf"];
/// What names of files with licences begin with.
const FILES: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];

/// The text that goes into the packages.
pub(crate) fn text(workspace: &Workspace) -> Result<String> {
    let mut cargo = workspace.cargo();
    cargo.args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]);
    let metadata: Value = serde_json::from_str(&process::capture(&mut cargo)?)?;
    let packages: BTreeMap<&str, &Value> = list(&metadata["packages"])
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let mut crates: Vec<&Value> = linked(&metadata, &packages)
        .into_iter()
        .filter_map(|id| packages.get(id).copied())
        .filter(|package| !package["source"].is_null())
        .collect();
    crates.sort_by_key(|package| (package["name"].to_string(), package["version"].to_string()));
    let mut text = "What is linked into ipvs-observer beside its own code, and under which terms.\n\
                    Rust's standard library: MIT or Apache-2.0, https://www.rust-lang.org\n"
        .to_owned();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for package in crates {
        let word = |key: &str| package[key].as_str().unwrap_or("(not said)").to_owned();
        let name = format!("{} {}", word("name"), word("version"));
        let _ = write!(
            text,
            "\n{:=<80}\n{name}: {}\n{}\n",
            "",
            word("license"),
            word("repository")
        );
        let manifest = word("manifest_path");
        let folder = Path::new(&manifest).parent().context("a crate is in no folder")?;
        for (file, content) in licence_files(folder)? {
            let _ = match texts.get(&content) {
                Some(first) => writeln!(text, "\n{file}: as {first}"),
                None => writeln!(text, "\n{file}:\n\n{}", content.trim_end()),
            };
            texts.entry(content).or_insert_with(|| format!("{name}, {file}"));
        }
    }
    Ok(text)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The packages that code of ours is linked with: by dependencies that are neither for building nor for tests,
/// and are no macros, which run in the compiler.
fn linked<'a>(metadata: &'a Value, packages: &BTreeMap<&'a str, &'a Value>) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = packages
        .iter()
        .filter(|(_, package)| OURS.iter().any(|name| package["name"] == *name))
        .map(|(id, _)| *id)
        .collect();
    while let Some(id) = open.pop() {
        if !found.insert(id) {
            continue;
        }
        for dependency in nodes.get(id).into_iter().flat_map(|node| list(&node["deps"])) {
            let normal = list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
            let Some(id) = dependency["pkg"].as_str().filter(|_| normal) else {
                continue;
            };
            let macros = packages.get(id).is_some_and(|package| {
                list(&package["targets"]).any(|target| list(&target["kind"]).any(|kind| kind == "proc-macro"))
            });
            if !macros {
                open.push(id);
            }
        }
    }
    found
}

/// Name and content of each file with a licence, by name.
fn licence_files(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && FILES.iter().any(|begin| name.to_uppercase().starts_with(begin)) {
            files.push((
                name,
                String::from_utf8_lossy(&fs::read(entry.path())?).into_owned(),
            ));
        }
    }
    files.sort();
    Ok(files)
}
