//! `bench`: what a gather costs beside the raw dump and beside other programs, and what probes cost the path of a
//! new connection. In the lab, ways in turn on the same table, medians.

mod report;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    lab::{
        self, emulator,
        guest::Topology,
        kernel::{self, Kernel},
        mirror::{self, Apt, BOOKWORM},
        ports::{Printed, Streams},
        run::{Processors, Run},
        series::Series,
    },
    needs::{self, Purpose},
    process,
    progress::{say, step},
    workspace::Workspace,
};
use report::Report;

/// `bench`'s arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The kernel; repeatable
    #[arg(long, value_name = "SERIES", default_values_t = [Series::usual()])]
    kernel: Vec<Series>,
    /// A table as services x real servers of each; repeatable
    #[arg(long, value_name = "SERVICESxSERVERS", value_parser = table,
          default_values = ["100x3", "1000x10", "4000x10", "10x250", "20000x5"])]
    table: Vec<String>,
    /// Rounds of each way; their median counts
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Write the numbers there too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Let the guest's clock be the machine's and not count instructions: times scatter with the machine's load
    #[arg(long)]
    wall_clock: bool,
    /// Give each of the guest's processors a thread, by the machine's clock: what several sockets gain. Wants a
    /// machine with nothing else to do and many rounds
    #[arg(long, conflicts_with = "wall_clock")]
    side_by_side: bool,
    /// Leave out what probes cost the path of a connection
    #[arg(long)]
    no_path: bool,
    /// End a run in the lab that takes longer
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
    #[command(flatten)]
    needs: needs::Install,
}

impl Args {
    fn processors(&self) -> Processors {
        match (self.wall_clock, self.side_by_side) {
            (_, true) => Processors::ThreadEach,
            (true, false) => Processors::OneThread,
            (false, false) => Processors::Counted,
        }
    }

    fn run(&self, kernel: &Kernel, command: &[&str]) -> Run {
        Run {
            memory: MEMORY,
            processors: self.processors(),
            ..Run::new(kernel.clone(), Duration::from_secs(self.timeout), command)
        }
    }
}

fn table(text: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<u32>().is_ok_and(|number| number > 0);
    match text.split_once('x') {
        Some((services, servers)) if number(services) && number(servers) => Ok(text.to_owned()),
        _ => Err("a table is like 1000x10".to_owned()),
    }
}

const EXPORTER: &str = "prometheus-node-exporter";
/// MiB of the guest: 100,000 real servers several times over.
const MEMORY: u32 = 4000;

/// The verb.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = lab::ready(&[Purpose::Bench], args.needs)?;
    let binary = build::for_lab(&workspace, "bench", "lab")?;
    let exporter = exporter(&workspace)?;
    let mut report = Report::new(args.processors(), &emulator::ensure(&workspace.lab())?)?;
    let outcome = measure(args, &workspace, &binary, &exporter, &mut report);
    // What was measured before a failure took its time, and stands.
    io::stdout().write_all(report.text().as_bytes())?;
    if let Some(file) = &args.json {
        fs::write(file, report.json()?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

fn measure(
    args: &Args,
    workspace: &Workspace,
    binary: &Path,
    exporter: &Path,
    report: &mut Report,
) -> Result<()> {
    for series in &args.kernel {
        let kernel = kernel::ensure(&workspace.lab(), series, false)?;
        say(&format!("a gather beside others, on {}", kernel.version));
        let rounds = args.rounds.to_string();
        let mut command = vec!["/root/bench", "--rounds", &rounds, "--exporter", "/root/exporter"];
        command.extend(args.table.iter().map(String::as_str));
        let run = args
            .run(&kernel, &command)
            .add(binary, "/root/bench")
            .add(exporter, "/root/exporter");
        let (printed, outcome) = boot(workspace, &run);
        report.gathers(&kernel.version, &printed)?;
        outcome?;
        if !args.no_path {
            say(&format!("the path of a new connection, on {}", kernel.version));
            let (printed, outcome) = boot(workspace, &path(args, workspace, &kernel, binary)?);
            report.path(&kernel.version, &printed)?;
            outcome?;
        }
    }
    Ok(())
}

/// The script of `tests/cost`, with what it takes along.
fn path(args: &Args, workspace: &Workspace, kernel: &Kernel, binary: &Path) -> Result<Run> {
    let bpftrace = process::find("bpftrace").context("no bpftrace on this machine")?;
    let mut run = Run {
        topology: Topology::Basic,
        ..args.run(kernel, &["bash", "/root/measure.sh"])
    }
    .add(binary, "/root/bench")
    .add(&bpftrace, "/root/bpftrace");
    for file in fs::read_dir(workspace.root.join("ipvs-observer/tests/cost"))? {
        let file = file?;
        run = run.add(
            &file.path(),
            &format!("/root/{}", file.file_name().to_string_lossy()),
        );
    }
    Ok(run)
}

/// Runs a command in the lab and returns the lines that it printed, whatever became of it; what it says on stderr is
/// passed on.
fn boot(workspace: &Workspace, run: &Run) -> (String, Result<()>) {
    let printed = Printed::default();
    let streams = Streams {
        stdout: Box::new(printed.clone()),
        ..Streams::output()
    };
    let outcome = run.succeed(workspace, streams, "the measurement in the lab");
    let bytes = printed.bytes();
    let text = String::from_utf8_lossy(&bytes);
    // A guest that goes down may do so within a line.
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    (whole.to_owned(), outcome)
}

/// Debian's node exporter, unpacked and not installed: a package that is installed starts it as a service.
fn exporter(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.lab().join(EXPORTER);
    let program = folder.join("usr/bin").join(EXPORTER);
    if program.is_file() {
        return Ok(program);
    }
    step("fetching Debian's node exporter", || {
        let apt = Apt::new(&workspace.lab(), BOOKWORM)?;
        apt.update()?;
        let packages = folder.join("packages");
        let _ = fs::remove_dir_all(&folder);
        apt.download(EXPORTER, &packages)?;
        mirror::unpack(&packages, &folder)
    })?;
    if !program.is_file() {
        bail!("the package {EXPORTER} has no {}", program.display());
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn a_table_is_two_numbers_and_neither_is_nothing() {
        assert_eq!(table("1000x10").as_deref(), Ok("1000x10"));
        for wrong in ["1000", "x", "0x3", "3x0", "ax3", "1x2x3"] {
            assert!(table(wrong).is_err(), "{wrong}");
        }
    }
}
