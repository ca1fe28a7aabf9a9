//! What held several processes back, as one verdict.

use crate::base::units::format_counted;
use crate::merge::fleet;
use crate::merge::read::{Input, shard};
use crate::observe::report::{LimitedBy, Pacing, Totals, Verdict};
use crate::observe::verdict::{self, is_met};

/// Parts that the evidence, or a note that several have, names one by one.
const PARTS_NAMED_MAX: usize = 8;

/// The rate, if all together met it; else what held back the producers of those that did not. Of equals the one
/// that hides the others goes first: a machine that does not let the engine run, then the target.
pub fn judge(inputs: &[Input], totals: &Totals, pacing: &Pacing, together: &str) -> Verdict {
    let met = pacing.achieved_ratio.is_some_and(is_met);
    let producers_of = |cause: LimitedBy| -> usize {
        let of = inputs.iter().filter(|input| input.report.verdict.limited_by == cause);
        of.map(|input| input.report.producers.len()).sum()
    };
    let mut limited_by = LimitedBy::Rate;
    if !met {
        let mut most = 0;
        for cause in [LimitedBy::Host, LimitedBy::Target, LimitedBy::Generator] {
            if producers_of(cause) > most {
                (most, limited_by) = (producers_of(cause), cause);
            }
        }
    }
    let rate = pacing.target_bytes_per_second.zip(pacing.achieved_ratio);
    let mut refused = refusals(inputs, totals, limited_by);
    // As of one run: they are why the target is to blame; beside another verdict its own reason goes first.
    let mut evidence = Vec::from_iter(refused.take_if(|_| limited_by == LimitedBy::Target));
    evidence.extend(rate.map(|(target, ratio)| verdict::rate_said(target, ratio)));
    // Without either that is the first part, and there always is one.
    let first = evidence.len().max(1);
    for input in inputs.iter().take(PARTS_NAMED_MAX) {
        let said = input.report.verdict.evidence.first().map_or("", String::as_str);
        evidence.push(format!("{}: limited by {}: {said}", who(input), input.report.verdict.limited_by.name()));
    }
    if inputs.len() > PARTS_NAMED_MAX {
        let more = (inputs.len() - PARTS_NAMED_MAX) as u64;
        evidence.push(format!("not named here: {}", format_counted(more, "more report")));
    }
    // The cause goes first, and what is said of all before what is said of each: a page has room for few sentences.
    let of_all = [
        refused,
        verdict::made_again(totals.reconnects),
        verdict::retransmitted(totals.tcp_retransmits),
        verdict::throttled(totals),
        Some(together.to_owned()),
    ];
    evidence.splice(first..first, of_all.into_iter().flatten());
    let stolen: Option<Vec<f64>> = inputs.iter().map(|input| input.report.verdict.stolen_ratio).collect();
    let stolen_ratio = stolen.and_then(|all| all.into_iter().reduce(f64::max));
    Verdict { limited_by, evidence, notes: notes(inputs), stolen_ratio }
}

/// Whichever of them has a note, the sum is to be read with it: none is left out. What several say is told once. What
/// is missing is of all of them: a shard that a merged report lacks may be among the others.
fn notes(inputs: &[Input]) -> Vec<String> {
    let absent = fleet::absent(inputs.iter().map(|input| &input.report));
    let mut told: Vec<(&str, Vec<&Input>)> = Vec::new();
    for input in inputs {
        let lacks = fleet::absent([&input.report]);
        let notes = input.report.verdict.notes.iter().map(String::as_str);
        for note in notes.filter(|note| Some(*note) != lacks.as_deref()) {
            match told.iter_mut().find(|(said, _)| *said == note) {
                Some((_, of)) => of.push(input),
                None => told.push((note, vec![input])),
            }
        }
    }
    let told = told.into_iter().map(|(note, of)| format!("{}: {note}", several(&of)));
    absent.into_iter().chain(told).collect()
}

fn several(inputs: &[&Input]) -> String {
    let named: Vec<_> = inputs.iter().take(PARTS_NAMED_MAX).map(|input| who(input)).collect();
    match inputs.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Of all of them together, as a run tells its own.
fn refusals(inputs: &[Input], totals: &Totals, limited_by: LimitedBy) -> Option<String> {
    let refused = inputs.iter().map(|input| verdict::records_refused(&input.report.errors));
    let producers = inputs.iter().flat_map(|input| &input.report.producers);
    let statuses =
        producers.flat_map(|of| verdict::refused_with(of.first_refused_status, of.answers.as_ref())).collect();
    verdict::refusals(limited_by, totals, refused.fold(0, u64::saturating_add), &statuses)
}

pub fn who(input: &Input) -> String {
    match shard(&input.report) {
        Some(shards) if shards.contains([',', '-']) => format!("shards {shards}"),
        Some(shard) => format!("shard {shard}"),
        None => input.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing;

    /// Of a shard, which has these notes.
    fn input(shard: &str, notes: &[&str]) -> Input {
        let mut report = testing::report();
        report.config.insert("shard".to_owned(), shard.into());
        report.errors.clear();
        report.verdict.notes = notes.iter().map(|note| (*note).to_owned()).collect();
        Input { name: String::new(), report }
    }

    fn unpaced() -> Pacing {
        Pacing { target_bytes_per_second: None, achieved_ratio: None, ..testing::report().pacing }
    }

    fn verdict_of(inputs: &[Input], totals: &Totals) -> Verdict {
        judge(inputs, totals, &testing::report().pacing, "all ran at once")
    }

    #[test]
    fn notes_of_all_are_told_and_what_several_say_once() {
        let mut inputs: Vec<_> = (0..8).map(|at| input(&format!("{at}/9"), &[])).collect();
        inputs.push(input("8/9", &["its clock went away"]));
        let said = verdict_of(&inputs, &Totals::default());
        assert_eq!(said.notes, ["shard 8/9: its clock went away"]);
        assert_eq!(said.evidence.last().map(String::as_str), Some("not named here: 1 more report"));
        let inputs = [input("0/2", &["too short"]), input("1/2", &["late", "too short"])];
        let said = verdict_of(&inputs, &Totals::default()).notes;
        assert_eq!(said, ["shard 0/2, shard 1/2: too short", "shard 1/2: late"]);
        let inputs: Vec<_> = (0..11).map(|at| input(&format!("{at}/11"), &["too short"])).collect();
        let said = verdict_of(&inputs, &Totals::default()).notes;
        assert!(said.len() == 1 && said[0].ends_with(", shard 7/11 and 3 more: too short"), "{said:?}");
    }

    #[test]
    fn refusals_go_before_the_verdicts_own_reason_only_where_the_target_is_to_blame() {
        let rate = |ratio| Pacing { target_bytes_per_second: Some(1e6), achieved_ratio: Some(ratio), ..unpaced() };
        let of_rate = |ratio| verdict::rate_said(1e6, ratio);
        let of_part = |cause: LimitedBy| format!("shard 0/2: limited by {}: ", cause.name());
        for (cause, pacing, reason) in [
            (LimitedBy::Rate, rate(1.0), of_rate(1.0)),
            (LimitedBy::Generator, unpaced(), of_part(LimitedBy::Generator)),
            (LimitedBy::Host, unpaced(), of_part(LimitedBy::Host)),
            (LimitedBy::Host, rate(0.5), of_rate(0.5)),
            (LimitedBy::Target, unpaced(), of_part(LimitedBy::Target)),
            (LimitedBy::Target, rate(0.5), of_rate(0.5)),
        ] {
            let mut inputs = [input("0/2", &[]), input("1/2", &[])];
            inputs.iter_mut().for_each(|input| input.report.verdict.limited_by = cause);
            inputs[1].report.errors.insert("status".to_owned(), 30);
            let Verdict { limited_by, evidence, .. } = judge(&inputs, &Totals::default(), &pacing, "all ran at once");
            let at = usize::from(cause != LimitedBy::Target);
            let is_refused = |said: &String| said.contains(" refused 30 of ");
            assert_eq!((limited_by, evidence.iter().position(is_refused)), (cause, Some(at)), "{evidence:?}");
            let at = evidence.iter().position(|said| said.starts_with(&reason)).unwrap();
            let among = evidence.iter().position(|said| said == "all ran at once").unwrap();
            assert!(at == 0 || cause == LimitedBy::Target, "{evidence:?}");
            assert_eq!(at < among, cause != LimitedBy::Target || pacing.achieved_ratio.is_some(), "{evidence:?}");
        }
    }

    #[test]
    fn what_is_said_of_all_goes_before_what_is_said_of_each() {
        let inputs: Vec<_> = (0..6).map(|at| input(&format!("{at}/8"), &[])).collect();
        let totals = Totals { reconnects: 2, ..Totals::default() };
        let Verdict { evidence: said, notes, .. } = verdict_of(&inputs, &totals);
        assert!(notes[0].starts_with("2 of the fleet's 8 shards are not in it (6, 7): "), "{notes:?}");
        assert!(said[1].starts_with("2 connections made again"), "{said:?}");
        assert_eq!(said[2], "all ran at once");
        let of_each = said.iter().rposition(|said| said.starts_with("shard ")).unwrap();
        assert_eq!(of_each, said.len() - 1, "{said:?}");
    }
}
