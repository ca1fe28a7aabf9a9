//! The command line of `engine saturate`: a few flags of its own, all others are those of the runs.

use crate::base::fatal::Fatal;
use crate::base::units;
use crate::config::receive::report_target;
use crate::config::{Command, Deps, cli};
use crate::plan::saturate::SaturatePlan;
use std::ffi::OsString;

/// Name, value, help.
pub const SATURATE_FLAGS: &[(&str, &str, &str)] = &[
    (
        "max-rate",
        "R",
        "No rate above this is tried. Targets on other hosts need it; unlimited means it. Without it the search begins \
         with what one run without a rate reaches.",
    ),
    ("min-rate", "R", "If not even this holds, the search ends with exit 4. Default 1MB/s."),
    ("step-duration", "D", "How long each rate is tried. Default 5s."),
    ("confirm-duration", "D", "How long the result must hold in a run of its own. Default 30s."),
    ("precision", "P%", "The search ends when a rate that holds and one that does not are this close. Default 2%."),
    ("report", "FILE|-", "The result and every rate that was tried as JSON; - is the last line of standard output."),
];

/// What the search sets itself for each run.
const OF_THE_SEARCH: &[&str] = &["rate", "duration", "records", "bytes", "html", "dry-run", "metrics-hold"];

const SECOND_NS: u64 = 1_000_000_000;

pub fn parse(
    args: &[String],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    deps: &Deps,
) -> Result<SaturatePlan, Vec<Fatal>> {
    let mut errors = Vec::new();
    let (own, run_args) = split(args, &mut errors);
    let one = |name: &str| own.iter().rev().find(|(flag, _)| flag == name).map(|(_, value)| value.as_str());
    let mut read = |name: &str, default: u64, parse: fn(&str) -> Result<u64, String>| {
        let parsed = one(name).map_or(Ok(default), parse);
        let above_zero = parsed.and_then(|value| if value > 0 { Ok(value) } else { Err("it is zero".to_owned()) });
        above_zero.unwrap_or_else(|why| {
            let given = one(name).unwrap_or_default();
            errors.push(Fatal::usage(format!("--{name} '{given}': {why}")).mend(example(name)));
            default
        })
    };
    let step_ns = read("step-duration", 5 * SECOND_NS, units::parse_duration_ns);
    let confirm_ns = read("confirm-duration", 30 * SECOND_NS, units::parse_duration_ns);
    let rate_min = read("min-rate", 1_000_000, units::parse_rate);
    let unlimited = one("max-rate") == Some("unlimited");
    let rate_max = match one("max-rate") {
        Some(_) if !unlimited => Some(read("max-rate", u64::MAX, units::parse_rate)),
        _ => None,
    };
    if rate_max.is_some_and(|max| max < rate_min) {
        let what = "--max-rate is below --min-rate".to_owned();
        errors.push(Fatal::usage(what).mend("engine saturate --min-rate=10MB/s --max-rate=1GB/s"));
    }
    let precision = precision(one("precision"), &mut errors);
    let first_rate = if unlimited { Some("unlimited".to_owned()) } else { rate_max.map(|rate| rate.to_string()) };
    let report = one("report").map(|text| report_target(text, &mut errors));
    check_run(&run_args, first_rate, env, deps, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(SaturatePlan {
        run_args,
        rate_max_bytes_per_second: rate_max,
        rate_min_bytes_per_second: rate_min,
        step_ns,
        confirm_ns,
        precision,
        report,
    })
}

fn example(name: &str) -> &'static str {
    match name {
        "step-duration" => "--step-duration=5s",
        "confirm-duration" => "--confirm-duration=30s",
        "min-rate" => "--min-rate=1MB/s",
        _ => "--max-rate=2GB/s",
    }
}

/// Our flags with their values, and what is left for the runs.
fn split(args: &[String], errors: &mut Vec<Fatal>) -> (Vec<(String, String)>, Vec<String>) {
    let (mut own, mut rest) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let name = name.trim_start_matches("--");
        if !arg.starts_with("--") || !SATURATE_FLAGS.iter().any(|(flag, ..)| *flag == name) {
            rest.push(arg.clone());
            continue;
        }
        match value.or_else(|| args.next().cloned()) {
            Some(value) => own.push((name.to_owned(), value)),
            None => errors.push(Fatal::usage(format!("--{name} has no value")).mend("engine help saturate")),
        }
    }
    for name in OF_THE_SEARCH {
        let flag = format!("--{name}");
        if rest.iter().any(|arg| *arg == flag || arg.starts_with(&format!("{flag}="))) {
            let what = format!("{flag} is what the search sets for each run");
            errors.push(Fatal::usage(what).mend("--max-rate, --step-duration and --confirm-duration bound the search"));
        }
    }
    (own, rest)
}

fn precision(text: Option<&str>, errors: &mut Vec<Fatal>) -> f64 {
    let Some(text) = text else { return 0.02 };
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent.filter(|percent| (0.1..=50.0).contains(percent)) {
        Some(percent) => percent / 100.0,
        None => {
            let what = format!("--precision '{text}' is no percentage from 0.1% to 50%");
            errors.push(Fatal::usage(what).mend("--precision=2%"));
            0.02
        }
    }
}

/// Everything that is wrong with the runs is said now, not after the first of them.
fn check_run(
    run_args: &[String],
    rate: Option<String>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    deps: &Deps,
    errors: &mut Vec<Fatal>,
) {
    let mut words = vec!["run".to_owned()];
    words.extend_from_slice(run_args);
    words.extend(rate.map(|rate| format!("--rate={rate}")));
    match cli::parse(words.into_iter().map(OsString::from), env, deps) {
        Ok(Command::Run(plan)) if plan.sink.kind == crate::plan::SinkKind::Stdout => {
            let what = "saturate cannot write to standard output: each rate is a run of its own";
            errors.push(Fatal::usage(what).mend("engine saturate --target file:/mnt/nvme/"));
        }
        Ok(Command::Run(_)) => {}
        Ok(_) => errors.push(Fatal::usage("saturate wants flags of run").mend("engine help saturate")),
        Err(found) => errors.extend(found.into_iter().map(|mut fatal| {
            fatal.mend = fatal.mend.map(|mend| mend.replace("--rate=", "--max-rate="));
            fatal
        })),
    }
}
