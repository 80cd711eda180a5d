//! Observes Linux Virtual Server (IPVS): what its counters say, and why its scheduler chose.
//!
//! One way through, left to right:
//!
//! ```text
//! IPVS netlink ──dump──▶ netlink ──▶ model::Snapshot ─┐
//!                                                     ├─▶ correlate ─▶ points ─▶ line ─▶ output ─▶ stdout
//! kprobes ──per-CPU maps──▶ probe ─▶ model::Activity ─┘
//! ```
//!
//! | room | owns | refuses to know |
//! |---|---|---|
//! | [`cli`], [`settings`] | the command line and the environment; each flag once, checked as it is read | what is done with them |
//! | [`commands`] | the verbs, each as its pipeline | the work itself |
//! | [`netlink`] | the table as the kernel tells it, completely or with the reason why not | what becomes of it |
//! | [`probe`] | everything that talks to BPF, kprobes and BTF | netlink, measurements |
//! | [`model`] | plain values with stable keys | kernels, outputs |
//! | [`correlate`] | what the probes saw, beside the table: shares | where either came from |
//! | [`explain`] | each scheduler's own rule | how its state was read |
//! | [`points`] | names and fields of the measurements, both schemas | syntax |
//! | [`trace`] | how a decision looks, to a person and to a program | where it came from |
//! | [`mod@line`] | the syntax of line protocol | measurements |
//! | [`output`] | getting whole lines out | what they say |
//! | [`privilege`] | capabilities: what is missing, what is given up; the fence | what is lost by it |
//! | [`system`] | what this machine allows: lockdown, kprobes, performance events | what follows |
//! | [`module`] | the module `ip_vs`: whether the running kernel has it, and how it is loaded | whether IPVS is there |
//! | [`trigger`], [`health`], [`log`], [`leave`] | when a gather starts, how well the work goes, who is told, the end | |
//!
//! [`netlink`] and [`probe`] are the only rooms that talk to the kernel. Between them and the outputs everything
//! is plain data and pure functions, testable without root.
//!
//! Rooms in order: each imports only from the lines below its own. `tests/house.rs` reads them here.
//!
//! ```text
//! commands
//! cli
//! settings health
//! netlink probe explain points trace output trigger
//! correlate line module privilege
//! model log system leave memory
//! ```

pub mod cli;
pub mod commands;
pub mod correlate;
pub mod explain;
pub mod health;
pub mod leave;
pub mod line;
pub mod log;
pub mod memory;
pub mod model;
pub mod module;
pub mod netlink;
pub mod output;
pub mod points;
pub mod privilege;
pub mod probe;
pub mod settings;
pub mod system;
pub mod trace;
pub mod trigger;
