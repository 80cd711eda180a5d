//! The eBPF object: embedded in the program, loaded into the kernel.

use aya::{Ebpf, EbpfLoader, include_bytes_aligned, programs::KProbe};

use super::{diagnostics::Diagnostics, reason::Reason};

static BYTES: &[u8] = include_bytes_aligned!(env!("IPVS_OBSERVER_EBPF_OBJECT"));

/// The loaded object: its maps exist, its programs pass the verifier when they are first wanted.
pub(super) struct Object {
    pub(super) ebpf: Ebpf,
    pub(super) diagnostics: Diagnostics,
}

impl Object {
    /// Creates the maps and prepares the programs.
    pub(super) fn load() -> Result<Self, Reason> {
        raise_memlock();
        let mut ebpf = EbpfLoader::new()
            .load(BYTES)
            .map_err(|error| Reason::of_loading(&error))?;
        let diagnostics = Diagnostics::of(&mut ebpf);
        Ok(Self { ebpf, diagnostics })
    }

    /// A program by name, loaded into the kernel.
    pub(super) fn program(&mut self, name: &str) -> Result<&mut KProbe, Reason> {
        let program: &mut KProbe = self
            .ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| Reason {
                text: format!("the object has no program {name}"),
                remedy: "build the program and its object from the same sources",
            })?;
        if program.fd().is_err() {
            program.load().map_err(|error| Reason::of_loading(&error))?;
        }
        Ok(program)
    }
}

/// Kernels that do not yet account BPF memory to the control group take it from the locked memory, of which
/// the usual limit is too small for any map. Failure shows when the maps are made.
fn raise_memlock() {
    let limit = rustix::process::Rlimit {
        current: None,
        maximum: None,
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Memlock, limit);
}

#[cfg(test)]
mod tests {
    use aya::programs::Program;

    use super::Object;

    #[test]
    #[ignore = "loads BPF programs, so needs root: `cargo xtask test` runs it"]
    fn every_program_passes_the_verifier_of_this_kernel() {
        let mut object = Object::load().expect("the object loads");
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
}
