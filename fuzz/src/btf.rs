//! The kernel's type information: a blob, alone or with one split over it.

use ipvs_observer::probe::fuzzing;
use ipvs_observer_common::layout as features;

use crate::fixture;

const KERNELS: [&str; 6] = ["5.10", "6.1-before", "6.1", "6.12", "6.18", "7"];
/// In place of the length of the kernel's blob: there is no other behind it.
const ALONE: u16 = u16::MAX;

/// The length of the kernel's blob, that, and a module's.
pub fn run(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else {
        return;
    };
    let length = u16::from_le_bytes(*length);
    let (kernel, module) = rest.split_at(rest.len().min(length.into()));
    let module = (length != ALONE).then_some(module);
    if let Some((Some((layout, lacks)), _)) = fuzzing::resolve(kernel, module) {
        // What may be used is there: nothing is ever read at an offset that was not found.
        let has = |feature| layout.features & feature != 0;
        let (service, destination) = (&layout.service, &layout.destination);
        assert!(!has(features::SERVICES) || service.addr.present() && service.ipvs.present());
        assert!(!has(features::DESTINATIONS) || has(features::SERVICES) && destination.addr.present());
        assert!(!has(features::STATE) || destination.weight.present() && destination.otherconns.present());
        assert!(
            !has(features::DECISIONS) || layout.header.saddr.present() && layout.scheduler.name.present()
        );
        assert!(!has(features::CANDIDATES) || service.destinations.present());
        assert!(lacks > 0 || has(features::SERVICES));
    }
    for path in ["ip_vs_sh_state.buckets", "ip_vs_service.addr.ip", "net.ns.inum"] {
        let _ = fuzzing::field(kernel, path);
    }
}

/// What was cut out of the BTF of real kernels, each alone and one over the other.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kernel in KERNELS {
        let blob = |name: &str| fixture(&format!("btf/{kernel}/{name}"));
        let base = blob("vmlinux");
        seeds.push([&ALONE.to_le_bytes()[..], &base].concat());
        if kernel == "5.10" {
            continue;
        }
        let length = u16::try_from(base.len()).expect("a small blob");
        for module in ["ip_vs", "ip_vs_wrr"] {
            seeds.push([&length.to_le_bytes()[..], &base, &blob(module)].concat());
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    use ipvs_observer::probe::fuzzing;
    use ipvs_observer_common::layout::CANDIDATES;

    use super::seeds;

    #[test]
    fn a_seed_of_a_module_is_resolved_whole() {
        let whole = seeds().into_iter().filter(|seed| {
            let length = usize::from(u16::from_le_bytes([seed[0], seed[1]]));
            let Some((kernel, module)) = seed[2..].split_at_checked(length) else {
                return false;
            };
            matches!(fuzzing::resolve(kernel, Some(module)),
                     Some((Some((layout, 0)), _)) if layout.features & CANDIDATES != 0)
        });
        assert!(whole.count() >= 5);
    }
}
