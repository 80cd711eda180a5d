//! From the running kernel's BTF to the offsets that the programs read at.
//!
//! Owns: which structures and members are wanted, what they are called on which kernel, and what does not work
//! where one is absent. Refuses to know: kernel versions. Structures move within one stable series, so only
//! names count.

mod reader;
mod resolve;
mod source;

#[cfg(test)]
mod extract;
#[cfg(test)]
mod tests;

#[cfg(feature = "fuzzing")]
pub(super) use reader::Btf;
pub(super) use resolve::{Lack, WrrMark};
#[cfg(feature = "fuzzing")]
pub(super) use resolve::{field, layout, wrr_mark};
pub(super) use source::{Source, SourceError};
