//! What works of the probes, and why the rest does not.

use ipvs_observer_common::layout;

use super::{btf::Lack, reason::Reason};

/// What follows where no probe holds.
pub(super) const NOTHING: &str = "nothing is counted by probes, and there are no changes and no trace";
const BTF: &str = "BTF of ip_vs";
const WITHOUT_BTF: &str = "only calls are counted: nothing by service or destination, no changes, no trace";

/// One thing that the probes need, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What is needed: a function's name, or `BTF`.
    pub name: String,
    /// Why it is missing, or nothing where it works.
    pub missing: Option<String>,
    /// Whether the program does without, so that nothing is degraded if it is missing.
    pub optional: bool,
    /// What does not work without it.
    pub consequence: &'static str,
    /// What mends it; empty where nothing is to mend.
    pub remedy: &'static str,
}

impl Need {
    /// Whether something is degraded by it.
    fn is_lacking(&self) -> bool {
        self.missing.is_some() && !self.optional
    }
}

/// What works of the probes, and why the rest does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Availability {
    needs: Vec<Need>,
    passing: bool,
}

impl Availability {
    /// While probes are being attached or taken away, which passes by itself.
    pub fn being_attached() -> Self {
        Self {
            passing: true,
            needs: vec![Need {
                name: "all".to_owned(),
                missing: Some("being attached or taken away".to_owned()),
                optional: false,
                consequence: "what they count is left out of the gathers until that is done",
                remedy: "the kernel takes some seconds for it",
            }],
        }
    }

    /// Whether probes are being attached or taken away.
    pub fn is_passing(&self) -> bool {
        self.passing
    }

    /// Each need, in the order in which they were tried. Empty where no probes were asked for.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// How many needs are met.
    pub fn attached(&self) -> usize {
        self.needs.iter().filter(|need| need.missing.is_none()).count()
    }

    /// How many are not, and are felt.
    pub fn missing(&self) -> usize {
        self.needs.iter().filter(|need| need.is_lacking()).count()
    }

    /// Whether everything that was asked for works.
    pub fn complete(&self) -> bool {
        self.missing() == 0
    }

    /// The first that is missing and felt, for one line to a person.
    pub fn first_missing(&self) -> Option<&Need> {
        self.needs.iter().find(|need| need.is_lacking())
    }

    pub(super) fn clear(&mut self) {
        self.needs.clear();
    }

    pub(super) fn met(&mut self, name: &str, consequence: &'static str) {
        self.push(name, consequence, None, false);
    }

    pub(super) fn missed(&mut self, name: &str, consequence: &'static str, reason: &Reason) {
        self.push(name, consequence, Some(reason), false);
    }

    pub(super) fn done_without(&mut self, name: &str, consequence: &'static str, reason: &Reason) {
        self.push(name, consequence, Some(reason), true);
    }

    /// And what another says.
    pub(super) fn append(&mut self, mut other: Self) {
        self.needs.append(&mut other.needs);
    }

    /// What of the layout was found, or why there is none; `any`: some probe holds even so.
    pub(super) fn layout(&mut self, lacks: &[Lack], without: Option<&Reason>, any: bool) {
        match without {
            Some(reason) if !any => self.missed(BTF, NOTHING, reason),
            Some(reason) => self.missed(BTF, WITHOUT_BTF, reason),
            None => self.met(BTF, WITHOUT_BTF),
        }
        for lack in lacks {
            let (name, consequence) = feature(lack.feature);
            self.missed(name, consequence, &Reason::no_member(lack.member));
        }
    }

    fn push(&mut self, name: &str, consequence: &'static str, reason: Option<&Reason>, optional: bool) {
        self.needs.push(Need {
            name: name.to_owned(),
            missing: reason.map(|reason| reason.text.clone()),
            optional,
            consequence,
            remedy: reason.map_or("", |reason| reason.remedy),
        });
    }
}

/// A feature's name, and what is not known without it.
fn feature(feature: u32) -> (&'static str, &'static str) {
    match feature {
        layout::SERVICES => ("layout of services", WITHOUT_BTF),
        layout::DESTINATIONS => ("layout of destinations", "nothing is counted by destination"),
        layout::PERSISTENCE => ("layout of persistence", "no template hits, no trace"),
        layout::STATE => ("layout of destination state", "no overloads, no trace"),
        layout::DECISIONS => ("layout of decisions", "no trace"),
        layout::CONNECTIONS => ("layout of connections", "neither ends of connections nor drops"),
        layout::TRANSMIT => ("layout of packets", super::functions::NO_UNSENT),
        layout::CANDIDATES => ("layout of candidates", "no trace --explain"),
        layout::CONFIGURED => ("layout of settings", "changes do not say what they change"),
        layout::LEFT => (
            "layout of what is left",
            "changes do not say what they leave behind",
        ),
        _ => ("layout of changes", "no configuration changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::Availability;
    use crate::probe::reason::Reason;

    #[test]
    fn what_the_program_does_without_is_told_but_degrades_nothing() {
        let mut availability = Availability::default();
        availability.met("ip_vs_schedule", "");
        availability.done_without("ip_vs_dest_update_overload", "", &Reason::module_absent());
        assert!(availability.complete());
        assert_eq!((availability.attached(), availability.needs().len()), (1, 2));
        availability.missed("ip_vs_leave", "", &Reason::module_absent());
        assert_eq!(
            availability.first_missing().map(|need| need.name.as_str()),
            Some("ip_vs_leave")
        );
    }
}
