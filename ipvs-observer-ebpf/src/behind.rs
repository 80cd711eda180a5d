//! What a function leaves behind for the one that called it, or for the next one that this calls.
//!
//! Kept by kernel stack: whatever runs on one is over before what it interrupted goes on, so a stack needs one place in
//! a map. Whoever a value is left for empties the place on every way out, and takes only what its own call left there.

use aya_ebpf::{EbpfContext, maps::HashMap};

use crate::{
    call::{Call, now, stack_pointer},
    maps::health,
};

/// Kernel stacks are so large, as a power of two; those of tasks are aligned to it, those of interrupts to pages.
const STACK_BITS: u32 = 14;

/// A probed function's stack pointer is at most so far below that of the function that it leaves something for.
const DEEPEST: u64 = 4096;

/// Two functions that one calls after the other may differ by so much either way.
const BESIDE: u64 = 64;

/// A value, and who left it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Left<T> {
    /// The stack pointer of the call that left it.
    stack: u64,
    /// When, in ns of the monotonic clock.
    time: u64,
    /// What was left.
    pub value: T,
}

/// What was found in a place.
pub struct Found<T: 'static> {
    place: u64,
    left: &'static Left<T>,
}

impl<T> Found<T> {
    /// What was left, whoever left it.
    #[inline(always)]
    pub fn value(&self) -> &'static T {
        &self.left.value
    }

    /// What was left since a call began, so within it.
    #[inline(always)]
    pub fn since(&self, call: &Call) -> Option<&'static T> {
        (self.left.time >= call.began).then_some(&self.left.value)
    }
}

/// Whether a call and one that ended with this stack pointer were called by the same function.
#[inline(always)]
pub fn is_beside(ctx: &impl EbpfContext, stack: u64) -> bool {
    stack_pointer(ctx).wrapping_add(BESIDE).wrapping_sub(stack) <= 2 * BESIDE
}

/// Leaves a value on this stack, in place of an older one.
#[inline(always)]
pub fn leave<T>(map: &'static HashMap<u64, Left<T>>, ctx: &impl EbpfContext, value: T) {
    let mut left = Left {
        stack: 0,
        time: 0,
        value,
    };
    if !leave_draft(map, ctx, &mut left) {
        health(|health| health.calls_full += 1);
    }
}

/// The same of a value that lies ready; false if there is no room for it.
#[inline(always)]
pub fn leave_draft<T>(
    map: &'static HashMap<u64, Left<T>>,
    ctx: &impl EbpfContext,
    draft: &mut Left<T>,
) -> bool {
    draft.stack = stack_pointer(ctx);
    draft.time = now();
    map.insert(draft.stack >> STACK_BITS, &*draft, 0).is_ok()
}

/// Finds what was left on this stack by a call below this one or beside it.
#[inline(always)]
pub fn find<T>(map: &'static HashMap<u64, Left<T>>, ctx: &impl EbpfContext) -> Option<Found<T>> {
    let stack = stack_pointer(ctx);
    let mut place = stack >> STACK_BITS;
    // SAFETY: only what runs on a stack writes to its place, and this is what runs here now.
    let mut left = unsafe { map.get(place) };
    if left.is_none() {
        // The stacks of interrupts are aligned to pages only: the call below may be on the far side of a boundary.
        place = place.wrapping_sub(1);
        // SAFETY: as above; what is another stack's is too far away, and is not looked at.
        left = unsafe { map.get(place) };
    }
    let left = left?;
    let below = stack.wrapping_add(BESIDE).wrapping_sub(left.stack);
    (below <= DEEPEST).then_some(Found { place, left })
}

/// Finds what was left on this stack by a call above this one, which is not over, or within that before this one.
#[inline(always)]
pub fn find_above<T>(map: &'static HashMap<u64, Left<T>>, ctx: &impl EbpfContext) -> Option<Found<T>> {
    let stack = stack_pointer(ctx);
    let mut place = stack >> STACK_BITS;
    // SAFETY: as above, also of what is on the far side of a boundary.
    let mut left = unsafe { map.get(place) };
    if left.is_none() {
        place += 1;
        // SAFETY: as above.
        left = unsafe { map.get(place) };
    }
    let left = left?;
    let above = left.stack.wrapping_add(BESIDE).wrapping_sub(stack);
    (above <= DEEPEST).then_some(Found { place, left })
}

/// Takes out what a call above this one, or one within that before this one, left on this stack.
#[inline(always)]
pub fn take_out_above<T>(map: &'static HashMap<u64, Left<T>>, ctx: &impl EbpfContext) {
    if let Some(found) = find_above(map, ctx) {
        take_out(map, &found);
    }
}

/// Empties the place of what was found. Nothing of it is to be used afterwards.
#[inline(always)]
pub fn take_out<T>(map: &'static HashMap<u64, Left<T>>, found: &Found<T>) {
    let _ = map.remove(found.place);
}
