//! Completion scripts in the shells that they are for, and manual pages under the formatters that check them.
//! Debian's packages `zsh`, `fish`, `man-db` and `mandoc` have the programs; `cargo xtask test` installs them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use support::child::program;
use tempfile::TempDir;

/// What the program prints for a hidden verb.
fn printed(args: &[&str]) -> String {
    let output = program()
        .args(args)
        .env("SOURCE_DATE_EPOCH", "1763800000")
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    assert!(output.stderr.is_empty(), "{args:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// A file with what the program prints, in a folder that ends with the test.
fn written(args: &[&str], name: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, printed(args)).expect("the folder can be written");
    let path = path.to_str().expect("text").to_owned();
    (folder, path)
}

/// Both streams of a program that must exist here, within half a minute.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["30", program])
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .expect("timeout of coreutils");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program}, which `cargo xtask test` installs, ended with {}: {text}",
        output.status
    );
    text.into_owned()
}

/// Command lines under way, and what each shell has to offer for their last word.
const OFFERS: [(&str, &str, &[&str]); 3] = [
    ("", "tr", &["trace"]),
    ("collect --trigger", "sig", &["sighup", "sigusr1", "sigusr2"]),
    ("check", "--for", &["--format"]),
];

#[test]
fn bash_completes_verbs_flags_and_values() {
    let (_folder, script) = written(&["completions", "bash"], "script");
    for (before, word, offers) in OFFERS {
        let line = format!(
            "source {script}; COMP_WORDS=(ipvs-observer {before} {word}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _ipvs__observer ipvs-observer {word} ${{COMP_WORDS[COMP_CWORD-1]}}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let said = said("bash", &["--norc", "--noprofile", "-c", &line]);
        assert_eq!(said.lines().collect::<Vec<_>>(), offers);
    }
}

#[test]
fn fish_completes_verbs_flags_and_values() {
    let (_folder, script) = written(&["completions", "fish"], "script");
    for (before, word, offers) in OFFERS {
        let line = format!("source {script}; complete -C 'ipvs-observer {before} {word}'");
        let said = said("fish", &["--no-config", "-c", &line]);
        // A description follows behind a tab.
        let offered: Vec<_> = said.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(offered, offers);
    }
}

/// Zsh completes only while somebody types, so somebody types: on a terminal of its own, then a key that shows
/// what stands on the line.
#[test]
fn zsh_completes_verbs_flags_and_values() {
    let (folder, _) = written(&["completions", "zsh"], "_ipvs-observer");
    for (before, word, offers) in OFFERS {
        let typed = format!("ipvs-observer {before} {word}");
        let session = format!(
            "zmodload zsh/zpty; zpty shell zsh -fi
             zpty -w shell 'PS1=; fpath=({folder} $fpath); autoload -Uz compinit; compinit -D -u'
             zpty -w shell 'show() {{ print -r -- \"LINE<$BUFFER>\" }}; zle -N show; bindkey ^T show; print READ''Y'
             zpty -r shell begin '*READY*'
             zpty -w -n shell '{typed}'$'\\t\\x14'
             zpty -r shell text '*LINE<*>*'
             print -r -- $text",
            folder = folder.path().display(),
        );
        let said = said("zsh", &["-fc", &session]);
        for offer in offers {
            assert!(said.contains(offer), "{typed}: {offer} in {said:?}");
        }
    }
}

#[test]
fn completion_offers_nothing_that_help_hides() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        assert!(
            script.contains("collect") && !script.contains("record"),
            "{shell}"
        );
    }
}

const PAGES: [&[&str]; 4] = [
    &["man"],
    &["man", "collect"],
    &["man", "trace"],
    &["man", "check"],
];

#[test]
fn the_manual_pages_are_formatted_without_a_warning() {
    for page in PAGES {
        let (_folder, path) = written(page, "page.8");
        assert_eq!(
            said("mandoc", &["-T", "lint", "-W", "warning", &path]),
            "",
            "{page:?}"
        );
        let folder = Path::new(&path).parent().expect("it is in a folder").join("out");
        let line = format!("man --warnings -l {path} 2>&1 >{}", folder.display());
        assert_eq!(said("sh", &["-c", &line]), "", "{page:?}");
        let text = fs::read_to_string(folder).expect("man has formatted it");
        for heading in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXIT STATUS",
            "ENVIRONMENT",
            "SEE ALSO",
        ] {
            assert!(text.lines().any(|line| line == heading), "{page:?}: {heading}");
        }
    }
}

#[test]
fn the_manual_has_every_flag_of_the_help_with_its_variable() {
    for verb in ["collect", "trace", "check"] {
        let help = printed(&[verb, "--help"]);
        let page = printed(&["man", verb])
            .replace("\\-", "-")
            .replace("\\fB", "")
            .replace("\\fR", "");
        let flags = help
            .split_whitespace()
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .map(|word| word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-'));
        let mut count = 0;
        for flag in flags {
            count += 1;
            assert!(page.contains(flag), "{verb}: {flag}");
        }
        assert!(count > 2, "{help}");
        for variable in help
            .split("[env: ")
            .skip(1)
            .filter_map(|rest| rest.split('=').next())
        {
            assert!(page.contains(variable), "{verb}: {variable}");
        }
    }
}
