//! Parse, plan, run, exit code.

use engine::base::fatal::{Exit, Fatal};
use engine::base::progress::ReadProgress;
use engine::base::signals;
use engine::config::capacity::CapacityArgs;
use engine::config::{self, Command, Deps, SchemaKind};
use engine::host::capacity::calibrate::calibrate;
use engine::host::capacity::{self, Scale, Verdict};
use engine::host::doctor::{self, DoctorArgs};
use engine::observe::{self, Console, verify_line};
use engine::plan::receive::ReceivePlan;
use engine::plan::{CompareArgs, LogFormat, ReportArgs, RunPlan, VerifyArgs};
use engine::sys;
use engine::{compare, governance, merge, receive, run, saturate, verify};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    // Before io_uring is tried: rings and fixed files count against these.
    sys::process::raise_open_files();
    // What cannot be raised is judged, with the limit in force, by the plan.
    let _judged_later = sys::fs::raise_memlock();
    let deps = Deps::new(sys::uring::Uring::probe);
    let exit = match config::parse(std::env::args_os().skip(1), std::env::vars_os(), &deps) {
        Ok(command) => carry_out(command, &deps).unwrap_or_else(|fatal| refuse(&[fatal])),
        Err(errors) => refuse(&errors),
    };
    ExitCode::from(exit as u8)
}

fn carry_out(command: Command, deps: &Deps) -> Result<Exit, Fatal> {
    match command {
        Command::Run(plan) => run_plan(*plan),
        Command::DryRun(plan) => governance::check(&plan).and_then(|()| print(&pretty(&config::plan_to_json(&plan)))),
        Command::Verify(args) => verify_sources(&args),
        Command::Receive(plan) => receive_connections(&plan),
        Command::Saturate(plan) => saturate::saturate(&plan),
        Command::Doctor(args) => examine_host(&args),
        Command::Plan(args) => plan_capacity(&args, deps),
        Command::Merge(args) => merge::merge(&args).map(|_| Exit::Done),
        Command::Report(args) => render_report(&args),
        Command::Compare(args) => compare_reports(&args),
        Command::Schema(SchemaKind::Config) => print(&pretty(&config::schema::config_schema())),
        Command::Schema(SchemaKind::Report) => print(&pretty(&observe::schema::report_schema())),
        Command::Help(text) => print(&text),
        Command::Version => print(concat!("engine ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn run_plan(plan: RunPlan) -> Result<Exit, Fatal> {
    let console = Console::new(plan.observe.log_format);
    observe::logs::init(&console);
    for note in &plan.notes {
        tracing::info!("{note}");
    }
    // An error stands in a line of its own.
    let report = run::run(plan, &console).inspect_err(|_| console.clear())?;
    Ok(Exit::from_code(report.exit_code))
}

fn examine_host(args: &DoctorArgs) -> Result<Exit, Fatal> {
    let findings = doctor::examine_at_leisure(&args.sysfs, &args.scope);
    if args.json {
        let text = serde_json::to_string(&findings).map_err(|error| Fatal::host(format!("findings: {error}")))?;
        print(&format!("{{\"findings\":{text}}}\n"))?;
    } else {
        print(&doctor::text::render(&findings, sys::process::is_root()))?;
    }
    Ok(doctor::exit(&findings))
}

fn receive_connections(plan: &ReceivePlan) -> Result<Exit, Fatal> {
    let console = Console::new(plan.log_format);
    observe::logs::init(&console);
    let received = receive::receive(plan, &console).inspect_err(|_| console.clear())?;
    Ok(Exit::from_code(received.exit_code))
}

fn verify_sources(args: &VerifyArgs) -> Result<Exit, Fatal> {
    let (console, progress) = (Console::new(LogFormat::Text), Arc::new(ReadProgress::default()));
    observe::logs::init(&console);
    let (drawn, read) = (console.clone(), progress.clone());
    signals::end_at_once(move |signal| {
        drawn.clear();
        sys::streams::write_stderr_line(&format!("engine: {}", verify_line::stopped(signal, &read)));
    })?;
    let findings = verify_line::watch(&console, &progress, verify_line::TICK, || verify::verify(args, &progress))?;
    if args.json {
        let text = serde_json::to_string(&findings).map_err(|error| Fatal::host(format!("findings: {error}")))?;
        print(&format!("{text}\n"))?;
    } else {
        print(&observe::wrap::for_stdout(findings.summary()))?;
    }
    Ok(findings.exit())
}

fn render_report(args: &ReportArgs) -> Result<Exit, Fatal> {
    let report = observe::read::report(&args.report)?;
    match &args.html {
        Some(to) => observe::write_page_again(&report, to).map(|()| Exit::Done),
        None => {
            let columns = sys::streams::stdout_columns().unwrap_or(observe::summary::COLUMNS);
            print(&observe::summary::render_again(&report, &args.report, columns))
        }
    }
}

fn compare_reports(args: &CompareArgs) -> Result<Exit, Fatal> {
    let found = compare::compare(args)?;
    print(&if args.json { pretty(&found.json()) } else { found.text() })?;
    Ok(found.exit())
}

fn plan_capacity(args: &CapacityArgs, deps: &Deps) -> Result<Exit, Fatal> {
    let scale = if args.calibrate {
        let cpus = args.machine.probed();
        let layout = config::capacity::layout(args, deps);
        let cost = capacity::costs::table(args.machine.processor).cost(args.demand.route);
        Scale::Calibrated(calibrate(&cpus, &layout, cost)?)
    } else {
        Scale::of_described(&args.machine)
    };
    let projection = config::capacity::project(args, scale, deps);
    if args.json {
        let json = serde_json::to_value(&projection).map_err(|error| Fatal::host(format!("plan: {error}")))?;
        print(&pretty(&json))?;
    } else {
        print(&projection.summary())?;
    }
    Ok(if projection.verdict == Some(Verdict::DoesNotFit) { Exit::Host } else { Exit::Done })
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

fn print(text: &str) -> Result<Exit, Fatal> {
    sys::streams::print(text).map(|()| Exit::Done)
}

/// Says everything that is wrong at once. Flags that are wrong are so on every host: their code wins.
fn refuse(errors: &[Fatal]) -> Exit {
    for error in errors {
        sys::streams::write_stderr_line(&format!("engine: {error}"));
    }
    let usage = errors.iter().find(|error| error.exit == Exit::Usage);
    usage.or(errors.first()).map_or(Exit::Usage, |error| error.exit)
}
