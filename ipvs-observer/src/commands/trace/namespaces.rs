//! The network namespaces of a trace: which of those asked for are there.

use std::collections::BTreeMap;

use anyhow::Context;

use crate::{log, model::Netns, netlink, settings};

/// The namespaces that are there, by their number, each with the name by which it was asked for; this one if none was.
///
/// # Errors
/// Not all are there, and the trace ends by itself.
pub(super) fn namespaces(settings: &settings::Trace) -> anyhow::Result<BTreeMap<Netns, String>> {
    let asked = &settings.namespaces;
    if asked.is_empty() {
        let own = netlink::namespace().context(
            "cannot tell which network namespace this is, so nothing could be traced in it; mount /proc",
        )?;
        return Ok(BTreeMap::from([(own, String::new())]));
    }
    if settings.count.is_some() {
        netlink::require_namespaces(asked)?;
    }
    let find = |name: &String| match netlink::namespace_of(name) {
        Ok(netns) => Some((netns, name.clone())),
        Err(error) => {
            log::write(
                log::Level::Warning,
                &format!(
                    "network namespace {name} is not there ({error}), so nothing is traced in it until it comes; `ip \
                     netns` lists those with names"
                ),
            );
            None
        }
    };
    Ok(asked.iter().filter_map(find).collect())
}

/// What the probes observe: none at all would be every namespace.
pub(super) fn observed(names: &BTreeMap<Netns, String>) -> Vec<Netns> {
    if names.is_empty() {
        return vec![Netns::default()];
    }
    names.keys().copied().collect()
}
