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
    let mut text = Vec::new();
    let mut command = visible(&cli::definition());
    match shell {
        ShellArg::Bash => {
            clap_complete::generate(Shell::Bash, &mut command, NAME, &mut text);
            // It writes the dash of our name in two ways and then finds no verb's flags: clap-rs/clap#6421.
            return String::from_utf8_lossy(&text)
                .replace("ipvs__subcmd__observer", "ipvs__observer")
                .into_bytes();
        }
        ShellArg::Zsh => clap_complete::generate(Shell::Zsh, &mut command, NAME, &mut text),
        ShellArg::Fish => clap_complete::generate(Shell::Fish, &mut command, NAME, &mut text),
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
