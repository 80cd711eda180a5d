//! The eBPF object: embedded in the program, loaded into the kernel.

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapData, RingBuf},
    programs::{KProbe, Program},
};
use ipvs_observer_common::layout::{self, Layout};

use super::{diagnostics::Diagnostics, reason::Reason};
use crate::system;

static BYTES: &[u8] = include_bytes_aligned!(env!("IPVS_OBSERVER_EBPF_OBJECT"));

/// How large the maps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Services that counters are kept of.
    pub services: u32,
    /// Destinations that counters are kept of.
    pub destinations: u32,
    /// Bytes that events wait in until they are read; rounded up to a power of two.
    pub events: u32,
}

impl Default for Sizes {
    /// As many as the largest tables in use have. A service takes 1.5 KiB and 80 bytes for each CPU, a
    /// destination 0.1 KiB and 24 bytes for each CPU.
    fn default() -> Self {
        Self {
            services: 4096,
            destinations: 65536,
            events: 256 * 1024,
        }
    }
}

/// The loaded object: its maps exist, its programs pass the verifier when they are first wanted.
pub(super) struct Object {
    pub(super) ebpf: Ebpf,
    pub(super) diagnostics: Diagnostics,
    pub(super) features: u32,
}

impl Object {
    /// Creates the maps and prepares the programs.
    pub(super) fn load(layout: &Layout, sizes: &Sizes) -> Result<Self, Reason> {
        system::raise_memlock();
        let mut loader = EbpfLoader::new();
        loader.override_global("LAYOUT", layout, true);
        // Without a layout nothing is counted by service, and the maps need no room.
        if layout.features & layout::SERVICES != 0 {
            loader
                .map_max_entries("SERVICES", sizes.services.max(1))
                .map_max_entries("DURATIONS", sizes.services.max(1))
                .map_max_entries("DESTINATIONS", sizes.destinations.max(1))
                .map_max_entries("EVENTS", sizes.events.max(4096).next_power_of_two());
        }
        let mut ebpf = loader.load(BYTES).map_err(|error| Reason::of_loading(&error))?;
        let diagnostics = Diagnostics::of(&mut ebpf);
        Ok(Self {
            ebpf,
            diagnostics,
            features: layout.features,
        })
    }

    /// A program by name, loaded into the kernel.
    pub(super) fn program(&mut self, name: &str) -> Result<&mut KProbe, Reason> {
        let program: &mut KProbe = self
            .ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| Reason::no_program(name))?;
        if program.fd().is_err() {
            program.load().map_err(|error| Reason::of_loading(&error))?;
        }
        Ok(program)
    }

    /// Nanoseconds that the programs took, where the kernel keeps account of it.
    pub(super) fn run_ns(&self) -> Option<u64> {
        let took = self.ebpf.programs().filter_map(|(_, program)| {
            let Program::KProbe(program) = program else {
                return None;
            };
            program.info().ok().map(|info| info.run_time().as_nanos() as u64)
        });
        Some(took.sum()).filter(|&ns| ns > 0)
    }

    /// The reading end of the ring buffer. There is one: the second time there is none.
    pub(super) fn ring(&mut self) -> Option<RingBuf<MapData>> {
        RingBuf::try_from(self.ebpf.take_map("EVENTS")?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ipvs_observer_common::layout::Layout;

    use super::{Object, Program, Sizes};
    use crate::probe::btf::Source;

    fn verify(layout: &Layout) {
        let mut object = Object::load(layout, &Sizes::default()).expect("the object loads");
        let names: Vec<String> = object.ebpf.programs().map(|(name, _)| name.to_owned()).collect();
        assert!(!names.is_empty());
        for name in names {
            if let Err(reason) = object.program(&name) {
                let program = object.ebpf.program_mut(&name).expect("it was listed");
                let Program::KProbe(program) = program else {
                    panic!("{name} is no kprobe");
                };
                panic!("{name}: {reason:?}\n{:?}", program.load().err());
            }
        }
    }

    #[test]
    #[ignore = "loads BPF programs, so needs root: `cargo xtask test` runs it"]
    fn every_program_passes_the_verifier_of_this_kernel_with_the_layout_of_any() {
        for kernel in ["6.1-before", "6.1", "6.12", "6.18", "7"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/btf")
                .join(kernel);
            let resolved = Source::new(Some(&folder)).layout().expect(kernel);
            verify(&resolved.layout);
        }
    }

    #[test]
    #[ignore = "loads BPF programs, so needs root: `cargo xtask test` runs it"]
    fn every_program_passes_the_verifier_of_this_kernel_without_a_layout() {
        verify(&Layout::default());
    }
}
