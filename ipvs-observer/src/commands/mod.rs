//! The verbs, one a file. Each reads as its pipeline.

pub mod check;
pub mod collect;
pub mod record;
mod stop;
pub mod trace;
