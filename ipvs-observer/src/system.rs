//! What this machine allows, as `/proc` and `/sys` tell it: lockdown, kprobes, performance events, locked memory.
//!
//! Owns: reading and trying these. Refuses to know: what follows from them.

use std::{
    fs, io,
    os::fd::{FromRawFd, OwnedFd},
    path::Path,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How much of the kernel is closed even to root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Nothing, or this kernel has no lockdown.
    None,
    /// Changing it.
    Integrity,
    /// Reading it too: no kprobes.
    Confidentiality,
}

/// The lockdown in effect.
pub fn lockdown() -> Lockdown {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    parse_lockdown(&text)
}

/// The state in effect stands in brackets among all.
fn parse_lockdown(text: &str) -> Lockdown {
    match text.split(['[', ']']).nth(1) {
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::None,
    }
}

/// Whether the kernel was built with kprobes that performance events can use.
pub fn kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe/type").exists()
}

/// `kernel.perf_event_paranoid`; none where there is no such setting.
pub fn perf_event_paranoid() -> Option<i32> {
    fs::read_to_string("/proc/sys/kernel/perf_event_paranoid")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Opens a performance event of the kernel's that counts nothing, to see whether it may.
///
/// # Errors
/// What the kernel says: `EACCES` where privileges lack.
pub fn performance_events() -> io::Result<()> {
    const SOFTWARE: u32 = 1;
    const DUMMY: u64 = 9;
    const CLOSE_ON_EXEC: libc::c_ulong = 8;
    /// The first version of the kernel's `struct perf_event_attr`.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        size: u32,
        config: u64,
        rest: [u64; 6],
    }
    let attributes = Attributes {
        kind: SOFTWARE,
        size: size_of::<Attributes>() as u32,
        config: DUMMY,
        rest: [0; 6],
    };
    // SAFETY: the attributes are as large as they say and outlive the call; the event is of this thread, on any
    // processor, in no group.
    let event = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            0,
            -1,
            -1,
            CLOSE_ON_EXEC,
        )
    };
    if event < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(event as i32) });
    Ok(())
}

/// Kernels that do not yet account BPF memory to the control group take it from the locked memory, of which the
/// usual limit is too small for any map. Where it cannot be raised, failure shows when the maps are made.
pub fn raise_memlock() {
    let limit = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, limit);
}

/// The limit of locked memory in bytes; none if there is no limit.
pub fn memlock() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lockdown_in_effect_is_the_one_in_brackets() {
        assert_eq!(
            parse_lockdown("none integrity [confidentiality]\n"),
            Lockdown::Confidentiality
        );
        assert_eq!(
            parse_lockdown("none [integrity] confidentiality\n"),
            Lockdown::Integrity
        );
        assert_eq!(
            parse_lockdown("[none] integrity confidentiality\n"),
            Lockdown::None
        );
        assert_eq!(parse_lockdown(""), Lockdown::None);
    }
}
