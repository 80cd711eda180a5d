//! The tasks work on the tree that they are called in. Cargo does not build xtask again in a tree that was copied or
//! moved together with its build directory: the program that runs there is the one that was built elsewhere.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

/// A copy of this tree's sources, removed at the end.
struct Copied {
    above: PathBuf,
}

impl Copied {
    fn new(name: &str) -> Self {
        // Not below the build directory, which may be inside this tree.
        let above = env::temp_dir().join(format!("ipvs-observer-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&above);
        fs::create_dir_all(&above).expect("a directory");
        let above = above.canonicalize().expect("its path");
        let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo's own"));
        copy(package.parent().expect("the workspace"), &above.join("copy"));
        Self { above }
    }

    /// What `doctor` says that it works on: the tree and its build directory.
    fn doctor(&self, called_in: &str, variables: &[(&str, &Path)]) -> (PathBuf, PathBuf) {
        let output = Command::new(env::var_os("CARGO_BIN_EXE_xtask").expect("cargo's own"))
            .arg("doctor")
            .current_dir(self.above.join(called_in))
            .env_remove("CARGO_TARGET_DIR")
            .envs(variables.iter().copied())
            .output()
            .expect("xtask");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let (tree, built_in) = said
            .lines()
            .next()
            .and_then(|line| {
                line.strip_prefix("Tree ")?
                    .strip_suffix('.')?
                    .split_once(", built in ")
            })
            .unwrap_or_else(|| panic!("{said}{errors}"));
        (tree.into(), built_in.into())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.above.join(below)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.above);
    }
}

/// The sources: neither what was built nor git's own.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        if name == ".git" || name == "target" || entry.path().join("CACHEDIR.TAG").exists() {
            continue;
        }
        if entry.file_type().expect("a type").is_file() {
            fs::copy(entry.path(), to.join(name)).expect("a copy");
        } else {
            copy(&entry.path(), &to.join(name));
        }
    }
}

#[test]
fn a_copied_and_a_moved_tree_are_worked_on_where_they_are() {
    let copied = Copied::new("copied");
    // The test's own environment has the CARGO_MANIFEST_DIR of the tree that all of this was built in.
    let here = (copied.path("copy"), copied.path("copy/target"));
    assert_eq!(copied.doctor("copy", &[]), here);
    assert_eq!(copied.doctor("copy/xtask/src/lab", &[]), here);
    fs::rename(copied.path("copy"), copied.path("moved")).expect("the move");
    let here = (copied.path("moved"), copied.path("moved/target"));
    assert_eq!(copied.doctor("moved/docs", &[]), here);
    // From outside, as `cargo run --manifest-path`.
    assert_eq!(
        copied.doctor(".", &[("CARGO_MANIFEST_DIR", &copied.path("moved/xtask"))]),
        here
    );
    // A build directory relative to where it is called, as cargo has it.
    assert_eq!(
        copied.doctor("moved/docs", &[("CARGO_TARGET_DIR", Path::new("built"))]),
        (copied.path("moved"), copied.path("moved/docs/built"))
    );
}
