//! Reports from files, and whether they are those of one run.

use crate::base::fatal::Fatal;
use crate::observe::read;
use crate::observe::report::Report;
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// A report and what to call it.
pub struct Input {
    pub name: String,
    pub report: Report,
}

pub fn all(paths: &[PathBuf]) -> Result<Vec<Input>, Fatal> {
    let values: Vec<(String, Value)> = paths.iter().map(|path| read::value(path)).collect::<Result<_, _>>()?;
    same(&values, "schema_version")?;
    same(&values, "run_id")?;
    let input = |(name, value): (String, Value)| read::parse(&name, value).map(|report| Input { name, report });
    let inputs: Vec<Input> = values.into_iter().map(input).collect::<Result<_, _>>()?;
    one_fleet(&inputs)?;
    Ok(inputs)
}

/// Before anything else is read: reports of another version may have other keys.
fn same(values: &[(String, Value)], key: &str) -> Result<(), Fatal> {
    let Some((first, wanted)) = values.first() else { return Ok(()) };
    match values.iter().find(|(_, value)| value[key] != wanted[key]) {
        None => Ok(()),
        Some((other, value)) => {
            let what = format!("{first} has {key} {}, {other} has {}", wanted[key], value[key]);
            Err(Fatal::usage(what).mend("merge the reports of one run, written by one version"))
        }
    }
}

/// The shards have one N, and no producer is in two of them.
fn one_fleet(inputs: &[Input]) -> Result<(), Fatal> {
    let mut count_of: Option<(&str, &str)> = None;
    let mut owners: HashMap<u32, &Input> = HashMap::new();
    for input in inputs {
        for producer in &input.report.producers {
            let Some(other) = owners.insert(producer.id, input) else { continue };
            let what = format!(
                "{} (shard {}) and {} (shard {}) both have producer {}",
                other.name,
                shard(&other.report).unwrap_or("unknown"),
                input.name,
                shard(&input.report).unwrap_or("unknown"),
                producer.id
            );
            return Err(Fatal::usage(what).mend("name each report once; give each process its own --shard I/N"));
        }
        let Some((_, count)) = shard(&input.report).and_then(|shard| shard.split_once('/')) else { continue };
        match count_of {
            Some((other, wanted)) if wanted != count => {
                let what = format!("{other} is a shard of {wanted}, {} one of {count}", input.name);
                return Err(Fatal::usage(what).mend("merge the reports of one fleet"));
            }
            _ => count_of = Some((&input.name, count)),
        }
    }
    Ok(())
}

/// `I/N`; a merged report may have many, and then says none.
pub fn shard(report: &Report) -> Option<&str> {
    report.config.get("shard").and_then(Value::as_str)
}
