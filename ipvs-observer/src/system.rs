//! What this machine allows, as `/proc` and `/sys` tell it: capabilities, lockdown, kprobes.
//!
//! Owns: reading and parsing these. Refuses to know: what follows from them.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

/// A capability that this program has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Reading the IPVS table.
    NetAdmin,
    /// Loading BPF programs.
    Bpf,
    /// Attaching kprobes, and reading kernel memory from programs.
    Perfmon,
}

impl Capability {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
        }
    }

    /// Its number, from the kernel's `include/uapi/linux/capability.h`.
    fn bit(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

/// `CAP_SYS_ADMIN`, which stands for BPF and performance events too.
const SYS_ADMIN: u32 = 21;

/// The capabilities in effect, as a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Of this process; none where `/proc` does not tell.
    pub fn in_effect() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self(effective(&status).unwrap_or(0))
    }

    /// Whether one is among them.
    pub fn has(self, capability: Capability) -> bool {
        let stands_for = matches!(capability, Capability::Bpf | Capability::Perfmon) && self.bit(SYS_ADMIN);
        self.bit(capability.bit()) || stands_for
    }

    fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

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

/// Has `modprobe` load the module `ip_vs`. The one thing that this program ever changes, and only when told to.
///
/// # Errors
/// What `modprobe` said.
pub fn load_ipvs() -> io::Result<()> {
    let output = Command::new("modprobe")
        .arg("ip_vs")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_of_the_process() {
        let set =
            effective("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000004000001000\n").map(Capabilities);
        let set = set.expect("a set");
        assert!(set.has(Capability::NetAdmin) && set.has(Capability::Perfmon));
        assert!(!set.has(Capability::Bpf));
        assert!(
            Capabilities(1 << SYS_ADMIN).has(Capability::Bpf),
            "which it was before there was CAP_BPF"
        );
        assert!(!Capabilities(1 << SYS_ADMIN).has(Capability::NetAdmin));
        assert_eq!(effective("Name:\tx\n"), None);
    }

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
