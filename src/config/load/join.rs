//! What a source says, put on top of what the sources below it say.

use super::Given;
use crate::config::keys::{self, Kind};
use crate::config::{kafka_properties, slo};
use std::collections::BTreeMap;

type Values = BTreeMap<&'static str, Vec<Given>>;

/// A setting takes the place of what was said below. Where the items of a list have names, only items of the same name
/// go: a property for one run leaves those of the file as they are.
pub fn onto(values: &mut Values, above: Values) {
    for (name, given) in above {
        let below = values.remove(name).unwrap_or_default();
        let mut joined: Vec<_> = match keys::find(name).map(|key| key.kind) {
            Some(kind @ (Kind::Header | Kind::Property | Kind::Slo)) => {
                below.into_iter().filter_map(|one| left(kind, one, &given)).collect()
            }
            _ => Vec::new(),
        };
        joined.extend(given);
        values.insert(name, joined);
    }
}

/// What of `below` is not said anew above it.
fn left(kind: Kind, below: Given, above: &[Given]) -> Option<Given> {
    let said_anew = |item: &str| {
        let mut others = above.iter().flat_map(|given| items(kind, &given.text));
        others.any(|other| are_of_one_name(kind, item, other))
    };
    // A variable that came out empty gives way here, as all others do.
    let stays = |&item: &&str| !item.is_empty() && !said_anew(item);
    let left: Vec<_> = items(kind, &below.text).into_iter().filter(stays).collect();
    if left.is_empty() {
        return None;
    }
    let text = left.join(",");
    Some(Given { text, source: below.source })
}

/// One text may have several thresholds.
fn items(kind: Kind, text: &str) -> Vec<&str> {
    match kind {
        Kind::Slo => text.split(',').map(str::trim).collect(),
        _ => vec![text],
    }
}

fn are_of_one_name(kind: Kind, one: &str, other: &str) -> bool {
    match kind {
        Kind::Header => {
            let [one, other] = [one, other].map(|header| header.split(':').next().unwrap_or_default().trim());
            one.eq_ignore_ascii_case(other)
        }
        Kind::Property => kafka_properties::name(one) == kafka_properties::name(other),
        _ => slo::metric(one).is_some_and(|metric| slo::metric(other) == Some(metric)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Source;

    /// What the file, the variable and the flags come to together.
    fn joined(name: &'static str, sources: [&[&str]; 3]) -> Vec<String> {
        let file = Source::File { path: "run.yaml".into(), line: 1 };
        let mut values = Values::new();
        for (source, texts) in [file, Source::Variable, Source::Flag].iter().zip(sources) {
            let given = texts.iter().map(|text| Given { text: (*text).to_owned(), source: source.clone() });
            let given: Vec<_> = given.collect();
            if !given.is_empty() {
                onto(&mut values, Values::from([(name, given)]));
            }
        }
        values.remove(name).unwrap_or_default().into_iter().map(|given| given.text).collect()
    }

    #[test]
    fn properties_and_headers_are_joined_by_name() {
        let found = joined("kafka-property", [&["acks=1", "linger.ms=5"], &["retries=3"], &["linger.ms = 20"]]);
        assert_eq!(found, ["acks=1", "retries=3", "linger.ms = 20"]);
        let found = joined("http-header", [&["X-Api-Key: a", "X-A: b"], &[], &["x-a:c", "X-B: d"]]);
        assert_eq!(found, ["X-Api-Key: a", "x-a:c", "X-B: d"]);
        // What one source doubles is for others to judge.
        assert_eq!(joined("http-header", [&[], &["X-A: 1", "X-A: 2"], &["X-B: 3"]]).len(), 3);
    }

    #[test]
    fn thresholds_are_joined_by_what_they_are_on() {
        let file = "p99<5ms, errors==0,rate>=1GB/s,rate<2GB/s";
        let found = joined("slo", [&[file], &["max<1s"], &["p99.0<1ms,rate>=3GB/s"]]);
        assert_eq!(found, ["errors==0", "max<1s", "p99.0<1ms,rate>=3GB/s"]);
        assert_eq!(joined("slo", [&[], &["p99<5ms"], &["p99<1ms"]]), ["p99<1ms"]);
        // What cannot be read stays, and is refused where it was said.
        assert_eq!(joined("slo", [&["nonsense"], &[], &["errors==0"]]), ["nonsense", "errors==0"]);
        assert_eq!(joined("slo", [&["p99<5ms"], &[""], &[]]), ["p99<5ms", ""]);
    }

    #[test]
    fn what_came_out_empty_gives_way_to_what_is_said_above_it() {
        for (name, said) in [("slo", "errors==0"), ("http-header", "X-A: 1"), ("kafka-property", "acks=1")] {
            assert_eq!(joined(name, [&[], &[""], &[said]]), [said], "{name}");
        }
    }

    #[test]
    fn other_settings_are_replaced() {
        assert_eq!(joined("target", [&["file:a", "file:b"], &[], &["null"]]), ["null"]);
        assert_eq!(joined("overwrite-device", [&["S1"], &["S2", "S3"], &[]]), ["S2", "S3"]);
        assert_eq!(joined("seed", [&["1"], &["2"], &["3"]]), ["3"]);
    }
}
