//! How well the work goes: one state, told to people when it changes and to the data at every gather.

use crate::{log, netlink::Failure, points::Status};

/// A state with its reason. The reason is a few words that stay the same while the state lasts; the message is
/// what a person reads, once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How much of the work can be done.
    pub status: Status,
    /// Why not all of it.
    pub reason: String,
    message: String,
}

impl Health {
    /// The state after a gather whose dump ended so, and whose probes lack `missing`: a reason and a message.
    pub fn of(failure: Option<&Failure>, complete: bool, missing: Option<(String, String)>) -> Self {
        match (failure, missing) {
            (Some(failure), _) => Self {
                status: if complete {
                    Status::Degraded
                } else {
                    Status::Unavailable
                },
                reason: failure.reason().to_owned(),
                message: failure.to_string(),
            },
            (None, Some((reason, message))) => Self {
                status: Status::Degraded,
                reason,
                message,
            },
            (None, None) => Self::default(),
        }
    }
}

/// Tells people of changes.
#[derive(Debug, Default)]
pub struct Reporter {
    last: Option<Health>,
}

impl Reporter {
    /// Tells of `health` if it is not what it was.
    pub fn report(&mut self, health: &Health) {
        let same = self.last.as_ref().map_or(*health == Health::default(), |last| {
            last.status == health.status && last.reason == health.reason
        });
        if same {
            return;
        }
        match health.status {
            Status::Ok => log::write(log::Level::Info, "everything is gathered again"),
            Status::Degraded => log::write(log::Level::Warning, &health.message),
            Status::Unavailable => log::write(log::Level::Error, &health.message),
        }
        self.last = Some(health.clone());
    }
}
