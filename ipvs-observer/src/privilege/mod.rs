//! Least privilege: what this process may do, and what it gives up when it has no more use for it.
//!
//! Owns: capabilities, in this thread and in all, the fence, and the words for what is missing. Refuses to know:
//! BPF, netlink, what a missing privilege does to a gather.
//!
//! Capabilities belong to threads, and a new thread has those of the thread that made it. What can be given up at once
//! is, by [`begin`], before there are threads. Then each thread keeps what its work needs: one gathers or traces
//! ([`only_observe`]) and gives up what only attaching needs when that is done ([`attached`]); the others write
//! ([`only_write`]), or wait and read what is open ([`only_wait`]). Before `begin`, and under [`Privileges::Keep`], all
//! of these do nothing.

mod capability;
mod fence;
mod thread;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::{
    process::{DumpableBehavior, set_dumpable_behavior},
    thread::{CapabilitySet, set_no_new_privs},
};

use crate::{log, system};
use capability::Standing;

pub use capability::{Capability, Want};
pub use fence::{Fence, Gates, put_up as fence};

/// What is given up, and when. Help shows the words of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Privileges {
    // They are attached again when a module comes back.
    /// Give up at the start what neither gathering nor attaching again needs
    #[default]
    Reattach,
    /// And once the probes are attached what only attaching needs
    Attached,
    /// Give up nothing, and put up no fence
    Keep,
}

/// What will be done, as far as it decides what is needed.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// What is given up, and when.
    pub privileges: Privileges,
    /// Whether probes are attached.
    pub probes: bool,
    /// Where BTF is read from, if not from the running kernel.
    pub btf: Option<&'a Path>,
    /// Where the network namespaces are found that are asked for.
    pub namespaces: &'a [PathBuf],
    /// Whether these are entered, and not only watched from outside.
    pub enters: bool,
    /// Whether lines go to sockets.
    pub sockets: bool,
}

/// Set by [`begin`].
static BEGUN: OnceLock<Begun> = OnceLock::new();

struct Begun {
    /// What this thread could do before anything was given up.
    start: Standing,
    /// What only attaching needs, and is given up once that is done. None: it stays.
    attaching: CapabilitySet,
}

/// What only writing needs: a socket in a folder of another user, where this was started by root.
const WRITING: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Gives up what `work` does not need, and puts up the fence. To be called while there is one thread.
pub fn begin(work: &Work<'_>) {
    if work.privileges == Privileges::Keep {
        return;
    }
    if work.probes {
        // It takes a capability that is given up.
        system::raise_memlock();
    }
    let start = Standing::now();
    let attaching = reduce(work).unwrap_or_else(|error| {
        log::write(
            log::Level::Warning,
            &format!(
                "cannot give up privileges that are not needed ({error}), so this process has more than it needs; \
                 let it call capset and prctl (systemd: SystemCallFilter=)"
            ),
        );
        CapabilitySet::empty()
    });
    let _ = BEGUN.set(Begun { start, attaching });
}

/// What of that is given up later.
fn reduce(work: &Work<'_>) -> io::Result<CapabilitySet> {
    // No program that is run from here gains anything. After a module was loaded, which runs one.
    set_no_new_privs(true)?;
    // No other process of this user, and no core file, has a look at the memory of one with capabilities.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    thread::hand_on_nothing()?;
    let held = thread::effective();
    let processes = work.namespaces.iter().any(|path| of_a_process(path));
    let mut lasting = CapabilitySet::NET_ADMIN;
    lasting.set(
        CapabilitySet::SYS_ADMIN,
        work.enters && !work.namespaces.is_empty(),
    );
    lasting.set(CapabilitySet::SYS_PTRACE, processes);
    let mut attaching = CapabilitySet::empty();
    if work.probes {
        attaching = CapabilitySet::BPF | CapabilitySet::PERFMON;
        if !held.contains(attaching) || asks_for_more(lasting | attaching)? {
            attaching |= CapabilitySet::SYS_ADMIN;
        }
    }
    let folders = work.namespaces.iter().map(|path| folder_of(path));
    // What of it is not to be had is gone on without, and `check` shows it.
    fence::put_up(&Gates {
        folders: folders.chain(work.btf.map(Path::to_owned)).collect(),
        namespaces: lasting.contains(CapabilitySet::SYS_ADMIN),
        processes,
    });
    let mut kept = lasting | attaching;
    kept.set(WRITING, work.sockets);
    thread::keep(kept)?;
    Ok(match work.privileges {
        Privileges::Attached => attaching - lasting,
        Privileges::Reattach | Privileges::Keep => CapabilitySet::empty(),
    })
}

/// Whether this kernel, as it is set, opens performance events to `CAP_SYS_ADMIN` and not to `enough`: the kernels of
/// some distributions do, above the levels of `kernel.perf_event_paranoid` that others know.
fn asks_for_more(enough: CapabilitySet) -> io::Result<bool> {
    let refused = |kept| thread::with_only(kept, || system::performance_events().is_err());
    Ok(refused(enough)? && !refused(enough | CapabilitySet::SYS_ADMIN)?)
}

/// Whether a network namespace is named by way of a process, which takes the right to look into that.
fn of_a_process(path: &Path) -> bool {
    // A name that is a link to such a path is common too, to give `ip netns` a name for a container.
    path.starts_with("/proc") || fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink())
}

/// The folder that a file is in, or will be in: the nearest that is there.
fn folder_of(file: &Path) -> PathBuf {
    let folder = file.ancestors().skip(1).find(|folder| folder.is_dir());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// To be called by the thread that attaches, when the probes are attached: gives up what only that needs, if it is to
/// be given up. What they count is read from memory, which takes nothing.
pub fn attached() {
    keep(|begun| begun.attaching.complement());
}

/// Gives up what a thread that gathers or traces does not need.
pub fn only_observe() {
    keep(|_| WRITING.complement());
}

/// Gives up what a thread does not need that enters network namespaces and reads files there.
pub fn only_enter() {
    keep(|_| CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE);
}

/// Gives up everything in a thread that only waits and reads what is open.
pub fn only_wait() {
    keep(|_| CapabilitySet::empty());
}

/// Gives up everything in a thread that only writes to outputs.
pub fn only_write() {
    keep(|_| WRITING);
}

fn keep(kept: impl FnOnce(&Begun) -> CapabilitySet) {
    if let Some(begun) = BEGUN.get() {
        // Giving up is always allowed; where the call itself is not, the start has said so.
        let _ = thread::keep(kept(begun));
    }
}

/// Why `capability` is of no use to the calling thread, and what mends it; none if it is of use.
pub fn want(capability: Capability) -> Option<Want> {
    let now = Standing::now();
    now.want(capability, BEGUN.get().map_or(now, |begun| begun.start))
}

/// The same of the start, before anything was given up.
pub fn wanted_at_start(capability: Capability) -> Option<Want> {
    let start = BEGUN.get().map_or_else(Standing::now, |begun| begun.start);
    start.want(capability, start)
}

/// Why the kernel refuses what takes `capability`, and what mends it, as a person reads it.
pub fn explain(capability: Capability) -> String {
    want(capability).map_or_else(
        || {
            format!(
                "{} is in effect, so look at what else may forbid it: a seccomp profile, SELinux or AppArmor",
                capability.name()
            )
        },
        |Want { text, remedy }| format!("{text}; {remedy}"),
    )
}

/// Does something whose programs have `capability` too, if this thread has it.
pub fn lending<T>(capability: Capability, work: impl FnOnce() -> T) -> T {
    thread::lending(capability.set(), work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_by_way_of_a_process_is_told_from_one_with_a_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc/self/ns/net", &link).expect("a link");
        assert!(of_a_process(Path::new("/proc/1/ns/net")));
        assert!(of_a_process(&link));
        assert!(!of_a_process(&folder.path().join("blue")));
        assert!(!of_a_process(Path::new("/run/docker/netns/1234")));
    }

    #[test]
    fn the_folder_of_a_namespace_that_will_come_is_the_nearest_that_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let there = folder.path().to_owned();
        assert_eq!(folder_of(&there.join("blue")), there);
        assert_eq!(folder_of(&there.join("netns/blue")), there);
        assert_eq!(folder_of(Path::new("blue")), Path::new("."));
    }

    #[test]
    fn nothing_is_given_up_before_the_start() {
        let before = thread::effective();
        only_observe();
        only_wait();
        only_write();
        attached();
        assert_eq!(thread::effective(), before);
    }
}
