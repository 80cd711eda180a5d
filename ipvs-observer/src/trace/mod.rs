//! How events look: to a person in a hurry, and to a program.
//!
//! Owns: the text and JSON of a trace, and the clock of people. Refuses to know: where events come from, and which are
//! wanted. The line protocol of a trace is a measurement like others, in [`crate::points`].

mod clock;
mod json;
mod text;

pub use clock::LocalClock;
pub use json::Json;
pub use text::Text;

use crate::{log::counted, model::Lost};

/// So many of something that many traces have none of, to be added to a list.
pub fn if_any(count: u64, what: &str) -> String {
    if count == 0 {
        String::new()
    } else {
        format!(", {}", counted(count, what))
    }
}

/// What was lost, in words.
pub fn lost_words(lost: &Lost) -> String {
    let Lost {
        decisions,
        changes,
        drops,
        ends,
        candidates,
        skipped: _,
    } = *lost;
    format!(
        "{}, {}{}{}, {} of candidates",
        counted(decisions, "decision"),
        counted(changes, "change"),
        if_any(drops, "drop"),
        if_any(ends, "end"),
        counted(candidates, "list")
    )
}

/// Says how many decisions the kernel ran no probe for.
pub fn skipped_words(skipped: u64) -> String {
    format!(
        "the kernel ran no probe for {}, whether asked for or not, because another program of eBPF was at work on that \
         processor",
        counted(skipped, "decision")
    )
}
