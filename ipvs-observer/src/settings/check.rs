//! The settings of `check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::shared::named;

/// What `check` does.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// How the rows look
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = named::<CheckFormat>())]
    pub format: CheckFormat,

    /// Read BTF from this folder, laid out as /sys/kernel/btf, and not from the running kernel
    #[arg(long, value_name = "DIR")]
    pub btf: Option<PathBuf>,
}

/// How the rows of `check` look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}
