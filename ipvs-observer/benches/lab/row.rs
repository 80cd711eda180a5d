//! What is told of a measurement, a line of JSON each.

use serde::{Deserialize, Serialize};

/// One round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Round {
    pub wall_ns: u64,
    /// Of all threads and children, in user and kernel.
    pub cpu_ns: u64,
    pub syscalls: u64,
    /// The largest resident memory so far.
    pub peak_bytes: u64,
}

/// A way to read a table, with what it took.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    pub table: &'a str,
    pub way: &'a str,
    /// Medians of the rounds, and the most memory.
    pub median: Round,
    pub rounds: usize,
}

impl Round {
    /// Each number's median, and the most memory.
    pub fn median(rounds: &[Self]) -> Option<Self> {
        let middle = |number: fn(&Self) -> u64| {
            let mut numbers: Vec<u64> = rounds.iter().map(number).collect();
            numbers.sort_unstable();
            numbers.get(numbers.len() / 2).copied()
        };
        Some(Self {
            wall_ns: middle(|round| round.wall_ns)?,
            cpu_ns: middle(|round| round.cpu_ns)?,
            syscalls: middle(|round| round.syscalls)?,
            peak_bytes: rounds.iter().map(|round| round.peak_bytes).max()?,
        })
    }
}
