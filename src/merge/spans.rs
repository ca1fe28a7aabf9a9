//! When each process ran.

use crate::base::fatal::Fatal;
use crate::merge::read::Input;

/// When the parts of one process began and ended, in seconds since the first process's barrier.
pub struct Span {
    barrier: f64,
    pub measured: f64,
    pub ended: f64,
}

/// Of each process, and when the first one's barrier was.
pub fn spans(inputs: &[Input]) -> Result<(Vec<Span>, String), Fatal> {
    let mut barriers = Vec::new();
    for Input { name, report } in inputs {
        let at: jiff::Timestamp = report.started_at.parse().map_err(|_| {
            let what = format!("{name} has started_at '{}', which is no time", report.started_at);
            Fatal::usage(what).mend("name files that engine run --report wrote")
        })?;
        barriers.push(at);
    }
    let first = barriers.iter().min().copied().unwrap_or_default();
    let span = |(at, input): (&jiff::Timestamp, &Input)| {
        let barrier = (at.as_nanosecond() - first.as_nanosecond()) as f64 / 1e9;
        let measured = barrier + input.report.warmup.seconds;
        Span { barrier, measured, ended: measured + input.report.elapsed_seconds }
    };
    let spans: Vec<Span> = barriers.iter().zip(inputs).map(span).collect();
    debug_assert!(spans.iter().all(|span| span.barrier >= 0.0));
    Ok((spans, first.to_string()))
}

/// When the first process began to measure. One that ended within its warm-up measured nothing.
pub fn measured_from(spans: &[Span]) -> f64 {
    let measuring = spans.iter().filter(|span| span.ended > span.measured);
    let first = measuring.map(|span| span.measured).reduce(f64::min);
    first.unwrap_or_else(|| spans.iter().map(|span| span.measured).fold(0.0, f64::max))
}
