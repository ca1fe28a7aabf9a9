//! `engine saturate`: the highest rate that holds. Each rate is a whole run of its own, in a process of its own, so
//! that nothing of one run is left in the next; `search` says which comes next.

pub mod search;
mod text;

use crate::base::fatal::{Exit, Fatal};
use crate::base::{program, signals, units};
use crate::config::masked;
use crate::observe::report::{self, LimitedBy, Report};
use crate::observe::{Console, verdict, wrap};
use crate::plan::LogFormat;
use crate::plan::saturate::SaturatePlan;
use crate::sys::{process, streams};
use search::{Outcome, Search, Step};
use serde::Serialize;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A run that ended after less of its time says nothing of how long its rate lasts.
const LASTED_RATIO: f64 = 0.9;
/// A run that had to end after less of its time was cut short. From here on its rate was tried whole, and is judged.
const WHOLE_RATIO: f64 = 0.999;
const LOOK: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Saturation {
    pub schema_version: u32,
    pub engine_version: &'static str,
    /// The flags that all runs had, without what may be a credential.
    pub run_args: Vec<String>,
    /// The rate that held for the confirmation as well; `null`: none did.
    pub sustained_bytes_per_second: Option<u64>,
    /// The highest rate that held, be it for a step; `null`: none did.
    pub held_bytes_per_second: Option<u64>,
    /// There is a sustained rate.
    pub confirmed: bool,
    /// It is `--max-rate`, or what `--producer-rate` lets all producers send: no higher one was tried.
    pub is_max_rate: bool,
    #[serde(skip)]
    is_capped_by_producers: bool,
    /// Files on a drive went through its page cache, not synced with each block: what held may be what memory took.
    pub page_cache: bool,
    /// Other work held the processors in most of the runs, and may have kept some of them from holding.
    pub disturbed: bool,
    /// Who limited the runs that did not hold.
    pub limited_by: Option<LimitedBy>,
    pub interrupted: bool,
    /// What ended the search before it was over; `null`: nothing, or a signal.
    pub error: Option<String>,
    pub tried: Vec<Tried>,
    pub exit_code: u8,
}

impl Saturation {
    /// The rate that is told, confirmed or not.
    fn best(&self) -> Option<u64> {
        self.sustained_bytes_per_second.or(self.held_bytes_per_second)
    }

    /// It tells nothing of the target that a higher rate did not hold.
    fn is_judged(&self) -> bool {
        self.is_max_rate || !self.disturbed
    }
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// `null`: without a rate.
    pub rate_bytes_per_second: Option<u64>,
    pub seconds: f64,
    /// Without the drain and the final fsync.
    pub paced_seconds: f64,
    pub confirmation: bool,
    /// The same rate had not held before.
    pub second_try: bool,
    /// `null`: it was interrupted, so that it neither held nor failed.
    pub held: Option<bool>,
    /// Why it did not.
    pub reason: Option<String>,
    /// How it ended before its time; no other rate would mend that.
    pub ended_early: Option<String>,
    /// `achieved_ratio` of the rate; without a rate, what was produced over the time that it took.
    pub achieved_bytes_per_second: u64,
    /// Produced of what was due, which is what a rate is judged by: the drain counts, the time that it takes does not.
    pub achieved_ratio: Option<f64>,
    pub response_p50_seconds: Option<f64>,
    pub response_p99_seconds: Option<f64>,
    pub response_p999_seconds: Option<f64>,
    pub limited_by: LimitedBy,
    /// How much of the processors others took, where that may be why a rate did not hold.
    pub disturbed_by: Option<String>,
    pub run_id: String,
    pub exit_code: i32,
}

impl Tried {
    /// By a signal.
    fn cut_short(self) -> Self {
        Self { held: None, reason: None, ..self }
    }
}

/// What the next run is.
#[derive(Clone, Copy)]
struct Try {
    /// From 1.
    number: usize,
    rate: Option<u64>,
    confirmation: bool,
    second_try: bool,
    duration_ns: u64,
}

pub fn saturate(plan: &SaturatePlan) -> Result<Exit, Fatal> {
    let interrupts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&interrupts);
    // Each goes on to the run that is under way.
    signals::watch(move |_, before| counter.store(before + 1, Ordering::Relaxed))?;
    let mut tried = Vec::new();
    let console = Console::new(LogFormat::Text);
    for note in &plan.notes {
        console.write_lines(&format!("{}\n", streams::printable(note)));
    }
    let end = try_rates(plan, &interrupts, &console, &mut tried);
    console.clear();
    match end {
        // There is nothing yet that a report could keep.
        End::Failed(fatal) if tried.is_empty() => Err(fatal),
        end => tell(plan, end, tried),
    }
}

/// How a search ends.
enum End {
    Found(Outcome),
    Interrupted,
    /// A run failed for a reason that no other rate would mend.
    Failed(Fatal),
}

fn try_rates(plan: &SaturatePlan, interrupts: &AtomicUsize, console: &Console, tried: &mut Vec<Tried>) -> End {
    let is_interrupted = || interrupts.load(Ordering::Relaxed) > 0;
    let mut search = Search::new(plan.rate_min_bytes_per_second, plan.rate_max_bytes_per_second, plan.precision);
    loop {
        let (rate, confirmation) = match search.step() {
            Step::Done(outcome) => return End::Found(outcome),
            _ if is_interrupted() => return End::Interrupted,
            Step::Ceiling => (None, false),
            Step::Try(rate) => (Some(rate), false),
            Step::Confirm(rate) => (Some(rate), true),
        };
        let duration_ns = if confirmation { plan.confirm_ns } else { plan.step_ns };
        let failed_before = |run: &Tried| run.held == Some(false) && run.confirmation == confirmation;
        let second_try = tried.iter().any(|run| run.rate_bytes_per_second == rate && failed_before(run));
        let next = Try { number: tried.len() + 1, rate, confirmation, second_try, duration_ns };
        let run = match run_once(plan, next, interrupts, console) {
            Ok(run) => run,
            // A run that was told to end before it had begun, or a second time, leaves no report.
            Err(_) if is_interrupted() => return End::Interrupted,
            Err(fatal) => return End::Failed(fatal),
        };
        if tried.is_empty() {
            console.write_lines(text::HEADING);
        }
        console.write_lines(&text::line(&run));
        let (held, reached, early) = (run.held, run.achieved_bytes_per_second, run.ended_early.clone());
        tried.push(run);
        let Some(held) = held else { return End::Interrupted };
        search.note(held, reached);
        if let Some(how) = early {
            let fatal = Fatal::new(Exit::Failed, format!("a run {how}"));
            return End::Failed(fatal.mend(program::command("run with the same flags, until it lasts")));
        }
    }
}

/// Says and writes what is known. What cannot be said keeps nobody from the report, nor the other way round.
fn tell(plan: &SaturatePlan, end: End, tried: Vec<Tried>) -> Result<Exit, Fatal> {
    let result = conclude(plan, &end, tried);
    let said = streams::print(&wrap::for_stdout(format!("{}\n", text::summary(&result))));
    let written = plan.report.as_ref().map_or(Ok(()), |target| report::write_report(&result, target));
    let told = said.and(written);
    match (end, told) {
        (End::Failed(fatal), Err(other)) => {
            streams::write_stderr_line(&format!("engine: {other}"));
            Err(fatal)
        }
        (End::Failed(fatal), Ok(())) => Err(fatal),
        (End::Found(_) | End::Interrupted, told) => told.map(|()| Exit::from_code(result.exit_code)),
    }
}

fn conclude(plan: &SaturatePlan, end: &End, tried: Vec<Tried>) -> Saturation {
    let held = tried.iter().filter(|run| run.held == Some(true)).filter_map(|run| run.rate_bytes_per_second).max();
    let (sustained, exit) = match end {
        End::Found(Outcome::Confirmed(rate)) => (Some(*rate), Exit::Done),
        End::Found(Outcome::Unconfirmed(_) | Outcome::Nothing) => (None, Exit::SloMissed),
        End::Interrupted => (None, Exit::Failed),
        End::Failed(fatal) => (None, fatal.exit),
    };
    let error = match end {
        End::Failed(fatal) => Some(fatal.what.clone()),
        End::Found(_) | End::Interrupted => None,
    };
    let limited_by = run_above(&tried, sustained.or(held)).map(|run| run.limited_by);
    let mut result = Saturation {
        schema_version: 1,
        engine_version: env!("CARGO_PKG_VERSION"),
        run_args: masked::command(&plan.run_args),
        sustained_bytes_per_second: sustained,
        held_bytes_per_second: held,
        confirmed: sustained.is_some(),
        is_max_rate: sustained.is_some() && sustained == plan.rate_max_bytes_per_second,
        is_capped_by_producers: plan.is_capped_by_producers,
        page_cache: plan.page_cache,
        disturbed: is_disturbed(&tried),
        limited_by,
        interrupted: matches!(end, End::Interrupted),
        error,
        tried,
        exit_code: exit as u8,
    };
    if exit == Exit::Done && !result.is_judged() {
        result.exit_code = Exit::Failed as u8;
    }
    result
}

fn is_disturbed(tried: &[Tried]) -> bool {
    let disturbed = || tried.iter().filter(|run| run.disturbed_by.is_some());
    disturbed().any(|run| run.held == Some(false)) && 2 * disturbed().count() > tried.len()
}

/// The run that tells what limits the rate that was found. What fell short at one that held afterwards was chance.
fn run_above(tried: &[Tried], rate: Option<u64>) -> Option<&Tried> {
    let above = |at: u64| rate.is_none_or(|rate| at > rate);
    let over = |run: &&Tried| match run.rate_bytes_per_second {
        None => run.held.is_some(),
        Some(at) => run.held == Some(false) && (run.confirmation || above(at)),
    };
    tried.iter().rev().find(over)
}

/// One run at one rate. `Err`: it could not start, for a reason that no other rate would mend.
fn run_once(plan: &SaturatePlan, next: Try, interrupts: &AtomicUsize, console: &Console) -> Result<Tried, Fatal> {
    let Try { rate, duration_ns, .. } = next;
    let program =
        std::env::current_exe().map_err(|error| Fatal::host(format!("this program cannot be found again: {error}")))?;
    let mut command = Command::new(program);
    command.arg("run").args(&plan.run_args).args(["--log-format", "json", "--report", "-"]);
    command.args(["--duration", &format!("{duration_ns}ns")]);
    command.args(["--rate", &rate.map_or("unlimited".to_owned(), |rate| rate.to_string())]);
    // A group of its own: Ctrl-C reaches it through us, once.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // A search that is killed cannot end its run. This is the main thread: it ends with the process.
    process::end_with_this_thread(&mut command);
    let mut child = command.spawn().map_err(|error| Fatal::host(format!("a run cannot be started: {error}")))?;
    let said = collect(child.stderr.take());
    let wrote = collect(child.stdout.take());
    let began = Instant::now();
    let code = wait(&mut child, interrupts, || console.show(text::under_way(next, began.elapsed())))?;
    let (said, wrote) = (join(said), join(wrote));
    let last = wrote.lines().next_back().unwrap_or_default();
    match serde_json::from_str::<Report>(last) {
        Ok(report) => {
            // A signal that comes when all has been offered cuts nothing short.
            let cut_short = interrupts.load(Ordering::Relaxed) > 0 && report.ended_by_signal.is_some();
            let early = if cut_short { None } else { ended_early(&report, duration_ns) };
            let run = judge(&report, next, early, code);
            Ok(if cut_short { run.cut_short() } else { run })
        }
        Err(_) => Err(refusal(code, &said)),
    }
}

/// How long it was paced: in the drain and the final fsync nothing falls due.
fn paced_seconds(report: &Report) -> f64 {
    report.pacing.paced_seconds.unwrap_or((report.elapsed_seconds - report.final_fsync_seconds).max(0.0))
}

/// How a run ended that did not last as long as it was to, or that had to end before its pacing was over.
fn ended_early(report: &Report, planned_ns: u64) -> Option<String> {
    let lasted_ns = 1e9 * paced_seconds(report);
    let lasted_ratio = lasted_ns / planned_ns as f64;
    let why = match had_to_end(report) {
        Some(why) if lasted_ratio < WHOLE_RATIO => why,
        _ if lasted_ratio >= LASTED_RATIO => return None,
        _ if report.config.get("phases").is_some_and(serde_json::Value::is_array) => "its stages were over",
        _ => "somebody else ended it",
    };
    let (lasted, planned) = (units::format_duration(lasted_ns as u64), units::format_duration(planned_ns));
    Some(format!("ended after {lasted} of {planned}: {why}"))
}

/// Why, without its mend.
fn had_to_end(report: &Report) -> Option<&str> {
    report.ended_early.as_deref().map(|why| why.lines().next().unwrap_or_default())
}

fn judge(report: &Report, next: Try, ended_early: Option<String>, code: i32) -> Tried {
    let Try { rate, confirmation, second_try, .. } = next;
    let ratio = report.pacing.achieved_ratio;
    let reached = match rate {
        Some(rate) => rate as f64 * ratio.unwrap_or(0.0),
        None => report.throughput.logical_bytes_per_second,
    };
    // What is missing of a run at a rate that cannot last is far more: the backlog of all its seconds.
    let kept = rate.is_none() || ratio.is_some_and(verdict::is_met);
    let reason = match (&ended_early, code, kept) {
        (Some(how), ..) => Some(how.clone()),
        (None, 0, true) => None,
        (None, 0, false) => Some(format!("{} of the rate", verdict::percent(ratio.unwrap_or(0.0)))),
        (None, 4, _) => Some(missed(report)),
        (None, ..) => Some(lost(report, code)),
    };
    let response = &report.latency_seconds.response;
    Tried {
        rate_bytes_per_second: rate,
        seconds: report.elapsed_seconds,
        paced_seconds: paced_seconds(report),
        confirmation,
        second_try,
        held: Some(reason.is_none()),
        reason,
        ended_early,
        achieved_bytes_per_second: reached as u64,
        achieved_ratio: ratio,
        response_p50_seconds: response.p50,
        response_p99_seconds: response.p99,
        response_p999_seconds: response.p999,
        limited_by: report.verdict.limited_by,
        disturbed_by: text::disturbed_by(report.verdict.stolen_ratio),
        run_id: report.run_id.clone(),
        exit_code: code,
    }
}

fn missed(report: &Report) -> String {
    let missed = report.slo.iter().filter(|slo| !slo.passed).map(|slo| slo.expression.as_str());
    format!("missed {}", missed.collect::<Vec<_>>().join(", "))
}

/// `exit 1: timeout 3; warm-up: status 10`: what the warm-up loses counts as well. Last why it had to end.
fn lost(report: &Report, code: i32) -> String {
    let parts = [("", &report.errors), ("warm-up: ", &report.warmup.errors)];
    let told = parts.into_iter().filter_map(|(part, errors)| {
        let kinds = errors.iter().filter(|(_, count)| **count > 0);
        let kinds: Vec<_> = kinds.map(|(kind, count)| format!("{kind} {}", units::format_count(*count))).collect();
        (!kinds.is_empty()).then(|| format!("{part}{}", kinds.join(", ")))
    });
    let told: Vec<_> = told.chain(had_to_end(report).map(str::to_owned)).collect();
    if told.is_empty() { format!("exit {code}") } else { format!("exit {code}: {}", told.join("; ")) }
}

/// A run that left no report says on standard error why.
fn refusal(code: i32, said: &str) -> Fatal {
    let exit = u8::try_from(code).map_or(Exit::Failed, Exit::from_code);
    let why: Vec<&str> = said.lines().filter(|line| !line.starts_with('{')).collect();
    let why = if why.is_empty() { said.lines().next_back().unwrap_or("it said nothing") } else { &why.join("\n") };
    Fatal::new(exit, format!("a run ended with exit {code} and left no report: {}", why.trim_start_matches("engine: ")))
}

/// Passes signals on: the first ends the run in order, the second at once.
fn wait(child: &mut Child, interrupts: &AtomicUsize, tell: impl Fn()) -> Result<i32, Fatal> {
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
        tell();
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

#[cfg(test)]
mod tests;
