//! The network namespaces that are traced, and their names.

use std::collections::BTreeMap;

use anyhow::Context;

use crate::{log, model::Netns, netlink, settings};

/// The namespaces that are traced.
pub(super) struct Namespaces {
    /// Those asked for; none: this one.
    asked: Vec<String>,
    /// Those that are there, each with the name by which it was asked for.
    there: BTreeMap<Netns, String>,
}

impl Namespaces {
    /// Finds the namespaces that are asked for; this one if none is. One that is absent is a state.
    ///
    /// # Errors
    /// Not all are there, and the trace ends by itself.
    pub(super) fn find(settings: &settings::Trace) -> anyhow::Result<Self> {
        let asked = &settings.namespaces.names;
        if settings.count.is_some() {
            netlink::require_namespaces(asked)?;
        }
        let there = if asked.is_empty() {
            let own = netlink::namespace().context(
                "cannot tell which network namespace this is, so nothing could be traced in it; mount /proc",
            )?;
            BTreeMap::from([(own, String::new())])
        } else {
            let find = |name: &String| match netlink::namespace_of(name) {
                Ok(netns) => Some((netns, name.clone())),
                Err(error) => {
                    log::write(
                        log::Level::Warning,
                        &format!(
                            "network namespace {name} is not there ({error}), so nothing is traced in it until it \
                             comes; `ip netns` lists those with names"
                        ),
                    );
                    None
                }
            };
            asked.iter().filter_map(find).collect()
        };
        Ok(Self {
            asked: asked.clone(),
            there,
        })
    }

    /// What the probes are to observe.
    pub(super) fn observed(&self) -> Vec<Netns> {
        if self.there.is_empty() {
            // None at all would be every one.
            return vec![Netns::default()];
        }
        self.there.keys().copied().collect()
    }

    /// Whether this one is traced. The programs have no room for many, and then let all of them through.
    pub(super) fn has(&self, netns: Netns) -> bool {
        self.asked.is_empty() || self.there.contains_key(&netns)
    }

    /// A namespace's name, if it was asked for by one.
    pub(super) fn name(&self, netns: Netns) -> Option<&str> {
        let name = self.there.get(&netns).filter(|_| !self.asked.is_empty())?;
        Some(name)
    }

    /// The only one that is traced, with its name.
    pub(super) fn only(&self) -> Option<(Netns, Option<&str>)> {
        let netns = *self.there.keys().next().filter(|_| self.asked.len() <= 1)?;
        Some((netns, self.name(netns)))
    }

    /// Looks which are there now; none if nothing changed, else what to say once the probes observe them: one that was
    /// deleted is a state, and one that comes by its name is traced from then on.
    pub(super) fn follow(&mut self) -> Option<Vec<(log::Level, String)>> {
        if self.asked.is_empty() {
            return None;
        }
        let found = |name: &String| Some((netlink::namespace_of(name).ok()?, name.clone()));
        let now: BTreeMap<_, _> = self.asked.iter().filter_map(found).collect();
        if now == self.there {
            return None;
        }
        let mut messages = Vec::new();
        for name in &self.asked {
            let there = |names: &BTreeMap<_, String>| names.values().any(|found| found == name);
            match (there(&self.there), there(&now)) {
                (true, false) => messages.push((
                    log::Level::Warning,
                    format!("network namespace {name} is gone; nothing is traced in it until it comes again"),
                )),
                (false, true) => messages.push((
                    log::Level::Info,
                    format!("network namespace {name} came, and is traced"),
                )),
                _ => {}
            }
        }
        self.there = now;
        Some(messages)
    }
}
