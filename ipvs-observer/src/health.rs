//! How well the work goes: one state, told to people when it changes and to the data at every gather.

use crate::{
    log,
    netlink::Failure,
    points::Status,
    probe::{Availability, Need},
};

/// A state with its reason. The reason is a few words that stay the same while the state lasts; the message is
/// what a person reads, once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How much of the work can be done.
    pub status: Status,
    /// Why not all of it.
    pub reason: String,
    message: String,
    /// Whether it passes by itself in a moment, so that nobody needs to be told.
    passing: bool,
    /// Whether `ip_vs` is absent, which gathers wait for.
    absent: bool,
}

impl Health {
    /// The state after a gather: what kept the table from being read, whether its services are all there, and
    /// what the probes lack.
    pub fn of(failure: Option<&Failure>, complete: bool, probes: Option<&Availability>) -> Self {
        if let Some(failure) = failure {
            return Self {
                status: if complete {
                    Status::Degraded
                } else {
                    Status::Unavailable
                },
                reason: failure.reason().to_owned(),
                message: failure.to_string(),
                passing: false,
                absent: matches!(failure, Failure::Absent(_)),
            };
        }
        let Some(probes) = probes.filter(|probes| !probes.complete()) else {
            return Self::default();
        };
        let reason = probes
            .first_missing()
            .and_then(|need| need.missing.clone())
            .unwrap_or_default();
        Self {
            status: Status::Degraded,
            reason: format!("probes: {reason}"),
            message: lack(probes),
            passing: probes.is_passing(),
            absent: false,
        }
    }

    /// The status and the reason where, beside this, a service that was asked for is `missing`.
    pub fn without(self, missing: Option<&str>) -> (Status, String) {
        match (self.status, missing) {
            (Status::Ok, Some(missing)) => (Status::Degraded, missing.to_owned()),
            (Status::Degraded, Some(missing)) => (Status::Degraded, format!("{missing}; {}", self.reason)),
            (status, _) => (status, self.reason),
        }
    }
}

/// What the probes lack, as a person reads it: the first lack, and how many more there are.
pub fn lack(probes: &Availability) -> String {
    let Some(need) = probes.first_missing() else {
        return String::new();
    };
    let more = match probes.missing() {
        0 | 1 => String::new(),
        count => format!(" (and {} more: `ipvs-observer check` lists all)", count - 1),
    };
    let why = need.missing.as_deref().unwrap_or_default();
    let Need {
        name,
        consequence,
        remedy,
        ..
    } = need;
    format!("probe {name}: {why}, so {consequence}; {remedy}{more}")
}

/// Tells people of changes.
#[derive(Debug, Default)]
pub struct Reporter {
    netns: Option<String>,
    waits: bool,
    last: Option<Health>,
}

impl Reporter {
    /// For a network namespace that was asked for by name; its messages say so. `waits`: gathers go on until what is
    /// missing comes.
    pub fn new(netns: Option<String>, waits: bool) -> Self {
        Self {
            netns,
            waits,
            last: None,
        }
    }

    /// Tells of `health` if it is not what it was.
    pub fn report(&mut self, health: &Health) {
        let same = self.last.as_ref().map_or(*health == Health::default(), |last| {
            last.status == health.status && last.reason == health.reason
        });
        if same || health.passing {
            return;
        }
        let (level, message) = match health.status {
            Status::Ok => (log::Level::Info, "everything is gathered again"),
            Status::Degraded => (log::Level::Warning, health.message.as_str()),
            Status::Unavailable => (log::Level::Error, health.message.as_str()),
        };
        let level = if self.waits && health.absent {
            log::Level::Info
        } else {
            level
        };
        match &self.netns {
            Some(netns) => log::write(level, &format!("network namespace {netns}: {message}")),
            None => log::write(level, message),
        }
        self.last = Some(health.clone());
    }
}
