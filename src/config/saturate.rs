//! The command line of `engine saturate`: a few flags of its own, all others are those of the runs.

use crate::base::fatal::Fatal;
use crate::base::{limits, program, units};
use crate::config::keys::{self, KEYS, Key};
use crate::config::load::{Given, Settings, Source};
use crate::config::nearest::nearest;
use crate::config::resolve::observe::{checked_report_target, reject_input};
use crate::config::resolve::{payload, record_rates, target};
use crate::config::values::{self, Rate, Wanted};
use crate::config::{Deps, flags, resolve};
use crate::host::fs as host_fs;
use crate::plan::saturate::SaturatePlan;
use crate::plan::{Existing, FileLayout, FilePlan, Fsync, ProducerPlan, ReportTarget, RunPlan, SinkKind};
use std::ffi::OsString;

/// Name, value, help.
pub const SATURATE_FLAGS: &[(&str, &str, &str)] = &[
    (
        "max-rate",
        "R",
        "No rate above this is tried. Targets on other hosts need it, whatever rate a file or a variable has; unlimited \
         means it. Without it the search begins with what one run without a rate reaches, and follows the target beyond \
         that where it can.",
    ),
    ("min-rate", "R", "If not even this holds, the search ends with exit 4. Default 1MB/s."),
    ("step-duration", "D", "How long each rate is tried. Default 5s."),
    ("confirm-duration", "D", "How long the result must hold in a run of its own. Default 30s."),
    ("precision", "P%", "The search ends when a rate that holds and one that does not are this close. Default 2%."),
    ("report", "FILE|-", "The result and every rate that was tried as JSON; - is the last line of standard output."),
];

type IsSaid = fn(&Wanted) -> bool;

/// What the search sets itself for each run: no flags. What a file or a variable says of it is for other runs.
const SET_BY_THE_SEARCH: &[&str] = &["rate", "duration", "log-format"];
/// What would end or hold up each run, be written over by the next or taken for it, or make its rate that of a fleet,
/// whoever says it, and whether it is said of these runs.
const NOT_IN_A_SEARCH: &[(&str, IsSaid)] = &[
    ("records", |wanted| wanted.records.is_some()),
    ("bytes", |wanted| wanted.bytes.is_some()),
    ("html", |wanted| wanted.html.is_some()),
    ("dry-run", |wanted| wanted.dry_run),
    ("metrics-hold", |wanted| wanted.metrics_hold_ns > 0),
    ("run-id", |wanted| wanted.run_id.is_some()),
    ("start-at", |wanted| wanted.start_at_unix_ns.is_some()),
    ("shard", |wanted| wanted.shard.1 > 1),
    ("ramp-to", |wanted| wanted.stages.iter().any(|stage| stage.ramp_to.is_some())),
];

const SECOND_NS: u64 = 1_000_000_000;
const RATE_MIN: (&str, Rate) = ("1MB/s", Rate::Bytes(1_000_000));

pub fn parse(
    args: &[String],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    deps: &Deps,
) -> Result<SaturatePlan, Vec<Fatal>> {
    let mut errors = Vec::new();
    let (own, mut run_args) = split(args, &mut errors);
    let step_ns = read(&own, "step-duration", duration_ns, &mut errors).unwrap_or(5 * SECOND_NS);
    let confirm_ns = read(&own, "confirm-duration", duration_ns, &mut errors).unwrap_or(30 * SECOND_NS);
    let rate_min = read(&own, "min-rate", least_rate, &mut errors).unwrap_or(RATE_MIN.1);
    let rate_max = read(&own, "max-rate", values::rate, &mut errors).flatten();
    let precision = precision(one(&own, "precision"), &mut errors);
    let report = one(&own, "report").map(|text| checked_report_target(text, &mut errors));

    let mut wrong = Vec::new();
    let mut settings = flags::run_settings(Vec::new(), &run_args, env, &mut wrong);
    refuse_what_the_search_sets(&settings, &mut errors);
    if let Some(ReportTarget::File(path)) = &report {
        reject_input("report", path, &settings, &mut errors);
    }
    // A rate that is meant for other runs permits nothing here. One that cannot be read was named above.
    let ceiling = one(&own, "max-rate").map(|text| if values::rate(text).is_ok() { text } else { "unlimited" });
    settings.put("rate", ceiling.map(str::to_owned));
    settings.put("duration", Some(format!("{step_ns}ns")));
    let wanted = values::read(&settings, &mut wrong);
    refuse_what_is_not_of_runs(&settings, &wanted, &mut errors);
    let least = one(&own, "min-rate").unwrap_or(RATE_MIN.0);
    let (plan, places) = check_run((&settings, &wanted), least, deps, wrong, &mut errors).unzip();
    check_stages(&wanted, step_ns, confirm_ns, &mut errors);
    let in_bytes = |flag: &str, rate: Rate| bytes_per_second(flag, rate, (&settings, deps), &wanted);
    let rate_min = in_bytes("min-rate", rate_min).map_err(|fatal| errors.push(fatal)).unwrap_or(0);
    // What is wrong with this one was said of the run, whose rate it is.
    let rate_max = rate_max.and_then(|rate| in_bytes("max-rate", rate).ok());
    let least = (least, rate_min);
    if let Some(max) = rate_max.filter(|max| *max < rate_min) {
        let most = one(&own, "max-rate").unwrap_or_default();
        let what = format!("--max-rate is below --min-rate: {most} ({max} B/s), {} ({rate_min} B/s)", least.0);
        errors.push(Fatal::usage(what).mend(program::command("saturate --min-rate=10MB/s --max-rate=1GB/s")));
    }
    let capped = plan.as_ref().and_then(|plan| cap(plan, rate_max));
    if let Some(plan) = &plan {
        check_least(least, (plan, capped), &settings, &mut errors);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let rate_max = capped.or(rate_max);
    let file = plan.as_ref().and_then(of_files);
    if let Some(file) = file.filter(|_| wanted.direct.is_none()) {
        put_direct(&mut run_args, file.direct);
    }
    Ok(SaturatePlan {
        run_args,
        rate_max_bytes_per_second: rate_max,
        is_capped_by_producers: capped.is_some(),
        rate_min_bytes_per_second: rate_min,
        step_ns,
        confirm_ns,
        precision,
        report,
        page_cache: file.is_some_and(may_be_kept_in_memory),
        notes: notes(places.unwrap_or_default(), step_ns, confirm_ns, rate_max),
    })
}

/// What the runs write where, which is nothing for many targets, and for how long.
fn notes(mut places: Vec<String>, step_ns: u64, confirm_ns: u64, rate_max: Option<u64>) -> Vec<String> {
    if !places.is_empty() {
        let [step, confirm] = [step_ns, confirm_ns].map(units::format_duration);
        let rates = format!("each rate is tried for {step}, and what holds is confirmed for {confirm}");
        places.push(match rate_max.map(|max| units::format_rate_short(max as f64)) {
            Some(max) => format!("writes at {max} at most: {rates}"),
            None => format!("writes as much as the target takes in {step}; then {rates}"),
        });
    }
    places
}

/// The value of one of our flags; `None`: it was not said, or what is wrong with it is in `errors`.
fn read<T>(
    own: &[(String, String)],
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
    errors: &mut Vec<Fatal>,
) -> Option<T> {
    let text = one(own, name)?;
    let complain = |why: String| errors.push(Fatal::usage(format!("--{name} '{text}': {why}")).mend(example(name)));
    parse(text).map_err(complain).ok()
}

fn one<'a>(own: &'a [(String, String)], name: &str) -> Option<&'a str> {
    own.iter().find(|(flag, _)| flag == name).map(|(_, value)| value.as_str())
}

fn duration_ns(text: &str) -> Result<u64, String> {
    match units::parse_duration_ns(text) {
        Ok(0) => Err("it is zero".to_owned()),
        other => other,
    }
}

fn least_rate(text: &str) -> Result<Rate, String> {
    values::rate(text)?.ok_or_else(|| "a search needs a rate to begin with".to_owned())
}

fn bytes_per_second(
    flag: &str,
    rate: Rate,
    (settings, deps): (&Settings, &Deps),
    wanted: &Wanted,
) -> Result<u64, Fatal> {
    match rate {
        Rate::Bytes(bytes) => Ok(bytes),
        // What is wrong with the payload was said before.
        Rate::Records(_) => {
            let kind = target::resolve(&wanted.targets, &deps.sysfs, &mut Vec::new()).kind;
            let (_, sizes) = payload::resolve(settings, wanted, kind, &mut Vec::new());
            record_rates::bytes_per_second(flag, rate, &sizes)
        }
    }
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
        if let Some(near) = meant(name).filter(|_| arg.starts_with("--")) {
            errors.push(flags::wrong_flag(&format!("--{name}"), Some(format!("--{near}"))));
            if value.is_none() && args.as_slice().first().is_some_and(|next| !next.starts_with('-')) {
                args.next();
            }
            continue;
        }
        if !arg.starts_with("--") || !is_own(name) {
            rest.push(arg.clone());
            continue;
        }
        match value.or_else(|| args.next().cloned()) {
            Some(value) => match one(&own, name) {
                Some(first) => {
                    let what = format!("--{name} is given twice: '{first}' and '{value}'");
                    errors.push(Fatal::usage(what).mend("name it once"));
                }
                None => own.push((name.to_owned(), value)),
            },
            None => {
                errors.push(Fatal::usage(format!("--{name} has no value")).mend(program::command("help saturate")));
            }
        }
    }
    (own, rest)
}

fn is_own(name: &str) -> bool {
    SATURATE_FLAGS.iter().any(|(flag, ..)| *flag == name)
}

/// Our flag that was meant by a name that nobody has.
fn meant(name: &str) -> Option<&'static str> {
    let names = || KEYS.iter().flat_map(Key::names).chain(SATURATE_FLAGS.iter().map(|(flag, ..)| *flag));
    let is_known = names().any(|known| known == name);
    nearest(name, names()).filter(|near| !is_known && is_own(near))
}

/// The key of this name, and what was said of it, if anything was.
fn said<'a>(settings: &'a Settings, name: &str) -> Option<(&'static Key, &'a Given)> {
    keys::find(name).zip(settings.one(name))
}

fn refuse_what_the_search_sets(settings: &Settings, errors: &mut Vec<Fatal>) {
    let by_flag = |(_, given): &(&Key, &Given)| given.source == Source::Flag;
    for (key, given) in SET_BY_THE_SEARCH.iter().filter_map(|name| said(settings, name)).filter(by_flag) {
        let what = format!("{} is what the search sets for each run", given.origin(key));
        let mend = "--max-rate, --step-duration and --confirm-duration bound the search";
        errors.push(Fatal::usage(what).mend(format!("{}; {mend}", without(key, given))));
    }
}

fn refuse_what_is_not_of_runs(settings: &Settings, wanted: &Wanted, errors: &mut Vec<Fatal>) {
    let names = NOT_IN_A_SEARCH.iter().filter(|(_, is_wanted)| is_wanted(wanted)).map(|(name, _)| name);
    for (key, given) in names.filter_map(|name| said(settings, name)) {
        let what = format!("{} has no place in a search, where each rate is a run of its own", given.origin(key));
        errors.push(Fatal::usage(what).mend(without(key, given)));
    }
    for name in ["rate", "ramp-to"] {
        let of_stage = settings.phases.iter().find_map(|stage| stage.get(name));
        if let Some((key, given)) = keys::find(name).zip(of_stage) {
            let what = format!("{} of a stage stands against the rates that the search tries", given.origin(key));
            errors.push(Fatal::usage(what).mend(format!("take {} out of the stages", key.config_key())));
        }
    }
}

/// How it goes away where it was said.
fn without(key: &Key, given: &Given) -> String {
    match &given.source {
        Source::Flag => format!("leave out --{}", key.name),
        Source::Variable => format!("unset {}", key.variable()),
        Source::File { path, .. } => format!("take {} out of {path}", key.config_key()),
    }
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

/// Everything that is wrong with the runs is said now, not after the first of them. The plan is that of one at
/// `--max-rate`; the lines say what each of them writes where.
fn check_run(
    (settings, wanted): (&Settings, &Wanted),
    least: &str,
    deps: &Deps,
    wrong: Vec<Fatal>,
    errors: &mut Vec<Fatal>,
) -> Option<(RunPlan, Vec<String>)> {
    match resolve::resolve_with_places(settings, wanted, deps, wrong) {
        Ok((plan, _)) if plan.sink.kind == SinkKind::Stdout => {
            let what = "saturate cannot write to standard output: each rate is a run of its own";
            errors.push(Fatal::usage(what).mend(program::command("saturate --target file:/mnt/nvme/ --overwrite")));
        }
        Ok((plan, _)) if plan.producers.iter().any(keeps_what_is_there) => {
            let what = "each run of a search would find the files of the run before, and may not write over them";
            errors.push(Fatal::usage(what).mend("--overwrite"));
        }
        Ok(found) => match in_one_way(found, (settings, wanted), least, deps) {
            Ok(found) => return Some(found),
            Err(found) => errors.extend(found.into_iter().map(in_our_words)),
        },
        Err(found) => errors.extend(found.into_iter().map(in_our_words)),
    }
    None
}

/// `--direct auto` asks how fast blocks fill: a run without a rate could be direct where those with one go through the
/// page cache, and what memory took be told as the drive's. All go the way that is open at the least rate.
fn in_one_way(
    found: (RunPlan, Vec<String>),
    (settings, wanted): (&Settings, &Wanted),
    least: &str,
    deps: &Deps,
) -> Result<(RunPlan, Vec<String>), Vec<Fatal>> {
    let resolved = |name, text: &str| {
        let mut settings = settings.clone();
        settings.put(name, Some(text.to_owned()));
        let wanted = values::read(&settings, &mut Vec::new());
        resolve::resolve_with_places(&settings, &wanted, deps, Vec::new())
    };
    let is_direct = |plan: &RunPlan| of_files(plan).is_some_and(|file| file.direct);
    // What is wrong with the least rate is said of `--min-rate`.
    let is_settled = || resolved("rate", least).map_or(true, |(plan, _)| is_direct(&plan));
    if wanted.direct.is_some() || !is_direct(&found.0) || is_settled() {
        return Ok(found);
    }
    let (plan, mut places) = resolved("direct", "off")?;
    places.push(
        "all runs go through the page cache, since slow ones would not fill blocks for O_DIRECT; --direct=on takes all \
         past it"
            .to_owned(),
    );
    Ok((plan, places))
}

fn of_files(plan: &RunPlan) -> Option<&FilePlan> {
    plan.producers.first()?.file()
}

/// In place of `--direct auto`, beside which another one would be refused.
fn put_direct(run_args: &mut Vec<String>, direct: bool) {
    if let Some(at) = run_args.iter().position(|arg| arg == "--direct") {
        run_args.drain(at..run_args.len().min(at + 2));
    }
    run_args.retain(|arg| !arg.starts_with("--direct="));
    run_args.push(format!("--direct={}", if direct { "on" } else { "off" }));
}

/// On a drive, and nothing waits for it before the end.
fn may_be_kept_in_memory(file: &FilePlan) -> bool {
    let on_drive = match file.layout {
        // Of a special file no end is known.
        FileLayout::Device { capacity_bytes } => capacity_bytes < u64::MAX,
        FileLayout::Ring { .. } | FileLayout::Rotating { .. } => !host_fs::is_in_memory(&file.data),
    };
    on_drive && !file.direct && file.fsync != Fsync::Each
}

/// What `--producer-rate` lets all producers send, where that is less than `max`: at any higher rate a run would do the
/// same, and meet it.
fn cap(plan: &RunPlan, max: Option<u64>) -> Option<u64> {
    let sent = plan.rate_bytes_per_second.map(|rate| rate.min(limits::RATE_MAX));
    sent.filter(|sent| max.is_none_or(|max| *sent < max))
}

/// The lowest rate of the search, as it was said and in bytes a second, is one that runs can have.
fn check_least(
    (text, least): (&str, u64),
    (plan, capped): (&RunPlan, Option<u64>),
    settings: &Settings,
    errors: &mut Vec<Fatal>,
) {
    let producers = u64::from(plan.fleet_producers);
    if least > 0 && least < producers {
        let what =
            format!("--min-rate {text} ({least} B/s) over {producers} producers leaves some without a byte a second");
        errors.push(Fatal::usage(what).mend(format!("--min-rate={producers} or --parallel={least}")));
    }
    if let Some((capped, (key, given))) = capped.filter(|max| *max < least).zip(said(settings, "producer-rate")) {
        let what = format!(
            "{} lets {producers} producers send {capped} B/s, which is below --min-rate: {text} ({least} B/s)",
            given.origin(key)
        );
        errors.push(Fatal::usage(what).mend(format!("--min-rate={capped}, or {}", without(key, given))));
    }
}

fn keeps_what_is_there(producer: &ProducerPlan) -> bool {
    producer.file().is_some_and(|file| matches!(file.existing, Existing::Refused { .. }))
}

/// Stages end a run, however long it is to be: the confirmation, say, when all steps are done.
fn check_stages(wanted: &Wanted, step_ns: u64, confirm_ns: u64, errors: &mut Vec<Fatal>) {
    let lengths = wanted.stages.iter().map(|stage| stage.duration_ns.unwrap_or(u64::MAX));
    let last_ns = lengths.fold(0, u64::saturating_add);
    let (flag, longest_ns) =
        if confirm_ns < step_ns { ("step-duration", step_ns) } else { ("confirm-duration", confirm_ns) };
    if wanted.phased && last_ns < longest_ns {
        let (last, longest) = (units::format_duration(last_ns), units::format_duration(longest_ns));
        let what = format!("phases last {last} together, and --{flag} is {longest}: the run would end before its time");
        let mend =
            format!("duration: inf for the last stage, or no --step-duration and --confirm-duration over {last}");
        errors.push(Fatal::usage(what).mend(mend));
    }
}

/// The rate of a run is our largest.
fn in_our_words(mut fatal: Fatal) -> Fatal {
    fatal.what = fatal.what.replace("--rate", "--max-rate");
    fatal.mend = fatal.mend.map(|mend| mend.replace("--rate", "--max-rate"));
    fatal
}

#[cfg(test)]
mod tests;
