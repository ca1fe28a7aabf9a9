//! What of a stream looks like damage and is none, for each reason.

use crate::base::units::format_counted;
use std::collections::BTreeMap;

/// Reasons, with how many records they explain.
#[derive(Debug, Default)]
pub struct Explained(BTreeMap<&'static str, u64>);

impl Explained {
    pub fn add(&mut self, reason: &'static str, records: u64) {
        let sum = self.0.entry(reason).or_default();
        *sum = sum.saturating_add(records);
    }

    pub fn lines(&self, label: &str) -> impl Iterator<Item = String> {
        self.0.iter().map(move |(reason, records)| match records {
            0 => format!("{label}: {reason}"),
            records => format!("{label}: {} {reason}", format_counted(*records, "record")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_one_line() {
        let mut explained = Explained::default();
        for (reason, records) in
            [("torn", 1), ("padding", 0), ("torn", 2), ("padding", 0), ("old", u64::MAX), ("old", 1)]
        {
            explained.add(reason, records);
        }
        let lines: Vec<_> = explained.lines("a").collect();
        assert_eq!(lines, ["a: 18,446,744,073,709,551,615 records old", "a: padding", "a: 3 records torn"]);
    }
}
