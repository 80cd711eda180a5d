//! The project's tasks: building, the lab, the checks. One file per task; this one only names them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bench;
mod build;
mod demo;
mod dependencies;
mod dist;
mod doctor;
mod end_to_end;
mod fuzz;
mod kernel_tests;
mod lab;
mod needs;
mod outcome;
mod package;
mod process;
mod progress;
mod soak;
mod test;
mod tool;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// The tasks of ipvs-observer.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
enum Task {
    /// Build the eBPF object alone
    BuildEbpf(needs::Install),
    /// Build the eBPF object and the program, release
    Build(needs::Install),
    /// Build, then run the program as root on this machine
    Run(build::RunArgs),
    /// Boot a kernel with IPVS and run a command in it as root
    Lab(lab::Args),
    /// Show the program's main job in the lab
    Demo(needs::Install),
    /// Measure a gather beside the raw dump and other programs, and what probes cost a connection
    Bench(bench::Args),
    /// Run a cluster in the lab whose lines go into a real InfluxDB, and the dashboard's queries on them
    EndToEnd(needs::Install),
    /// Check licences, sources and bans of everything that is not written here
    Dependencies,
    /// Give hostile bytes to whatever reads bytes, under libFuzzer
    Fuzz(fuzz::Args),
    /// Let everything happen to the program at random, for as long as is said, in the lab
    Soak(soak::Args),
    /// Run every check there is
    Test(test::Args),
    /// Make the Debian package and the tarball, in target/dist
    Dist(dist::Args),
    /// Say what this machine lacks, and the command that gets it
    Doctor,
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::BuildEbpf(args) => build::ebpf_alone(args).map(|()| ExitCode::SUCCESS),
        Task::Build(args) => build::program(args).map(|_| ExitCode::SUCCESS),
        Task::Run(args) => build::run(&args),
        Task::Lab(args) => lab::command(&args),
        Task::Demo(args) => demo::show(args),
        Task::Bench(args) => bench::run(&args),
        Task::EndToEnd(args) => end_to_end::alone(args),
        Task::Dependencies => dependencies::command(),
        Task::Fuzz(args) => fuzz::command(&args),
        Task::Soak(args) => soak::command(&args),
        Task::Test(args) => test::all(&args),
        Task::Dist(args) => dist::make(&args).map(|()| ExitCode::SUCCESS),
        Task::Doctor => doctor::report(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Task::command().debug_assert();
    }
}
