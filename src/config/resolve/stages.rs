//! Stages, and the steps of their ramps, as stretches of one rate each.

use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::config::values::{Mode, Stage, Wanted};

pub const DURATION_DEFAULT_NS: u64 = 10_000_000_000;
/// What is counted by stage is known to a tenth of a second.
const STEP_NS_MIN: u64 = 1_000_000_000;

/// A time of one rate: a stage, or a step of its ramp.
pub struct Stretch<'a> {
    pub duration_ns: u64,
    pub warmup: bool,
    /// Which of the stages.
    pub at: usize,
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
        out.push(Stretch { duration_ns: wanted.warmup_ns, warmup: true, at: 0, stage: &wanted.stages[0], step: 0 });
    }
    for (at, stage) in wanted.stages.iter().enumerate() {
        let open_end = wanted.duration_ns.is_some() || limited;
        let duration_ns = match stage.duration_ns {
            Some(duration_ns) => duration_ns,
            // Its steps share what the run has left.
            None if stage.ramp_to.is_some() && wanted.duration_ns.is_some() => left_ns,
            None if open_end => u64::MAX,
            None if !wanted.phased => DURATION_DEFAULT_NS,
            None => {
                let what = format!("stage {} of phases has no duration", at + 1);
                errors.push(Fatal::usage(what).mend("duration: 10s, or duration: inf for the last"));
                continue;
            }
        };
        if stage.duration_ns == Some(0) && wanted.phased {
            errors.push(Fatal::usage(format!("stage {} of phases lasts 0s", at + 1)).mend("duration: 30s"));
        }
        if stage.duration_ns.unwrap_or(u64::MAX) == u64::MAX && at < last {
            let what = format!("stage {} of phases never ends, so stage {} never starts", at + 1, at + 2);
            errors.push(Fatal::usage(what).mend("duration: 10s"));
        }
        check_burst(stage, errors);
        check_ramp(wanted, at, duration_ns, errors);
        for (step, step_ns) in steps(stage, duration_ns) {
            let duration_ns = step_ns.min(left_ns);
            left_ns = if left_ns == u64::MAX { left_ns } else { left_ns - duration_ns };
            if duration_ns > 0 {
                out.push(Stretch { duration_ns, warmup: false, at, stage, step });
            }
        }
    }
    check_count(wanted, out.iter().filter(|stretch| !stretch.warmup).count(), errors);
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

/// How errors name a key: `--ramp-to`, or `stage 2 of phases: ramp_to` where it is not said outside of them.
pub fn of_stage(wanted: &Wanted, at: usize, name: &str) -> String {
    let is_outside = wanted.outside.iter().any(|(outside, _)| *outside == name);
    match wanted.phased && (wanted.stages[at].says.contains(&name) || !is_outside) {
        true => format!("stage {} of phases: {}", at + 1, name.replace('-', "_")),
        false => format!("--{name}"),
    }
}

/// How to say it: `--ramp-to=5MB/s`, or in a file `ramp_to: 5MB/s`.
pub fn mend_of_stage(wanted: &Wanted, at: usize, name: &str, value: &str) -> String {
    let is_flag = wanted.outside.iter().any(|(outside, by_file)| *outside == name && !by_file);
    assignment(wanted.phased && (wanted.stages[at].says.contains(&name) || !is_flag), name, value)
}

fn assignment(in_file: bool, name: &str, value: &str) -> String {
    if in_file { format!("{}: {value}", name.replace('-', "_")) } else { format!("--{name}={value}") }
}

/// What is wrong with the ramp of a stage that lasts so long.
fn check_ramp(wanted: &Wanted, at: usize, duration_ns: u64, errors: &mut Vec<Fatal>) {
    let stage = &wanted.stages[at];
    if stage.ramp_to.is_none() {
        return;
    }
    let of = |name| of_stage(wanted, at, name);
    let in_stage = |name, value: &str| assignment(wanted.phased, name, value);
    if stage.rate.is_none() {
        let what = format!("{} says where a ramp ends, and nothing where it begins", of("ramp-to"));
        errors.push(Fatal::usage(what).mend(in_stage("rate", "100MB/s")));
    }
    let steps = stage.ramp_steps;
    // One that the run does not reach needs no length.
    let is_reached = stage.duration_ns.is_some() || duration_ns > 0;
    if duration_ns == u64::MAX {
        let what = format!("{}: a ramp needs a length", of("ramp-to"));
        errors.push(Fatal::usage(what).mend(in_stage("duration", "60s")));
    } else if is_reached && duration_ns / steps < STEP_NS_MIN {
        let (span, least) = (units::format_duration(duration_ns), units::format_duration(STEP_NS_MIN));
        let what = format!("{} {steps} in {span} leaves each less than {least}", of("ramp-steps"));
        let fitting = duration_ns / STEP_NS_MIN;
        let longer = in_stage("duration", &format!("{steps}s"));
        let fewer = mend_of_stage(wanted, at, "ramp-steps", &fitting.to_string());
        errors.push(Fatal::usage(what).mend(if fitting < 2 { longer } else { format!("{fewer} or {longer}") }));
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

/// The `index`-th of `parts` whole shares of `total`; all of them sum to it.
pub fn share(total: u64, parts: u64, index: u64) -> u64 {
    total / parts + u64::from(index < total % parts)
}

/// (number, length) of each of its steps: one for a stage without a ramp.
fn steps(stage: &Stage, duration_ns: u64) -> impl Iterator<Item = (u64, u64)> {
    let steps = if stage.ramp_to.is_some() && duration_ns < u64::MAX { stage.ramp_steps } else { 1 };
    (0..steps).map(move |step| (step, share(duration_ns, steps, step)))
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
    use crate::config::resolve::schedule::{self, Fleet};
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
        let up = resolved(&wanted(Some("100kB/s"), "400kB/s", 4, Some(8 * s)));
        let rates = [100_000, 200_000, 300_000, 400_000].map(|rate| (2 * s, Some(rate)));
        assert_eq!(up, (rates.to_vec(), vec![]));
        let down = resolved(&wanted(Some("90rec/s"), "80kB/s", 2, Some(3 * s))).0;
        assert_eq!(down, [(1_500_000_000, Some(90_000)), (1_500_000_000, Some(80_000))]);
        // Without a length it has that of every run.
        assert_eq!(resolved(&wanted(Some("100kB/s"), "400kB/s", 10, None)).0.len(), 10);
        let most = limits::RATE_MAX;
        assert_eq!((rate(1, most, 999, 1000), rate(most, 1, 999, 1000)), (most, 1));
    }

    #[test]
    fn the_length_of_the_run_cuts_a_ramp_and_does_not_press_it_together() {
        let s = 1_000_000_000;
        let mut wanted = wanted(Some("100kB/s"), "400kB/s", 4, Some(8 * s));
        (wanted.phased, wanted.duration_ns, wanted.warmup_ns) = (true, Some(5 * s), s);
        let stretches = [(s, 100_000), (2 * s, 100_000), (2 * s, 200_000), (s, 300_000)];
        assert_eq!(resolved(&wanted), (stretches.map(|(ns, rate)| (ns, Some(rate))).to_vec(), vec![]));
    }

    #[test]
    fn ramps_without_a_beginning_or_an_end_are_refused() {
        let s = 1_000_000_000;
        let told = |wanted: Wanted| resolved(&wanted).1.join("\n");
        assert!(told(wanted(None, "1MB/s", 10, Some(60 * s))).contains("nothing where it begins"));
        assert!(told(wanted(Some("1kB/s"), "1MB/s", 10, Some(u64::MAX))).contains("needs a length"));
        assert!(told(wanted(Some("1kB/s"), "1MB/s", 10, Some(9 * s))).contains("--ramp-steps 10 in 9 s"));
        let mut many = wanted(Some("100kB/s"), "1MB/s", 1000, Some(1000 * s));
        // What comes before it does not count.
        many.warmup_ns = s;
        assert_eq!(told(many.clone()), "");
        (many.phased, many.duration_ns) = (true, None);
        many.stages.push(values::Stage { ramp_to: None, rate: Some(Rate::Bytes(9)), ..many.stages[0].clone() });
        assert!(told(many).contains("1001 stages"));
    }

    #[test]
    fn a_ramp_without_a_length_of_its_own_takes_what_is_left() {
        let s = 1_000_000_000;
        let mut wanted = wanted(Some("100kB/s"), "400kB/s", 4, None);
        (wanted.phased, wanted.duration_ns) = (true, Some(11 * s));
        wanted.stages[0].says = vec!["ramp-to", "ramp-steps"];
        let before = values::Stage { ramp_to: None, duration_ns: Some(3 * s), ..wanted.stages[0].clone() };
        wanted.stages.insert(0, before);
        let ramp = [100_000, 200_000, 300_000, 400_000].map(|rate| (2 * s, Some(rate)));
        assert_eq!(resolved(&wanted), ([&[(3 * s, Some(100_000))][..], &ramp[..]].concat(), vec![]));
        // One that the run does not reach may have none.
        wanted.duration_ns = Some(2 * s);
        assert_eq!(resolved(&wanted), (vec![(2 * s, Some(100_000))], vec![]));
        wanted.duration_ns = Some(6 * s);
        assert_eq!(resolved(&wanted).1, ["stage 2 of phases: ramp_steps 4 in 3 s leaves each less than 1 s"]);
        wanted.duration_ns = Some(11 * s);
        wanted.stages.swap(0, 1);
        assert_eq!(resolved(&wanted).1, ["stage 1 of phases never ends, so stage 2 never starts"]);
    }

    #[test]
    fn what_is_wrong_with_a_ramp_is_said_of_its_stage_and_its_end() {
        let s = 1_000_000_000;
        let told = |wanted: &Wanted| {
            let mut errors = Vec::new();
            let fleet = Fleet { producers: 8, first_id: 0, total: 8 };
            schedule::resolve(wanted, true, fleet, &Sizes::fixed_at(1000), &mut errors);
            errors.into_iter().map(|fatal| fatal.to_string()).collect::<Vec<_>>().join("\n")
        };
        let mut down = wanted(Some("1GB/s"), "4B/s", 10, Some(60 * s));
        let low = told(&down);
        let said = "--ramp-to 4 B/s over 8 producers leaves some without a byte a second";
        assert!(low.matches("leaves some").count() == 1 && low.contains(said), "{low}");
        assert!(low.contains("--parallel=4 or --ramp-to=8"), "{low}");
        let up = told(&wanted(Some("4B/s"), "7B/s", 2, Some(60 * s)));
        assert!(up.contains("--rate 4 B/s over 8") && up.contains("--rate=8"), "{up}");
        (down.phased, down.stages[0].says) = (true, vec!["rate", "ramp-to"]);
        let low = told(&down);
        assert!(low.contains("stage 1 of phases: ramp_to 4 B/s over 8") && low.contains("or ramp_to: 8"), "{low}");
        // A rate from outside is named as such, once for all stages.
        let mut outside = wanted(Some("4B/s"), "7B/s", 2, Some(60 * s));
        (outside.phased, outside.warmup_ns, outside.stages[0].ramp_to) = (true, s, None);
        outside.outside = vec![("rate", false)];
        outside.stages.push(outside.stages[0].clone());
        let low = told(&outside);
        assert!(low.matches("--rate 4 B/s over 8").count() == 1 && low.contains("or --rate=8"), "{low}");
        // In a file it is mended where it stands: a flag would stand against the stages that say their own.
        outside.outside = vec![("rate", true)];
        let low = told(&outside);
        assert!(low.contains("--rate 4 B/s over 8") && low.contains("or rate: 8"), "{low}");
        let mut endless = wanted(None, "1MB/s", 10, None);
        (endless.phased, endless.stages[0].says) = (true, vec!["ramp-to"]);
        let said = told(&endless);
        assert!(said.contains("stage 1 of phases: ramp_to says where a ramp ends"), "{said}");
        assert!(said.contains("stage 1 of phases: ramp_to: a ramp needs a length"), "{said}");
        assert!(said.contains("rate: 100MB/s") && said.contains("duration: 60s"), "{said}");
    }
}
