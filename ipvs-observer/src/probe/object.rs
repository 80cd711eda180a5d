//! The eBPF object: embedded in the program, loaded into the kernel.

use std::io;

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapData, RingBuf, Stack},
    programs::{KProbe, Program, RawTracePoint},
};
use ipvs_observer_common::{
    control::Control,
    counter::Health,
    event,
    layout::{self, Layout},
    slot::{self, Free},
};

use super::{
    account::{self, Account, Accountant},
    asked::Asked,
    diagnostics::Diagnostics,
    mapped::Mapped,
    reason::Reason,
};
use crate::{memory, system};

/// One of so many destinations may be removed and have its counters kept.
const REMOVED: u32 = 4;

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

impl Sizes {
    /// With room for so many refusals and drops of each namespace and interval, and as much again for changes.
    #[must_use]
    pub fn for_refusals(self, most: u32, namespaces: usize) -> Self {
        /// A record has a head before it.
        const RECORD: u32 = size_of::<event::Decision>() as u32 + 8;
        /// Firsts and others.
        const BUDGETS: u32 = 2;

        let records = u32::try_from(namespaces)
            .unwrap_or(u32::MAX)
            .max(1)
            .saturating_mul(BUDGETS * most);
        let room = records.saturating_mul(2 * RECORD).min(1 << 30);
        Self {
            events: self.events.max(room),
            ..self
        }
    }
}

impl Default for Sizes {
    /// As many as the largest tables in use have. A service takes 1.6 KiB and 112 bytes for each CPU, a
    /// destination 0.3 KiB and 32 bytes for each CPU.
    fn default() -> Self {
        Self {
            services: 4096,
            destinations: 65536,
            events: 256 * 1024,
        }
    }
}

/// The maps of something that is counted, by name.
#[derive(Clone, Copy)]
struct Counted {
    slots: &'static str,
    free: &'static str,
    owners: &'static str,
    counters: &'static str,
}

const SERVICES: Counted = Counted {
    slots: "SERVICES",
    free: "FREE_SERVICES",
    owners: "SERVICE_OWNERS",
    counters: "SERVICE_COUNTERS",
};

const DESTINATIONS: Counted = Counted {
    slots: "DESTINATIONS",
    free: "FREE_DESTINATIONS",
    owners: "DESTINATION_OWNERS",
    counters: "DESTINATION_COUNTERS",
};

/// The loaded object: its maps exist, its programs pass the verifier when they are first wanted.
pub(super) struct Object {
    pub(super) ebpf: Ebpf,
    pub(super) diagnostics: Diagnostics,
    pub(super) features: u32,
    /// CPUs that there may be.
    pub(super) cpus: u32,
    /// Kernel memory of the maps, which does not change: entries have their room from the start.
    pub(super) map_bytes: Option<u64>,
    control: Mapped<Control>,
    health: Mapped<Health>,
    accountant: Accountant,
    /// The account as of the moment when all probes were first attached: until then some saw what others did not.
    attached: Health,
}

impl Object {
    /// Creates the maps and prepares the programs.
    pub(super) fn load(layout: &Layout, sizes: &Sizes, asked: &Asked) -> Result<Self, Reason> {
        system::raise_memlock();
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| Reason::of_loading(&error))? as u32;
        let (services, destinations) = (sizes.services.max(1), sizes.destinations.max(1));
        let mut loader = EbpfLoader::new();
        loader
            .override_global("LAYOUT", layout, true)
            .override_global("CPUS", &cpus, true)
            .map_max_entries("HEALTH", cpus);
        asked.size(&mut loader);
        // Without a layout nothing is counted by service, and the maps need no room.
        let counting = layout.features & layout::SERVICES != 0;
        let counted = [(SERVICES, services), (DESTINATIONS, destinations)];
        if counting {
            for (maps, most) in counted {
                let slots = slot::in_runs(most);
                loader
                    .map_max_entries(maps.slots, most)
                    .map_max_entries(maps.free, slots)
                    .map_max_entries(maps.owners, slots)
                    .map_max_entries(maps.counters, slots.saturating_mul(cpus));
            }
            loader
                .map_max_entries("DURATIONS", slot::in_runs(services))
                .map_max_entries("BESIDE_SCHEDULER", slot::in_runs(services))
                .map_max_entries("REASONS", slot::in_runs(services))
                .map_max_entries("ENDS", slot::in_runs(destinations))
                .map_max_entries("REMOVED", destinations.div_ceil(REMOVED))
                .map_max_entries("EVENTS", sizes.events.max(4096).next_power_of_two());
        }
        let mut ebpf = loader.load(BYTES).map_err(|error| Reason::of_loading(&error))?;
        memory::leave_to_its_file(BYTES);
        asked.write(&mut ebpf)?;
        let diagnostics = Diagnostics::of(&mut ebpf);
        let mapping = |error: io::Error| Reason::of_loading(&error);
        let mut control = Mapped::writable(&mut ebpf, "CONTROL").map_err(mapping)?;
        let mut health = Mapped::readable(&mut ebpf, "HEALTH").map_err(mapping)?;
        control.reach(1).map_err(mapping)?;
        health.reach(cpus).map_err(mapping)?;
        if counting {
            for (maps, most) in counted {
                free_slots(&mut ebpf, maps.free, slot::in_runs(most))?;
            }
        }
        Ok(Self {
            ebpf,
            diagnostics,
            features: layout.features,
            cpus,
            map_bytes: account::map_bytes(),
            control,
            health,
            accountant: Accountant::new(),
            attached: Health::default(),
        })
    }

    /// Gives the programs their orders.
    pub(super) fn orders(&mut self, control: &Control) {
        self.control.write(0, control);
    }

    /// What the programs say of themselves.
    pub(super) fn health(&self) -> Health {
        let mut sum = Health::default();
        let blocks = (0..self.cpus).filter_map(|cpu| self.health.read(cpu));
        blocks.for_each(|block| sum.add(&block));
        sum
    }

    /// From now on the probes are all attached that can be.
    pub(super) fn is_attached(&mut self) {
        self.attached = self.health();
    }

    /// How many of what one probe misses of another there are since then.
    pub(super) fn since_attached(&self, health: &Health, missed: impl Fn(&Health) -> u64) -> u64 {
        missed(health).saturating_sub(missed(&self.attached))
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

    /// The program of a tracepoint by name, loaded likewise.
    pub(super) fn tracepoint(&mut self, name: &str) -> Result<&mut RawTracePoint, Reason> {
        let program: &mut RawTracePoint = self
            .ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| Reason::no_program(name))?;
        if program.fd().is_err() {
            program.load().map_err(|error| Reason::of_loading(&error))?;
        }
        Ok(program)
    }

    /// What the kernel says of the programs.
    pub(super) fn account(&self) -> Account {
        let programs = self.ebpf.programs().filter_map(|(name, program)| {
            let fd = match program {
                Program::KProbe(program) => program.fd(),
                Program::RawTracePoint(program) => program.fd(),
                _ => return None,
            };
            Some((name, fd.ok()?))
        });
        self.accountant.of(programs)
    }

    /// The reading end of the ring buffer. There is one: the second time there is none.
    pub(super) fn ring(&mut self) -> Option<RingBuf<MapData>> {
        RingBuf::try_from(self.ebpf.take_map("EVENTS")?).ok()
    }
}

/// Fills a stack of free slots, the first on top. In runs: then several CPUs can take one at a time.
fn free_slots(ebpf: &mut Ebpf, name: &str, slots: u32) -> Result<(), Reason> {
    let map = ebpf.map_mut(name).ok_or_else(|| Reason::no_program(name))?;
    let mut stack = Stack::<_, Free>::try_from(map).map_err(|error| Reason::of_loading(&error))?;
    for first in (0..slots).step_by(slot::RUN as usize).rev() {
        let run = Free {
            first,
            count: slot::RUN,
        };
        stack.push(run, 0).map_err(|error| Reason::of_loading(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ipvs_observer_common::layout::Layout;

    use super::{Asked, Object, Program, Sizes};
    use crate::probe::btf::Source;

    fn verify(layout: &Layout) {
        let mut object =
            Object::load(layout, &Sizes::default(), &Asked::default()).expect("the object loads");
        let names: Vec<String> = object.ebpf.programs().map(|(name, _)| name.to_owned()).collect();
        assert!(!names.is_empty());
        for name in names {
            let program = object.ebpf.program_mut(&name).expect("it was listed");
            let loaded = match program {
                Program::KProbe(program) => program.load(),
                Program::RawTracePoint(program) => program.load(),
                _ => panic!("{name} is of no kind that is known"),
            };
            if let Err(error) = loaded {
                panic!("{name}: {error:?}");
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
