//! What the program is made of beside its own code: licences, sources, and what must not be among it.
//!
//! Cargo itself names every package with its licence, so no other tool has to be built for this. Advisories are not
//! looked up: their database is a repository of its own, and a check that needs the network fails with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{process, progress::say, workspace::Workspace};

/// Licences of what is shipped: all allow that with nothing but a notice.
const SHIPPED: [&str; 9] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// And of what only tests and tasks use: libFuzzer is LLVM's.
const TOOLS: [&str; 1] = ["NCSA"];
/// What is not wanted at all, and why.
const BANNED: [(&str, &str); 6] = [
    ("openssl-sys", "a native library, and nothing here speaks TLS"),
    ("native-tls", "nothing here speaks TLS"),
    ("rustls", "nothing here speaks TLS"),
    ("libbpf-sys", "a native library, where aya does the same"),
    ("bindgen", "needs clang to build the program"),
    ("chrono", "humantime writes the times that are needed"),
];
/// The registry that everything comes from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// The program's package.
const PROGRAM: &str = "ipvs-observer";

/// The verb: the stage of `test` alone.
pub(crate) fn command() -> Result<ExitCode> {
    check(&Workspace::find()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Every package of the lock file, and what the program is linked of.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked", "--all-features"]);
    let metadata: Value = serde_json::from_str(&process::capture(&mut cargo)?)?;
    let packages = packages(&metadata)?;
    let shipped = shipped(&metadata, &packages)?;
    let mut wrong = Vec::new();
    for (id, package) in &packages {
        wrong.extend(package.wrong(shipped.contains(id)));
    }
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in shipped.iter().filter_map(|id| packages.get(id)) {
        versions.entry(package.name).or_default().push(package.version);
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        wrong.push(format!(
            "{name} is in the program as {}",
            versions.join(" and as ")
        ));
    }
    if !wrong.is_empty() {
        bail!("of the dependencies:\n  {}", wrong.join("\n  "));
    }
    say(&format!(
        "{} packages, {} of them in the program: licences, sources and bans hold",
        packages.len(),
        shipped.len()
    ));
    Ok(())
}

#[derive(Debug)]
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    licence: Option<&'a str>,
    /// None: it is of this workspace.
    source: Option<&'a str>,
    /// The native library that it brings, if it brings one.
    links: Option<&'a str>,
    /// Whether it runs in the compiler.
    macros: bool,
}

impl Package<'_> {
    /// What is not as it should be.
    fn wrong(&self, shipped: bool) -> Vec<String> {
        let Self { name, version, .. } = self;
        let mut wrong = Vec::new();
        let allowed = |licence: &str| SHIPPED.contains(&licence) || !shipped && TOOLS.contains(&licence);
        match self.licence {
            None => wrong.push(format!("{name} {version} names no licence")),
            Some(licence) if !satisfied(licence, &allowed) => {
                wrong.push(format!(
                    "{name} {version} is under {licence}, which is not among those allowed"
                ));
            }
            Some(_) => {}
        }
        if let Some(source) = self.source.filter(|source| *source != REGISTRY) {
            wrong.push(format!(
                "{name} {version} comes from {source}, not from crates.io"
            ));
        }
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| banned == name) {
            wrong.push(format!("{name} {version} is not wanted: {why}"));
        }
        if let Some(links) = self.links.filter(|_| shipped) {
            wrong.push(format!(
                "{name} {version} links the native library {links} into the program"
            ));
        }
        wrong
    }
}

fn packages(metadata: &Value) -> Result<BTreeMap<&str, Package<'_>>> {
    let list = metadata["packages"]
        .as_array()
        .context("cargo names no packages")?;
    list.iter()
        .map(|package| {
            let targets = package["targets"]
                .as_array()
                .context("a package without targets")?;
            let macros = |target: &Value| target["kind"] == serde_json::json!(["proc-macro"]);
            Ok((
                package["id"].as_str().context("a package without a name")?,
                Package {
                    name: package["name"].as_str().context("a package without a name")?,
                    version: package["version"]
                        .as_str()
                        .context("a package without a version")?,
                    licence: package["license"].as_str(),
                    source: package["source"].as_str(),
                    links: package["links"].as_str(),
                    macros: targets.iter().any(macros),
                },
            ))
        })
        .collect()
}

/// What is in the program: what it depends on, and so on; not what only its tests or its building need.
fn shipped<'a>(metadata: &'a Value, packages: &BTreeMap<&'a str, Package<'_>>) -> Result<BTreeSet<&'a str>> {
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .context("cargo resolves nothing")?;
    let nodes: BTreeMap<&str, &Value> = nodes
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let program = packages
        .iter()
        .find(|(_, package)| package.name == PROGRAM && package.source.is_none())
        .context("the program is no package")?;
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = nodes
        .get_key_value(program.0)
        .map(|(id, _)| *id)
        .into_iter()
        .collect();
    while let Some(id) = next.pop() {
        if packages.get(id).is_some_and(|package| package.macros) || !found.insert(id) {
            continue;
        }
        let edges = nodes.get(id).and_then(|node| node["deps"].as_array());
        for edge in edges.into_iter().flatten() {
            let kinds = edge["dep_kinds"].as_array();
            if kinds.into_iter().flatten().any(|kind| kind["kind"].is_null()) {
                next.extend(edge["pkg"].as_str());
            }
        }
    }
    Ok(found)
}

/// Whether an expression of licences can be met with those allowed: `AND` binds closer than `OR`, and an old `/` is
/// an `OR`.
fn satisfied(expression: &str, allowed: &impl Fn(&str) -> bool) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any(&words, &mut at, allowed) && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &impl Fn(&str) -> bool) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &impl Fn(&str) -> bool) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &impl Fn(&str) -> bool) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word == "(" {
        let met = any(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    match (words.get(*at), words.get(*at + 1)) {
        (Some(&"WITH"), Some(exception)) => {
            *at += 2;
            allowed(&format!("{word} WITH {exception}"))
        }
        _ => allowed(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mit_or_zlib(licence: &str) -> bool {
        matches!(licence, "MIT" | "Zlib")
    }

    #[test]
    fn an_expression_is_met_by_any_of_what_is_offered_and_all_of_what_is_asked() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND Zlib", true),
            ("(MIT OR Zlib) AND GPL-3.0", false),
            ("GPL-3.0 AND MIT OR Zlib", true),
            ("MIT WITH exception", false),
            ("(MIT", false),
            ("MIT Zlib", false),
            ("", false),
        ] {
            assert_eq!(satisfied(expression, &mit_or_zlib), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_is_named() {
        let good = Package {
            name: "good",
            version: "1.0.0",
            licence: Some("MIT"),
            source: Some(REGISTRY),
            links: None,
            macros: false,
        };
        assert_eq!(good.wrong(true), Vec::<String>::new());
        let foreign = Package {
            name: "openssl-sys",
            licence: Some("NCSA"),
            source: Some("git+https://example.org"),
            links: Some("openssl"),
            ..good
        };
        assert_eq!(foreign.wrong(true).len(), 4, "{:?}", foreign.wrong(true));
        assert_eq!(
            foreign.wrong(false).len(),
            2,
            "tests may link it, and use its licence"
        );
    }
}
