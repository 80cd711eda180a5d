//! The IPVS modules that are loaded now, and whether that changed.
//!
//! The kernel kills the probes of a module that goes, without a word, and does not revive them when the module
//! comes back; scheduler modules come and go on demand.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt, path::Path};

const SYSFS: &str = "/sys/module";
const SYMBOLS: &str = "/proc/kallsyms";
/// IPVS itself; all its modules begin with it.
const IPVS: &str = "ip_vs";
/// What becomes of the module while it is loaded; a kernel that has IPVS built in has no such file.
const STATE: &str = "/sys/module/ip_vs/initstate";
/// There as soon as IPVS is, module or not.
const TABLE: &str = "/proc/net/ip_vs";

/// Tells a module from its reincarnation: inode and change time of its folder, which sysfs makes anew.
pub(super) type Incarnation = (u64, i64, i64);

/// A module that may be a scheduler, or a scheduler that is built in.
pub(super) struct Scheduler {
    /// The name by which services know it.
    pub(super) name: String,
    /// None if it is built in.
    pub(super) incarnation: Option<Incarnation>,
    /// Whether it is a scheduler for sure.
    pub(super) certain: bool,
}

/// The loaded IPVS modules.
#[derive(Default)]
pub(super) struct Modules {
    loaded: Option<BTreeMap<String, Incarnation>>,
    built_in: Option<Vec<String>>,
}

impl Modules {
    /// Looks again. True if a module came or went since the last look, and at the first.
    pub(super) fn refresh(&mut self) -> bool {
        let now = match (list(Path::new(SYSFS)), &self.loaded) {
            (Ok(now), _) => now,
            // Not to be told now, for want of a descriptor perhaps, is not gone.
            (Err(_), Some(_)) => return false,
            (Err(_), None) => BTreeMap::new(),
        };
        let changed = self.loaded.as_ref() != Some(&now);
        self.loaded = Some(now);
        if changed && self.built_in.is_none() && self.ipvs_loaded() {
            self.built_in = Some(built_in_schedulers(
                &fs::read_to_string(SYMBOLS).unwrap_or_default(),
            ));
        }
        changed
    }

    /// Whether IPVS itself is there.
    pub(super) fn ipvs_loaded(&self) -> bool {
        self.incarnation(IPVS).is_some() || Path::new(TABLE).exists()
    }

    /// Whether IPVS is there and initialised. Cheaper than a look at all modules, for who waits for nothing else.
    pub(super) fn ipvs_is_live() -> bool {
        fs::read(STATE).map_or_else(|_| Path::new(TABLE).exists(), |state| state.starts_with(b"live"))
    }

    /// Which incarnation of a module is loaded; none if it is built in.
    pub(super) fn incarnation(&self, module: &str) -> Option<Incarnation> {
        self.loaded.as_ref()?.get(module).copied()
    }

    /// Everything that may be a scheduler.
    pub(super) fn schedulers(&self) -> Vec<Scheduler> {
        let loaded = self.loaded.iter().flatten().filter_map(|(module, incarnation)| {
            Some(Scheduler {
                name: module.strip_prefix(IPVS)?.strip_prefix('_')?.to_owned(),
                incarnation: Some(*incarnation),
                certain: false,
            })
        });
        let built_in = self.built_in.iter().flatten().map(|name| Scheduler {
            name: name.clone(),
            incarnation: None,
            certain: true,
        });
        loaded.chain(built_in).collect()
    }
}

fn list(sysfs: &Path) -> io::Result<BTreeMap<String, Incarnation>> {
    let entries = fs::read_dir(sysfs)?;
    let modules = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        if !name.starts_with(IPVS) {
            return None;
        }
        let folder = entry.metadata().ok()?;
        Some((name, (folder.ino(), folder.ctime(), folder.ctime_nsec())))
    });
    Ok(modules.collect())
}

/// The schedulers among the kernel's own symbols: a line is `ADDRESS TYPE NAME`, and `[MODULE]` if in one.
fn built_in_schedulers(symbols: &str) -> Vec<String> {
    symbols
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let (kind, name) = (words.next()?, words.next()?);
            let code = kind.eq_ignore_ascii_case("t") && words.next().is_none();
            let scheduler = name.strip_prefix("ip_vs_")?.strip_suffix("_schedule")?;
            (code && scheduler.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| scheduler.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::built_in_schedulers;

    #[test]
    fn schedulers_are_those_of_the_kernel_and_not_of_its_modules() {
        let symbols = "\
ffffffff81000000 t ip_vs_rr_schedule
ffffffff81000100 t ip_vs_wlc_schedule.cold
ffffffff81000200 T ip_vs_schedule
ffffffff81000300 t ip_vs_try_to_schedule
ffffffff81000400 d ip_vs_sh_schedule
ffffffff81000500 t __pfx_ip_vs_rr_schedule
ffffffffc0000000 t ip_vs_wrr_schedule\t[ip_vs_wrr]
";
        assert_eq!(built_in_schedulers(symbols), ["rr"]);
    }
}
