//! How decisions and changes look: to a person in a hurry, and to a program.
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

/// What was lost, in words.
pub fn lost_words(lost: &Lost) -> String {
    let Lost {
        decisions,
        changes,
        candidates,
    } = *lost;
    format!(
        "{}, {}, {} of candidates",
        counted(decisions, "decision"),
        counted(changes, "change"),
        counted(candidates, "list")
    )
}
