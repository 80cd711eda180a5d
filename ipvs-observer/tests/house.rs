//! The order of the sources: no room imports one that is not below it, and no files import each other in a circle.
//!
//! Imports are paths that begin with `crate` or `super`, in a `use` and elsewhere; tests may have any. That a
//! directory's own file names its children is none: to others, a directory is one thing.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails by it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proc_macro2::{Spacing, TokenStream, TokenTree};

/// Texts by their modules.
type Files = BTreeMap<String, String>;
/// A module, and one that it imports.
type Imports = BTreeSet<(String, String)>;

/// Every path as it is written, and those of a tree behind its `prefix`.
fn paths(tokens: TokenStream, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let (mut path, mut goes_on) = (prefix.to_vec(), true);
    for token in tokens {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == ':' => goes_on |= mark.spacing() == Spacing::Joint,
            TokenTree::Ident(word) => {
                if !std::mem::take(&mut goes_on) {
                    found.push(std::mem::replace(&mut path, prefix.to_vec()));
                }
                path.push(word.to_string());
            }
            TokenTree::Group(group) => {
                let prefix = if goes_on { &path[..] } else { &[] };
                paths(group.stream(), prefix, found);
                goes_on = false;
            }
            _ => goes_on = false,
        }
    }
    found.push(path);
}

/// The file that a path in `module` leads to.
fn file<'a>(path: &'a [String], module: &'a str, files: &Files) -> Option<String> {
    let mut names: Vec<&str> = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "super" => module.split("::").collect(),
        _ => return None,
    };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut ends = (0..=names.len()).rev().map(|end| names[..end].join("::"));
    ends.find(|file| files.contains_key(file))
}

fn imports(files: &Files) -> Imports {
    let is_test = |module: &str| {
        let (owner, name) = module.rsplit_once("::").unwrap_or(("", module));
        let declared = format!("#[cfg(test)]\nmod {name};");
        files.get(owner).is_some_and(|text| text.contains(&declared))
    };
    let mut imports = Imports::new();
    for (module, text) in files.iter().filter(|(module, _)| !is_test(module)) {
        let code = text.split("#[cfg(test)]\nmod tests {").next();
        let mut found = Vec::new();
        paths(code.unwrap_or(text).parse().expect("Rust"), &[], &mut found);
        let others = found.iter().filter_map(|path| file(path, module, files));
        let others = others.filter(|other| other != module);
        imports.extend(others.map(|other| (module.clone(), other)));
    }
    imports
}

/// What is left without those that import nothing and those that nothing imports: circles, and ways between them.
fn circles(mut imports: Imports) -> Imports {
    loop {
        let (importing, imported): (BTreeSet<_>, BTreeSet<_>) = imports.iter().cloned().unzip();
        let length = imports.len();
        imports.retain(|(module, other)| imported.contains(module) && importing.contains(other));
        if imports.len() == length {
            return imports;
        }
    }
}

/// Imports of rooms that are not in a line of `order` below.
fn upwards(mut imports: Imports, order: &str) -> Imports {
    imports.retain(|(module, other)| {
        let room = |module: &str| module.split("::").next().map(str::to_owned);
        let line = |module: &str| {
            let room = room(module)?;
            order
                .lines()
                .position(|line| line.split(' ').any(|other| other == room))
        };
        let below = matches!((line(module), line(other)), (Some(line), Some(other)) if line < other);
        room(module) != room(other) && !below
    });
    imports
}

fn read(directory: &Path, module: &str, files: &mut Files) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        let module = match (module, &*name) {
            (_, "mod" | "lib" | "main") => module.to_owned(),
            ("", name) => name.to_owned(),
            (_, name) => format!("{module}::{name}"),
        };
        if path.is_dir() {
            read(&path, &module, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).expect("a file");
            files.entry(module).or_default().push_str(&text);
        }
    }
}

fn imports_of(member: &str) -> Imports {
    let sources = format!("{}/../{member}/src", env!("CARGO_MANIFEST_DIR"));
    let mut files = Files::new();
    read(sources.as_ref(), "", &mut files);
    imports(&files)
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for member in [
        "ipvs-observer",
        "ipvs-observer-common",
        "ipvs-observer-ebpf",
        "fuzz",
        "xtask",
    ] {
        assert_eq!(circles(imports_of(member)), Imports::new(), "{member}");
    }
}

#[test]
fn no_room_imports_one_that_is_not_below_it() {
    let lib = include_str!("../src/lib.rs").replace("//! ", "");
    let order = lib.split("```text\n").find(|block| block.starts_with("commands"));
    let upwards = upwards(imports_of("ipvs-observer"), order.expect("the order"));
    assert_eq!(upwards, Imports::new());
}

#[test]
fn offenders_are_named_and_tests_are_none() {
    let files = [
        (
            "edge",
            "//! crate::other\nuse crate::{low::Plain, top::{self as above}};",
        ),
        ("low", "fn f() -> &'static str { \"crate::top\" }"),
        ("low::inner", "fn f(): super::G { $crate::low::other::g() }"),
        ("low::other", "use super::{super::low::inner::f, Plain};"),
        ("middle", "fn f(_: crate::edge::Edge) { crate::new::f() }"),
        ("new", ""),
        (
            "top",
            "#[cfg(test)]\nmod given;\nuse crate::edge;\n#[cfg(test)]\nmod tests { use crate::new; }",
        ),
        ("top::given", "use crate::{middle, new};"),
    ];
    let files = files.map(|(module, text)| (module.to_owned(), text.to_owned()));
    let imports = imports(&files.into());
    let said = |imports: Imports| {
        let said = imports
            .iter()
            .map(|(module, other)| format!("{module} imports {other}"));
        said.collect::<Vec<_>>()
    };
    let up = ["edge imports top", "middle imports edge", "middle imports new"];
    assert_eq!(said(upwards(imports.clone(), "top\nedge middle\nlow")), up);
    let around = [
        "edge imports top",
        "low::inner imports low::other",
        "low::other imports low::inner",
        "top imports edge",
    ];
    assert_eq!(said(circles(imports)), around);
}
