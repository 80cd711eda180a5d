//! The environment: every flag of a verb can be set by `IPVS_OBSERVER_` and its name.
//!
//! Owns: the variables' names, and what an empty, a foreign and an unknown one mean. Refuses to know: the flags, which
//! it finds in the definition.

use std::{collections::BTreeMap, env, ffi::OsString};

use clap::{
    Arg, ArgAction, ArgMatches, Command, Error,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// How every variable begins.
const PREFIX: &str = "IPVS_OBSERVER_";
/// How variables of the lab begin, in which this program is tested: they are no settings of it.
const LAB: &str = "IPVS_OBSERVER_LAB_";
/// From which likeness on a name is worth proposing: 1 is the same.
const ALIKE: f64 = 0.8;

/// Gives every flag of every verb its variable.
pub(super) fn with_variables(program: Command) -> Command {
    program.mut_subcommands(|verb| {
        verb.mut_args(|flag| match flag.get_long().map(variable_of) {
            Some(variable) => flag.env(variable),
            None => flag,
        })
    })
}

/// A verb's name, and what it makes of a variable alone.
type Tried = (String, Result<ArgMatches, Error>);

/// The variables of the verbs that a user sees.
pub(super) struct Environment {
    /// By name, each as the verbs that have it take it; none while it is unset.
    variables: BTreeMap<String, Vec<Tried>>,
}

impl Environment {
    /// Reads the variables, each once for each verb.
    pub(super) fn read(program: &Command) -> Self {
        let mut variables = BTreeMap::<_, Vec<_>>::new();
        for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            for variable in verb.get_arguments().filter_map(variable) {
                let outcome = is_set(&variable).then(|| (verb.get_name().to_owned(), alone(verb, &variable)));
                variables.entry(variable).or_default().extend(outcome);
            }
        }
        Self { variables }
    }

    /// Takes out the variables that set nothing: empty ones, those that say no to a flag without a value, those that
    /// contradict what was typed, and those whose value only another verb takes. One that no verb takes stays, for the
    /// parser to refuse.
    pub(super) fn settled(&self, program: Command, typed: &[OsString]) -> Command {
        program.mut_subcommands(|verb| {
            let this = verb.clone();
            verb.mut_args(|flag| match variable(&flag) {
                Some(variable) if env::var_os(&variable).is_some() => {
                    let set = self.sets(&variable, &this, &flag, typed);
                    if set { flag } else { without_variable(flag) }
                }
                _ => flag,
            })
        })
    }

    fn sets(&self, variable: &str, verb: &Command, flag: &Arg, typed: &[OsString]) -> bool {
        let tried = self.variables.get(variable).map_or(&[][..], Vec::as_slice);
        match tried.iter().find(|(name, _)| name == verb.get_name()) {
            None => false,
            Some((_, Ok(matches))) => {
                let no = matches!(flag.get_action(), ArgAction::SetTrue)
                    && !matches.get_flag(flag.get_id().as_str());
                !no && !contradicts(verb, flag, typed)
            }
            Some((_, Err(_))) => tried.iter().all(|(_, outcome)| outcome.is_err()),
        }
    }

    /// Refuses a variable that `verb` has no flag for and whose value no other verb takes either.
    pub(super) fn refuse_invalid(self, verb: &str) -> Result<(), Error> {
        for tried in self.variables.into_values() {
            let passed_over = tried
                .iter()
                .any(|(name, outcome)| name == verb || outcome.is_ok());
            if !passed_over && let Some((_, outcome)) = tried.into_iter().next() {
                outcome?;
            }
        }
        Ok(())
    }

    /// What to say of variables that begin like settings of this program and are none.
    pub(super) fn unknown(&self) -> Vec<String> {
        let (linked, unknown): (Vec<_>, Vec<_>) = env::vars_os()
            .filter_map(|(name, value)| name.into_string().ok().filter(|_| !value.is_empty()))
            .filter(|name| name.starts_with(PREFIX) && !name.starts_with(LAB))
            .filter(|name| !self.variables.contains_key(name))
            .partition(|name| is_service_link(name));
        let mut messages: Vec<_> = unknown.iter().map(|name| self.message(name)).collect();
        if let Some(name) = linked.first() {
            messages.push(format!(
                "the environment variable {name} and its like are set by Kubernetes for a Service named \
                 ipvs-observer, and have no effect; `enableServiceLinks: false` in the pod leaves them out"
            ));
        }
        messages.sort();
        messages
    }

    fn message(&self, name: &str) -> String {
        let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or_default().to_owned();
        let likeness = |other: &String| strsim::jaro_winkler(&bare(name), &bare(other));
        let nearest = self
            .variables
            .keys()
            .max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
        let remedy = match nearest.filter(|nearest| likeness(nearest) >= ALIKE) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => {
                format!(
                    "`ipvs-observer collect --help` lists the flags, and {PREFIX} goes before a flag's name"
                )
            }
        };
        format!("the environment variable {name} is no setting, so it has no effect; {remedy}")
    }
}

/// Whether a flag that was typed excludes this one.
fn contradicts(verb: &Command, flag: &Arg, typed: &[OsString]) -> bool {
    let excludes = |one: &Arg, other: &Arg| {
        let excluded = verb.get_arg_conflicts_with(one);
        excluded
            .iter()
            .any(|excluded| excluded.get_id() == other.get_id())
    };
    verb.get_arguments().any(|other| {
        other.get_long().is_some_and(|long| is_typed(long, typed))
            && (excludes(flag, other) || excludes(other, flag))
    })
}

fn is_typed(long: &str, typed: &[OsString]) -> bool {
    typed.iter().any(|word| {
        let word = word.to_str().and_then(|word| word.strip_prefix("--"));
        word.is_some_and(|word| word.split('=').next() == Some(long))
    })
}

/// Names the variable where the value that is refused was not typed.
pub(super) fn blamed(error: Error, typed: &[OsString]) -> Error {
    let kind = error.kind();
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let long = flag.split(' ').next().and_then(|flag| flag.strip_prefix("--"));
    let Some(variable) = long.filter(|long| !is_typed(long, typed)).map(variable_of) else {
        return error;
    };
    if !matches!(kind, ErrorKind::InvalidValue | ErrorKind::ValueValidation) || !is_set(&variable) {
        return error;
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    Error::raw(kind, format!("the environment variable {variable} has an {text}"))
}

/// Whether Kubernetes gives a pod a variable of this name for a Service that is named like this program.
fn is_service_link(name: &str) -> bool {
    let name = name.strip_prefix(PREFIX).unwrap_or_default();
    name == "PORT"
        || ["PORT_", "SERVICE_HOST", "SERVICE_PORT"]
            .iter()
            .any(|link| name.starts_with(link))
}

fn variable_of(long: &str) -> String {
    format!("{PREFIX}{}", long.replace('-', "_").to_uppercase())
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

/// What a verb makes of this variable alone.
fn alone(verb: &Command, name: &str) -> Result<ArgMatches, Error> {
    let others_unset = |flag: Arg| match variable(&flag) {
        Some(variable) if variable != name => without_variable(flag),
        _ => flag,
    };
    let alone = verb.clone().mut_args(others_unset);
    alone.try_get_matches_from([verb.get_name()])
}
