//! How the flags of a command line are read. The clap definitions are built from the table, or a command's own list.

use crate::base::fatal::{self, Fatal};
use crate::base::program;
use crate::config::keys::{self, KEYS, Key, Kind};
use crate::config::load::{self, Flags, Settings};
use crate::config::nearest::nearest;
use crate::config::slo;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};
use std::ffi::OsString;

/// Wrong flags that one command line is scanned for.
const WRONG_FLAGS_MAX: usize = 64;

/// What flags, environment and file say of a run; its report shows `command`.
pub(super) fn run_settings(
    command: Vec<String>,
    args: &[String],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    errors: &mut Vec<Fatal>,
) -> Settings {
    let flags = run_flags(args, errors);
    let mut pairs = Vec::new();
    for (name, value) in env {
        let Ok(name) = name.into_string() else { continue };
        if !name.starts_with(keys::ENV_PREFIX) {
            continue;
        }
        match value.into_string() {
            Ok(value) => pairs.push((name, value)),
            // What it holds may be a credential.
            Err(_) => errors.push(Fatal::usage(format!("{name} is not UTF-8")).mend(format!("unset {name}"))),
        }
    }
    pairs.sort();
    load::merge(command, flags, &pairs, errors)
}

/// A flag for each name and alias of the table, all of them repeatable here: doubles are judged with the rest.
pub fn run_command() -> clap::Command {
    let mut command = bare("engine run");
    for key in KEYS {
        let mut arg = Arg::new(key.name).long(key.name).action(ArgAction::Append).aliases(key.aliases.iter().copied());
        arg = match key.kind {
            Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("on"),
            _ => arg.num_args(1).allow_hyphen_values(true),
        };
        command = command.arg(arg);
    }
    command
}

pub(super) fn bare(name: &'static str) -> clap::Command {
    clap::Command::new(name).no_binary_name(true).disable_help_flag(true).disable_version_flag(true)
}

fn run_flags(args: &[String], errors: &mut Vec<Fatal>) -> Flags {
    let example = |name: &str| keys::find(name).filter(|key| key.kind != Kind::Switch).map(|key| key.example);
    let args = joined(args, example, errors);
    let Some(matches) = matches(&run_command(), args, errors) else { return Flags::new() };
    // In the order they were typed, so that targets keep it.
    let mut found: Vec<(usize, &'static Key, String)> = Vec::new();
    for key in KEYS {
        let Some(values) = matches.get_many::<String>(key.name) else { continue };
        let indices = matches.indices_of(key.name).into_iter().flatten();
        found.extend(indices.zip(values).map(|(at, text)| (at, key, text.clone())));
    }
    found.sort_by_key(|(at, ..)| *at);
    found.into_iter().map(|(_, key, text)| (key, text)).collect()
}

/// `--flag value` as `--flag=value`, so that a value may start with a dash (`--rate -5` deserves a better
/// answer than "unknown flag -5"). `example`: a value of this flag; `None`: it takes none.
fn joined<'a>(args: &[String], example: impl Fn(&str) -> Option<&'a str>, errors: &mut Vec<Fatal>) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.strip_prefix("--").filter(|name| !name.contains(['=', '_'])).and_then(&example) {
            Some(example) => match rest.as_slice().first().filter(|value| !value.starts_with("--")) {
                Some(value) => {
                    out.push(format!("{arg}={value}"));
                    rest.next();
                }
                None => {
                    let mend = program::flag(arg.trim_start_matches('-'), example);
                    errors.push(Fatal::usage(format!("{arg} has no value")).mend(mend));
                }
            },
            None => out.push(arg.clone()),
        }
    }
    out
}

/// clap stops at the first wrong flag; each is noted, taken out, and the rest is read again.
fn matches(command: &clap::Command, mut args: Vec<String>, errors: &mut Vec<Fatal>) -> Option<ArgMatches> {
    for _ in 0..WRONG_FLAGS_MAX {
        let error = match command.clone().try_get_matches_from(&args) {
            Ok(matches) => return Some(matches),
            Err(error) => error,
        };
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(all)) => all.first().cloned(),
            _ => None,
        };
        let wrong = text(ContextKind::InvalidArg);
        let Some(wrong) = wrong else {
            let said = error.to_string();
            errors.push(Fatal::usage(said.lines().next().unwrap_or_default().trim_start_matches("error: ")));
            return None;
        };
        let name = wrong.split([' ', '=']).next().unwrap_or(&wrong).to_owned();
        let fatal = match error.kind() {
            ErrorKind::ArgumentConflict => Fatal::usage(format!("{name} is given twice")).mend("name it once"),
            ErrorKind::TooManyValues => Fatal::usage(format!("{name} takes no value")).mend(name.clone()),
            _ => unknown_argument(command, &name, text(ContextKind::SuggestedArg)),
        };
        fatal::add_once(errors, fatal);
        let at = args.iter().position(|arg| *arg == name || arg.starts_with(&format!("{name}=")))?;
        let has_value = args.remove(at).contains('=') || error.kind() == ErrorKind::ArgumentConflict;
        // What follows an unknown one was most likely meant as its value.
        if !has_value && name.starts_with("--") && args.get(at).is_some_and(|next| !next.starts_with('-')) {
            args.remove(at);
        }
    }
    None
}

fn unknown_argument(command: &clap::Command, name: &str, suggested: Option<String>) -> Fatal {
    let flags = command.get_arguments().filter_map(Arg::get_long);
    let near = name.strip_prefix("--").and_then(|name| nearest(name, flags)).map(|name| format!("--{name}"));
    wrong_flag(name, near.or(suggested))
}

/// `near`: the flag that was meant, perhaps.
pub(super) fn wrong_flag(name: &str, near: Option<String>) -> Fatal {
    let hint = near.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default();
    Fatal::usage(format!("unknown argument '{name}'{hint}")).mend(program::command("--help"))
}

/// Reads the flags of a command that has a list of its own (name, value, help); those without a value are switches.
pub(super) fn own_flags(
    command: clap::Command,
    flags: &[(&'static str, &str, &str)],
    repeatable: &[&str],
    args: &[String],
    errors: &mut Vec<Fatal>,
) -> Option<ArgMatches> {
    let with_flag = |command: clap::Command, (name, value, _): &(&'static str, &str, &str)| {
        let action = match value.is_empty() {
            true => ArgAction::SetTrue,
            false if repeatable.contains(name) => ArgAction::Append,
            false => ArgAction::Set,
        };
        command.arg(Arg::new(*name).long(*name).action(action))
    };
    let command = flags.iter().fold(command, with_flag);
    let example = |name: &str| {
        let (name, value, _) = flags.iter().find(|(flag, value, _)| *flag == name && !value.is_empty())?;
        Some(match (command.get_name(), *name) {
            // The run has these as well, and takes something else there.
            ("engine compare", "slo") => slo::RATIOS,
            ("engine plan", "payload-size") => "4096",
            (_, name) => keys::find(name).map_or(*value, |key| key.example),
        })
    };
    let args = joined(args, example, errors);
    matches(&command, args, errors)
}
