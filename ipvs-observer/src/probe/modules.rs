//! The IPVS modules that are loaded now, and whether that changed.
//!
//! The kernel kills the probes of a module that goes, without a word, and does not revive them when the module
//! comes back; scheduler modules come and go on demand.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path};

const SYSFS: &str = "/sys/module";
/// All IPVS modules bear this name or begin with it.
const PREFIX: &str = "ip_vs";

/// The loaded IPVS modules. The value tells a module from its reincarnation: sysfs makes its folder anew.
#[derive(Default)]
pub(super) struct Modules {
    loaded: Option<BTreeMap<String, Incarnation>>,
}

/// Inode and change time of a module's folder.
type Incarnation = (u64, i64, i64);

impl Modules {
    /// Looks again. True if a module came or went since the last look, and at the first.
    pub(super) fn refresh(&mut self) -> bool {
        let now = list(Path::new(SYSFS));
        let changed = self.loaded.as_ref() != Some(&now);
        self.loaded = Some(now);
        changed
    }

    /// Whether IPVS itself is there.
    pub(super) fn ipvs_loaded(&self) -> bool {
        self.incarnation(PREFIX).is_some()
    }

    /// Which incarnation of a module is loaded.
    pub(super) fn incarnation(&self, module: &str) -> Option<Incarnation> {
        self.loaded.as_ref()?.get(module).copied()
    }
}

fn list(sysfs: &Path) -> BTreeMap<String, Incarnation> {
    let Ok(entries) = fs::read_dir(sysfs) else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            if !name.starts_with(PREFIX) {
                return None;
            }
            let folder = entry.metadata().ok()?;
            Some((name, (folder.ino(), folder.ctime(), folder.ctime_nsec())))
        })
        .collect()
}
