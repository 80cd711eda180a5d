//! What works of the probes, and why the rest does not.

use super::reason::Reason;

/// One thing that the probes need, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What is needed: a function's name, or `BTF`.
    pub name: String,
    /// Why it is missing, or nothing where it works.
    pub missing: Option<String>,
    /// What does not work without it.
    pub consequence: &'static str,
    /// What mends it.
    pub remedy: &'static str,
}

/// What works of the probes, and why the rest does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Availability {
    needs: Vec<Need>,
}

impl Availability {
    /// Each need, in the order in which they were tried. Empty where no probes were asked for.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// How many needs are met.
    pub fn attached(&self) -> usize {
        self.needs.iter().filter(|need| need.missing.is_none()).count()
    }

    /// How many are not.
    pub fn missing(&self) -> usize {
        self.needs.len() - self.attached()
    }

    /// Whether everything that was asked for works.
    pub fn complete(&self) -> bool {
        self.missing() == 0
    }

    /// The first reason why something is missing, with its remedy, for one line to a person.
    pub fn first_missing(&self) -> Option<&Need> {
        self.needs.iter().find(|need| need.missing.is_some())
    }

    pub(super) fn clear(&mut self) {
        self.needs.clear();
    }

    pub(super) fn met(&mut self, name: &str, consequence: &'static str) {
        self.needs.push(Need {
            name: name.to_owned(),
            missing: None,
            consequence,
            remedy: "",
        });
    }

    pub(super) fn missed(&mut self, name: &str, consequence: &'static str, reason: &Reason) {
        self.needs.push(Need {
            name: name.to_owned(),
            missing: Some(reason.text.clone()),
            consequence,
            remedy: reason.remedy,
        });
    }

    /// Everything is missing, for one reason.
    pub(super) fn all_missing(&mut self, reason: &Reason) {
        for probe in super::attach::PROBES {
            self.missed(probe.function, probe.consequence, reason);
        }
    }
}
