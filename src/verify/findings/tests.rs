use super::*;

#[test]
fn the_summary_counts_what_it_lists() {
    let mut findings = Findings { records: 1, ..Findings::default() };
    findings.add(Finding::new(Kind::Absent, "absent").sequences(5, 24));
    let said = findings.summary();
    assert!(said.contains("DAMAGED: 1 record in") && said.contains("1 gap (20 missing)"), "{said}");
    (0..20).for_each(|at| findings.add(Finding::new(Kind::Corrupt, "corrupt").sequences(at, at)));
    let said = findings.summary_with("--report", ("over", "connection"));
    assert!(said.contains("and 12 more (--report lists up to 100 of a kind)"), "{said}");
    assert_eq!((findings.counted().as_str(), findings.told().count()), ("20 corrupt, 1 absent", 9));
}

#[test]
fn a_sample_does_not_claim_that_there_was_no_producer() {
    let sampled = Findings { records: 3685, sources: 2, ..Findings::default() };
    assert!(sampled.summary().starts_with("intact: 3,685 records in 2 sources"), "{}", sampled.summary());
    let none = Findings::default().summary();
    assert!(none.starts_with("intact: 0 records of 0 producers in 0 sources"), "{none}");
}

#[test]
fn producers_are_told_by_run() {
    let of = |producers: &[(&str, u32)]| {
        let read = |(run, producer_id): &(&str, u32)| ProducerRead {
            run_id_hash: (*run).to_owned(),
            producer_id: *producer_id,
            records: 100,
            first_sequence: Some(0),
            last_sequence: Some(99),
        };
        let producers: Vec<_> = producers.iter().map(read).collect();
        let findings = Findings { records: 300, sources: 10, producers, ..Findings::default() };
        let said = findings.summary_with("--report", ("over", "connection"));
        said.lines().next().unwrap().split(", 0 B").next().unwrap().to_owned()
    };
    assert_eq!(of(&[("a", 0), ("a", 1), ("a", 2)]), "intact: 300 records of 3 producers over 10 connections");
    let runs = "intact: 300 records of 3 runs, 1 producer each, over 10 connections";
    assert_eq!(of(&[("a", 0), ("b", 0), ("c", 0)]), runs);
    let uneven = "intact: 300 records of 2 runs, 3 producers in all, over 10 connections";
    assert_eq!(of(&[("a", 0), ("b", 0), ("b", 1)]), uneven);
}

#[test]
fn what_carries_no_facts_is_not_called_intact() {
    let mut findings = Findings { bytes_unverifiable: 1000, ..Findings::default() };
    findings.add(Finding::new(Kind::Unproved, "carries no facts"));
    assert!(findings.summary().starts_with("NOTHING PROVED: 0 records"), "{}", findings.summary());
    findings.bytes = 1000;
    assert!(findings.summary().contains(" in 0 sources, 1 kB\n"), "no rate of reading: {}", findings.summary());
    assert_eq!((findings.clean, findings.exit()), (false, Exit::Failed));
    // Beside records that are proved.
    findings.records = 5;
    assert!(findings.summary().starts_with("INCOMPLETE: 5 records"), "{}", findings.summary());
    findings.add(Finding::new(Kind::Truncated, "cut off"));
    assert!(findings.summary().starts_with("DAMAGED: "), "{}", findings.summary());
}

#[test]
fn what_is_forged_is_not_counted_as_corrupt() {
    let mut findings = Findings::default();
    findings.add(Finding::new(Kind::Forged, "forged").sequences(5, 5));
    let said = findings.summary();
    assert!(said.contains("0 corrupt records, 1 forged\n"), "{said}");
}

#[test]
fn a_colon_follows_only_what_is_named() {
    let mut findings = Findings::default();
    findings.add(Finding::new(Kind::Nothing, "no record was read"));
    findings.add(Finding::new(Kind::Truncated, "cut off").producer(3));
    let said = findings.summary();
    assert!(said.contains("\n  nothing      no record was read\n"), "{said}");
    assert!(said.contains("\n  truncated    producer 3: cut off\n"), "{said}");
}

#[test]
fn other_runs_beside_an_intact_one_are_not_called_damage() {
    let mut findings = Findings { wanted_was_read: true, ..Findings::default() };
    findings.add_other_run(Finding::new(Kind::Foreign, "9 records of another run").records(9));
    let said = findings.summary();
    assert!(said.starts_with("OTHER RUNS: ") && said.contains("\n  mend: each run's report with --expect"), "{said}");
    assert_eq!((findings.clean, findings.exit()), (false, Exit::Failed));
    // Within the data of the run it is damage.
    findings.add(Finding::new(Kind::Foreign, "1 records of another run").records(1));
    let said = findings.summary();
    assert!(said.starts_with("DAMAGED: ") && !said.contains("mend: "), "{said}");
}

#[test]
fn other_runs_in_the_place_of_the_one_asked_for_are_called_damage() {
    let mut findings = Findings::default();
    findings.add_other_run(Finding::new(Kind::Foreign, "9 records of another run").records(9));
    assert!(findings.summary().starts_with("DAMAGED: "), "{}", findings.summary());
}

#[test]
fn what_is_unproved_beside_other_runs_is_not_called_damage() {
    let mut findings = Findings { wanted_was_read: true, ..Findings::default() };
    findings.add(Finding::new(Kind::Unproved, "removed").sequences(0, 9));
    findings.add_other_run(Finding::new(Kind::Foreign, "9 records of another run").records(9));
    assert!(findings.summary().starts_with("INCOMPLETE: "), "{}", findings.summary());
}

#[test]
fn what_is_only_unproved_is_not_called_damage() {
    let mut findings = Findings::default();
    findings.add(Finding::new(Kind::Unproved, "removed").sequences(0, 9));
    let said = findings.summary();
    assert!(said.starts_with("INCOMPLETE: ") && said.contains("0 gaps") && said.contains("unproved"), "{said}");
    assert_eq!((findings.clean, findings.exit()), (false, Exit::Failed));
    findings.add(Finding::new(Kind::Corrupt, "corrupt"));
    assert!(findings.summary().starts_with("DAMAGED: "));
}

#[test]
fn what_could_not_be_followed_is_not_called_damage() {
    let mut findings = Findings { records: 9, ..Findings::default() };
    findings.add(Finding::new(Kind::Overflow, "in no order"));
    let said = findings.summary();
    assert!(said.starts_with("INCOMPLETE: 9 records") && said.contains("  overflow     in no order"), "{said}");
    assert_eq!((findings.clean, findings.exit()), (false, Exit::Failed));
    findings.add(Finding::new(Kind::Duplicate, "came again").sequences(1, 1));
    assert!(findings.summary().starts_with("DAMAGED: "));
}
