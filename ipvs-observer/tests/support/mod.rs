//! What several tests share: the lines of a process, a reader of line protocol that is not the writer's own, a real
//! InfluxDB, the page of measurements and the dashboard.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod child;
pub mod dashboard;
pub mod influx;
pub mod lines;
pub mod page;
