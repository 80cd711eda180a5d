//! The module `ip_vs`: whether the running kernel has it, how it is loaded, and the words for that.
//!
//! Owns: the one thing that this program ever changes, and only when told to. Refuses to know: whether IPVS is there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use rustix::system::uname;

/// What is known of the modules of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// `ip_vs` is among them.
    Loadable,
    /// They are here, and `ip_vs` is not among them.
    Missing,
    /// They are not here.
    Nothing,
}

/// Where `modprobe` looks.
const FOLDERS: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];

/// What gets `ip_vs` into the running kernel, in words for a person. Looked up once: behind the fence it cannot be.
pub fn remedy() -> &'static str {
    static REMEDY: OnceLock<&str> = OnceLock::new();
    REMEDY.get_or_init(|| {
        let release = uname();
        let release = release.release().to_string_lossy();
        words(known(&FOLDERS.map(|folder| Path::new(folder).join(&*release))))
    })
}

fn words(known: Known) -> &'static str {
    match known {
        Known::Loadable => {
            "load it with `modprobe ip_vs`, or start `ipvs-observer collect` with --load-module"
        }
        Known::Missing => {
            "the running kernel's modules do not include ip_vs: install the package of this kernel that has it, or \
             boot a kernel with CONFIG_IP_VS"
        }
        Known::Nothing => {
            "the running kernel's modules are not installed here: in a container, load ip_vs on its host; otherwise \
             install the modules of this kernel, or boot a kernel with CONFIG_IP_VS"
        }
    }
}

/// Reads the first list of modules that there is, as `depmod` writes it: a line `PATH: PATHS`.
fn known(folders: &[PathBuf]) -> Known {
    let mut lists = folders.iter().map(|folder| folder.join("modules.dep"));
    let Some(list) = lists.find_map(|list| fs::read_to_string(list).ok()) else {
        return Known::Nothing;
    };
    let is_it = |line: &str| {
        let file = line.split(':').next().and_then(|path| path.rsplit('/').next());
        file.and_then(|file| file.split_once(".ko"))
            .is_some_and(|file| file.0 == "ip_vs")
    };
    if list.lines().any(is_it) {
        Known::Loadable
    } else {
        Known::Missing
    }
}

/// Has `modprobe` load the module `ip_vs`.
///
/// # Errors
/// There is no `modprobe`.
pub fn load() -> io::Result<Child> {
    Command::new("modprobe")
        .arg("ip_vs")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

/// Waits until it is loaded.
///
/// # Errors
/// What `modprobe` said.
pub fn loaded(modprobe: Child) -> io::Result<()> {
    let output = modprobe.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modprobe_is_advised_only_where_the_running_kernel_has_the_module() {
        let folder = tempfile::tempdir().expect("a folder");
        let (absent, here) = (folder.path().join("absent"), folder.path().to_owned());
        assert_eq!(known(std::slice::from_ref(&absent)), Known::Nothing);
        for (list, expected) in [
            ("", Known::Missing),
            (
                "kernel/net/netfilter/ipvs/ip_vs_rr.ko: kernel/net/netfilter/ipvs/ip_vs.ko\n",
                Known::Missing,
            ),
            (
                "kernel/lib/a.ko:\nkernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/lib/libcrc32c.ko.xz\n",
                Known::Loadable,
            ),
            ("kernel/net/netfilter/ipvs/ip_vs.ko:\n", Known::Loadable),
            ("updates/ip_vs.ko.zst:\n", Known::Loadable),
        ] {
            fs::write(here.join("modules.dep"), list).expect("the folder can be written");
            assert_eq!(known(&[absent.clone(), here.clone()]), expected, "{list}");
            assert_eq!(words(expected).contains("modprobe"), expected == Known::Loadable);
        }
    }
}
