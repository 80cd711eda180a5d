//! The end of the process, at once.
//!
//! The kernel takes a probe away only after every processor has passed a quiet moment, one probe after the other:
//! two dozen take from half a second to several. Whoever stops this program should not wait for that. So a child
//! that shares the probes' descriptors outlives the process by that time: it does nothing but end, and the kernel
//! does the waiting in it.

use std::{
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

static HOLDING: AtomicBool = AtomicBool::new(false);

/// Something that takes long to let go of, and is let go of by [`with`].
#[derive(Debug)]
pub struct Held<T>(ManuallyDrop<T>);

impl<T> Held<T> {
    /// Holds until the end of the process what `make` makes, and what it has made of it if the end comes before.
    pub fn new(make: impl FnOnce() -> T) -> Self {
        HOLDING.store(true, Ordering::Relaxed);
        Self(ManuallyDrop::new(make()))
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Ends the process with `code`; at once, where something is held.
pub fn with(code: u8) -> ExitCode {
    if !HOLDING.load(Ordering::Relaxed) {
        return ExitCode::from(code);
    }
    // SAFETY: these have no preconditions.
    let parent = unsafe { libc::getpid() };
    // SAFETY: the child calls nothing but `close`, `getppid`, `nanosleep` and `_exit`, which are safe after a fork
    // in a process with threads. Where no child is to be had, the kernel's waiting is done in this process.
    unsafe {
        if libc::fork() == 0 {
            // Whoever reads from or writes to these sees their end now.
            for descriptor in 0..=2 {
                libc::close(descriptor);
            }
            // The last to close a descriptor does the waiting: all threads of the parent must be gone before.
            let moment = libc::timespec {
                tv_sec: 0,
                tv_nsec: 5_000_000,
            };
            while libc::getppid() == parent {
                libc::nanosleep(&raw const moment, std::ptr::null_mut());
            }
        }
        // Nothing is left to flush: lines and messages are written without a buffer.
        libc::_exit(code.into())
    }
}
