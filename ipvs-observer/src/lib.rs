//! `ipvs-observer`: the rooms.
pub mod cli;
pub mod commands;
pub mod health;
pub mod line;
pub mod log;
pub mod model;
pub mod netlink;
pub mod output;
pub mod points;
pub mod probe;
pub mod settings;
pub mod trigger;
