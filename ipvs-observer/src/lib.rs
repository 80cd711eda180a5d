//! `ipvs-observer`.
