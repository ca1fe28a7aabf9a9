//! `engine saturate`: the highest rate that holds. Each rate is a whole run of its own, in a process of its own, so
//! that nothing of one run is left in the next; `search` says which comes next.

pub mod search;

use crate::base::fatal::{Exit, Fatal};
use crate::base::{signals, units};
use crate::observe::report;
use crate::plan::saturate::SaturatePlan;
use crate::sys::process;
use search::{Outcome, Search, Step};
use serde::Serialize;
use serde_json::Value;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A rate holds if so much of what was due was produced. What is still missing of a run at a rate that cannot last is
/// far more: the backlog of all its seconds.
const HELD_RATIO: f64 = 0.995;
const LOOK: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Saturation {
    pub schema_version: u32,
    pub engine_version: &'static str,
    /// The flags that all runs had.
    pub run_args: Vec<String>,
    /// The highest rate that held; `null`: none did.
    pub sustained_bytes_per_second: Option<u64>,
    /// It held for the confirmation as well.
    pub confirmed: bool,
    /// Who limited the runs that did not hold.
    pub limited_by: Option<String>,
    pub interrupted: bool,
    pub tried: Vec<Tried>,
    pub exit_code: u8,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// `null`: without a rate.
    pub rate_bytes_per_second: Option<u64>,
    pub seconds: f64,
    pub confirmation: bool,
    pub held: bool,
    /// Why it did not.
    pub reason: Option<String>,
    pub achieved_bytes_per_second: u64,
    pub achieved_ratio: Option<f64>,
    pub response_p50_seconds: Option<f64>,
    pub response_p99_seconds: Option<f64>,
    pub response_p999_seconds: Option<f64>,
    pub limited_by: Option<String>,
    pub run_id: Option<String>,
    pub exit_code: i32,
}

pub fn saturate(plan: &SaturatePlan) -> Result<Exit, Fatal> {
    let interrupts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&interrupts);
    // Each goes on to the run that is under way.
    signals::watch(move |_, before| counter.store(before + 1, Ordering::Relaxed))?;
    let mut search = Search::new(plan.rate_min_bytes_per_second, plan.rate_max_bytes_per_second, plan.precision);
    let mut tried: Vec<Tried> = Vec::new();
    let outcome = loop {
        let (rate, confirmation) = match search.step() {
            Step::Ceiling => (None, false),
            Step::Try(rate) => (Some(rate), false),
            Step::Confirm(rate) => (Some(rate), true),
            Step::Done(outcome) => break Some(outcome),
        };
        let run = run_once(plan, rate, confirmation, &interrupts)?;
        eprintln!("{}", line(&run));
        search.note(run.held, run.achieved_bytes_per_second);
        tried.push(run);
        if interrupts.load(Ordering::Relaxed) > 0 {
            break None;
        }
    };
    let result = conclude(plan, outcome, tried);
    println!("{}", summary(&result));
    if let Some(target) = &plan.report {
        report::write_report(&result, target)?;
    }
    Ok(Exit::from_code(result.exit_code))
}

fn conclude(plan: &SaturatePlan, outcome: Option<Outcome>, tried: Vec<Tried>) -> Saturation {
    let best_held = tried.iter().filter(|run| run.held).filter_map(|run| run.rate_bytes_per_second).max();
    let (rate, confirmed, exit) = match outcome {
        Some(Outcome::Confirmed(rate)) => (Some(rate), true, Exit::Done),
        Some(Outcome::Unconfirmed(rate)) => (Some(rate), false, Exit::SloMissed),
        Some(Outcome::Nothing) => (None, false, Exit::SloMissed),
        None => (best_held, false, Exit::Failed),
    };
    let over = |run: &&Tried| !run.held || run.rate_bytes_per_second.is_none();
    let limited_by = tried.iter().rev().find(over).and_then(|run| run.limited_by.clone());
    Saturation {
        schema_version: 1,
        engine_version: env!("CARGO_PKG_VERSION"),
        run_args: plan.run_args.clone(),
        sustained_bytes_per_second: rate,
        confirmed,
        limited_by,
        interrupted: outcome.is_none(),
        tried,
        exit_code: exit as u8,
    }
}

/// One run at one rate. `Err`: it could not start, for a reason that no other rate would mend.
fn run_once(
    plan: &SaturatePlan,
    rate: Option<u64>,
    confirmation: bool,
    interrupts: &AtomicUsize,
) -> Result<Tried, Fatal> {
    let duration_ns = if confirmation { plan.confirm_ns } else { plan.step_ns };
    let program =
        std::env::current_exe().map_err(|error| Fatal::host(format!("this program cannot be found again: {error}")))?;
    let mut command = Command::new(program);
    command.arg("run").args(&plan.run_args).args(["--log-format", "json", "--report", "-"]);
    command.args(["--duration", &format!("{duration_ns}ns")]);
    command.args(["--rate", &rate.map_or("unlimited".to_owned(), |rate| rate.to_string())]);
    // A group of its own: Ctrl-C reaches it through us, once.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| Fatal::host(format!("a run cannot be started: {error}")))?;
    let said = collect(child.stderr.take());
    let wrote = collect(child.stdout.take());
    let code = wait(&mut child, interrupts)?;
    let (said, wrote) = (join(said), join(wrote));
    let last = wrote.lines().next_back().unwrap_or_default();
    match serde_json::from_str::<Value>(last) {
        Ok(report) => Ok(judge(&report, rate, confirmation, code)),
        Err(_) if interrupts.load(Ordering::Relaxed) > 1 => {
            Err(Fatal::new(Exit::Failed, "interrupted twice: the run that was under way left no report"))
        }
        Err(_) => Err(refusal(code, &said)),
    }
}

fn judge(report: &Value, rate: Option<u64>, confirmation: bool, code: i32) -> Tried {
    let ratio = report["pacing"]["achieved_ratio"].as_f64();
    let kept = rate.is_none() || ratio.is_some_and(|ratio| ratio >= HELD_RATIO);
    let reason = match (code, kept) {
        (0, true) => None,
        (0, false) => Some(format!("{:.1} % of the rate", 100.0 * ratio.unwrap_or(0.0))),
        (4, _) => Some(missed(report)),
        _ => Some(format!("exit {code}: {}", report["errors"])),
    };
    let response = &report["latency_seconds"]["response"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Tried {
        rate_bytes_per_second: rate,
        seconds: report["elapsed_seconds"].as_f64().unwrap_or(0.0),
        confirmation,
        held: reason.is_none(),
        reason,
        achieved_bytes_per_second: report["throughput"]["logical_bytes_per_second"].as_f64().unwrap_or(0.0) as u64,
        achieved_ratio: ratio,
        response_p50_seconds: response["p50"].as_f64(),
        response_p99_seconds: response["p99"].as_f64(),
        response_p999_seconds: response["p999"].as_f64(),
        limited_by: text(&report["verdict"]["limited_by"]),
        run_id: text(&report["run_id"]),
        exit_code: code,
    }
}

fn missed(report: &Value) -> String {
    let all = report["slo"].as_array().into_iter().flatten();
    let missed = all.filter(|slo| slo["passed"] == false).filter_map(|slo| slo["expression"].as_str());
    format!("missed {}", missed.collect::<Vec<_>>().join(", "))
}

/// A run that left no report says on standard error why.
fn refusal(code: i32, said: &str) -> Fatal {
    let exit = u8::try_from(code).map_or(Exit::Failed, Exit::from_code);
    let why: Vec<&str> = said.lines().filter(|line| !line.starts_with('{')).collect();
    let why = if why.is_empty() { said.lines().next_back().unwrap_or("it said nothing") } else { &why.join("\n") };
    Fatal::new(exit, format!("a run ended with exit {code} and left no report: {}", why.trim_start_matches("engine: ")))
}

/// Passes signals on: the first ends the run in order, the second at once.
fn wait(child: &mut Child, interrupts: &AtomicUsize) -> Result<i32, Fatal> {
    let mut passed_on = 0;
    loop {
        let ended = child.try_wait().map_err(|error| Fatal::host(format!("a run is out of reach: {error}")))?;
        if let Some(status) = ended {
            return Ok(status.code().unwrap_or(Exit::Failed as i32));
        }
        if interrupts.load(Ordering::Relaxed) > passed_on {
            passed_on += 1;
            process::terminate(child);
        }
        std::thread::sleep(LOOK);
    }
}

type Collected = std::thread::JoinHandle<String>;

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth telling.
        let _cut_short = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn join(collected: Collected) -> String {
    collected.join().unwrap_or_default()
}

/// `  1.20 GB/s  held        p99 1.2 ms`.
fn line(run: &Tried) -> String {
    let rate = run.rate_bytes_per_second.map_or("no rate".to_owned(), |rate| units::format_rate_short(rate as f64));
    let verdict = match (&run.reason, run.rate_bytes_per_second) {
        (Some(why), _) => format!("did not hold: {why}"),
        (None, None) => format!("reached {}", units::format_rate_short(run.achieved_bytes_per_second as f64)),
        (None, Some(_)) if run.confirmation => format!("held for {:.0} s", run.seconds),
        (None, Some(_)) => "held".to_owned(),
    };
    let time = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |s| units::format_duration((s * 1e9) as u64));
    format!(
        "{rate:>14}  p50 {:>9}  p99 {:>9}  {verdict}",
        time(run.response_p50_seconds),
        time(run.response_p99_seconds)
    )
}

fn summary(result: &Saturation) -> String {
    let limit = result.limited_by.as_ref().map(|who| format!("; above it the limit is the {who}")).unwrap_or_default();
    match (result.sustained_bytes_per_second, result.confirmed) {
        (Some(rate), true) => format!("sustained: {}{limit}", units::format_rate(rate as f64)),
        (Some(rate), false) if result.interrupted => {
            format!("interrupted; the highest rate that held so far: {}", units::format_rate(rate as f64))
        }
        (Some(rate), false) => {
            format!("{} held for a step, but nothing near it lasted{limit}", units::format_rate(rate as f64))
        }
        (None, _) if result.interrupted => "interrupted before any rate had held".to_owned(),
        (None, _) => format!("not even the least rate held{limit}"),
    }
}
