//! Counter blocks of the per-CPU maps.

/// What the probes say of themselves, per CPU. All counters count up from the moment of loading.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Times that a probe ran.
    pub runs: u64,
    /// Calls seen beginning.
    pub entries: u64,
    /// Calls seen ending.
    pub returns: u64,
    /// Returns whose beginning was not seen: the call was under way when the probe was attached, or the kernel
    /// skipped the entry probe.
    pub orphans: u64,
    /// Calls whose end was not seen: all return slots of the kernel were taken.
    pub abandoned: u64,
    /// Calls that found no room among those under way.
    pub turned_away: u64,
}

impl Health {
    /// Adds another CPU's block.
    pub fn add(&mut self, other: &Self) {
        self.runs = self.runs.wrapping_add(other.runs);
        self.entries = self.entries.wrapping_add(other.entries);
        self.returns = self.returns.wrapping_add(other.returns);
        self.orphans = self.orphans.wrapping_add(other.orphans);
        self.abandoned = self.abandoned.wrapping_add(other.abandoned);
        self.turned_away = self.turned_away.wrapping_add(other.turned_away);
    }
}

const _: () = assert!(size_of::<Health>() == 48);

// SAFETY: integers only, `repr(C)`, no padding: every pattern of bytes is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Health {}
