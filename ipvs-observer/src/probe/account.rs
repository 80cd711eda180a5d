//! What the kernel says of the programs, the time that they took and the runs that it left out, and of the maps' memory.
//!
//! A program is not run while its CPU is within a system call on a BPF map, of whichever process, or within another
//! probe. What it would have counted is missing then, and this is the only place where that can be seen.

use std::{
    collections::BTreeMap,
    fs, io, mem,
    os::fd::{AsFd, AsRawFd},
};

use aya::programs::ProgramFd;
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};

/// The programs of which a run left out is a decision that is not told.
const DECISIONS: [&str; 3] = ["schedule_return", "schedule_return_told", "leave_return_told"];
/// The kernel that began to count what it left out.
const COUNTING: (u32, u32) = (6, 7);

/// What the kernel says of all programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Nanoseconds that they took, where the kernel keeps account of it.
    pub(super) run_ns: Option<u64>,
    /// Runs that the kernel left out, where it counts them.
    pub(super) missed: Option<u64>,
    /// Those of them that would have told of a decision.
    pub(super) decisions_missed: u64,
}

/// Asks the kernel.
pub(super) struct Accountant {
    /// Whether a count of nothing means that nothing was left out.
    counts_misses: bool,
}

impl Accountant {
    pub(super) fn new() -> Self {
        let release = rustix::system::uname();
        let version = version(&release.release().to_string_lossy());
        Self {
            counts_misses: version.is_some_and(|version| version >= COUNTING),
        }
    }

    /// The account of these programs, each with its name. What the kernel does not say is left out.
    pub(super) fn of<'a>(&self, programs: impl Iterator<Item = (&'a str, &'a ProgramFd)>) -> Account {
        let (mut ns, mut missed, mut decisions_missed) = (0, 0, 0);
        let mut asked = true;
        for (name, program) in programs {
            let Ok(info) = info(program) else {
                asked = false;
                continue;
            };
            ns += info.run_time_ns;
            missed += info.recursion_misses;
            if DECISIONS.contains(&name) {
                decisions_missed += info.recursion_misses;
            }
        }
        Account {
            run_ns: Some(ns).filter(|&ns| ns > 0),
            // Kernels of some distributions count them that are older by their number.
            missed: (asked && (self.counts_misses || missed > 0)).then_some(missed),
            decisions_missed,
        }
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Kernel memory of this process's maps in bytes, as the kernel accounts for it; none if it does not say.
///
/// Reads a file per descriptor, and each map has its size for good: ask once.
pub(super) fn map_bytes() -> Option<u64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo").ok()? {
        // A descriptor may be closed meanwhile, by another thread.
        let text = entry.and_then(|entry| fs::read_to_string(entry.path()));
        maps.extend(text.ok().as_deref().and_then(map_of));
    }
    // Two descriptors of one map are one map.
    (!maps.is_empty()).then(|| maps.values().sum())
}

/// Id and bytes of a map, out of what the kernel says of its descriptor; none for descriptors of other things.
fn map_of(fdinfo: &str) -> Option<(u64, u64)> {
    let number = |name: &str| {
        let mut values = fdinfo.lines().filter_map(|line| line.strip_prefix(name));
        values.next()?.trim().parse().ok()
    };
    Some((number("map_id:")?, number("memlock:")?))
}

/// aya passes on a part of this.
fn info(program: &ProgramFd) -> io::Result<bpf_prog_info> {
    // SAFETY: integers, and pointers to what is not asked for, for which zero is a value.
    let (mut info, mut attributes) = unsafe { (mem::zeroed::<bpf_prog_info>(), mem::zeroed::<bpf_attr>()) };
    attributes.info.bpf_fd = program.as_fd().as_raw_fd().cast_unsigned();
    attributes.info.info_len = size_of::<bpf_prog_info>() as u32;
    attributes.info.info = (&raw mut info) as u64;
    // SAFETY: the attributes are of this command, and the kernel writes at most as much as they give it room for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_OBJ_GET_INFO_BY_FD,
            &raw mut attributes,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::{COUNTING, map_of, version};

    #[test]
    fn a_map_is_told_from_a_program_by_its_id() {
        let map = "pos:\t0\nflags:\t02000002\nmap_type:\t1\nmax_entries:\t4096\nmemlock:\t593920\nmap_id:\t7\nfrozen:\t0\n";
        assert_eq!(map_of(map), Some((7, 593_920)));
        assert_eq!(map_of("prog_type:\t2\nmemlock:\t4096\nprog_id:\t3\n"), None);
        assert_eq!(map_of("pos:\t0\nmap_id:\t7\n"), None);
    }

    #[test]
    fn a_release_is_read_up_to_its_second_number() {
        assert_eq!(version("6.12.117+deb12-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("7.3-rc1"), Some((7, 3)));
        assert_eq!(version("linux"), None);
        assert!(version("6.1.0-56-amd64") < Some(COUNTING) && version("6.10") > Some(COUNTING));
    }
}
