//! `engine report` and `engine compare`: their flags.

use crate::base::fatal::Fatal;
use crate::base::program;
use crate::config::resolve::observe::{check_place, reject_overwriting};
use crate::config::{flags, slo, values};
use crate::plan::{CompareArgs, ReportArgs, ReportTarget};
use clap::{Arg, ArgAction, ArgMatches};
use std::path::PathBuf;

/// The flags of `report`: name, value, help.
pub const REPORT_FLAGS: &[(&str, &str, &str)] =
    &[("html", "FILE|-", "A page instead of the summary, the same as engine run --html writes; - is standard output.")];

/// The flags of `compare`.
pub const COMPARE_FLAGS: &[(&str, &str, &str)] = &[
    ("json", "", "As JSON on standard output."),
    (
        "slo",
        "EXPR",
        "Thresholds on the ratio of B to A, as rate>=0.95,p99<=1.1; exit 4 if one is missed, or has no ratio: figures \
         that are not there, or reports that are not comparable. p50 p99 p99.9 max of the response, service_p99 and so \
         on of the service, rate records_per_second cpu. Repeatable.",
    ),
];

pub fn report(args: &[String]) -> Result<ReportArgs, Vec<Fatal>> {
    let mut errors = Vec::new();
    let Some((matches, reports)) = read("engine report", REPORT_FLAGS, args, &mut errors) else { return Err(errors) };
    let html = matches.get_one::<String>("html").map(|text| {
        let to = values::report_target(text);
        if let ReportTarget::File(path) = &to {
            check_place("html", path, "report.html", &mut errors);
        }
        to
    });
    reject_overwriting("html", html.as_ref(), &reports, &mut errors);
    let report = match reports.as_slice() {
        [one] => one.clone(),
        all => {
            let what = format!("report renders one report, not {}", all.len());
            errors.push(Fatal::usage(what).mend(program::command("report report.json --html report.html")));
            return Err(errors);
        }
    };
    if errors.is_empty() { Ok(ReportArgs { report, html }) } else { Err(errors) }
}

pub fn compare(args: &[String]) -> Result<CompareArgs, Vec<Fatal>> {
    let mut errors = Vec::new();
    let Some((matches, reports)) = read("engine compare", COMPARE_FLAGS, args, &mut errors) else { return Err(errors) };
    let mut slo = Vec::new();
    for text in matches.get_many::<String>("slo").into_iter().flatten() {
        match slo::parse_ratios(text) {
            Ok(more) => slo.extend(more),
            Err(why) => errors.push(Fatal::usage(format!("--slo: {why}")).mend(program::flag("slo", slo::RATIOS))),
        }
    }
    match reports.as_slice() {
        [a, b] if errors.is_empty() => {
            Ok(CompareArgs { a: a.clone(), b: b.clone(), json: matches.get_flag("json"), slo })
        }
        [_, _] => Err(errors),
        all => {
            let what = format!("compare holds two reports side by side, not {}", all.len());
            errors.push(Fatal::usage(what).mend(program::command("compare before.json after.json")));
            Err(errors)
        }
    }
}

fn read(
    name: &'static str,
    flags: &[(&'static str, &str, &str)],
    args: &[String],
    errors: &mut Vec<Fatal>,
) -> Option<(ArgMatches, Vec<PathBuf>)> {
    let command = flags::bare(name).arg(Arg::new("reports").num_args(0..).action(ArgAction::Append));
    let matches = flags::own_flags(command, flags, &["slo"], args, errors)?;
    let reports = matches.get_many::<String>("reports").into_iter().flatten().map(PathBuf::from).collect();
    Some((matches, reports))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let page = report(&words("r.json --html -")).unwrap();
        assert_eq!(page, ReportArgs { report: "r.json".into(), html: Some(ReportTarget::Stdout) });
        assert_eq!(report(&words("r.json")).unwrap().html, None);
        let both = compare(&words("--json a.json b.json")).unwrap();
        assert_eq!(both, CompareArgs { a: "a.json".into(), b: "b.json".into(), json: true, slo: vec![] });
        let held = compare(&words("a.json b.json --slo rate>=0.95,p99<=1.1 --slo=cpu<2")).unwrap();
        let expressions: Vec<_> = held.slo.iter().map(|slo| slo.expression.as_str()).collect();
        assert_eq!((held.json, expressions), (false, vec!["rate>=0.95", "p99<=1.1", "cpu<2"]));
    }

    #[test]
    fn what_mends_a_threshold_is_taken() {
        let wrong = compare(&words("a.json b.json --slo")).unwrap_err();
        let mend = wrong[0].mend.clone().unwrap_or_default();
        assert!(mend == "--slo='rate>=0.95,p99<=1.1'" && slo::parse_ratios(slo::RATIOS).is_ok(), "{mend}");
        let wrong = compare(&words("a.json b.json --sol rate>1")).unwrap_err();
        assert!(wrong[0].what.ends_with("'--sol' (did you mean --slo?)"), "{wrong:?}");
    }

    #[test]
    fn what_is_missing_or_too_much_is_refused() {
        for text in ["", "a.json b.json", "a.json --html /no/such/folder/r.html", "a.json --html", "a.json --rote"] {
            let errors = report(&words(text)).unwrap_err();
            assert!(errors.iter().all(|error| error.exit == Exit::Usage && error.mend.is_some()), "{text}: {errors:?}");
        }
        let slos = ["a.json b.json --slo errors<=1", "a.json b.json --slo p99<5ms", "a.json b.json --slo"];
        for text in ["", "a.json", "a.json b.json c.json", "a.json b.json --html x"].into_iter().chain(slos) {
            let errors = compare(&words(text)).unwrap_err();
            assert!(errors.iter().all(|error| error.exit == Exit::Usage && error.mend.is_some()), "{text}: {errors:?}");
        }
    }
}
