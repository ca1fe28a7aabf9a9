//! Stages and shares: what each producer sends, exactly, fixed before the start.

use crate::base::fatal::{self, Fatal};
use crate::base::limits;
use crate::base::units;
use crate::config::resolve::payload::Sizes;
use crate::config::resolve::record_rates;
use crate::config::resolve::stages::{self, Stretch, share};
use crate::config::values::{Mode, Rate, Stage, Wanted};
use crate::plan::{PhasePlan, PhaseShare, Schedule, WireRate};

/// Producers of this process within the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    pub producers: usize,
    pub first_id: u64,
    /// Producers of all processes.
    pub total: u64,
}

impl Fleet {
    pub fn new(wanted: &Wanted, producers: usize, errors: &mut Vec<Fatal>) -> Self {
        let (index, count) = wanted.shard;
        let total = u64::from(count) * producers as u64;
        if count > 1 && wanted.parallel.is_none() {
            let what =
                format!("--shard {index}/{count} needs --parallel, so that all processes agree on the producers");
            errors.push(Fatal::usage(what).mend(format!("--shard {index}/{count} --parallel {producers}")));
        }
        if count > 1 && wanted.run_id.is_none() {
            let what = format!("--shard {index}/{count} needs --run-id, so that all processes are one run");
            errors.push(Fatal::usage(what).mend("--run-id=nightly-7, the same for all processes"));
        }
        if total > u64::from(u32::MAX) {
            errors.push(
                Fatal::usage(format!("--shard {index}/{count}: {total} producers are more than {}", u32::MAX))
                    .mend("fewer processes or a smaller --parallel"),
            );
        }
        Self { producers, first_id: u64::from(index) * producers as u64, total }
    }
}

/// `--start-at` is near enough for somebody to mean it.
pub fn check_start(at_unix_ns: Option<u64>, now_unix_ns: u64, errors: &mut Vec<Fatal>) {
    let Some(at_unix_ns) = at_unix_ns else { return };
    let mend = "--start-at=$(date -u -d '+60 seconds' +%FT%TZ)";
    let span = |ns: u64| units::format_duration(ns);
    let past_ns = now_unix_ns.saturating_sub(at_unix_ns);
    if past_ns > limits::START_LATE_NS_MAX {
        let what = format!("--start-at: that time was {} ago, by the clock of this host", span(past_ns));
        errors.push(Fatal::usage(what).mend(mend));
    } else if at_unix_ns.saturating_sub(now_unix_ns) > limits::START_AHEAD_NS_MAX {
        let (ahead, most) = (span(at_unix_ns - now_unix_ns), span(limits::START_AHEAD_NS_MAX));
        errors.push(Fatal::usage(format!("--start-at: that time is {ahead} ahead, more than {most}")).mend(mend));
    }
}

#[derive(Clone, Debug, Default)]
pub struct Schedules {
    pub phases: Vec<PhasePlan>,
    /// For each producer, in the order of `phases`.
    pub shares: Vec<Vec<PhaseShare>>,
    pub stagger_ns: Vec<u64>,
}

impl Schedules {
    /// The one rate of the whole run.
    pub fn single_rate(&self) -> Option<u64> {
        let first = self.phases.first()?.rate_bytes_per_second?;
        self.phases.iter().all(|phase| phase.rate_bytes_per_second == Some(first)).then_some(first)
    }

    /// The least wire bytes a second of any producer in any stage; `None` where one has no rate.
    pub fn slowest_wire_rate(&self) -> Option<u64> {
        let rates = self.shares.iter().flatten().map(|share| match share.schedule {
            Schedule::Steady { rate } => Some(rate.logical_bytes_per_second / rate.weight),
            Schedule::Unlimited | Schedule::Burst { .. } => None,
        });
        rates.collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

pub fn resolve(wanted: &Wanted, limited: bool, fleet: Fleet, sizes: &Sizes, errors: &mut Vec<Fatal>) -> Schedules {
    let stages = stages::stretches(wanted, limited, errors);
    let shares = fleet.producers.saturating_mul(stages.len());
    if shares > limits::PHASE_SHARES_MAX {
        let (producers, count, most) = (fleet.producers, stages.len(), limits::PHASE_SHARES_MAX);
        let what = format!("{producers} producers times {count} stages are {shares} schedules, more than {most}");
        errors.push(Fatal::usage(what).mend(format!("--parallel={}, or fewer phases", most / count.max(1))));
        return Schedules::default();
    }
    let mut schedules = Schedules { shares: vec![Vec::new(); fleet.producers], ..Schedules::default() };
    let cap = record_rates::in_bytes("producer-rate", wanted.producer_rate, sizes, errors);
    for Stretch { duration_ns, warmup, at, stage, step } in &stages {
        let from = record_rates::in_bytes("rate", stage.rate, sizes, errors);
        let to = record_rates::in_bytes("ramp-to", stage.ramp_to, sizes, errors);
        let rate_of = |step| from.map(|from| stages::rate(from, to.unwrap_or(from), step, stage.ramp_steps));
        let rate = rate_of(*step);
        let is_low = |rate: Option<u64>| rate.is_some_and(|rate| rate < fleet.total);
        // Stages may share a rate from outside.
        if is_low(rate) && *step == 0 {
            fatal::add_once(errors, too_low(wanted, *at, ("rate", stage.rate, from), fleet.total));
        } else if is_low(rate) && !is_low(rate_of(step - 1)) {
            fatal::add_once(errors, too_low(wanted, *at, ("ramp-to", stage.ramp_to, to), fleet.total));
        }
        add_stage(&mut schedules, (*duration_ns, *warmup), stage, (rate, cap), fleet);
    }
    schedules.stagger_ns = (0..fleet.producers).map(|k| stagger(&schedules.shares[k], k, fleet, sizes)).collect();
    schedules
}

/// A rate of this stage is less than a byte a second for each producer.
fn too_low(wanted: &Wanted, at: usize, (name, said, bytes): (&str, Option<Rate>, Option<u64>), total: u64) -> Fatal {
    let bytes = bytes.unwrap_or_default();
    let rate = match said {
        Some(Rate::Records(records)) => format!("{records} ({bytes} B/s)"),
        _ => format!("{bytes} B/s"),
    };
    let name_said = stages::of_stage(wanted, at, name);
    let what = format!("{name_said} {rate} over {total} producers leaves some without a byte a second");
    let more = stages::mend_of_stage(wanted, at, name, &total.to_string());
    Fatal::usage(what).mend(format!("--parallel={bytes} or {more}"))
}

fn add_stage(
    schedules: &mut Schedules,
    (duration_ns, warmup): (u64, bool),
    stage: &Stage,
    (rate, cap): (Option<u64>, Option<u64>),
    fleet: Fleet,
) {
    let sampled = stage.mode == Mode::Sampled;
    let weight = if sampled { stage.weight } else { 1 };
    let mut sum = Some(0u64);
    for (k, shares) in schedules.shares.iter_mut().enumerate() {
        let part = rate.map(|rate| share(rate, fleet.total, fleet.first_id + k as u64));
        let rate = part.into_iter().chain(cap).min();
        sum = sum.zip(rate).map(|(sum, rate)| sum.saturating_add(rate));
        let rate = rate.map(|logical_bytes_per_second| WireRate { logical_bytes_per_second, weight });
        let schedule = match (stage.mode, rate) {
            (Mode::Burst, rate) => Schedule::Burst { on_ns: stage.burst_on_ns, off_ns: stage.burst_off_ns, rate },
            (_, Some(rate)) => Schedule::Steady { rate },
            (_, None) => Schedule::Unlimited,
        };
        shares.push(PhaseShare { duration_ns, warmup, weight, schedule });
    }
    schedules.phases.push(PhasePlan { duration_ns, warmup, sampled, weight, rate_bytes_per_second: sum });
}

/// The producer's place within the time of one record, over the whole fleet. Bursts keep their beginning.
fn stagger(shares: &[PhaseShare], k: usize, fleet: Fleet, sizes: &Sizes) -> u64 {
    let mut shortest: Option<u128> = None;
    for share in shares {
        match share.schedule {
            Schedule::Unlimited => {}
            Schedule::Burst { .. } => return 0,
            Schedule::Steady { rate } => {
                let logical = u128::from(sizes.mean_bytes) * u128::from(rate.weight) * 1_000_000_000;
                let interval_ns = logical / u128::from(rate.logical_bytes_per_second.max(1));
                shortest = Some(shortest.map_or(interval_ns, |least| least.min(interval_ns)));
            }
        }
    }
    let place = u128::from(fleet.first_id) + k as u128;
    let ns = shortest.unwrap_or(0) * place / u128::from(fleet.total.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX / 4)
}

/// Producers that `--bytes` is dealt to. Where records vary in length each rounds its part up to whole records, so that
/// there are no more parts than records.
pub fn parts_of_bytes(wanted: &Wanted, producers: usize, sizes: &Sizes) -> usize {
    match wanted.bytes {
        Some(bytes) if sizes.fixed().is_none() => {
            let records = bytes.div_ceil(sizes.mean_bytes.max(1)).max(1);
            usize::try_from(records).unwrap_or(usize::MAX).min(producers)
        }
        _ => producers,
    }
}

/// (records, wire bytes) that each producer may send; `u64::MAX`: no limit.
pub fn limits(wanted: &Wanted, producers: usize, sizes: &Sizes) -> Vec<(u64, u64)> {
    let (mut records, mut bytes) = (wanted.records, wanted.bytes);
    if let (Some(total), Some(size)) = (bytes, sizes.fixed()) {
        let whole = total.div_ceil(size);
        records = Some(records.map_or(whole, |given| given.min(whole)));
        bytes = None;
    }
    let part = |total: Option<u64>, parts: usize, k: usize| match total {
        Some(_) if k >= parts => 0,
        Some(total) => share(total, parts as u64, k as u64),
        None => u64::MAX,
    };
    let parts = parts_of_bytes(wanted, producers, sizes);
    (0..producers).map(|k| (part(records, producers, k), part(bytes, parts, k))).collect()
}

/// `937.5 MB/s = 8 × 117.2 MB/s (7.5 Gbit/s)`, and what the wire carries where that differs.
pub fn rate_note(phase: &PhasePlan, producers: usize) -> Option<String> {
    let rate = phase.rate_bytes_per_second?;
    let whole = units::format_rate(rate as f64);
    let (total, bits) = whole.split_once(" (").unwrap_or((&whole, ""));
    let each = units::format_rate_short(rate as f64 / producers as f64);
    let wire = units::format_rate_short(rate as f64 / phase.weight as f64);
    let sampled =
        if phase.weight > 1 { format!(", 1 record for {}: {wire} on the wire", phase.weight) } else { String::new() };
    Some(format!("{total} = {producers} × {each} ({bits}{sampled}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Settings;
    use crate::config::values;
    use proptest::prelude::*;

    fn wanted() -> Wanted {
        values::read(&Settings::default(), &mut Vec::new())
    }

    fn fleet(producers: usize) -> Fleet {
        Fleet { producers, first_id: 0, total: producers as u64 }
    }

    fn resolved(wanted: &Wanted, producers: usize) -> Schedules {
        let mut errors = Vec::new();
        let schedules = resolve(wanted, false, fleet(producers), &Sizes::fixed_at(4096), &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        schedules
    }

    #[test]
    fn the_warm_up_comes_first_and_the_default_is_ten_seconds() {
        let mut wanted = wanted();
        wanted.warmup_ns = 5;
        wanted.stages[0].rate = Some(Rate::Bytes(10));
        let schedules = resolved(&wanted, 3);
        let lengths: Vec<_> = schedules.phases.iter().map(|p| (p.duration_ns, p.warmup)).collect();
        assert_eq!(lengths, [(5, true), (stages::DURATION_DEFAULT_NS, false)]);
        let rate = |k: usize| match schedules.shares[k][1].schedule {
            Schedule::Steady { rate } => rate.logical_bytes_per_second,
            _ => 0,
        };
        assert_eq!((rate(0), rate(1), rate(2)), (4, 3, 3));
        assert_eq!(schedules.single_rate(), Some(10));
    }

    #[test]
    fn a_duration_cuts_the_stages() {
        let mut wanted = wanted();
        let stage = |ns| Stage { duration_ns: Some(ns), ..wanted.stages[0].clone() };
        wanted.phased = true;
        wanted.stages = vec![stage(10), stage(10), stage(u64::MAX)];
        wanted.duration_ns = Some(15);
        let lengths: Vec<_> = resolved(&wanted, 1).phases.iter().map(|p| p.duration_ns).collect();
        assert_eq!(lengths, [10, 5]);
    }

    #[test]
    fn stages_without_an_end_are_refused_where_they_hide_others() {
        let mut wanted = wanted();
        let stage = wanted.stages[0].clone();
        wanted.stages = vec![
            Stage { duration_ns: Some(u64::MAX), ..stage.clone() },
            stage,
            Stage { burst_on_ns: 0, ..wanted.stages[0].clone() },
        ];
        wanted.phased = true;
        wanted.stages[2].mode = Mode::Burst;
        wanted.stages[2].duration_ns = Some(0);
        let mut errors = Vec::new();
        resolve(&wanted, false, fleet(1), &Sizes::fixed_at(64), &mut errors);
        let all = errors.iter().map(|e| e.what.clone()).collect::<Vec<_>>().join("\n");
        for word in ["never ends", "stage 2 of phases has no duration", "stage 3 of phases lasts 0s", "--burst-on"] {
            assert!(all.contains(word), "{word} in {all}");
        }
    }

    #[test]
    fn bytes_have_no_more_parts_than_records() {
        let ranged = Sizes { min_bytes: 16, max_bytes: 64, mean_bytes: 40, cycle_bytes: 0, count: 0 };
        let mut wanted = wanted();
        wanted.bytes = Some(100);
        let parts: Vec<_> = limits(&wanted, 5, &ranged).iter().map(|(_, bytes)| *bytes).collect();
        assert_eq!(parts, [34, 33, 33, 0, 0]);
        wanted.bytes = Some(1);
        assert_eq!(limits(&wanted, 2, &ranged), [(u64::MAX, 1), (u64::MAX, 0)]);
    }

    #[test]
    fn a_start_is_near() {
        let (now, day, late) = (1_893_499_200_000_000_000, limits::START_AHEAD_NS_MAX, limits::START_LATE_NS_MAX);
        let refused = |at: Option<u64>| {
            let mut errors = Vec::new();
            check_start(at, now, &mut errors);
            errors.first().map(|fatal| fatal.what.clone())
        };
        for near in [None, Some(now - late), Some(now), Some(now + day)] {
            assert_eq!(refused(near), None);
        }
        assert!(refused(Some(now - 900_000_000_000)).unwrap().contains("900 s ago"));
        assert!(refused(Some(now + day + 1)).unwrap().contains("more than"));
    }

    #[test]
    fn a_duration_of_nothing_names_its_flag() {
        let mut wanted = wanted();
        wanted.duration_ns = Some(0);
        // Without phases it is the one stage's as well; with them it cuts them all off.
        for (phased, stage_ns) in [(false, 0), (true, 10)] {
            (wanted.phased, wanted.stages[0].duration_ns) = (phased, Some(stage_ns));
            let mut errors = Vec::new();
            resolve(&wanted, false, fleet(1), &Sizes::fixed_at(64), &mut errors);
            assert!(errors.len() == 1 && errors[0].what.contains("--duration 0s"), "{errors:?}");
        }
    }

    #[test]
    fn schedules_without_measure_are_refused() {
        let mut wanted = wanted();
        wanted.phased = true;
        wanted.stages = vec![Stage { duration_ns: Some(1), ..wanted.stages[0].clone() }; 1000];
        let mut errors = Vec::new();
        resolve(&wanted, false, fleet(65536), &Sizes::fixed_at(64), &mut errors);
        assert!(errors.len() == 1 && errors[0].what.contains("65536000"), "{errors:?}");
        assert_eq!(resolved(&wanted, 1000).shares[999].len(), 1000);
    }

    #[test]
    fn sampling_divides_the_wire_and_caps_bind() {
        let mut wanted = wanted();
        wanted.stages[0] =
            Stage { mode: Mode::Sampled, rate: Some(Rate::Bytes(1_000_000)), weight: 100, ..wanted.stages[0].clone() };
        wanted.producer_rate = Some(Rate::Bytes(300_000));
        let schedules = resolved(&wanted, 2);
        assert_eq!(schedules.phases[0].rate_bytes_per_second, Some(600_000));
        assert_eq!(schedules.slowest_wire_rate(), Some(3_000));
        assert_eq!(
            rate_note(&schedules.phases[0], 2).unwrap(),
            "600 kB/s = 2 × 300 kB/s (4.8 Mbit/s), 1 record for 100: 6 kB/s on the wire"
        );
        let rate = Some(937_500_000);
        let steady =
            PhasePlan { duration_ns: 1, warmup: false, sampled: false, weight: 1, rate_bytes_per_second: rate };
        assert_eq!(rate_note(&steady, 8).unwrap(), "937.5 MB/s = 8 × 117.2 MB/s (7.5 Gbit/s)");
    }

    #[test]
    fn a_rate_too_small_for_its_producers_is_refused() {
        let mut wanted = wanted();
        wanted.stages[0].rate = Some(Rate::Bytes(7));
        let mut errors = Vec::new();
        resolve(&wanted, false, fleet(8), &Sizes::fixed_at(64), &mut errors);
        assert!(errors[0].what.contains("--rate 7 B/s over 8"));
        wanted.stages[0].rate = values::rate("0.09375rec/s").unwrap();
        errors.clear();
        resolve(&wanted, false, fleet(8), &Sizes::fixed_at(64), &mut errors);
        assert!(errors[0].what.contains("--rate 0.09375rec/s (6 B/s) over 8"), "{errors:?}");
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_total(total: u64, parts in 1u64..3000) {
            let all: Vec<_> = (0..parts).map(|index| share(total, parts, index)).collect();
            prop_assert_eq!(all.iter().map(|s| u128::from(*s)).sum::<u128>(), u128::from(total));
            prop_assert!(all.iter().max().unwrap() - all.iter().min().unwrap() <= 1);
        }

        #[test]
        fn a_fleet_shares_one_rate(rate in 4096u64..1 << 50, parallel in 1usize..20, processes in 1u32..20) {
            let mut sum = 0;
            let mut last_stagger = None;
            for index in 0..processes {
                let mut wanted = wanted();
                wanted.shard = (index, processes);
                wanted.parallel = Some(parallel);
                wanted.stages[0].rate = Some(Rate::Bytes(rate));
                let fleet = Fleet::new(&wanted, parallel, &mut Vec::new());
                let schedules = resolve(&wanted, false, fleet, &Sizes::fixed_at(4096), &mut Vec::new());
                sum += schedules.single_rate().unwrap();
                let interval_ns = 4096 * 1_000_000_000 / (u128::from(rate) / u128::from(fleet.total)).max(1);
                for stagger in schedules.stagger_ns {
                    prop_assert!(u128::from(stagger) <= interval_ns);
                    last_stagger = Some(stagger);
                }
            }
            prop_assert_eq!(sum, rate);
            prop_assert!(last_stagger.is_some());
        }

        #[test]
        fn limits_sum_to_what_was_asked(records in 1u64..1 << 40, bytes in 1u64..1 << 50, size in 16u64..1 << 20, parallel in 1usize..100) {
            let mut wanted = wanted();
            wanted.records = Some(records);
            wanted.bytes = Some(bytes);
            let all = limits(&wanted, parallel, &Sizes::fixed_at(size));
            prop_assert_eq!(all.iter().map(|(r, _)| *r).sum::<u64>(), records.min(bytes.div_ceil(size)));
            let ranged = Sizes { min_bytes: 16, max_bytes: 64, mean_bytes: 40, cycle_bytes: 0, count: 0 };
            let all = limits(&wanted, parallel, &ranged);
            prop_assert_eq!(all.iter().map(|(_, b)| *b).sum::<u64>(), bytes);
        }
    }
}
