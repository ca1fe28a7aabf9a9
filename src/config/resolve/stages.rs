//! Stages, and the steps of their ramps, as stretches of one rate each.

use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::config::resolve::schedule;
use crate::config::values::{Mode, Stage, Wanted};

pub const DURATION_DEFAULT_NS: u64 = 10_000_000_000;
/// What is counted by stage is known to a tenth of a second.
const STEP_NS_MIN: u64 = 1_000_000_000;

/// A time of one rate: a stage, or a step of its ramp.
pub struct Stretch<'a> {
    pub duration_ns: u64,
    pub warmup: bool,
    pub stage: &'a Stage,
    /// Of its ramp; 0 without one.
    pub step: u64,
}

/// All stretches, their lengths known.
pub fn stretches<'a>(wanted: &'a Wanted, limited: bool, errors: &mut Vec<Fatal>) -> Vec<Stretch<'a>> {
    let last = wanted.stages.len() - 1;
    let mut left_ns = wanted.duration_ns.unwrap_or(u64::MAX);
    let mut out = Vec::new();
    if wanted.duration_ns == Some(0) {
        errors.push(Fatal::usage("--duration 0s: the run would be over before it starts").mend("--duration=30s"));
    }
    if wanted.warmup_ns > 0 {
        out.push(Stretch { duration_ns: wanted.warmup_ns, warmup: true, stage: &wanted.stages[0], step: 0 });
    }
    for (at, stage) in wanted.stages.iter().enumerate() {
        let open_end = wanted.duration_ns.is_some() || limited;
        let duration_ns = match stage.duration_ns {
            Some(duration_ns) => duration_ns,
            None if open_end => u64::MAX,
            None if !wanted.phased => DURATION_DEFAULT_NS,
            None => {
                let what = format!("stage {} of phases has no duration", at + 1);
                errors.push(Fatal::usage(what).mend("duration: 10s, or duration: inf for the last"));
                continue;
            }
        };
        if duration_ns == 0 && wanted.phased {
            errors.push(Fatal::usage(format!("stage {} of phases lasts 0s", at + 1)).mend("duration: 30s"));
        }
        if duration_ns == u64::MAX && at < last {
            let what = format!("stage {} of phases never ends, so stage {} never starts", at + 1, at + 2);
            errors.push(Fatal::usage(what).mend("duration: 10s"));
        }
        check_burst(stage, errors);
        check_ramp(stage, duration_ns, errors);
        for (step, step_ns) in steps(stage, duration_ns) {
            let duration_ns = step_ns.min(left_ns);
            left_ns = if left_ns == u64::MAX { left_ns } else { left_ns - duration_ns };
            if duration_ns > 0 {
                out.push(Stretch { duration_ns, warmup: false, stage, step });
            }
        }
    }
    check_count(wanted, out.len(), errors);
    let lengths = out.iter().map(|stretch| stretch.duration_ns).filter(|duration_ns| *duration_ns != u64::MAX);
    if lengths.map(u128::from).sum::<u128>() > u128::from(u64::MAX / 2) {
        errors.push(Fatal::usage("the stages together last longer than 292 years").mend("--duration=inf"));
    }
    out
}

/// The stages that begin before the run ends.
pub fn reached(wanted: &Wanted) -> impl Iterator<Item = &Stage> {
    let end_ns = wanted.duration_ns.unwrap_or(u64::MAX);
    let mut start_ns = 0u64;
    wanted.stages.iter().take_while(move |stage| {
        let begins = start_ns < end_ns;
        start_ns = start_ns.saturating_add(stage.duration_ns.unwrap_or(u64::MAX));
        begins
    })
}

fn check_burst(stage: &Stage, errors: &mut Vec<Fatal>) {
    if stage.mode != Mode::Burst {
        return;
    }
    if stage.burst_on_ns == 0 {
        errors.push(Fatal::usage("--burst-on 0s leaves no time to send").mend("--burst-on=1s"));
    }
    if stage.burst_on_ns.checked_add(stage.burst_off_ns).is_none() {
        errors.push(
            Fatal::usage("--burst-on and --burst-off together last longer than 584 years").mend("--burst-off=4s"),
        );
    }
}

/// What is wrong with the ramp of a stage that lasts so long.
fn check_ramp(stage: &Stage, duration_ns: u64, errors: &mut Vec<Fatal>) {
    if stage.ramp_to.is_none() {
        return;
    }
    if stage.rate.is_none() {
        let what = "--ramp-to says where a ramp ends, and nothing where it begins";
        errors.push(Fatal::usage(what).mend("--rate=100MB/s"));
    }
    let steps = stage.ramp_steps;
    if duration_ns == u64::MAX {
        errors.push(Fatal::usage("--ramp-to: a ramp needs a length").mend("--duration=60s"));
    } else if duration_ns / steps < STEP_NS_MIN {
        let span = units::format_duration(duration_ns);
        let what =
            format!("--ramp-steps {steps} in {span} leaves each less than {}", units::format_duration(STEP_NS_MIN));
        let fitting = duration_ns / STEP_NS_MIN;
        let longer = format!("--duration={steps}s");
        let mend = if fitting < 2 { longer } else { format!("--ramp-steps={fitting} or {longer}") };
        errors.push(Fatal::usage(what).mend(mend));
    }
}

/// Ramps do not make more stages than a file may list.
fn check_count(wanted: &Wanted, stages: usize, errors: &mut Vec<Fatal>) {
    let is_ramped = wanted.stages.iter().any(|stage| stage.ramp_to.is_some());
    if is_ramped && stages > limits::PHASES_MAX {
        let what = format!(
            "phases have {stages} stages, the steps of their ramps counted; a run has at most {}",
            limits::PHASES_MAX
        );
        errors.push(Fatal::usage(what).mend("fewer ramp_steps"));
    }
}

/// (number, length) of each of its steps: one for a stage without a ramp.
fn steps(stage: &Stage, duration_ns: u64) -> impl Iterator<Item = (u64, u64)> {
    let steps = if stage.ramp_to.is_some() && duration_ns < u64::MAX { stage.ramp_steps } else { 1 };
    (0..steps).map(move |step| (step, schedule::share(duration_ns, steps, step)))
}

/// Bytes a second of a step: the first has `from`, the last `to`.
pub fn rate(from: u64, to: u64, step: u64, steps: u64) -> u64 {
    let (way, last) = (u128::from(from.abs_diff(to)), u128::from(steps - 1));
    let gone = u64::try_from(way * u128::from(step) / last).unwrap_or(u64::MAX);
    if from < to { from + gone } else { from - gone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Settings;
    use crate::config::resolve::payload::Sizes;
    use crate::config::resolve::schedule::Fleet;
    use crate::config::values::{self, Rate};

    fn wanted(from: Option<&str>, to: &str, steps: u64, duration_ns: Option<u64>) -> Wanted {
        let mut wanted = values::read(&Settings::default(), &mut Vec::new());
        let rate = |text| values::rate(text).unwrap();
        let stage = &mut wanted.stages[0];
        (stage.rate, stage.ramp_to, stage.ramp_steps) = (from.and_then(rate), rate(to), steps);
        (stage.duration_ns, wanted.duration_ns) = (duration_ns, duration_ns);
        wanted
    }

    fn resolved(wanted: &Wanted) -> (Vec<(u64, Option<u64>)>, Vec<String>) {
        let mut errors = Vec::new();
        let fleet = Fleet { producers: 2, first_id: 0, total: 2 };
        let schedules = schedule::resolve(wanted, false, fleet, &Sizes::fixed_at(1000), &mut errors);
        let stages = schedules.phases.iter().map(|phase| (phase.duration_ns, phase.rate_bytes_per_second)).collect();
        (stages, errors.into_iter().map(|fatal| fatal.what).collect())
    }

    #[test]
    fn a_ramp_goes_from_the_first_rate_to_the_last_in_equal_steps() {
        let s = 1_000_000_000;
        let up = resolved(&wanted(Some("100B/s"), "400B/s", 4, Some(8 * s))).0;
        assert_eq!(up, [(2 * s, Some(100)), (2 * s, Some(200)), (2 * s, Some(300)), (2 * s, Some(400))]);
        let down = resolved(&wanted(Some("9rec/s"), "8kB/s", 2, Some(3 * s))).0;
        assert_eq!(down, [(1_500_000_000, Some(9000)), (1_500_000_000, Some(8000))]);
        // Without a length it has that of every run.
        assert_eq!(resolved(&wanted(Some("100B/s"), "400B/s", 10, None)).0.len(), 10);
        let most = limits::RATE_MAX;
        assert_eq!((rate(1, most, 999, 1000), rate(most, 1, 999, 1000)), (most, 1));
    }

    #[test]
    fn the_length_of_the_run_cuts_a_ramp_and_does_not_press_it_together() {
        let s = 1_000_000_000;
        let mut wanted = wanted(Some("100B/s"), "400B/s", 4, Some(8 * s));
        (wanted.phased, wanted.duration_ns, wanted.warmup_ns) = (true, Some(5 * s), s);
        assert_eq!(resolved(&wanted).0, [(s, Some(100)), (2 * s, Some(100)), (2 * s, Some(200)), (s, Some(300))]);
    }

    #[test]
    fn ramps_without_a_beginning_or_an_end_are_refused() {
        let s = 1_000_000_000;
        let told = |wanted: Wanted| resolved(&wanted).1.join("\n");
        assert!(told(wanted(None, "1MB/s", 10, Some(60 * s))).contains("nothing where it begins"));
        assert!(told(wanted(Some("1kB/s"), "1MB/s", 10, Some(u64::MAX))).contains("needs a length"));
        assert!(told(wanted(Some("1kB/s"), "1MB/s", 10, Some(9 * s))).contains("--ramp-steps 10 in 9 s"));
        let mut many = wanted(Some("1kB/s"), "1MB/s", 1000, Some(1000 * s));
        assert_eq!(told(many.clone()), "");
        (many.phased, many.duration_ns) = (true, None);
        many.stages.push(values::Stage { ramp_to: None, rate: Some(Rate::Bytes(9)), ..many.stages[0].clone() });
        assert!(told(many).contains("1001 stages"));
    }
}
