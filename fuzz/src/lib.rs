//! What is done with hostile bytes, one module a target.
//!
//! Owns: the bodies of the fuzz targets, what must hold of whatever comes out, and the seeds that fuzzing begins
//! with. Refuses to know: which fuzzer runs them. A body panics where something does not hold.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a target that finds something fails by it"
)]

pub mod btf;
pub mod events;
pub mod lines;
pub mod netlink;
pub mod settings;

/// The tests' own reader of line protocol, which shares nothing with the writer.
#[path = "../../ipvs-observer/tests/support/lines.rs"]
#[allow(
    dead_code,
    missing_docs,
    reason = "a part of it is used, and the tests have no public face"
)]
mod reader;

use std::{env, fs, path::Path, process};

/// A target: its body, and what it begins with.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is its program's.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// What real kernels, and users, give it.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "netlink",
        run: netlink::run,
        seeds: netlink::seeds,
    },
    Target {
        name: "btf",
        run: btf::run,
        seeds: btf::seeds,
    },
    Target {
        name: "events",
        run: events::run,
        seeds: events::seeds,
    },
    Target {
        name: "lines",
        run: lines::run,
        seeds: lines::seeds,
    },
    Target {
        name: "settings",
        run: settings::run,
        seeds: settings::seeds,
    },
];

/// Where `IPVS_OBSERVER_SEEDS` names a folder, writes a target's seeds there and ends: no program but the target
/// itself then knows what they are.
///
/// # Panics
/// The folder cannot be written.
pub fn seeds_if_asked(name: &str) {
    let Some(folder) = env::var_os("IPVS_OBSERVER_SEEDS") else {
        return;
    };
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("a target");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(Path::new(&folder).join(format!("seed-{number:03}")), seed).expect("the folder of seeds");
    }
    process::exit(0);
}

/// Stretches of bytes, each with its length before it.
fn frames(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = u16::from_le_bytes(*length);
        let (frame, rest) = rest.split_at(rest.len().min(length.into()));
        frames.push((length, frame));
        bytes = rest;
    }
    frames
}

/// Appends a stretch of bytes as [`frames`] reads it.
fn frame(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("seeds are small");
    out.extend(length.to_le_bytes());
    out.extend(bytes);
}

/// A file of the tests of ipvs-observer.
fn fixture(path: &str) -> Vec<u8> {
    let path = Path::new(FIXTURES).join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ipvs-observer/tests");

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn what_real_kernels_give_passes_every_target() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(seeds.len() >= 10, "{}: {} seeds", target.name, seeds.len());
            for seed in &seeds {
                (target.run)(seed);
            }
            // And cut short anywhere, which takes the ways that whole input does not.
            for seed in seeds.iter().filter(|seed| seed.len() < 4096) {
                for length in (0..seed.len()).step_by(7) {
                    (target.run)(&seed[..length]);
                }
            }
        }
    }
}
