//! What a process costs, counted by the kernel: perf events, which follow its threads and children.

use std::{
    fs,
    io::{self, Read},
    os::fd::{FromRawFd, OwnedFd},
};

/// `struct perf_event_attr` as far as its first version goes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    address: u64,
}

const SOFTWARE: u32 = 1;
const TRACEPOINT: u32 = 2;
const TASK_CLOCK: u64 = 1;
const INHERIT: u64 = 1 << 1;
const DISABLED: u64 = 1;
const ENABLE_ON_EXEC: u64 = 1 << 12;
const CLOSE_ON_EXEC: libc::c_ulong = 8;

/// From when it counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum From {
    Now,
    /// The next program that the process becomes.
    Exec,
}

/// The processor time and the system calls of a process, its threads and its children.
pub struct Costs {
    clock: fs::File,
    calls: fs::File,
}

/// What it cost.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    /// In user and kernel, ns.
    pub cpu_ns: u64,
    pub syscalls: u64,
}

impl Costs {
    /// Of the process `pid`, 0: this one.
    pub fn of(pid: u32, from: From) -> io::Result<Self> {
        let id = fs::read_to_string("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id")?;
        let id = id.trim().parse().map_err(io::Error::other)?;
        Ok(Self {
            clock: open(SOFTWARE, TASK_CLOCK, pid, from)?,
            calls: open(TRACEPOINT, id, pid, from)?,
        })
    }

    /// What it cost so far.
    pub fn read(&mut self) -> io::Result<Cost> {
        Ok(Cost {
            cpu_ns: value(&mut self.clock)?,
            syscalls: value(&mut self.calls)?,
        })
    }
}

impl Cost {
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns - before.cpu_ns,
            syscalls: self.syscalls - before.syscalls,
        }
    }
}

fn open(kind: u32, config: u64, pid: u32, from: From) -> io::Result<fs::File> {
    let begin = if from == From::Exec {
        DISABLED | ENABLE_ON_EXEC
    } else {
        0
    };
    let attributes = Attributes {
        kind,
        size: size_of::<Attributes>() as u32,
        config,
        flags: INHERIT | begin,
        ..Attributes::default()
    };
    // SAFETY: the structure is as long as it says and outlives the call.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            pid,
            -1,
            -1,
            CLOSE_ON_EXEC,
        )
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) }.into())
}

fn value(event: &mut fs::File) -> io::Result<u64> {
    let mut bytes = [0; 8];
    event.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The largest resident memory that a process had, in bytes.
pub fn peak_memory(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}
