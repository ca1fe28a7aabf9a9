//! What the settings of a topic let its broker remove.

use super::super::unproved::Cause;
use std::collections::BTreeMap;

pub const KEYS: [&str; 3] = ["cleanup.policy", "retention.ms", "retention.bytes"];

/// The settings that the broker told; none where it did not.
#[derive(Debug, Default)]
pub struct Cleanup {
    settings: BTreeMap<String, Option<String>>,
}

impl Cleanup {
    pub fn new(settings: BTreeMap<String, Option<String>>) -> Self {
        Self { settings }
    }

    /// `None`: not known.
    fn has(&self, policy: &str) -> Option<bool> {
        let policies = self.settings.get(KEYS[0])?.as_ref()?;
        Some(policies.split(',').any(|one| one.trim() == policy))
    }

    /// Of what lay before the log's start.
    pub fn of_start(&self) -> Cause {
        if self.has("delete") == Some(true) { Cause::Retention } else { Cause::Unknown }
    }

    /// Of offsets within the log; `None`: no setting explains that they are not there.
    pub fn of_gap(&self) -> Option<Cause> {
        match self.has("compact") {
            Some(true) => Some(Cause::Compaction),
            Some(false) => None,
            None => Some(Cause::Unknown),
        }
    }

    /// `cleanup.policy=delete, retention.ms=1000`.
    pub fn about(&self) -> String {
        let known: Vec<String> =
            KEYS.iter().filter_map(|key| Some(format!("{key}={}", self.settings.get(*key)?.as_ref()?))).collect();
        if known.is_empty() { "the broker does not tell its settings".to_owned() } else { known.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_say_what_may_be_gone() {
        let with = |policy: &str| Cleanup::new(BTreeMap::from([(KEYS[0].to_owned(), Some(policy.to_owned()))]));
        for (policy, start, gap) in [
            ("delete", Cause::Retention, None),
            ("compact", Cause::Unknown, Some(Cause::Compaction)),
            ("compact, delete", Cause::Retention, Some(Cause::Compaction)),
            ("", Cause::Unknown, None),
        ] {
            let cleanup = with(policy);
            assert_eq!((cleanup.of_start(), cleanup.of_gap()), (start, gap), "{policy}");
        }
        assert_eq!(with("delete").about(), "cleanup.policy=delete");
        let unknown = Cleanup::default();
        assert_eq!((unknown.of_start(), unknown.of_gap()), (Cause::Unknown, Some(Cause::Unknown)));
        assert!(unknown.about().contains("does not tell"));
    }
}
