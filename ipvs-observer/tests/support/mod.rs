//! What several tests share: the program, scripts and the lines of a process, a reader of line protocol that is not
//! the writer's own, a table and the floor of reading one, a real InfluxDB, the page of measurements and the dashboard.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod child;
pub mod dashboard;
pub mod floor;
pub mod influx;
pub mod lines;
pub mod page;
pub mod table;
