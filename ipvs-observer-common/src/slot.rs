//! Where counters lie: in arrays that userspace maps into its memory and reads without asking the kernel.
//!
//! While a process asks the kernel for a map's entries, the kernel skips every probe on that CPU, and what the probes
//! would have counted is missing. So nothing is asked: a service and a destination get a slot when they are first
//! counted, and their counters are in that slot's block of each CPU.

use crate::key::{DestinationKey, ServiceKey};

/// Slots whose blocks of one CPU lie side by side: then no two CPUs write to one cache line, and the blocks of the
/// first so many slots are the first part of the array whatever the number of CPUs.
pub const RUN: u32 = 64;

/// What the key's map says of a service or a destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// When the slot was given, in ns of the monotonic clock. Never 0. Blocks of an older generation are of
    /// something that is gone.
    pub generation: u64,
    /// The slot.
    pub index: u32,
    /// Zero.
    pub reserved: u32,
    /// When the overload of a destination was last counted to change, in ns of the monotonic clock. All processors have
    /// this one.
    pub overload_changed: u64,
}

/// Whose counters a slot has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner<K> {
    /// The generation of the blocks that count; 0: nobody's, and the key is not to be read.
    pub generation: u64,
    /// Its key.
    pub key: K,
}

/// Slots that are nobody's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Free {
    /// The first.
    pub first: u32,
    /// How many there are from there on.
    pub count: u32,
}

/// Where in its array the block is that a slot has of a CPU, of `cpus`.
#[inline]
pub const fn block(slot: u32, cpu: u32, cpus: u32) -> u32 {
    (slot / RUN * cpus + cpu) * RUN + slot % RUN
}

/// Slots and blocks are given in whole runs.
pub const fn in_runs(slots: u32) -> u32 {
    slots.div_ceil(RUN) * RUN
}

crate::plain!(Slot: 24, Owner<ServiceKey>: 40, Owner<DestinationKey>: 64, Free: 8);

#[cfg(test)]
mod tests {
    use super::{RUN, block, in_runs};

    #[test]
    fn each_slot_has_a_block_of_each_cpu_and_no_two_share_one() {
        for cpus in [1, 2, 5, 64] {
            let mut seen = [false; 256 * 64];
            for slot in 0..in_runs(200) {
                for cpu in 0..cpus {
                    let place = block(slot, cpu, cpus) as usize;
                    assert!(!seen[place], "slot {slot} of {cpu} of {cpus}");
                    seen[place] = true;
                }
            }
        }
    }

    #[test]
    fn the_first_slots_have_the_first_blocks() {
        for slots in 1..300 {
            let last = (0..slots)
                .flat_map(|slot| (0..7).map(move |cpu| block(slot, cpu, 7)))
                .max();
            assert!(last < Some(in_runs(slots) * 7), "{slots}");
        }
        assert_eq!(in_runs(RUN + 1), 2 * RUN);
    }
}
