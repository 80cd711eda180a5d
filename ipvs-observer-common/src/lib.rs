//! What both sides of the kernel boundary share: the shapes of maps, events and offsets.
//!
//! Owns: `repr(C)` values without padding that anything could hide in, each with its size asserted. Refuses
//! to know: how they are gathered, and what they are called in a measurement.
#![no_std]

pub mod counter;
