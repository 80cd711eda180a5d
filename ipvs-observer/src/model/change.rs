//! Configuration changes.

use std::fmt;

use super::{Action, DestinationKey, Name, Netns, ServiceKey, Setting};

/// A configuration change, with who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, in ns since the epoch.
    pub time: u64,
    /// The namespace.
    pub netns: Netns,
    /// What was done.
    pub action: Action,
    /// To which service.
    pub service: ServiceKey,
    /// To which destination of it, if to one.
    pub destination: Option<DestinationKey>,
    /// The destination's weight before, if it was there.
    pub weight_before: Option<u32>,
    /// The destination's weight after, if it is there.
    pub weight_after: Option<u32>,
    /// What an edit changed, or what was added apart from the defaults; none if that is not known, or is no matter of
    /// this action.
    pub changed: Option<Vec<Changed>>,
    /// What the destination has, if that is known.
    pub remaining: Option<Remaining>,
    /// What becomes of that, in words; empty where the change does not matter to it.
    pub left: String,
    /// The name of the process that did it; empty where none did.
    pub comm: Name,
    /// Its pid in the initial namespace of pids; 0 where none did it.
    pub pid: u32,
    /// The name of the process that started it: the script that ran `ipvsadm`.
    pub parent_comm: Name,
    /// That one's pid.
    pub parent_pid: u32,
}

/// One setting that a change changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub what: Setting,
    /// What it was; none if there was none.
    pub before: Option<Value>,
    /// What it is; none if there is none.
    pub after: Option<Value>,
}

/// What a setting is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u32),
    /// A name, or several.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Text(text) if text.is_empty() => formatter.write_str("none"),
            Self::Text(text) => text.fmt(formatter),
        }
    }
}

/// The entries of the connection table that a destination has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Connections in an active state.
    pub active: u32,
    /// All other connections.
    pub inactive: u32,
    /// Templates of persistence.
    pub templates: u32,
}

impl Remaining {
    /// Whether there is nothing.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Remaining {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            active,
            inactive,
            templates,
        } = self;
        write!(
            formatter,
            "{active} active, {inactive} inactive, {templates} {}",
            if *templates == 1 { "template" } else { "templates" }
        )
    }
}

impl Change {
    /// The settings that changed, in words; none where that is not known or there is nothing to say.
    pub fn changed_words(&self) -> Option<String> {
        let changed = self.changed.as_ref()?;
        if changed.is_empty() {
            return Some("nothing changed".to_owned());
        }
        let added = matches!(self.action, Action::AddService | Action::AddDestination);
        let words: Vec<_> = changed
            .iter()
            .map(|Changed { what, before, after }| {
                let [before, after] = [before, after]
                    .map(|value| value.as_ref().map_or_else(|| "none".to_owned(), Value::to_string));
                if added {
                    format!("{} {after}", what.words())
                } else {
                    format!("{} {before} -> {after}", what.words())
                }
            })
            .collect();
        Some(words.join(", "))
    }
}
