//! Network namespaces: how they are named, and how to read in one without keeping it.
//!
//! A thread inside a namespace, and a socket of it, keep it alive, with its devices, after everybody else has left
//! it. So nothing stays in one from one gather to the next: a namespace that is deleted goes at once, or with the
//! gather that is reading it.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::statfs,
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::Failure;
use crate::{
    model::Netns,
    privilege::{self, Capability},
};

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";

/// The network namespace of the calling thread, by its inode number.
///
/// # Errors
/// `/proc` is not there.
pub fn namespace() -> io::Result<Netns> {
    fs::metadata("/proc/thread-self/ns/net").map(|file| number(&file))
}

/// A network namespace by its name, as `ip netns` gives it, by a path to it, or by its inode number.
///
/// # Errors
/// There is none; `InvalidInput` where there is something else.
pub fn namespace_of(name: &str) -> io::Result<Netns> {
    let path = path(name);
    let netns = fs::metadata(&path).map(|file| number(&file))?;
    if is_namespace(&path)? {
        Ok(netns)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Whether what is there is a network namespace. Of one that may not be opened only the kind of its file system is
/// known, which is that of namespaces of every type.
fn is_namespace(path: &Path) -> io::Result<bool> {
    const NSFS: u32 = 0x6e73_6673;
    const GET_TYPE: libc::c_ulong = 0xb703;
    if u32::try_from(statfs(path)?.f_type) != Ok(NSFS) {
        return Ok(false);
    }
    let Ok(file) = File::open(path) else {
        return Ok(true);
    };
    // SAFETY: the call takes no argument and returns a number; the descriptor is open.
    Ok(unsafe { libc::ioctl(file.as_raw_fd(), GET_TYPE as _) } == libc::CLONE_NEWNET)
}

/// Refuses names by which there is no network namespace now.
///
/// # Errors
/// The first of them, with the remedy.
pub fn require(names: &[String]) -> io::Result<()> {
    for name in names {
        let absent = |error: io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            )
        };
        if namespace_of(name).is_err_and(absent) {
            return Err(io::Error::other(format!(
                "there is no network namespace '{name}', and with --once or --count it is not waited for; \
                 `ip netns` lists those with names"
            )));
        }
    }
    Ok(())
}

/// Moves the calling thread into a network namespace, for good: it should end when its work there is done.
///
/// # Errors
/// There is no such namespace, or it may not be entered.
pub fn enter(name: &str) -> Result<Netns, Failure> {
    let path = path(name);
    // Opening what is no namespace might wait for ever.
    if is_namespace(&path).is_ok_and(|is| !is) {
        return Err(Failure::NoNamespace);
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::NoNamespace,
        _ => Failure::Namespace(error),
    })?;
    let netns = file
        .metadata()
        .map(|file| number(&file))
        .map_err(Failure::Namespace)?;
    match move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)) {
        Ok(()) => Ok(netns),
        Err(Errno::PERM) => Err(Failure::NamespaceNotPermitted(privilege::explain(
            Capability::SysAdmin,
        ))),
        // A name whose namespace was not mounted on it yet, or is not any more.
        Err(Errno::INVAL) => Err(Failure::NoNamespace),
        Err(error) => Err(Failure::Namespace(error.into())),
    }
}

/// Where network namespaces are found, by their names or the paths to them.
pub fn paths(names: &[String]) -> Vec<PathBuf> {
    names.iter().map(|name| path(name)).collect()
}

fn path(name: &str) -> PathBuf {
    if name.contains('/') {
        return PathBuf::from(name);
    }
    let named = Path::new(NAMES).join(name);
    match name.parse().map(Netns) {
        Ok(netns) if !named.exists() => by_number(netns).unwrap_or(named),
        _ => named,
    }
}

/// Where the namespace with a number is found: by the calling thread, a name, or a process that is in it.
fn by_number(netns: Netns) -> Option<PathBuf> {
    let entries = |folder| fs::read_dir(folder).into_iter().flatten().flatten();
    let own = PathBuf::from("/proc/thread-self/ns/net");
    let named = entries(NAMES).map(|entry| entry.path());
    let processes = entries("/proc").map(|entry| entry.path().join("ns/net"));
    [own].into_iter().chain(named).chain(processes).find(|path| {
        fs::metadata(path).is_ok_and(|file| number(&file) == netns) && is_namespace(path).is_ok_and(|is| is)
    })
}

/// Inode numbers of namespaces are 32 bits wide in the kernel.
fn number(file: &fs::Metadata) -> Netns {
    Netns(file.ino() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_ip_netns_and_a_path_is_a_path() {
        assert_eq!(path("blue"), Path::new("/run/netns/blue"));
        assert_eq!(path("/proc/1/ns/net"), Path::new("/proc/1/ns/net"));
        assert_eq!(path("./net"), Path::new("./net"));
    }

    #[test]
    fn a_namespace_is_told_from_what_is_none_and_from_what_is_not_there() {
        let own = namespace().expect("/proc is there");
        for name in [
            "/proc/self/ns/net",
            "/proc/thread-self/ns/net",
            &own.0.to_string(),
        ] {
            assert_eq!(namespace_of(name).ok(), Some(own), "{name}");
        }
        for (name, kind) in [
            ("/proc/self/ns/mnt", io::ErrorKind::InvalidInput),
            ("/proc/self/status", io::ErrorKind::InvalidInput),
            ("/proc", io::ErrorKind::InvalidInput),
            ("/dev/null", io::ErrorKind::InvalidInput),
            ("/nonexistent/net", io::ErrorKind::NotFound),
            ("nonexistent", io::ErrorKind::NotFound),
            // The number of no namespace: those that the kernel gives out are greater.
            ("7", io::ErrorKind::NotFound),
        ] {
            let found = namespace_of(name).map_err(|error| error.kind());
            assert_eq!(found, Err(kind), "{name}");
        }
    }

    #[test]
    fn what_is_no_namespace_is_not_entered() {
        let missing = enter("/nonexistent/net");
        assert!(matches!(missing, Err(Failure::NoNamespace)), "{missing:?}");
        let file = enter("/proc/self/status");
        assert!(matches!(file, Err(Failure::NoNamespace)), "{file:?}");
    }
}
