//! What both sides of the kernel boundary share: the shapes of maps, events and offsets.
//!
//! Owns: `repr(C)` values without padding that anything could hide in, each with its size asserted. Refuses
//! to know: how they are gathered, and what they are called in a measurement.
#![no_std]

pub mod control;
pub mod counter;
pub mod event;
pub mod filter;
pub mod histogram;
pub mod key;
pub mod layout;
pub mod slot;

/// Lets aya carry a type across the boundary as its bytes.
macro_rules! plain {
    ($($type:ty: $size:literal),+ $(,)?) => {
        $(
            const _: () = assert!(size_of::<$type>() == $size);
            // SAFETY: `repr(C)` of integers alone, and the size above leaves no room for padding: every
            // pattern of bytes is a value.
            #[cfg(feature = "user")]
            unsafe impl aya::Pod for $type {}
        )+
    };
}
pub(crate) use plain;
