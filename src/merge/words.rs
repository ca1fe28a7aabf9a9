//! What is said of several processes at once.

use crate::base::units::format_rate_short;
use crate::merge::read::{Input, shard};
use crate::observe::report::{LimitedBy, Pacing, Verdict};
use crate::observe::verdict::{RATE_MET_RATIO, percent};

/// Parts that the evidence names one by one.
const PARTS_NAMED_MAX: usize = 8;

/// The rate, if all together met it; else what held back the producers of those that did not. Of equals the one
/// that hides the others goes first: a machine that does not let the engine run, then the target.
pub fn verdict(inputs: &[Input], pacing: &Pacing, together: &str) -> Verdict {
    let mut evidence = Vec::new();
    let met = pacing.achieved_ratio.is_some_and(|ratio| ratio >= RATE_MET_RATIO);
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
    if let (Some(target), Some(ratio)) = (pacing.target_bytes_per_second, pacing.achieved_ratio) {
        let word = if met { "was met" } else { "was not met" };
        let (target, ratio) = (format_rate_short(target), percent(ratio));
        evidence.push(format!("the rate of {target} {word}: {ratio} of the records due were produced"));
    }
    for input in inputs.iter().take(PARTS_NAMED_MAX) {
        let said = input.report.verdict.evidence.first().map_or("", String::as_str);
        evidence.push(format!("{}: limited by {}: {said}", who(input), input.report.verdict.limited_by.name()));
    }
    if inputs.len() > PARTS_NAMED_MAX {
        evidence.push(format!("{} more reports are not named here", inputs.len() - PARTS_NAMED_MAX));
    }
    evidence.push(together.to_owned());
    evidence.extend(absent(inputs));
    Verdict { limited_by, evidence }
}

/// Shards that nobody gave a report of.
fn absent(inputs: &[Input]) -> Option<String> {
    let shards: Vec<&str> = inputs.iter().map(|input| shard(&input.report)).collect::<Option<_>>()?;
    let count: usize = shards.first()?.split_once('/')?.1.parse().ok()?;
    let missing = count.saturating_sub(shards.len());
    (missing > 0).then(|| format!("{missing} of the fleet's {count} shards are not in it"))
}

pub fn who(input: &Input) -> String {
    shard(&input.report).map_or_else(|| input.name.clone(), |shard| format!("shard {shard}"))
}
