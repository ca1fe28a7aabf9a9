//! The command line: which command it names; each reads its own flags.

use crate::base::fatal::Fatal;
use crate::base::program;
use crate::config::{
    Command, Deps, SchemaKind, capacity, docs, doctor, flags, masked, merge, receive, reports, resolve, saturate,
    values, verify,
};
use std::ffi::OsString;

/// `args` without the program's name; `env` as from `std::env::vars_os`.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    deps: &Deps,
) -> Result<Command, Vec<Fatal>> {
    let args = utf8(args)?;
    let command: Vec<String> = std::iter::once("engine".to_owned()).chain(args.iter().cloned()).collect();
    let (word, rest) = match args.first() {
        Some(first) if !first.starts_with('-') => (first.as_str(), &args[1..]),
        _ => ("run", &args[..]),
    };
    let asks = |names: &[&str]| rest.iter().take_while(|arg| *arg != "--").any(|arg| names.contains(&arg.as_str()));
    if asks(&["--help", "-h"]) || word == "help" {
        let about = if word == "help" { rest.first().map_or("run", String::as_str) } else { word };
        return docs::help(about).map(Command::Help).ok_or_else(|| vec![unknown_command(about)]);
    }
    if word == "version" || (word == "run" && asks(&["--version", "-V"])) {
        return Ok(Command::Version);
    }
    match word {
        "run" => run(&command, rest, env, deps),
        "verify" => verify::parse(rest).map(|args| Command::Verify(Box::new(args))),
        "receive" => receive::parse(rest, deps).map(|plan| Command::Receive(Box::new(plan))),
        "saturate" => saturate::parse(rest, env, deps).map(|plan| Command::Saturate(Box::new(plan))),
        "doctor" => doctor::parse(rest).map(|args| Command::Doctor(Box::new(args))),
        "plan" => capacity::parse(rest, deps).map(|args| Command::Plan(Box::new(args))),
        "merge" => merge::parse(rest).map(Command::Merge),
        "report" => reports::report(rest).map(Command::Report),
        "compare" => reports::compare(rest).map(Command::Compare),
        "schema" => schema(rest),
        _ => Err(vec![unknown_command(word)]),
    }
}

fn unknown_command(word: &str) -> Fatal {
    Fatal::usage(format!(
        "'{word}' is no command of this version: run, receive, verify, report, compare, merge, saturate, \
         doctor, plan, schema"
    ))
    .mend(program::command("--help"))
}

fn utf8(args: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, Vec<Fatal>> {
    let refused = |arg: OsString| Fatal::usage(format!("the argument {arg:?} is not UTF-8")).mend("rename the file");
    let (good, bad): (Vec<_>, Vec<_>) = args.into_iter().map(OsString::into_string).partition(Result::is_ok);
    if !bad.is_empty() {
        return Err(bad.into_iter().filter_map(Result::err).map(refused).collect());
    }
    Ok(good.into_iter().flatten().collect())
}

fn run(
    command: &[String],
    args: &[String],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    deps: &Deps,
) -> Result<Command, Vec<Fatal>> {
    let mut errors = Vec::new();
    let settings = flags::run_settings(masked::command(command), args, env, &mut errors);
    let wanted = values::read(&settings, &mut errors);
    let plan = Box::new(resolve::resolve(&settings, &wanted, deps, errors)?);
    Ok(if wanted.dry_run { Command::DryRun(plan) } else { Command::Run(plan) })
}

fn schema(args: &[String]) -> Result<Command, Vec<Fatal>> {
    match args {
        [kind] if kind == "config" => Ok(Command::Schema(SchemaKind::Config)),
        [kind] if kind == "report" => Ok(Command::Schema(SchemaKind::Report)),
        _ => {
            let what = format!("schema wants one word, not '{}'", args.join(" "));
            Err(vec![Fatal::usage(what).mend(program::command("schema config, or schema report"))])
        }
    }
}

#[cfg(test)]
mod tests;
