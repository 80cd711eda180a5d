//! Finds the eBPF object that `cargo xtask build-ebpf` left in the build folder, and refuses to build
//! the program without it or with one that is older than its sources.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

/// Where `cargo xtask build-ebpf` puts the object, below the build folder.
const OBJECT: &str = "ebpf/ipvs-observer.bpf.o";
/// What the object is made of, below the workspace.
const SOURCES: [&str; 2] = ["ipvs-observer-ebpf/src", "ipvs-observer-common/src"];
const REMEDY: &str = "run `cargo xtask build-ebpf`";

fn main() -> ExitCode {
    match object() {
        Ok(path) => {
            println!("cargo::rustc-env=IPVS_OBSERVER_EBPF_OBJECT={}", path.display());
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("cargo::error={reason}");
            ExitCode::FAILURE
        }
    }
}

fn object() -> Result<PathBuf, Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    // OUT_DIR is some levels below the build folder; how many depends on profile and target.
    let Some(object) = out
        .ancestors()
        .map(|folder| folder.join(OBJECT))
        .find(|path| path.is_file())
    else {
        return Err(format!("the eBPF object is not built, and the program carries it: {REMEDY}").into());
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let built = fs::metadata(&object)?.modified()?;
    for source in SOURCES {
        let source = workspace.join(source);
        println!("cargo::rerun-if-changed={}", source.display());
        if newest(&source)? > built {
            return Err(format!(
                "the eBPF object is older than its sources, so their layouts may differ: {REMEDY}"
            )
            .into());
        }
    }
    Ok(object)
}

fn newest(folder: &Path) -> Result<SystemTime, Box<dyn Error>> {
    let mut found = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let modified = if entry.file_type()?.is_dir() {
            newest(&entry.path())?
        } else {
            entry.metadata()?.modified()?
        };
        found = found.max(modified);
    }
    Ok(found)
}
