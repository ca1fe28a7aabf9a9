//! Records that come in pieces over several connections.

use super::*;
use crate::verify::live::{BodyFacts, Feed, Live, Outcome, Tools};

/// One connection after the other's turn: whose, and the bytes.
fn receive(turns: &[(usize, &[u8])], ordered: bool) -> Findings {
    let (mut live, mut tools) = (Live::new(None), Tools::new(None));
    let mut feeds: Vec<(u32, Feed)> = Vec::new();
    for (connection, bytes) in turns {
        while feeds.len() <= *connection {
            let source = live.source(|| format!("connection {}", feeds.len()));
            feeds.push((source, Feed::default()));
        }
        let (source, feed) = &mut feeds[*connection];
        feed.push(bytes, &mut tools);
        feed.keep_part();
        live.tell(*source, feed, Outcome::Received, ordered);
    }
    for (source, feed) in &mut feeds {
        feed.end_part(&mut tools);
        feed.keep_part();
        live.tell(*source, feed, Outcome::Received, ordered);
        live.close(feed, false);
    }
    live.finish("all", 1.0)
}

fn in_pieces(bytes: &[u8], piece: usize) -> Findings {
    let turns: Vec<_> = bytes.chunks(piece).map(|part| (0, part)).collect();
    receive(&turns, true)
}

/// What was found, without the names of the sources.
/// Where it was found and the advice for a pipe aside.
fn told(findings: &Findings) -> Vec<Finding> {
    let what = |what: &str| what.split(';').next().unwrap_or_default().to_owned();
    findings.damage.iter().map(|one| Finding { source: None, what: what(&one.what), ..one.clone() }).collect()
}

#[test]
fn pieces_of_any_size_are_one_stream() {
    let sound = records(0..60);
    let mut removed = sound.clone();
    removed.remove(17);
    let mut doubled = sound.clone();
    doubled.insert(18, sound[17].clone());
    let mut swapped = sound.clone();
    swapped.swap(17, 18);
    let mut flipped = sound.concat();
    flipped[2000] ^= 1;
    let mut garbage = sound.concat();
    garbage.splice(sound[0].len()..sound[0].len(), *b"ENGRsome bytes that are no record and ENG");
    let cut = sound.concat()[..2000].to_vec();
    let zeros = [sound.concat(), vec![0; 777]].concat();
    let cases = [
        sound.concat(),
        removed.concat(),
        doubled.concat(),
        swapped.concat(),
        flipped,
        garbage,
        cut,
        zeros,
        vec![7; 999],
    ];
    for (at, bytes) in cases.iter().enumerate() {
        let whole = pipe(bytes);
        for piece in [1, 3, 63, 64, 65, 500, 1111, 1 << 20] {
            let found = in_pieces(bytes, piece);
            assert_eq!(told(&found), told(&whole), "case {at} in pieces of {piece}: {}", found.summary());
            assert_eq!((found.records, found.bytes), (whole.records, whole.bytes), "case {at}, {piece}");
        }
    }
}

#[test]
fn connections_may_race_but_each_keeps_its_order() {
    let sound = records(0..100);
    let halves: Vec<Vec<u8>> =
        [1, 0].iter().map(|odd| sound.iter().skip(*odd).step_by(2).flatten().copied().collect()).collect();
    let findings = receive(&[(0, &halves[0]), (1, &halves[1])], true);
    assert_clean(&findings, 100);
    assert!(findings.explained.iter().any(|line| line.contains("50 records came after later ones")), "{findings:?}");
    let cut = sound.iter().step_by(2).take(20).map(Vec::len).sum::<usize>() + 70;
    let lost = receive(&[(0, &halves[0]), (1, &halves[1][..cut])], true);
    assert!(kinds(&lost).contains(&Kind::Gap) && kinds(&lost).contains(&Kind::Truncated), "{}", lost.summary());
    // Again over another connection.
    let twice = receive(&[(0, &sound.concat()), (1, &sound[40])], true);
    assert_eq!(only(&twice, Kind::Duplicate).first_sequence, Some(40));
    // Backwards on one connection counts where order is promised.
    let backwards = [sound[..40].concat(), sound[60..].concat(), sound[40..60].concat()].concat();
    assert_eq!(only(&receive(&[(0, &backwards)], true), Kind::Reordered).first_sequence, Some(40));
    assert_clean(&receive(&[(0, &backwards)], false), 100);
}

#[test]
fn long_records_are_checked_as_they_pass() {
    let (short, long) = (record_of("run", 0, 0, 5000), record_of("run", 0, 1, (3 << 20) + 7));
    let sound = [short.clone(), long.clone(), record_of("run", 0, 2, 2 << 20), record_of("run", 0, 3, 70)].concat();
    for piece in [1000, 64 << 10, 4 << 20] {
        assert_clean(&in_pieces(&sound, piece), 4);
        let mut flipped = sound.clone();
        flipped[2 << 20] ^= 1;
        let findings = in_pieces(&flipped, piece);
        assert_eq!(only(&findings, Kind::Corrupt).first_sequence, Some(1), "{}", findings.summary());
        assert_eq!((findings.records, only(&findings, Kind::Corrupt).byte), (3, Some(5000)));
        let cut = in_pieces(&sound[..1 << 21], piece);
        assert_eq!(only(&cut, Kind::Truncated).first_sequence, Some(1));
        // Junk before a long record of a known run, too.
        let junk = [&short[..], &[9; 100], &long].concat();
        let findings = in_pieces(&junk, piece);
        assert_eq!((findings.records, kinds(&findings)), (2, vec![Kind::Unrecognised]), "{}", findings.summary());
    }
}

#[test]
fn long_signed_records_are_held_against_the_key() {
    let signed = seal("run", 0, 0, 2 << 20, Some(SIGN_KEY));
    for (data, key, wrong) in [
        (&signed, SIGN_KEY, None),
        (&signed, [0; 16], Some(Kind::Forged)),
        (&record_of("run", 0, 0, 2 << 20), SIGN_KEY, Some(Kind::Forged)),
    ] {
        let (mut live, mut tools, mut feed) = (Live::new(Some("run")), Tools::new(Some(key)), Feed::default());
        let source = live.source(|| "one".to_owned());
        data.chunks(100_000).for_each(|bytes| feed.push(bytes, &mut tools));
        feed.keep_part();
        live.tell(source, &mut feed, Outcome::Received, true);
        let findings = live.finish("one", 1.0);
        assert_eq!(findings.damage.first().map(|finding| finding.kind), wrong, "{}", findings.summary());
    }
}

#[test]
fn signatures_that_nobody_checked_are_told() {
    let unchecked = |findings: &Findings| findings.summary().contains("no signature was checked; --sign-key FILE");
    for length in [100, 2 << 20] {
        let signed: Vec<Vec<u8>> = (0..3).map(|at| seal("run", 0, at, length, Some(SIGN_KEY))).collect();
        let findings = in_pieces(&signed.concat(), 50_000);
        assert_clean(&findings, 3);
        assert!(unchecked(&findings), "{length}: {}", findings.summary());
    }
    assert!(!unchecked(&in_pieces(&records(0..3).concat(), 50_000)));
}

/// A request at a time, with what became of it.
fn requests(all: &[(&[Vec<u8>], Option<Outcome>)]) -> (Findings, u64) {
    let (mut live, mut tools, mut feed) = (Live::new(None), Tools::new(None), Feed::default());
    let source = live.source(|| "one".to_owned());
    for (records, outcome) in all {
        feed.begin_part(None);
        records.iter().for_each(|record| feed.push(record, &mut tools));
        feed.end_part(&mut tools);
        match outcome {
            Some(outcome) => {
                feed.keep_part();
                live.tell(source, &mut feed, *outcome, false);
            }
            None => feed.drop_part(),
        }
    }
    live.close(&feed, false);
    let uncertain = live.records_uncertain;
    (live.finish("requests", 1.0), uncertain)
}

#[test]
fn what_may_be_on_its_way_when_the_receiver_ends_is_not_missing() {
    let of = |sequences: std::ops::Range<u64>| records(sequences).concat();
    let receive = |second: &[u8], is_stopped: bool, is_busy: bool| {
        let (mut live, mut tools) = (Live::new(None), Tools::new(None));
        let first = [of(0..5), of(10..15)].concat();
        for bytes in [&first[..], second] {
            let (source, mut feed) = (live.source(|| "a connection".to_owned()), Feed::default());
            feed.push(bytes, &mut tools);
            feed.keep_part();
            live.tell(source, &mut feed, Outcome::Received, true);
            if is_stopped {
                live.left_open(&feed, is_busy);
            }
            live.close(&feed, is_stopped);
        }
        live.finish("all", 1.0)
    };
    let findings = receive(&[], true, true);
    assert_clean(&findings, 10);
    assert!(findings.explained.iter().any(|line| line.ends_with("at the end: 5 records")), "{:?}", findings.explained);
    assert_eq!(only(&receive(&[], false, false), Kind::Gap).records, 5, "all who sent had ended");
    assert_eq!(only(&receive(&[], true, false), Kind::Gap).records, 5, "an idle connection excuses nothing");
    // Each has come further.
    let lost = receive(&of(6..10), true, false);
    assert_eq!((only(&lost, Kind::Gap).first_sequence, only(&lost, Kind::Gap).records), (Some(5), 1));
    assert_clean(&receive(&of(5..7), true, false), 12);
}

#[test]
fn what_was_dropped_when_the_receiver_ends_may_come_again() {
    let all = records(0..20);
    // Of each connection, one request after the other: its records, and whether they count.
    let receive = |connections: &[&[(std::ops::Range<usize>, bool)]]| {
        let (mut live, mut tools) = (Live::new(None), Tools::new(None));
        for requests in connections {
            let (source, mut feed) = (live.source(|| "a connection".to_owned()), Feed::default());
            for (sequences, is_kept) in *requests {
                feed.begin_part(None);
                feed.push(&all[sequences.clone()].concat(), &mut tools);
                if *is_kept {
                    feed.keep_part();
                    live.tell(source, &mut feed, Outcome::Received, true);
                } else {
                    feed.drop_part();
                }
            }
            let is_amid = requests.last().is_some_and(|(_, is_kept)| !is_kept);
            live.left_open(&feed, is_amid);
            live.close(&feed, true);
        }
        live.finish("all", 1.0)
    };
    // Amid the body of 10 to 14; the others came over another connection.
    assert_clean(&receive(&[&[(0..10, true), (10..13, false)], &[(15..20, true)]]), 15);
    // Refused, and others meanwhile.
    assert_clean(&receive(&[&[(0..10, true), (10..15, false), (15..20, true)]]), 15);
    let lost = receive(&[&[(0..10, true), (12..15, false), (15..20, true)]]);
    assert_eq!((only(&lost, Kind::Gap).first_sequence, only(&lost, Kind::Gap).records), (Some(10), 2));
    // Amid its first body: what it began with is all that it may bring.
    let lost = receive(&[&[(0..5, true), (8..10, true)], &[(10..13, false)], &[(15..20, true)]]);
    assert_eq!((only(&lost, Kind::Gap).first_sequence, only(&lost, Kind::Gap).records), (Some(5), 3));
    // Sent again in smaller pieces over the same connection: in order.
    assert_clean(&receive(&[&[(0..10, true), (10..20, false), (10..15, true), (15..20, true)]]), 20);
}

#[test]
fn unanswered_requests_may_be_missing_or_come_again() {
    let all = records(0..30);
    let (a, b, c) = (&all[..10], &all[10..20], &all[20..]);
    let (received, uncertain) = (Some(Outcome::Received), Some(Outcome::Uncertain));
    // Refused, then sent again; left open and sent again; left open for good.
    let (findings, open) = requests(&[(a, received), (b, None), (c, received), (b, received)]);
    assert_clean(&findings, 30);
    assert_eq!((open, findings.bytes), (0, all.concat().len() as u64), "what was refused is not received");
    let answered_bytes = (a.concat().len() + c.concat().len()) as u64;
    for again in [&[(b, received)][..], &[]] {
        let (findings, open) = requests(&[&[(a, received), (b, uncertain), (c, received)], again].concat());
        assert_clean(&findings, 20 + 10 * again.len() as u64);
        assert_eq!(open, 10);
        let again_bytes = b.concat().len() as u64 * again.len() as u64;
        assert_eq!(findings.bytes, answered_bytes + again_bytes, "what was left open is not received");
    }
    let (findings, _) = requests(&[(a, received), (b, None), (c, received)]);
    assert_eq!(only(&findings, Kind::Gap).records, 10);
    let (findings, _) = requests(&[(a, received), (a, received)]);
    assert_eq!(findings.count(Kind::Duplicate).records, 10);
    // A body ends amid a record: the next one does not go on with it.
    let half = vec![all[10][..70].to_vec()];
    let (findings, _) = requests(&[(a, received), (&half, received), (&all[10..], received)]);
    assert_eq!(kinds(&findings), [Kind::Truncated], "{}", findings.summary());
    assert_eq!(findings.records, 30);
}

#[test]
fn what_is_said_beside_a_body_tells_its_records() {
    let body = vec![7; 3000];
    let crc32c = crc32c::checksum(&body);
    let facts = |first, last| BodyFacts { run: 9, producer: 2, first, last, crc32c };
    let receive = |all: &[BodyFacts]| {
        let (mut live, mut tools, mut feed) = (Live::new(None), Tools::new(None), Feed::default());
        let source = live.source(|| "one".to_owned());
        for (at, facts) in all.iter().enumerate() {
            // Each is refused once before.
            for kept in [false, true] {
                feed.begin_part(Some(*facts));
                body.chunks(700 + at).for_each(|bytes| feed.push(bytes, &mut tools));
                feed.end_part(&mut tools);
                if kept {
                    feed.keep_part();
                } else {
                    feed.drop_part();
                }
            }
            live.tell(source, &mut feed, Outcome::Received, false);
        }
        live.close(&feed, false);
        live.finish("requests", 1.0)
    };
    let findings = receive(&[facts(0, 9), facts(10, 10), facts(11, 14)]);
    assert_clean(&findings, 15);
    assert_eq!((findings.bytes, findings.producers[0].producer_id), (9000, 2));
    let lost = receive(&[facts(0, 9), facts(12, 12)]);
    assert_eq!((only(&lost, Kind::Gap).first_sequence, only(&lost, Kind::Gap).records), (Some(10), 2));
    let spoiled = receive(&[facts(0, 9), BodyFacts { crc32c: !crc32c, ..facts(10, 12) }, facts(13, 13)]);
    assert_eq!(kinds(&spoiled), [Kind::Corrupt], "{}", spoiled.summary());
    let found = only(&spoiled, Kind::Corrupt);
    assert_eq!((found.first_sequence, found.records, found.byte, spoiled.records), (Some(10), 3, Some(9000), 11));
}

#[test]
fn what_is_said_beside_a_body_signs_nothing() {
    let body = vec![7; 3000];
    let facts = BodyFacts { run: 9, producer: 2, first: 0, last: 9, crc32c: crc32c::checksum(&body) };
    for (key, wrong) in [(None, None), (Some(SIGN_KEY), Some(Kind::Forged))] {
        let (mut live, mut tools, mut feed) = (Live::new(None), Tools::new(key), Feed::default());
        let source = live.source(|| "one".to_owned());
        feed.begin_part(Some(facts));
        feed.push(&body, &mut tools);
        feed.end_part(&mut tools);
        feed.keep_part();
        live.tell(source, &mut feed, Outcome::Received, false);
        let findings = live.finish("requests", 1.0);
        let found = findings.damage.first().map(|finding| (finding.kind, finding.records));
        assert_eq!(found, wrong.map(|kind| (kind, 10)), "{}", findings.summary());
    }
}

#[test]
fn a_spoiled_body_is_no_gap_whatever_came_over_another_connection() {
    let body = vec![7; 3000];
    let sound = crc32c::checksum(&body);
    let (mut live, mut tools) = (Live::new(None), Tools::new(None));
    let mut feeds = ["one", "two"].map(|name| (live.source(|| name.to_owned()), Feed::default()));
    for (connection, first, last, crc32c) in [(0, 0, 9, sound), (1, 13, 13, sound), (0, 10, 12, !sound)] {
        let (source, feed) = &mut feeds[connection];
        feed.begin_part(Some(BodyFacts { run: 9, producer: 2, first, last, crc32c }));
        feed.push(&body, &mut tools);
        feed.end_part(&mut tools);
        feed.keep_part();
        live.tell(*source, feed, Outcome::Received, false);
    }
    let findings = live.finish("requests", 1.0);
    assert_eq!(kinds(&findings), [Kind::Corrupt], "{}", findings.summary());
    let found = only(&findings, Kind::Corrupt);
    assert_eq!((found.first_sequence, found.records, found.byte, findings.records), (Some(10), 3, Some(3000), 11));
}

#[test]
fn lengths_between_records_are_counted() {
    let (mut live, mut tools, mut feed) = (Live::new(None), Tools::new(None), Feed::default());
    let source = live.source(|| "one".to_owned());
    for record in records(0..20) {
        feed.push(&[&(record.len() as u32).to_be_bytes()[..], &record].concat(), &mut tools);
    }
    feed.keep_part();
    live.tell(source, &mut feed, Outcome::Received, true);
    assert_eq!(live.lengths, 20);
}

#[test]
fn runs_are_told_apart_only_where_one_is_asked_for() {
    let both = [record_of("run", 0, 0, 80), record_of("other", 0, 5, 80)].concat();
    assert_clean(&in_pieces(&both, 1000), 2);
    let (mut live, mut tools, mut feed) = (Live::new(Some("run")), Tools::new(None), Feed::default());
    let source = live.source(|| "one".to_owned());
    feed.push(&both, &mut tools);
    feed.keep_part();
    live.tell(source, &mut feed, Outcome::Received, true);
    assert_eq!(only(&live.finish("one", 1.0), Kind::Foreign).records, 1);
    assert_eq!(kinds(&receive(&[], true)), [Kind::Nothing]);
}

#[test]
fn a_stream_whose_head_is_not_there_says_where_it_starts() {
    let started = |findings: &Findings| {
        let mut lines = findings.explained.iter().filter(|line| line.contains("starts at"));
        let line = lines.next().cloned().unwrap_or_default();
        assert_eq!(lines.next(), None);
        line
    };
    let all = records(0..30);
    assert_eq!(started(&receive(&[(0, &all[10..].concat()), (1, &all[..10].concat())], true)), "", "in any order");
    let findings = receive(&[(0, &all[20..].concat()), (1, &all[10..20].concat())], true);
    assert_clean(&findings, 20);
    let words = "all: what came of 1 producer starts at sequence 10; only the run's report can prove";
    assert!(started(&findings).starts_with(words), "{findings:?}");
    assert!(findings.summary().contains(&format!("explained: {words}")), "{}", findings.summary());
    // Of two producers and two runs, those that begin late.
    let of = |run, producer, sequence| record_of(run, producer, sequence, 80);
    let several = [of("run", 0, 0), of("run", 1, 7), of("other", 0, 5), of("third", 0, 0)].concat();
    let line = started(&receive(&[(0, &several)], true));
    assert!(line.contains("of 2 producers starts at sequences 5 to 7;"), "{line}");
    // What was left unanswered may come again or not.
    let (received, uncertain) = (Some(Outcome::Received), Some(Outcome::Uncertain));
    let (head, tail) = (&all[..10], &all[10..]);
    assert_eq!(started(&requests(&[(head, uncertain), (tail, received)]).0), "");
    let (findings, _) = requests(&[(&head[1..], uncertain), (tail, received)]);
    assert!(started(&findings).contains("starts at sequence 10;"), "{findings:?}");
    // Refused for good, or of another run than the one that was asked for.
    assert!(started(&requests(&[(head, None), (tail, received)]).0).contains("starts at sequence 10;"));
    let (mut live, mut tools, mut feed) = (Live::new(Some("run")), Tools::new(None), Feed::default());
    let source = live.source(|| "one".to_owned());
    feed.push(&[of("run", 0, 0), of("other", 0, 5)].concat(), &mut tools);
    feed.keep_part();
    live.tell(source, &mut feed, Outcome::Received, true);
    assert_eq!(started(&live.finish("one", 1.0)), "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_pieces_panic(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'E'), Just(0)], 0..600),
        at in 0usize..900, piece in 1usize..200,
    ) {
        let mut mixed = records(0..6).concat();
        let at = at.min(mixed.len());
        mixed.splice(at..at, bytes);
        let found = in_pieces(&mixed, piece);
        prop_assert_eq!(found.bytes, mixed.len() as u64);
        prop_assert!(found.records <= 6);
    }
}
