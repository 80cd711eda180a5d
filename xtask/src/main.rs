//! The project's tasks: building, the lab, the checks.

fn main() {}
