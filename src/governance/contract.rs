//! The contract: which calls it has, and whether a body follows it. No body leaves unchecked.

use super::bodies::{Bodies, RunEnd};
use super::openapi::{Document, Operation, is_parameter};
use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::counters::{Counts, Field};
use crate::plan::{GovernancePlan, RunPlan};
use crate::tap::EventFacts;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

pub const BUILT_IN: &str = include_str!("../../schemas/openapi/governance.yaml");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    StartRun,
    RegisterProducer,
    PostEvent,
    PostEvents,
    CloseRun,
}

impl Call {
    const ALL: [Call; 5] = [Call::StartRun, Call::RegisterProducer, Call::PostEvent, Call::PostEvents, Call::CloseRun];

    pub fn path(self) -> &'static str {
        match self {
            Call::StartRun => "/v1/runs",
            Call::RegisterProducer => "/v1/producers",
            Call::PostEvent => "/v1/events",
            Call::PostEvents => "/v1/events/batch",
            Call::CloseRun => "/v1/runs/{run_id}/close",
        }
    }
}

/// A contract that fits.
pub struct Contract {
    operations: [Option<Operation>; Call::ALL.len()],
}

impl Contract {
    /// The plan's own contract, or the one that is built in.
    ///
    /// # Errors
    /// Exit 2: everything about it that does not fit what this run would post.
    pub fn of(plan: &RunPlan, governance: &GovernancePlan) -> Result<Self, Fatal> {
        let (name, text) = match &governance.spec {
            Some(spec) => (spec.name.as_str(), &*spec.text),
            None => ("the built-in contract", BUILT_IN),
        };
        Self::read(text, plan, governance).map_err(|wrong| {
            let what = format!("--governance-spec '{name}' does not fit:\n  {}", wrong.join("\n  "));
            Fatal::usage(what).mend("leave out --governance-spec for the built-in contract, or change what is named")
        })
    }

    fn read(text: &str, plan: &RunPlan, governance: &GovernancePlan) -> Result<Self, Vec<String>> {
        let document = Document::parse(text).map_err(|why| vec![why])?;
        let mut found = Call::ALL.map(|call| document.post(call.path(), governance.bearer.is_some()));
        // Events can go one by one or in batches: one of the two may be missing, but not be there and be wrong.
        let absent = |found: &Result<Operation, Vec<String>>| matches!(found, Err(why) if is_absence(why));
        let (single, batch) = (absent(&found[Call::PostEvent as usize]), absent(&found[Call::PostEvents as usize]));
        let mut wrong = Vec::new();
        for (call, found) in Call::ALL.into_iter().zip(&mut found) {
            let spare = match call {
                Call::PostEvent => single && !batch,
                Call::PostEvents => batch && !single,
                _ => false,
            };
            if let Err(why) = found.as_mut().map(|_| ()).map_err(std::mem::take) {
                wrong.extend(why.into_iter().filter(|_| !spare).map(|why| format!("POST {}: {why}", call.path())));
            }
        }
        let contract = Self { operations: found.map(Result::ok) };
        wrong.extend(contract.misfits(plan, governance.every));
        if wrong.is_empty() { Ok(contract) } else { Err(wrong) }
    }

    pub fn has(&self, call: Call) -> bool {
        self.operations[call as usize].is_some()
    }

    /// The path of a call, its parameters filled in.
    pub fn path(&self, call: Call, run_id: &str) -> String {
        let path = self.operations[call as usize].as_ref().map_or(call.path(), |operation| &operation.path);
        let fill = |part| if is_parameter(part) { run_id } else { part };
        path.split('/').map(fill).collect::<Vec<_>>().join("/")
    }

    /// Whether a body may be posted; the error says what is wrong with it.
    pub fn check(&self, call: Call, body: &Value) -> Result<(), String> {
        let Some(operation) = &self.operations[call as usize] else {
            return Err(format!("the contract has no POST {}", call.path()));
        };
        match first_error(&operation.validator, body) {
            None => Ok(()),
            Some(error) => Err(format!("POST {}: {error}", call.path())),
        }
    }

    /// Where the bodies of this run do not fit, each fault once.
    fn misfits(&self, plan: &RunPlan, every: u64) -> Vec<String> {
        let bodies = Bodies::new(plan, every);
        let events = bodies.extremes(plan);
        let full: Vec<EventFacts> = events.iter().copied().cycle().take(limits::GOVERNANCE_BATCH_EVENTS).collect();
        let mut wrong = Vec::new();
        let mut see = |call: Call, body: Value| {
            let Some(operation) = &self.operations[call as usize] else { return };
            for error in operation.validator.iter_errors(&body) {
                let text = format!("POST {}: {}", call.path(), told(&error));
                if !wrong.contains(&text) {
                    wrong.push(text);
                }
            }
        };
        see(Call::StartRun, bodies.run_start(1_000_000_000_000_000_000));
        bodies.producers().for_each(|body| see(Call::RegisterProducer, body));
        events.iter().for_each(|facts| see(Call::PostEvent, bodies.event(facts)));
        see(Call::PostEvents, bodies.batch(&events[..1]));
        see(Call::PostEvents, bodies.batch(&full));
        see(Call::CloseRun, bodies.run_end(&RunEnd::default()));
        see(Call::CloseRun, bodies.run_end(&largest_end()));
        wrong
    }
}

/// Every count as large as it can be.
fn largest_end() -> RunEnd {
    let mut counts = Counts::default();
    Field::ALL.iter().for_each(|field| counts.set(*field, u64::MAX));
    let (ended_unix_ns, events) = (4_000_000_000_123_456_789, u64::MAX);
    RunEnd { ended_unix_ns, ended_early: true, counts, events_offered: events, events_posted: events }
}

fn is_absence(why: &[String]) -> bool {
    why.iter().all(|why| why.starts_with("there is no such path") || why.starts_with("the path takes no POST"))
}

fn first_error(validator: &Validator, body: &Value) -> Option<String> {
    validator.iter_errors(body).next().map(|error| told(&error))
}

/// A validator's finding, in our words where there are some; items of a list are alike.
fn told(error: &ValidationError<'_>) -> String {
    let at = error.instance_path().as_str();
    let place: Vec<_> =
        at.split('/').skip(1).map(|part| if part.parse::<u64>().is_ok() { "*" } else { part }).collect();
    let place = if place.is_empty() { String::new() } else { format!("{}: ", place.join(".")) };
    let text = match error.kind() {
        ValidationErrorKind::Required { property } => format!("{property} is required and not known here"),
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            format!(
                "{} is not allowed",
                unexpected.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
            )
        }
        _ => error.masked().to_string(),
    };
    place + &super::shortened(&text)
}

#[cfg(test)]
mod tests;
