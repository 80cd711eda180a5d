//! The fence: what no thread of this program can do any more, whatever it is made to do.
//!
//! Put up before there are threads, so that it holds in all. Landlock bounds files and sockets: it reads below
//! `/proc`, `/sys` and the folders of BTF and of namespaces, and opens nothing else. Connecting to the socket of an
//! output is left open, because its folder may come later. seccomp takes away what Landlock cannot name: running
//! programs, changing modes and owners, users, mounts, modules, clocks, other processes, sockets of the network. It
//! names what is forbidden and not what is allowed: the calls that BPF, the event loop and the allocator make change
//! with their versions and with the kernel, and one that is missed would show as a fault years later.
//!
//! Neither costs a gather anything that could be measured. A kernel without one of them is gone on with.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// What stands of the fence, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Landlock, or why not.
    pub landlock: Result<String, String>,
    /// seccomp, or why not.
    pub seccomp: Result<(), String>,
}

/// What is left open.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    /// Folders that are read beside those of the kernel.
    pub folders: Vec<PathBuf>,
    /// Whether network namespaces are entered.
    pub namespaces: bool,
    /// Whether what belongs to other processes is looked at below `/proc`, which Landlock forbids.
    pub processes: bool,
}

/// What is read all the time.
const READ: [&str; 2] = ["/proc", "/sys"];

/// The rights that are handled. With a later version more could be forbidden, and each is to be looked at first:
/// version 9 would forbid to connect to sockets by their path.
const VERSION: ABI = ABI::V8;

/// Puts it up around the calling thread and those that it makes from now on.
pub fn put_up(gates: &Gates) -> Fence {
    let landlock = if gates.processes {
        Err("left out, because it forbids to look at other processes' namespaces".to_owned())
    } else {
        match bound_files(&gates.folders) {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err("not in this kernel, or not switched on at boot".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    let seccomp = filter(gates.namespaces)
        .and_then(|filter| apply_filter(&filter))
        .map_err(|error| error.to_string());
    Fence { landlock, seccomp }
}

/// None where the kernel has no such thing.
fn bound_files(folders: &[PathBuf]) -> Result<Option<String>, RulesetError> {
    let read = READ
        .map(Path::new)
        .into_iter()
        .chain(folders.iter().map(PathBuf::as_path));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::ReadFile | AccessFs::ReadDir))?
        .restrict_self()?;
    let version = match status.landlock {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => kernel_abi.unwrap_or(effective_abi as i32),
        _ => 0,
    };
    Ok((status.ruleset != RulesetStatus::NotEnforced).then(|| format!("Landlock version {version}")))
}

/// What nothing here has a use for. Each fails with `EPERM`.
const FORBIDDEN: &[libc::c_long] = &[
    // Other programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Users and limits of others.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    // What Landlock does not name of files.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_utimensat,
    libc::SYS_open_by_handle_at,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    // Large parts of the kernel that are of no use here.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];

/// The same by their names of old, which newer processors' kernels do not have.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN_OF_OLD: &[libc::c_long] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_OF_OLD: &[libc::c_long] = &[];

fn filter(namespaces: bool) -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = FORBIDDEN
        .iter()
        .chain(FORBIDDEN_OF_OLD)
        .map(|&call| (call, Vec::new()))
        .collect();
    if !namespaces {
        rules.insert(libc::SYS_setns, Vec::new());
    }
    let other_than = |family: libc::c_int| {
        let family = family.unsigned_abs().into();
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    };
    let sockets = vec![other_than(libc::AF_UNIX)?, other_than(libc::AF_NETLINK)?];
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(sockets)?]);
    let forbidden = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        forbidden,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_one_that_the_kernel_takes() {
        // The most that the kernel takes, from its `include/uapi/linux/bpf_common.h`.
        const MOST: usize = 4096;
        for namespaces in [false, true] {
            let filter = filter(namespaces).expect("a filter");
            assert!(
                (FORBIDDEN.len()..=MOST).contains(&filter.len()),
                "{}",
                filter.len()
            );
        }
    }
}
