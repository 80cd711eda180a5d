//! `ipvs-observer`: the rooms.
pub mod model;
pub mod netlink;
