//! This process's memory: how much is resident, and how what is not needed goes back to the system.

use std::fs;

use rustix::mm::Advice;

/// Resident memory in bytes, from the second number of `/proc/self/statm`, which counts pages.
pub fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Lets go of the pages of something that is in the program's file, from where the kernel has them again for whoever
/// reads it next.
pub fn leave_to_its_file(bytes: &'static [u8]) {
    let page = rustix::param::page_size();
    let begin = bytes.as_ptr().addr().next_multiple_of(page);
    let length = (bytes.as_ptr().addr() + bytes.len()).saturating_sub(begin) / page * page;
    let pages = bytes.as_ptr().with_addr(begin).cast_mut().cast();
    // SAFETY: these whole pages are of a file that is mapped for reading, and nothing else: they come back as they were.
    // Where the kernel refuses, they stay.
    let _ = unsafe { rustix::mm::madvise(pages, length, Advice::LinuxDontNeed) };
}

/// Lets large blocks go back as soon as they are freed, whichever thread had them. Reading BTF takes some 20 MB for a
/// moment, at the start and at each return of `ip_vs`. The GNU allocator would take that as a sign to keep blocks of
/// such a size from then on, once more for each thread that ever read it.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        /// The allocator's own, which it raises unless it is set.
        const LARGE: libc::c_int = 128 * 1024;
        for (setting, value) in [
            (libc::M_MMAP_THRESHOLD, LARGE),
            (libc::M_TRIM_THRESHOLD, LARGE),
            (libc::M_ARENA_MAX, 1),
        ] {
            // SAFETY: the call takes two numbers; a setting that it refuses stays as it was.
            unsafe { libc::mallopt(setting, value) };
        }
    }
}
