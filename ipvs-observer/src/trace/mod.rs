//! How decisions and changes look: to a person in a hurry, and to a program.
//!
//! Owns: the text and JSON of a trace, the clock of people, and which events are wanted. Refuses to know: where events come from. The
//! line protocol of a trace is a measurement like others, in [`crate::points`].

mod clock;
mod filter;
mod json;
mod text;

pub use clock::LocalClock;
pub use filter::{ClientNet, DestinationSpec, Filter};
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
