//! `soak`: everything that may befall the program, at random and for long, in the lab.
//!
//! It is a test of the kernel tests' binary, which the others leave out: this file says for how long and with which
//! seed. The same, for two minutes, is a stage of `test`.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use crate::{
    build,
    kernel_tests::{GUEST_PATH, TARGET},
    lab::{
        self, kernel,
        ports::Streams,
        run::{Processors, Run},
        series::Series,
    },
    needs::{self, Purpose},
    workspace::Workspace,
};

/// The test, by what its name begins with.
const TEST: &str = "soak::";
/// What it takes beside its time: booting, waiting for what is under way, and the end.
const BESIDE: Duration = Duration::from_mins(5);
/// How long it is in `test`.
const IN_TEST: u64 = 2;
/// What happens there: the same each time, so that what fails is what was changed. The verb is for the rest.
const SEED_IN_TEST: u64 = 20;

/// `soak`'s arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// What happens is the same for the same seed; without, another each time
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The kernel: one from 6.1 on, for the oldest of the matrix tells nothing by service
    #[arg(long, value_name = "SERIES", default_value_t = Series::usual())]
    kernel: Series,
    /// Let the guest's two processors run at the same time, a thread each: what races shows sooner
    #[arg(long)]
    side_by_side: bool,
    #[command(flatten)]
    needs: needs::Install,
}

/// The verb.
pub(crate) fn command(args: &Args) -> Result<ExitCode> {
    let workspace = lab::ready(&[Purpose::Test], args.needs)?;
    let seed = args.seed.unwrap_or_else(another);
    let processors = if args.side_by_side {
        Processors::ThreadEach
    } else {
        Processors::OneThread
    };
    run(&workspace, &args.kernel, processors, args.minutes, seed)?;
    Ok(ExitCode::SUCCESS)
}

/// The stage of `test`.
pub(crate) fn stage(workspace: &Workspace, series: &Series) -> Result<()> {
    run(workspace, series, Processors::OneThread, IN_TEST, SEED_IN_TEST)
}

fn run(
    workspace: &Workspace,
    series: &Series,
    processors: Processors,
    minutes: u64,
    seed: u64,
) -> Result<()> {
    let tests = build::for_lab(workspace, "test", TARGET)?;
    let kernel = kernel::ensure(&workspace.lab(), series, false)?;
    println!("kernel {}, {minutes} minutes, seed {seed}", kernel.version);
    let limit = Duration::from_secs(60 * minutes) + BESIDE;
    let run = Run {
        processors,
        ..Run::new(kernel, limit, &words(minutes, seed)).add(&tests, GUEST_PATH)
    };
    run.succeed(workspace, Streams::output(), "the long run")
        .with_context(|| {
            format!("again: cargo xtask soak --kernel {series} --minutes {minutes} --seed {seed}")
        })
}

fn words(minutes: u64, seed: u64) -> Vec<String> {
    let mut words = vec![
        "env".to_owned(),
        format!("IPVS_SOAK_MINUTES={minutes}"),
        format!("IPVS_SOAK_SEED={seed}"),
        GUEST_PATH.to_owned(),
    ];
    words.extend(["--test-threads=1", "--nocapture", "--ignored", TEST].map(str::to_owned));
    words
}

/// A seed that nobody chose.
fn another() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_is_told_how_long_and_with_which_seed() {
        let words = words(7, 42);
        assert_eq!(words[..3], ["env", "IPVS_SOAK_MINUTES=7", "IPVS_SOAK_SEED=42"]);
        assert!(words.contains(&"--ignored".to_owned()));
    }
}
