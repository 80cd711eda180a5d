//! The environment: every flag of a verb can be set by `IPVS_OBSERVER_` and its name.
//!
//! Owns: the variables' names, and what an empty, a foreign and an unknown one mean. Refuses to know: the flags, which
//! it finds in the definition.

use std::env;

use clap::{Arg, ArgAction, ArgMatches, Command, Error, builder::Resettable};

/// How every variable begins.
const PREFIX: &str = "IPVS_OBSERVER_";
/// How variables of the lab begin, in which this program is tested: they are no settings of it.
const LAB: &str = "IPVS_OBSERVER_LAB_";
/// From which likeness on a name is worth proposing: 1 is the same.
const ALIKE: f64 = 0.8;

/// Gives every flag of every verb its variable.
pub(super) fn with_variables(program: Command) -> Command {
    program.mut_subcommands(|verb| {
        verb.mut_args(|flag| match flag.get_long() {
            Some(long) => {
                let variable = format!("{PREFIX}{}", long.replace('-', "_").to_uppercase());
                flag.env(variable)
            }
            None => flag,
        })
    })
}

/// Takes out the variables that set nothing: empty ones, those that say no to a flag without a value, and those whose
/// value only another verb takes. One that no verb takes stays, for the parser to refuse.
pub(super) fn settled(program: Command) -> Command {
    let verbs = verbs(&program);
    program.mut_subcommands(|verb| {
        let this = verb.clone();
        verb.mut_args(|flag| {
            let Some(variable) = variable(&flag).filter(|variable| env::var_os(variable).is_some()) else {
                return flag;
            };
            let set = match tried(&this, &variable) {
                _ if !is_set(&variable) => false,
                Some(Ok(matches)) => {
                    !matches!(flag.get_action(), ArgAction::SetTrue)
                        || matches.get_flag(flag.get_id().as_str())
                }
                Some(Err(_)) => !verbs
                    .iter()
                    .any(|other| matches!(tried(other, &variable), Some(Ok(_)))),
                None => true,
            };
            if set { flag } else { without_variable(flag) }
        })
    })
}

/// Refuses a variable that `verb` has no flag for and whose value no other verb takes either.
pub(super) fn refuse_invalid(program: &Command, verb: &str) -> Result<(), Error> {
    let (own, others): (Vec<_>, Vec<_>) = verbs(program)
        .into_iter()
        .partition(|other| other.get_name() == verb);
    for variable in variables(&others) {
        if !is_set(&variable) || own.iter().any(|own| tried(own, &variable).is_some()) {
            continue;
        }
        let mut refused = None;
        for outcome in others.iter().filter_map(|other| tried(other, &variable)) {
            match outcome {
                Ok(_) => refused = Some(Ok(())),
                Err(error) => refused = refused.or(Some(Err(error))),
            }
        }
        refused.unwrap_or(Ok(()))?;
    }
    Ok(())
}

/// What to say of variables that begin like settings of this program and are none.
pub(super) fn unknown(program: &Command) -> Vec<String> {
    let known = variables(&verbs(program));
    let mut messages: Vec<_> = env::vars_os()
        .filter_map(|(name, value)| name.into_string().ok().filter(|_| !value.is_empty()))
        .filter(|name| name.starts_with(PREFIX) && !name.starts_with(LAB) && !known.contains(name))
        .map(|name| message(&name, &known))
        .collect();
    messages.sort();
    messages
}

fn message(name: &str, known: &[String]) -> String {
    let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let likeness = |other: &String| strsim::jaro_winkler(&bare(name), &bare(other));
    let nearest = known
        .iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    let remedy = match nearest.filter(|nearest| likeness(nearest) >= ALIKE) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => {
            format!("`ipvs-observer collect --help` lists the flags, and {PREFIX} goes before a flag's name")
        }
    };
    format!("the environment variable {name} is no setting, so it has no effect; {remedy}")
}

/// The verbs that a user sees.
fn verbs(program: &Command) -> Vec<Command> {
    let visible = program.get_subcommands().filter(|verb| !verb.is_hide_set());
    visible.cloned().collect()
}

/// The variables of some verbs, each once.
fn variables(verbs: &[Command]) -> Vec<String> {
    let mut names: Vec<_> = verbs
        .iter()
        .flat_map(|verb| verb.get_arguments().filter_map(variable))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn variable(flag: &Arg) -> Option<String> {
    flag.get_env()?.to_str().map(str::to_owned)
}

/// An empty variable counts as unset.
fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn without_variable(flag: Arg) -> Arg {
    flag.env(Resettable::Reset)
}

/// What a verb makes of this variable alone; none where it has no such flag.
fn tried(verb: &Command, name: &str) -> Option<Result<ArgMatches, Error>> {
    let is_it = |flag: &Arg| variable(flag).is_some_and(|variable| variable == name);
    verb.get_arguments().find(|flag| is_it(flag))?;
    let alone = verb.clone().mut_args(|flag| {
        if is_it(&flag) {
            flag
        } else {
            without_variable(flag)
        }
    });
    Some(alone.try_get_matches_from([verb.get_name()]))
}
