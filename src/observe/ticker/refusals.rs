//! What the targets refuse, told as soon as it is seen: a count of errors does not say what to mend.

use crate::counters::answers::{BodyRefusal, REFUSED_STATUSES_MAX};
use crate::counters::broker_errors::Refusal;
use crate::observe::shared::Shared;
use crate::wire::http::status::status_line;
use crate::wire::kafka::errors::broker_error;
use std::collections::{BTreeMap, BTreeSet};

/// Those that were told, of each target the first few.
#[derive(Default)]
pub struct Refusals {
    statuses: BTreeMap<usize, BTreeSet<u16>>,
    /// Of brokers: the error codes.
    codes: BTreeMap<usize, BTreeSet<i16>>,
    /// The targets whose first 2xx refused by its body was told.
    by_body: BTreeSet<usize>,
}

impl Refusals {
    pub fn tell(&mut self, shared: &Shared) {
        let plan = &shared.plan;
        for (core, live) in plan.cores.iter().zip(&shared.live) {
            for (&producer, lane) in core.producers.iter().zip(&live.lanes) {
                let at = plan.producers[producer].target;
                let target = &plan.sink.targets[at];
                for status in lane.refused() {
                    if let Some(which) = news(&mut self.statuses, at, status) {
                        let line = status_line(status);
                        tracing::warn!(event = "refused", target, status, "{target}: {which} refused answer: {line}");
                    }
                }
                if let Some(refusal) = lane.body_refusal().filter(|_| self.by_body.insert(at)) {
                    tell_body_refusal(target, refusal);
                }
                for refusal in lane.broker_refusals() {
                    if let Some(which) = news(&mut self.codes, at, refusal.code) {
                        tell_broker_refusal(target, refusal, which);
                    }
                }
            }
        }
    }
}

fn tell_body_refusal(target: &str, BodyRefusal { status, words }: &BodyRefusal) {
    let (line, why) = (status_line(*status), words.as_reason());
    tracing::warn!(
        event = "refused",
        target,
        status,
        "{target}: first answer with the text of --http-refused-by: {line}{why}"
    );
}

/// Takes note of a target's refusal: `first` or `another`, if it is to be told.
fn news<K: Ord>(told: &mut BTreeMap<usize, BTreeSet<K>>, target: usize, refusal: K) -> Option<&'static str> {
    let told = told.entry(target).or_default();
    let which = if told.is_empty() { "first" } else { "another" };
    (told.len() < REFUSED_STATUSES_MAX && told.insert(refusal)).then_some(which)
}

fn tell_broker_refusal(target: &str, refusal: &Refusal, which: &str) {
    let (error, why) = (broker_error(refusal.code), refusal.words.as_reason());
    let mend = error.remedy().map(|mend| format!("\n  mend: {mend}")).unwrap_or_default();
    tracing::warn!(
        event = "refused",
        target,
        code = error.code,
        error = error.name,
        "{target}: {which} refused batch: {error}{why}{mend}"
    );
}
