//! What the tasks need of the machine: how to tell whether it is there, and the Debian package that has it.

use std::{path::Path, process::Stdio};

use anyhow::{Result, bail};

use crate::{
    process,
    progress::say,
    toolchain::{self, LLVM, Toolchain},
    workspace::Workspace,
};

/// Whether a task may install.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub(crate) struct Install {
    /// Install nothing: name what is missing and the command that gets it, and fail
    #[arg(long)]
    pub(crate) no_install: bool,
}

/// What a need is for. Each task asks for what it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building the eBPF object.
    Build,
    /// Booting kernels.
    Lab,
    /// A Debian for the guest.
    Debian,
    /// Making packages.
    Package,
    /// The checks beyond these.
    Test,
    /// Holding the program against others.
    Bench,
    /// Hostile bytes.
    Fuzz,
}

/// One thing that must be on the machine.
pub(crate) struct Need {
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
    /// Why it is missing; none if it is there.
    pub(crate) missing: Option<String>,
    /// The Debian packages that have it.
    pub(crate) packages: Vec<String>,
    /// What gets it where there is no apt.
    pub(crate) elsewhere: String,
}

/// The programs that are needed, and the package of each.
const PROGRAMS: [(&str, Purpose, &str); 26] = [
    ("cc", Purpose::Build, "gcc"),
    ("apt-get", Purpose::Lab, "apt"),
    ("dpkg", Purpose::Lab, "dpkg"),
    ("setpriv", Purpose::Lab, "util-linux"),
    ("xz", Purpose::Lab, "xz-utils"),
    ("depmod", Purpose::Lab, "kmod"),
    ("busybox", Purpose::Lab, "busybox-static"),
    ("ip", Purpose::Lab, "iproute2"),
    ("ipvsadm", Purpose::Lab, "ipvsadm"),
    ("bpftool", Purpose::Lab, "bpftool"),
    ("ldd", Purpose::Lab, "libc-bin"),
    ("mmdebstrap", Purpose::Debian, "mmdebstrap"),
    ("bsdtar", Purpose::Debian, "libarchive-tools"),
    ("dpkg-deb", Purpose::Package, "dpkg"),
    ("git", Purpose::Package, "git"),
    ("gzip", Purpose::Package, "gzip"),
    ("readelf", Purpose::Package, "binutils"),
    ("strip", Purpose::Package, "binutils"),
    ("tar", Purpose::Package, "tar"),
    ("influxd", Purpose::Test, "influxdb"),
    ("bpftrace", Purpose::Bench, "bpftrace"),
    ("zsh", Purpose::Test, "zsh"),
    ("fish", Purpose::Test, "fish"),
    ("man", Purpose::Test, "man-db"),
    ("mandoc", Purpose::Test, "mandoc"),
    ("c++", Purpose::Fuzz, "g++"),
];

/// The keys that the lab's packages are verified with.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Every need with its state on this machine.
pub(crate) fn all(workspace: &Workspace) -> Vec<Need> {
    let mut needs = vec![
        Need {
            name: "a compiler with library sources".to_owned(),
            purpose: Purpose::Build,
            missing: Toolchain::find().err().map(|error| error.to_string()),
            packages: ["rustc-web", "cargo-web", "rust-web-src"]
                .map(str::to_owned)
                .to_vec(),
            elsewhere: "rustup toolchain install nightly --component rust-src".to_owned(),
        },
        Need {
            name: format!("LLVM {LLVM} for bpf-linker"),
            purpose: Purpose::Build,
            missing: (toolchain::BPF_LINKER.find(workspace).is_none() && toolchain::llvm_prefix().is_none())
                .then(|| format!("no llvm-config of LLVM {LLVM} with its headers")),
            packages: vec![format!("llvm-{LLVM}-dev")],
            elsewhere: format!(
                "install LLVM {LLVM} with its headers, and set LLVM_PREFIX if it is in no usual place"
            ),
        },
    ];
    needs.extend(PROGRAMS.map(|(program, purpose, package)| Need {
        name: program.to_owned(),
        purpose,
        missing: missing_program(program),
        packages: vec![package.to_owned()],
        elsewhere: format!("install {program}"),
    }));
    needs.push(Need {
        name: "Debian's archive keys".to_owned(),
        purpose: Purpose::Lab,
        missing: (!Path::new(KEYRING).is_file()).then(|| format!("no {KEYRING}")),
        packages: vec!["debian-archive-keyring".to_owned()],
        elsewhere: "install debian-archive-keyring".to_owned(),
    });
    needs
}

fn missing_program(program: &str) -> Option<String> {
    let Some(path) = process::find(program) else {
        return Some("not in PATH".to_owned());
    };
    // The guest's userland must run with no library around it; the plain busybox package would not.
    if program == "busybox" && ldd_lists_libraries(&path) {
        return Some("linked dynamically".to_owned());
    }
    None
}

fn ldd_lists_libraries(path: &Path) -> bool {
    process::command("ldd")
        .arg(path)
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The one command that gets all of `packages` on Debian.
pub(crate) fn remedy(packages: &[String]) -> String {
    let sudo = if rustix::process::geteuid().is_root() {
        ""
    } else {
        "sudo "
    };
    format!(
        "{sudo}apt-get install --no-install-recommends {}",
        packages.join(" ")
    )
}

/// Whether Debian's packages can be had here.
pub(crate) fn has_apt() -> bool {
    process::find("apt-get").is_some() && Path::new("/etc/debian_version").is_file()
}

/// Sees to everything that `purposes` need: installs what is missing after printing the list, or, where
/// that is refused or impossible, fails with what is missing and how to get it.
pub(crate) fn ensure(workspace: &Workspace, purposes: &[Purpose], args: Install) -> Result<()> {
    let missing = missing(workspace, purposes);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<String> = missing.iter().flat_map(|need| need.packages.clone()).collect();
    let list = missing
        .iter()
        .map(|need| format!("  {}: {}", need.name, need.missing.as_deref().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join("\n");
    if !has_apt() {
        let how: Vec<_> = missing
            .iter()
            .map(|need| format!("  {}", need.elsewhere))
            .collect();
        bail!(
            "this machine lacks:\n{list}\nand it is no Debian, so by hand:\n{}",
            how.join("\n")
        );
    }
    if args.no_install {
        bail!("this machine lacks:\n{list}\nget it with: {}", remedy(&packages));
    }
    say(&format!(
        "this machine lacks:\n{list}\ninstalling: {}",
        packages.join(" ")
    ));
    install(&packages)?;
    let still = self::missing(workspace, purposes);
    if let Some(need) = still.first() {
        bail!(
            "{} is still missing after {} was installed: {}",
            need.name,
            need.packages.join(" "),
            need.missing.as_deref().unwrap_or_default()
        );
    }
    Ok(())
}

fn missing(workspace: &Workspace, purposes: &[Purpose]) -> Vec<Need> {
    all(workspace)
        .into_iter()
        .filter(|need| need.missing.is_some() && purposes.contains(&need.purpose))
        .collect()
}

fn install(packages: &[String]) -> Result<()> {
    let apt = |words: &[&str]| {
        let mut command = process::as_root("env");
        command
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"])
            .args(words)
            // Installing must take nothing away: rustc-web, for one, excludes Debian's rustc.
            .args(["-y", "--no-remove", "-o", "Dpkg::Use-Pty=0"]);
        command
    };
    process::run(apt(&["update"]).stdout(Stdio::null()))?;
    process::run(
        apt(&["install", "--no-install-recommends"])
            .args(packages)
            .stdout(Stdio::null()),
    )
}
