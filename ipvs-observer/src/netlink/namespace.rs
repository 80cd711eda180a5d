//! Network namespaces: how they are named, and how to read in one without keeping it.
//!
//! A thread inside a namespace, and a socket of it, keep it alive, with its devices, after everybody else has left
//! it. So nothing stays in one from one gather to the next: a namespace that is deleted goes at once, or with the
//! gather that is reading it.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::Failure;
use crate::model::Netns;

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";

/// The network namespace of the calling thread, by its inode number.
///
/// # Errors
/// `/proc` is not there.
pub fn namespace() -> io::Result<Netns> {
    fs::metadata("/proc/thread-self/ns/net").map(|file| number(&file))
}

/// A network namespace by its name, as `ip netns` gives it, or by a path to it.
///
/// # Errors
/// There is none.
pub fn namespace_of(name: &str) -> io::Result<Netns> {
    fs::metadata(path(name)).map(|file| number(&file))
}

/// Moves the calling thread into a network namespace, for good: it should end when its work there is done.
///
/// # Errors
/// There is no such namespace, or it may not be entered.
pub fn enter(name: &str) -> Result<Netns, Failure> {
    let file = File::open(path(name)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::NoNamespace,
        _ => Failure::Namespace(error),
    })?;
    let netns = file
        .metadata()
        .map(|file| number(&file))
        .map_err(Failure::Namespace)?;
    match move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)) {
        Ok(()) => Ok(netns),
        Err(Errno::PERM) => Err(Failure::NamespaceNotPermitted),
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
        PathBuf::from(name)
    } else {
        Path::new(NAMES).join(name)
    }
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
    fn what_is_no_namespace_is_not_entered() {
        let missing = enter("/nonexistent/net");
        assert!(matches!(missing, Err(Failure::NoNamespace)), "{missing:?}");
        let file = enter("/proc/self/status");
        // Whoever may not enter any is told that first.
        assert!(
            matches!(file, Err(Failure::NoNamespace | Failure::NamespaceNotPermitted)),
            "{file:?}"
        );
    }
}
