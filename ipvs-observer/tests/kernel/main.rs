//! Runs as root in the lab, on a kernel with IPVS: what this program says, held against what `ipvsadm` and the
//! kernel say. One test at a time, because the table is the machine's.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

#[path = "../support/mod.rs"]
mod support;

mod abilities;
mod agreement;
mod connections;
mod faults;
mod ipvsadm;
mod memory;
mod netns;
mod observer;
mod once;
mod page;
mod privilege;
mod recovery;
mod scheduler;
mod settings;
mod soak;
mod states;
mod trace;
mod traffic;
mod watched;
