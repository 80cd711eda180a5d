//! `man`: the manual pages, one of the program and one of each verb.
//!
//! Owns: what clap cannot know of a page, in the directory beside this file: what the program needs, touches and
//! answers. Refuses to know: the flags. They are rendered from their one definition.

use std::{
    env,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::Arg;
use clap_mangen::{Man, roff::Roff};

use crate::cli::{self, PageArg};

/// The manual's section: administration.
const SECTION: &str = "8";

/// Where a page's prose has the options, and what all pages have.
const OPTIONS: &str = ".so options\n";
const COMMON: &str = ".so common.roff\n";

/// Writes a page to standard output.
///
/// # Errors
/// The output cannot be written.
pub fn run(page: Option<PageArg>) -> anyhow::Result<()> {
    super::print(&render(page)?)
}

fn render(page: Option<PageArg>) -> anyhow::Result<Vec<u8>> {
    let mut program = cli::definition()
        .disable_help_subcommand(true)
        .subcommand_value_name("COMMAND");
    program.build();
    let command = match page {
        None => program,
        Some(page) => program
            .find_subcommand(page.verb())
            .cloned()
            .with_context(|| format!("no verb {}", page.verb()))?,
    };
    let prose = match page {
        None => include_str!("man/program.roff"),
        Some(PageArg::Collect) => include_str!("man/collect.roff"),
        Some(PageArg::Trace) => include_str!("man/trace.roff"),
        Some(PageArg::Check) => include_str!("man/check.roff"),
    };
    let (description, others) = prose.split_once(OPTIONS).context("a page without options")?;
    let man = Man::new(command.mut_args(values_in_words))
        .section(SECTION)
        .date(date())
        .source(concat!("ipvs-observer ", env!("CARGO_PKG_VERSION")))
        .manual("System Administration");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    write_prose(description, &mut text)?;
    if page.is_none() {
        man.render_subcommands_section(&mut text)?;
    }
    man.render_options_section(&mut text)?;
    write_prose(others, &mut text)?;
    Ok(text)
}

/// A flag's values as part of its sentence: as a list they take a line each and say nothing more.
fn values_in_words(flag: Arg) -> Arg {
    let values: Vec<_> = flag
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    let Some(help) = flag
        .get_help()
        .filter(|_| values.len() > 1 && flag.get_action().takes_values())
    else {
        return flag;
    };
    let help = format!("{help}. One of {}.", values.join(", "));
    flag.help(help).hide_possible_values(true)
}

fn write_prose(prose: &str, text: &mut Vec<u8>) -> io::Result<()> {
    // What the apostrophe is, as each section of clap_mangen's begins.
    Roff::new().to_writer(text)?;
    text.write_all(prose.replace(COMMON, include_str!("man/common.roff")).as_bytes())
}

/// The day that builders of packages set for reproducible pages; without it a page has none.
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok());
    epoch.map_or_else(String::new, |seconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let written = humantime::format_rfc3339(time).to_string();
        written.chars().take("2026-01-01".len()).collect()
    })
}
