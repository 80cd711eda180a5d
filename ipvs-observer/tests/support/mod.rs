//! What the tests share: a reader of line protocol that is not the writer's own.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod lines;
