//! The programs of the packages: one linked with the system's C library, one with nothing but the kernel.
//!
//! No path of the builder may be in them, and they are put into a folder of their own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{process, workspace::Workspace};

/// The newest C library that the Debian package may ask for: Debian 12 has 2.36, and 2.34 is what Rust's
/// standard library asks for. Ubuntu 22.04 and RHEL 9 have it too.
const NEWEST_GLIBC: (u32, u32) = (2, 36);

/// Both, without symbols.
pub(crate) struct Programs {
    /// For the Debian package: linked with the system's C library.
    pub(crate) dynamic: PathBuf,
    /// For the tarball: linked with nothing.
    pub(crate) portable: PathBuf,
    /// The oldest C library that the first runs with: major, minor.
    pub(crate) glibc: (u32, u32),
    /// What the static one says of the library in it.
    pub(crate) static_notice: String,
}

/// Builds both.
pub(crate) fn build(workspace: &Workspace) -> Result<Programs> {
    let folder = workspace.target.join("dist-build");
    let stage = |kind: &str, flags: &[&str]| -> Result<PathBuf> {
        let mut cargo = workspace.release("rustc");
        cargo
            // Whatever else the builder's own flags would add.
            .env("CARGO_ENCODED_RUSTFLAGS", workspace.remap().join("\x1f"))
            // What is compiled is shared with other builds, and their program stays where it is.
            .env("CARGO_BUILD_BUILD_DIR", &workspace.target)
            .args(["--quiet", "--locked", "--bin", "ipvs-observer", "--target-dir"])
            .arg(&folder)
            .arg("--")
            .args(flags);
        process::run(&mut cargo)?;
        let to = folder.join(format!("ipvs-observer-{kind}"));
        process::run(
            Command::new("strip")
                .args(["--strip-all", "--remove-section=.comment", "-o"])
                .arg(&to)
                .arg(folder.join("release/ipvs-observer")),
        )?;
        Ok(to)
    };
    let dynamic = stage("dynamic", &[])?;
    // The C library's static half links into the last step alone: what is below is compiled once for both.
    let portable = stage("static", &["-Ctarget-feature=+crt-static"])?;
    let home = env::home_dir().unwrap_or_default();
    for program in [&dynamic, &portable] {
        for path in [&workspace.root, &home] {
            if path.components().count() > 1 && holds(program, path)? {
                bail!(
                    "{} holds the path {}: it would differ elsewhere",
                    program.display(),
                    path.display()
                );
            }
        }
    }
    let glibc =
        newest_glibc(&versions(&dynamic)?).context("the program asks for no version of the C library")?;
    if glibc > NEWEST_GLIBC {
        bail!(
            "the Debian package would ask for glibc {}.{}, and Debian 12 has {}.{}: build it on Debian 12",
            glibc.0,
            glibc.1,
            NEWEST_GLIBC.0,
            NEWEST_GLIBC.1
        );
    }
    let headers = process::capture(
        process::command("readelf")
            .args(["--program-headers", "--wide"])
            .arg(&portable),
    )?;
    if headers.contains("INTERP") {
        bail!("{} asks for a loader, so it is not static", portable.display());
    }
    Ok(Programs {
        dynamic,
        portable,
        glibc,
        static_notice: static_notice(),
    })
}

fn holds(program: &Path, path: &Path) -> Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    let mut wanted = path.as_os_str().as_bytes().to_vec();
    wanted.push(b'/');
    let bytes = fs::read(program)?;
    Ok(bytes.windows(wanted.len()).any(|window| window == wanted))
}

fn versions(program: &Path) -> Result<String> {
    process::capture(
        process::command("readelf")
            .env("LC_ALL", "C")
            .args(["--version-info", "--wide"])
            .arg(program),
    )
}

/// The highest of the `GLIBC_2.17` in what readelf prints.
fn newest_glibc(versions: &str) -> Option<(u32, u32)> {
    versions
        .split("GLIBC_")
        .skip(1)
        .filter_map(|rest| {
            let number = rest
                .split(|letter: char| !letter.is_ascii_digit() && letter != '.')
                .next()?;
            let mut parts = number.split('.');
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        })
        .max()
}

fn static_notice() -> String {
    let version = process::capture(Command::new("ldd").arg("--version")).unwrap_or_default();
    let version = version.lines().next().unwrap_or_default().trim();
    format!(
        "The GNU C library ({version}), LGPL-2.1-or-later, is linked into the program. Its source is Debian's package\n\
         glibc. Another one is linked in by `cargo xtask dist` on a machine that has it.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_the_c_library_is_found_by_number_and_not_by_letter() {
        let text = "  0x0010:   Name: GLIBC_2.9  Flags: none\n  0x0020:   Name: GLIBC_2.34  Flags: none\n\
                    000: 0 (*local*) 2 (GLIBC_2.2.5) GLIBC_PRIVATE\n";
        assert_eq!(newest_glibc(text), Some((2, 34)));
        assert_eq!(newest_glibc("Name: GCC_3.0"), None);
    }
}
