//! `completions`: what lets a shell complete this program's command line.

use clap_complete::Shell;

use crate::cli::{self, ShellArg};

const NAME: &str = "ipvs-observer";

/// Writes the script that `shell` loads to standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(shell: ShellArg) -> anyhow::Result<()> {
    super::print(&script(shell))
}

fn script(shell: ShellArg) -> Vec<u8> {
    let shell = match shell {
        ShellArg::Bash => Shell::Bash,
        ShellArg::Zsh => Shell::Zsh,
        ShellArg::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut visible(&cli::definition()), NAME, &mut text);
    if shell == Shell::Bash {
        // It writes the dash of our name in two ways and then finds no verb's flags: clap-rs/clap#6421.
        let script = String::from_utf8_lossy(&text).replace("ipvs__subcmd__observer", "ipvs__observer");
        return script.into_bytes();
    }
    text
}

/// The program without its hidden verbs, which are for packages and reports.
fn visible(whole: &clap::Command) -> clap::Command {
    clap::Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .subcommands(
            whole
                .get_subcommands()
                .filter(|verb| !verb.is_hide_set())
                .cloned(),
        )
}
