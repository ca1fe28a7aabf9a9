//! Reports from files, and whether they are those of one run.

use crate::base::fatal::Fatal;
use crate::observe::read::{self, Found, Head};
use crate::observe::report::Report;
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// A report and what to call it.
pub struct Input {
    pub name: String,
    pub report: Report,
}

/// One after the other: the text of a long run's report is large, and only one at a time is held.
pub fn all(paths: &[PathBuf]) -> Result<Vec<Input>, Fatal> {
    let mut inputs = Vec::with_capacity(paths.len());
    let mut first: Option<(String, Head)> = None;
    for path in paths {
        let found = read::found(path)?;
        if let Some((name, wanted)) = &first {
            of_one_run(name, wanted, &found)?;
        }
        let report = found.parse()?;
        let Found { name, head, .. } = found;
        first.get_or_insert_with(|| (name.clone(), head));
        inputs.push(Input { name, report });
    }
    one_fleet(&inputs)?;
    Ok(inputs)
}

/// Before anything else of it is read: reports of another version may have other keys.
fn of_one_run(first: &str, wanted: &Head, other: &Found) -> Result<(), Fatal> {
    let (name, head) = (&other.name, &other.head);
    let versions = ("schema_version", &wanted.schema_version, &head.schema_version);
    for (key, wanted, value) in [versions, ("run_id", &wanted.run_id, &head.run_id)] {
        if value != wanted {
            let what = format!("{first} has {key} {wanted}, {name} has {value}");
            return Err(Fatal::usage(what).mend("merge the reports of one run, written by one version"));
        }
    }
    Ok(())
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

/// `I/N`; a merged report has them where some are missing, as `0-2,4/8`, and else none.
pub fn shard(report: &Report) -> Option<&str> {
    report.config.get("shard").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing;

    #[test]
    fn reports_are_read_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let first = put("first.json", testing::report().to_json_line());
        let other = put("other.json", Report { run_id: "another".into(), ..testing::report() }.to_json_line());
        let newer = put("newer.json", "{\"schema_version\":7}".to_owned());
        let noise = put("noise.json", "noise".to_owned());
        let refused = |paths: [&PathBuf; 3]| {
            let refused = all(&paths.map(PathBuf::clone)).err();
            refused.map(|fatal| fatal.what).unwrap_or_default()
        };
        // What comes later has not been looked at.
        let said = refused([&first, &other, &noise]);
        assert!(said.contains("other.json has \"another\"") && said.contains("first.json has run_id"), "{said}");
        let said = refused([&first, &newer, &noise]);
        assert!(said.contains("first.json has schema_version 1,") && said.ends_with("newer.json has 7"), "{said}");
        assert!(refused([&first, &noise, &other]).contains("noise.json is no report"));
    }
}
