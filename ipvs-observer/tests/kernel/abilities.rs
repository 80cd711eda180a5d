//! What the running kernel offers, and what a test says that passes because the kernel lacks it.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

/// Whether this kernel has BTF of modules, by which the probes tell services apart; without it there is no trace.
pub fn telling() -> bool {
    Path::new("/sys/kernel/btf/ip_vs").exists()
}

/// The first two numbers of the kernel's version.
pub fn version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release
        .split(|sign: char| !sign.is_ascii_digit())
        .map(|number| number.parse().expect("a number"));
    let mut next = || numbers.next().expect("two numbers");
    (next(), next())
}

/// Whether the kernel lacks what the rest of a test needs. The test then passes, and this says why, where the harness
/// keeps nothing back.
pub fn lacking(what: &str, there: bool) -> bool {
    if !there {
        let _ = writeln!(io::stdout(), "passes: this kernel has no {what}");
    }
    !there
}

/// The same of BTF of modules.
pub fn lacking_btf() -> bool {
    lacking("BTF of modules", telling())
}
