//! Messages to people, on stderr.
//!
//! On a terminal they begin as a command's messages do; elsewhere with the letters by which Telegraf knows their
//! level. A message is one line.

use std::io::{self, IsTerminal, Write};

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is missing and the rest works.
    Warning,
    /// Something changed for the better, or is worth knowing.
    Info,
}

impl Level {
    fn prefix(self, terminal: bool) -> &'static str {
        match (self, terminal) {
            (Self::Error, true) => "error: ",
            (Self::Warning, true) => "warning: ",
            (Self::Info, true) => "",
            (Self::Error, false) => "E! ",
            (Self::Warning, false) => "W! ",
            (Self::Info, false) => "I! ",
        }
    }
}

/// Writes a message, as one line. A stderr that is closed or full takes nothing away from the work: the message
/// is then lost.
pub fn write(level: Level, message: &str) {
    let stderr = io::stderr();
    let mut text = String::from(level.prefix(stderr.is_terminal()));
    for (index, line) in message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .enumerate()
    {
        if index > 0 {
            text.push_str("; ");
        }
        text.push_str(line);
    }
    text.push('\n');
    let _ = stderr.lock().write_all(text.as_bytes());
}

/// A number with its noun: `1 line`, `2 lines`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_singular_and_everything_else_plural() {
        let shown = [0, 1, 2, 11].map(|count| counted(count, "line"));
        assert_eq!(shown, ["0 lines", "1 line", "2 lines", "11 lines"]);
    }
}
