//! `engine compare`: two reports side by side. Every figure is one that a report has; none is averaged.
//!
//! `figures` are the rows and their ratios, `slo` the thresholds on these, `differences` the settings and facts that
//! set the two apart, `text` the table for people.

mod differences;
mod figures;
mod slo;
mod text;

use crate::base::fatal::{Exit, Fatal};
use crate::observe::read;
use crate::observe::report::Report;
use crate::plan::{CompareArgs, RatioSlo};
use figures::{Figure, Stage};
use serde_json::{Map, Value, json};
use slo::Outcome;
use std::path::Path;

/// Of the JSON that `--json` prints.
const SCHEMA_VERSION: u32 = 1;

/// A report and what to call it.
pub struct Side {
    pub name: String,
    pub report: Report,
}

/// One thing that the two say differently; `null`: it is off, or not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub key: String,
    pub a: Value,
    pub b: Value,
}

/// What two reports have in common and what not.
pub struct Comparison {
    a: Side,
    b: Side,
    /// Why their figures are not those of one question.
    not_comparable: Vec<String>,
    figures: Vec<Figure>,
    /// None where they are not comparable.
    stages: Vec<Stage>,
    /// Of each threshold on a ratio.
    slo: Vec<Outcome>,
    config: Vec<Difference>,
    host: Vec<Difference>,
}

/// # Errors
/// Exit 2 where one of them cannot be read or is no report of this version.
pub fn compare(args: &CompareArgs) -> Result<Comparison, Fatal> {
    let side = |path: &Path| Ok(Side { name: path.display().to_string(), report: read::report(path)? });
    Ok(of(side(&args.a)?, side(&args.b)?, &args.slo))
}

fn of(a: Side, b: Side, slo: &[RatioSlo]) -> Comparison {
    let not_comparable = differences::not_comparable(&a.report, &b.report);
    let stages = match not_comparable.is_empty() {
        true => figures::of_stages(&a.report.phases, &b.report.phases),
        false => Vec::new(),
    };
    Comparison {
        slo: slo::judge(slo, &a.report, &b.report, &not_comparable),
        stages,
        not_comparable,
        figures: figures::all(&a.report, &b.report),
        config: differences::config(&a.report, &b.report),
        host: differences::host(&a.report, &b.report),
        a,
        b,
    }
}

impl Comparison {
    pub fn json(&self) -> Value {
        let figures = |all: &[Figure]| -> Map<String, Value> {
            all.iter().map(|figure| (figure.key.to_owned(), figure.json())).collect()
        };
        let stage = |of: &Stage| json!({"number": of.number, "mode": of.mode, "figures": figures(&of.figures)});
        let differences = |all: &[Difference]| -> Map<String, Value> {
            all.iter().map(|one| (one.key.clone(), json!({"a": one.a, "b": one.b}))).collect()
        };
        json!({
            "schema_version": SCHEMA_VERSION,
            "a": self.a.json(),
            "b": self.b.json(),
            "not_comparable": self.not_comparable,
            "figures": figures(&self.figures),
            "phases": self.stages.iter().map(stage).collect::<Vec<_>>(),
            "slo": self.slo,
            "config": differences(&self.config),
            "host": differences(&self.host),
        })
    }

    /// Whatever the difference, unless a threshold on it was missed.
    pub fn exit(&self) -> Exit {
        if self.slo.iter().all(|slo| slo.passed) { Exit::Done } else { Exit::SloMissed }
    }

    /// The table for people.
    pub fn text(&self) -> String {
        text::render(self)
    }
}

impl Side {
    fn json(&self) -> Value {
        let Self { name, report } = self;
        json!({
            "file": name,
            "run_id": report.run_id,
            "engine_version": report.engine_version,
            "started_at": report.started_at,
            "command": report.command,
            "verdict": report.verdict,
            "slo_missed": report.slo.iter().filter(|slo| !slo.passed).map(|slo| &slo.expression).collect::<Vec<_>>(),
            "ended_early": report.ended_early,
            "exit_code": report.exit_code,
        })
    }
}

#[cfg(test)]
mod tests;
