//! `record`: what the kernel says of IPVS, as it says it.

use crate::{
    model::Snapshot,
    netlink::{Reader, Recorder},
};

/// Gathers once and writes the exchange with the kernel to standard output.
///
/// # Errors
/// The table cannot be read whole, or standard output not be written.
pub fn run() -> anyhow::Result<()> {
    let recorder = Recorder::default();
    let (mut reader, mut snapshot) = (Reader::new(Box::new(recorder.clone())), Snapshot::default());
    reader.read(&mut snapshot, &|_| true)?;
    reader.read_surroundings(&mut snapshot);
    super::print(recorder.text().as_bytes())
}
