//! The doors through which the kernel's bytes come in, open for the fuzz targets and for nobody else.
//!
//! Owns: nothing. Each function goes the way that the probes themselves go, without a kernel.

use std::path::Path;

use aya::Pod;
use ipvs_observer_common::layout::{Field, Layout};

use super::{
    btf::{self, Btf, Source},
    clock::Clock,
    decisions::Decisions,
    events,
};
use crate::model::{Before, Traced};

/// What BTF says: the layout with the number of members that it lacks, and whether the state of `wrr` is found.
pub type Resolved = (Option<(Layout, usize)>, bool);

/// Resolves in a module's BTF over the kernel's, or in the kernel's alone.
pub fn resolve(kernel: &[u8], module: Option<&[u8]>) -> Option<Resolved> {
    let kernel = Btf::parse(kernel, None).ok()?;
    let split = match module {
        Some(module) => Some(Btf::parse(module, Some(&kernel)).ok()?),
        None => None,
    };
    let btf = split.as_ref().unwrap_or(&kernel);
    let layout = btf::layout(btf).map(|resolved| (resolved.layout, resolved.lacks.len()));
    Some((layout, btf::wrr_mark(btf).is_some()))
}

/// A member by its path, in the kernel's BTF alone.
pub fn field(kernel: &[u8], path: &str) -> Option<Field> {
    Some(btf::field(&Btf::parse(kernel, None).ok()?, path))
}

/// The reading end of the ring buffer, behind the buffer.
pub struct Ring(Decisions);

impl Ring {
    /// What schedulers remember is found with the BTF in this folder.
    pub fn new(btf: &Path) -> Self {
        Self(Decisions::new(Source::new(Some(btf))))
    }

    /// A record as the programs would have written it, at a clock that is so far `ahead` of theirs.
    pub fn record(&mut self, record: &[u8], ahead: u64) -> Option<(Traced, Option<Before>)> {
        self.0.told(events::decode(record)?, Clock { ahead })
    }

    /// Forgets the lists of candidates whose decision did not come.
    pub fn forget(&mut self) {
        self.0.forget();
    }
}

/// An event as the programs write it.
pub fn record<T: Pod>(event: &T) -> Vec<u8> {
    let event = std::ptr::from_ref(event).cast::<u8>();
    // SAFETY: `Pod` promises integers without padding, so every byte of the value is there to be read.
    unsafe { std::slice::from_raw_parts(event, size_of::<T>()) }.to_vec()
}
