//! `engine merge`: its flags.

use crate::base::fatal::Fatal;
use crate::base::program;
use crate::config::flags;
use crate::config::resolve::observe::{checked_report_target, reject_overwriting};
use crate::plan::{MergeArgs, ReportTarget};
use clap::{Arg, ArgAction};
use std::path::PathBuf;

/// The flags of `merge`: name, value, help.
pub const MERGE_FLAGS: &[(&str, &str, &str)] =
    &[("report", "FILE|-", "Where the merged report goes; - (default) is standard output, one line.")];

pub fn parse(args: &[String]) -> Result<MergeArgs, Vec<Fatal>> {
    let command = flags::bare("engine merge").arg(Arg::new("reports").num_args(0..).action(ArgAction::Append));
    let mut errors = Vec::new();
    let read = flags::own_flags(command, MERGE_FLAGS, &[], args, &mut errors);
    let Some(matches) = read else { return Err(errors) };
    let to = matches.get_one::<String>("report").map(|text| checked_report_target(text, &mut errors));
    let reports: Vec<PathBuf> =
        matches.get_many::<String>("reports").into_iter().flatten().map(PathBuf::from).collect();
    if reports.is_empty() {
        let how = program::command("merge 0.json 1.json --report merged.json");
        errors.push(Fatal::usage("merge has nothing to read").mend(how));
    }
    reject_overwriting("report", to.as_ref(), &reports, &mut errors);
    if errors.is_empty() { Ok(MergeArgs { reports, to: to.unwrap_or(ReportTarget::Stdout) }) } else { Err(errors) }
}
