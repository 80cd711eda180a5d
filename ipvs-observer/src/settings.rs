//! What a run does: each flag once, as it is typed, checked while it is read, and used.
//!
//! Owns: the flags of the verbs, what their values may be, and what is wrong with one that is refused. Refuses to
//! know: the environment, and what is done with a setting.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "help shows the words as they stand, and an IPv6 address in brackets is no link"
)]

mod check;
mod collect;
mod filter;
mod service;
mod shared;
mod trace;
mod values;

pub use check::{Check, CheckFormat};
pub use collect::{Collect, Precision};
pub use filter::{ClientNet, DestinationSpec, Filter};
pub use service::{ServiceSpec, wanted};
pub use shared::{Namespaces, Probing, Services, Writing};
pub use trace::{Trace, TraceFormat};
pub use values::{count, duration, entries, interval, netns, size};
