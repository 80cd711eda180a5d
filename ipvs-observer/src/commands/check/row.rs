//! A row: one need, how it stands, and how that is shown.

use serde::Serialize;

/// One need and how it stands.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) need: String,
    pub(super) state: State,
    /// What was found.
    pub(super) detail: String,
    /// What does not work; empty if all does.
    pub(super) consequence: String,
    /// What mends it; empty if there is nothing to mend.
    pub(super) remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// The need is met.
    Ok,
    /// It is not, and nothing works the less.
    Optional,
    /// What was chosen may hurt.
    Warning,
    /// It is not, and something does not work.
    Missing,
}

impl Row {
    pub(super) fn ok(need: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            state: State::Ok,
            ..Self::missing(need, detail, "", "")
        }
    }

    pub(super) fn missing(
        need: impl Into<String>,
        detail: impl Into<String>,
        consequence: &str,
        remedy: &str,
    ) -> Self {
        let (consequence, remedy) = (consequence.to_owned(), remedy.to_owned());
        Self {
            need: need.into(),
            state: State::Missing,
            detail: detail.into(),
            consequence,
            remedy,
        }
    }

    pub(super) fn optional(
        need: impl Into<String>,
        detail: impl Into<String>,
        consequence: &str,
        remedy: &str,
    ) -> Self {
        Self {
            state: State::Optional,
            ..Self::missing(need, detail, consequence, remedy)
        }
    }

    pub(super) fn warning(
        need: impl Into<String>,
        detail: impl Into<String>,
        consequence: &str,
        remedy: &str,
    ) -> Self {
        Self {
            state: State::Warning,
            ..Self::missing(need, detail, consequence, remedy)
        }
    }

    /// Whether its consequence and remedy are worth showing to a person.
    fn lacks(&self) -> bool {
        matches!(self.state, State::Warning | State::Missing)
    }
}

/// A row, which has a place among all. What many have in common is written once.
pub(super) fn shown(row: &Row, rows: &[Row], place: usize) -> String {
    let before = |other: &Row| other.lacks() && other.remedy == row.remedy;
    let remedy = if rows[..place].iter().any(before) {
        "as above"
    } else {
        &row.remedy
    };
    let width = rows.iter().map(|row| row.need.len()).max().unwrap_or_default();
    let state = match row.state {
        State::Ok => "ok",
        State::Optional => "-",
        State::Warning => "warning",
        State::Missing => "MISSING",
    };
    let first = format!("{state:<8} {:<width$}  {}\n", row.need, row.detail);
    let below = [("so", row.consequence.as_str()), ("remedy", remedy)].map(|(word, what)| match what {
        what if row.lacks() && !what.is_empty() => format!("{:9}{:width$}  {word}: {what}\n", "", ""),
        _ => String::new(),
    });
    first + &below.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_missing_something_says_the_consequence_and_the_remedy() {
        let rows = [
            Row::ok("lockdown", "none"),
            Row::missing("module ip_vs", "not loaded", "nothing to gather", "modprobe"),
            Row::missing("IPVS table", "not loaded", "no table", "modprobe"),
        ];
        assert_eq!(shown(&rows[0], &rows, 0), "ok       lockdown      none\n");
        assert_eq!(
            shown(&rows[1], &rows, 1),
            "MISSING  module ip_vs  not loaded\n                       so: nothing to gather\n                       \
             remedy: modprobe\n"
        );
        assert!(shown(&rows[2], &rows, 2).ends_with("remedy: as above\n"));
    }
}
