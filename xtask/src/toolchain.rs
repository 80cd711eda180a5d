//! The toolchain of the eBPF object: a compiler with library sources, and bpf-linker with an LLVM that fits.
//!
//! `bpfel-unknown-none` has no precompiled core, so cargo builds it (`-Zbuild-std`) and needs the sources.
//! Rustup's nightly has them as the component rust-src, Debian as a package beside rustc-web.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{process, tool::Tool, workspace::Workspace};

/// The linker's release. Each knows only some versions of LLVM.
pub(crate) const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.13.0",
};
/// The LLVM that bpf-linker is built with. It must not be older than the compiler's, whose bitcode it reads.
pub(crate) const LLVM: u32 = 22;

/// Where Debian's packages put their compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// A compiler that can build the eBPF object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// What `rustc --version` says.
    version: String,
    origin: &'static str,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.origin)
    }
}

impl Toolchain {
    /// Rustup's nightly if it has the sources and a fitting LLVM, else Debian's compiler likewise.
    /// The error says of each why not.
    pub(crate) fn find() -> Result<Self> {
        let mut reasons = Vec::new();
        for (origin, rustc, cargo) in candidates() {
            match Self::check(origin, &rustc, cargo) {
                Ok(toolchain) => return Ok(toolchain),
                Err(reason) => reasons.push(format!("{origin}: {reason}")),
            }
        }
        if reasons.is_empty() {
            reasons.push("neither rustup's nightly nor Debian's compiler is here".to_owned());
        }
        bail!("none fits: {}", reasons.join("; "))
    }

    fn check(origin: &'static str, rustc: &Path, cargo: PathBuf) -> Result<Self> {
        let about = process::capture(Command::new(rustc).arg("-vV").env_remove("LD_LIBRARY_PATH"))?;
        let sysroot = process::capture(
            Command::new(rustc)
                .args(["--print", "sysroot"])
                .env_remove("LD_LIBRARY_PATH"),
        )?;
        let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
        if !sources.is_file() {
            bail!("no library sources");
        }
        if !cargo.is_file() {
            bail!("no cargo beside the compiler");
        }
        match llvm_major(&about) {
            Some(major) if major > LLVM => bail!(
                "its LLVM {major} is newer than the LLVM {LLVM} of bpf-linker {}, which could not read its output",
                BPF_LINKER.version
            ),
            Some(_) => {}
            None => bail!("it names no LLVM version"),
        }
        let version = about.lines().next().unwrap_or("rustc").to_owned();
        Ok(Self {
            cargo,
            rustc: rustc.to_owned(),
            version,
            origin,
        })
    }

    /// This toolchain's cargo. Only nightly has `-Zbuild-std` by itself; the others are told to allow it.
    pub(crate) fn cargo(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.foreign_cargo(&self.cargo);
        command.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

/// Compilers to look at, best first: where from, rustc, cargo.
fn candidates() -> Vec<(&'static str, PathBuf, PathBuf)> {
    let mut found = Vec::new();
    if process::find("rustup").is_some() {
        let which = process::capture(
            Command::new("rustup")
                .args(["which", "--toolchain", "nightly", "rustc"])
                // Looking must not install anything.
                .env("RUSTUP_AUTO_INSTALL", "0")
                .env_remove("RUSTUP_TOOLCHAIN"),
        );
        if let Ok(which) = which {
            let rustc = PathBuf::from(which.trim());
            let cargo = rustc.with_file_name("cargo");
            found.push(("rustup's nightly", rustc, cargo));
        }
    }
    if Path::new(DEBIAN_RUSTC).is_file() {
        found.push((
            "Debian's",
            PathBuf::from(DEBIAN_RUSTC),
            PathBuf::from(DEBIAN_CARGO),
        ));
    }
    found
}

fn llvm_major(about: &str) -> Option<u32> {
    let version = about
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

/// The bpf-linker of this workspace, built first if it is not there.
pub(crate) fn ensure_linker(workspace: &Workspace) -> Result<PathBuf> {
    let prefix = llvm_prefix();
    if prefix.is_none() && BPF_LINKER.find(workspace).is_none() {
        bail!(
            "bpf-linker cannot be built, and without it no eBPF object: LLVM {LLVM} with its headers is not here"
        );
    }
    BPF_LINKER.ensure(workspace, |build| {
        build.envs(prefix.map(|prefix| ("LLVM_PREFIX", prefix))).args([
            "--no-default-features",
            "--features",
            &format!("llvm-{LLVM}"),
        ]);
    })
}

/// Where LLVM is installed with its headers, asked of its own llvm-config.
pub(crate) fn llvm_prefix() -> Option<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/llvm-{LLVM}/bin/llvm-config"));
    let config = env::var_os("LLVM_PREFIX")
        .map(|prefix| PathBuf::from(prefix).join("bin/llvm-config"))
        .into_iter()
        .chain([debian])
        .chain(process::find(&format!("llvm-config-{LLVM}")))
        .chain(process::find("llvm-config"));
    for config in config {
        let Ok(version) = process::capture(Command::new(&config).arg("--version")) else {
            continue;
        };
        if version.split('.').next() != Some(&LLVM.to_string()) {
            continue;
        }
        let Ok(prefix) = process::capture(Command::new(&config).arg("--prefix")) else {
            continue;
        };
        let prefix = PathBuf::from(prefix.trim());
        // The library alone is not enough: -dev packages carry the C headers.
        if prefix.join("include/llvm-c").is_dir() {
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_compiler_is_read_from_its_verbose_version() {
        let about = "rustc 1.95.0\nbinary: rustc\nrelease: 1.95.0\nLLVM version: 22.1.2\n";
        assert_eq!(llvm_major(about), Some(22));
        assert_eq!(llvm_major("rustc 1.95.0\n"), None);
    }
}
