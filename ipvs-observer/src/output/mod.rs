//! Where lines go. One file per kind.
//!
//! Owns: getting whole lines out, or saying why not. Refuses to know: what the lines say.

mod stdout;

pub use stdout::Stdout;

/// Why lines did not go out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The reader went away: nobody wants more lines, and that is a quiet end.
    #[error("the output was closed by its reader")]
    Closed,
    /// Anything else.
    #[error("cannot write to {name}, so its lines are lost: {error}")]
    Io {
        /// The output.
        name: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}
