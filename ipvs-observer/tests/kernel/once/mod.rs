//! What is the program's own patience, timing, size or memory, the same on any kernel: `cargo xtask test` runs what is in
//! here on the lab's usual kernel, and everything else on each kernel of the matrix.

mod clock;
mod endurance;
mod lasting;
mod reader;
mod scale;
mod usual_interval;
