//! Which shards of its fleet a report has, and what follows where some are missing.

use crate::base::fatal::Exit;
use crate::host::cpu::{format_list, parse_list};
use crate::merge::read::{Input, shard};
use crate::observe::report::{Report, SloResult, Totals};
use crate::plan::{Slo, SloMetric};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Missing shards that are named one by one.
const SHARDS_NAMED_MAX: usize = 8;

/// These of so many shards.
struct Part {
    shards: BTreeSet<usize>,
    count: usize,
}

impl Part {
    /// What `shard` of its settings says: `3/8`, of a merged report that lacks some `0-2,4/8`.
    fn of(report: &Report) -> Option<Self> {
        let (shards, count) = shard(report)?.split_once('/')?;
        Some(Self { shards: parse_list(shards).ok()?.into_iter().collect(), count: count.parse().ok()? })
    }

    /// Where one of them does not say, nobody knows what is missing.
    fn of_all<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Option<Self> {
        let parts: Vec<Self> = reports.into_iter().map(Self::of).collect::<Option<_>>()?;
        let count = parts.first()?.count;
        Some(Self { shards: parts.into_iter().flat_map(|part| part.shards).collect(), count })
    }

    fn missing(&self) -> usize {
        self.count.saturating_sub(self.shards.len())
    }
}

/// Says which shards nobody gave a report of.
pub fn absent<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Option<String> {
    let part = Part::of_all(reports)?;
    let (count, missing) = (part.count, part.missing());
    let absent = (0..count).filter(|index| !part.shards.contains(index));
    let named: Vec<_> = absent.take(SHARDS_NAMED_MAX).map(|index| index.to_string()).collect();
    let more = missing.saturating_sub(named.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let are = if missing == 1 { "is" } else { "are" };
    let named = named.join(", ");
    let what = format!("{missing} of the fleet's {count} shards {are} not in it ({named}{more})");
    (missing > 0).then(|| format!("{what}: nobody knows what was lost there, and exit_code is not 0"))
}

/// The settings that all agree on, and which shards are there where some are missing, for a merge to come.
pub fn settings(inputs: &[Input], mut agreed: Map<String, Value>) -> Map<String, Value> {
    if let Some(part) = Part::of_all(inputs.iter().map(|input| &input.report)).filter(|part| part.missing() > 0) {
        let shards: Vec<usize> = part.shards.iter().copied().collect();
        agreed.insert("shard".to_owned(), format!("{}/{}", format_list(&shards), part.count).into());
    }
    agreed
}

/// What all of them ended with.
pub fn exit(inputs: &[Input], slo: &[SloResult]) -> Exit {
    let reports = || inputs.iter().map(|input| &input.report);
    // Each was held to a part of the rates, and knows only its own latencies: what is missed is seen in the sum.
    let own = reports().map(own_exit).filter(|exit| *exit != Exit::SloMissed);
    let missed = slo.iter().any(|slo| !slo.passed).then_some(Exit::SloMissed);
    let lacking = absent(reports()).map(|_| Exit::Failed);
    own.chain(missed).chain(lacking).max_by_key(|exit| exit.severity()).unwrap_or(Exit::Done)
}

/// What its processes ended with: the shards that a merged report lacks may be among the others.
fn own_exit(report: &Report) -> Exit {
    let exit = Exit::from_code(report.exit_code);
    let is_lossy = |totals: &Totals| totals.records_failed > 0 || totals.records_uncertain > 0;
    let failed = is_lossy(&report.totals) || is_lossy(&report.warmup.totals) || report.ended_early.is_some();
    let is_part = || report.is_merged() && absent([report]).is_some();
    if exit == Exit::Failed && !failed && is_part() { Exit::Done } else { exit }
}

/// What a missing shard lost nobody knows: no threshold on it is met.
pub fn judge_losses(slo: &[Slo], judged: &mut [SloResult]) {
    for (slo, result) in slo.iter().zip(judged) {
        if matches!(slo.metric, SloMetric::Errors | SloMetric::NotSent) {
            (result.value, result.passed) = (None, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::sums;
    use crate::observe::testing;

    /// Without losses, and with a threshold on each kind.
    fn input(shard: &str, id: u32) -> Input {
        let mut report = testing::report();
        report.config.insert("shard".to_owned(), shard.into());
        (report.totals.records_failed, report.totals.records_uncertain) = (0, 0);
        (report.totals.records_not_sent, report.ended_early, report.exit_code) = (0, None, 0);
        report.verdict.notes.clear();
        report.producers.truncate(1);
        report.producers[0].id = id;
        let slo = |expression: &str| SloResult {
            expression: expression.to_owned(),
            value: Some(0.0),
            threshold: Some(0.0),
            passed: true,
        };
        report.slo = vec![slo("errors==0"), slo("not_sent==0"), slo("records_per_second>0")];
        Input { name: format!("{id}.json"), report }
    }

    fn merged(name: &str, inputs: &[Input]) -> Input {
        Input { name: name.to_owned(), report: sums::add(inputs).unwrap() }
    }

    fn passed(report: &Report) -> Vec<bool> {
        report.slo.iter().map(|slo| slo.passed).collect()
    }

    #[test]
    fn a_fleet_without_a_shard_has_not_done_well() {
        let few = merged("few.json", &[input("0/3", 0), input("2/3", 2)]).report;
        assert_eq!((few.exit_code, passed(&few)), (1, vec![false, false, true]), "{:?}", few.slo);
        assert_eq!((few.slo[0].value, few.slo[1].value), (None, None));
        let said = "1 of the fleet's 3 shards is not in it (1): nobody knows what was lost there, ";
        assert_eq!(few.verdict.notes, [format!("{said}and exit_code is not 0")]);
        let all = merged("all.json", &[input("0/3", 0), input("1/3", 1), input("2/3", 2)]).report;
        assert_eq!((all.exit_code, passed(&all), all.verdict.notes.len()), (0, vec![true; 3], 0));
        assert_eq!(all.config["shard"], Value::Null);
    }

    #[test]
    fn the_code_is_the_worst_of_what_ended_what_is_missed_in_all_and_what_is_absent() {
        let shards = |codes: [u8; 2]| {
            let mut inputs = [input("0/2", 0), input("1/2", 1)];
            for (input, code) in inputs.iter_mut().zip(codes) {
                input.report.exit_code = code;
            }
            inputs
        };
        let met = shards([0, 0])[0].report.slo.clone();
        let missed = vec![SloResult { passed: false, ..met[0].clone() }];
        let all = shards([0, 0]);
        assert_eq!(
            (exit(&all, &met), exit(&all, &missed), exit(&all[..1], &met)),
            (Exit::Done, Exit::SloMissed, Exit::Failed)
        );
        assert_eq!(exit(&shards([0, 4]), &met), Exit::Done, "one's own share of a rate was missed, and not the whole");
        assert_eq!(exit(&shards([1, 0]), &missed), Exit::Failed);
    }

    #[test]
    fn codes_that_are_worse_stay() {
        let mut unreachable = input("0/2", 0);
        unreachable.report.exit_code = 5;
        assert_eq!(merged("", &[unreachable]).report.exit_code, 5);
    }

    #[test]
    fn what_is_missing_is_known_after_two_steps_too() {
        let pair = merged("pair.json", &[input("1/5", 1), input("2/5", 2)]);
        assert_eq!(pair.report.config["shard"], "1-2/5");
        let most = merged("most.json", &[pair, input("3/5", 3)]).report;
        assert_eq!((most.exit_code, &most.config["shard"]), (1, &Value::from("1-3/5")));
        assert_eq!(most.verdict.notes.len(), 1, "what the pair lacked is told anew: {:?}", most.verdict.notes);
        assert!(most.verdict.notes[0].starts_with("2 of the fleet's 5 shards are not in it (0, 4): "));
        let most = Input { name: "most.json".to_owned(), report: most };
        let whole = merged("whole.json", &[most, input("4/5", 4), input("0/5", 0)]).report;
        assert_eq!((whole.exit_code, passed(&whole), whole.verdict.notes.len()), (0, vec![true; 3], 0));
    }

    #[test]
    fn a_part_keeps_what_its_own_processes_ended_with() {
        let mut bad = input("1/3", 1);
        (bad.report.totals.records_failed, bad.report.exit_code) = (1, 1);
        let pair = merged("pair.json", &[input("0/3", 0), bad]);
        assert_eq!(merged("whole.json", &[pair, input("2/3", 2)]).report.exit_code, 1);
        let mut full = input("1/3", 1);
        (full.report.ended_early, full.report.exit_code) = (Some("/data is full".to_owned()), 1);
        let pair = merged("pair.json", &[input("0/3", 0), full]);
        assert_eq!(merged("whole.json", &[pair, input("2/3", 2)]).report.exit_code, 1);
    }

    #[test]
    fn of_many_missing_shards_some_are_named() {
        let said = absent([&input("3/4000000000", 3).report]).unwrap_or_default();
        assert!(said.starts_with("3999999999 of the fleet's 4000000000 shards are not in it (0, 1, 2, 4, "), "{said}");
        assert!(said.contains(", 8 and 3999999991 more): "), "{said}");
    }
}
