//! The capabilities of the calling thread. The kernel has no others: each thread has its own, and a new one has
//! those of the thread that made it.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

/// Those in effect; none where the kernel does not tell.
pub(super) fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// Those that a program run from here could come to have.
pub(super) fn bounding() -> CapabilitySet {
    known()
        .filter(|&one| capability_is_in_bounding_set(one) == Ok(true))
        .collect()
}

/// Every capability there may be, one by one, whatever kernels have them.
fn known() -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit))
}

/// Gives up all but `kept`, for good.
pub(super) fn keep(kept: CapabilitySet) -> io::Result<()> {
    let sets = capabilities(None)?;
    Ok(set_capabilities(
        None,
        CapabilitySets {
            effective: sets.effective & kept,
            permitted: sets.permitted & kept,
            inheritable: CapabilitySet::empty(),
        },
    )?)
}

/// Gives up what could only come back, or be handed on, by running another program.
pub(super) fn hand_on_nothing() -> io::Result<()> {
    // None of it may be changed without this one, which a service of its own does not have; then whoever started
    // it has drawn the bounds.
    if effective().contains(CapabilitySet::SETPCAP) {
        for one in known() {
            // The kernel has no more than this.
            if remove_capability_from_bounding_set(one).is_err() {
                break;
            }
        }
    }
    Ok(clear_ambient_capability_set()?)
}

/// Does something with none but `kept` in effect, and takes the others back.
pub(super) fn with_only<T>(kept: CapabilitySet, work: impl FnOnce() -> T) -> io::Result<T> {
    let before = capabilities(None)?;
    let during = CapabilitySets {
        effective: before.effective & kept,
        ..before
    };
    set_capabilities(None, during)?;
    let result = work();
    set_capabilities(None, before)?;
    Ok(result)
}

/// Does something whose programs have `lent` too, if this thread has it.
pub(super) fn lending<T>(lent: CapabilitySet, work: impl FnOnce() -> T) -> T {
    let before = capabilities(None)
        .ok()
        .filter(|sets| sets.permitted.contains(lent));
    if let Some(before) = before {
        let during = CapabilitySets {
            inheritable: before.inheritable | lent,
            ..before
        };
        // Where it cannot be lent, the work says what it lacked.
        let _ = set_capabilities(None, during);
        let _ = configure_capability_in_ambient_set(lent, true);
    }
    let result = work();
    if let Some(before) = before {
        // What is not inheritable is not ambient either.
        let _ = set_capabilities(None, before);
    }
    result
}
