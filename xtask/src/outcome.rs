//! What becomes of a stage of `test`.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::progress::say;

/// What became of one stage.
pub(crate) struct Outcome {
    /// The stage, as its row has it.
    pub(crate) stage: String,
    /// What went wrong, if anything.
    pub(crate) failure: Option<String>,
    /// From its start to its end.
    pub(crate) time: Duration,
}

impl Outcome {
    /// Runs a stage and takes the time. What went wrong is said at once and again in the summary's row.
    pub(crate) fn of(stage: &str, work: impl FnOnce() -> Result<()>) -> Self {
        let started = Instant::now();
        let failure = work().err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            say(&format!("{stage} failed: {failure}"));
        }
        Self {
            stage: stage.to_owned(),
            failure,
            time: started.elapsed(),
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.failure.is_some()
    }
}
