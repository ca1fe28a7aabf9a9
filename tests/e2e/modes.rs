//! Modes, phases, limits and the specification's examples.

use crate::harness::{Live, Scratch, quiet};
use crate::report::{count, number, total};
use engine::observe::verdict;
use engine::record::{HEADER_BYTES, Header, is_intact};
use serde_json::Value;

/// The headers of a data file, each record checked.
pub fn headers(data: &[u8]) -> Vec<Header> {
    let mut found = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let header = Header::decode(rest).unwrap_or_else(|| panic!("no record at {}", data.len() - rest.len()));
        let (record, after) = rest.split_at(header.record_length as usize);
        assert!(record.len() >= HEADER_BYTES && is_intact(record), "{header:?}");
        found.push(header);
        rest = after;
    }
    found
}

/// A run's report, all of its records produced. A machine that holds the loop up past the end leaves records unsent,
/// and says so, and so does one that does it past the end of a warm-up: then once more.
pub fn all_produced(run: impl FnMut() -> Value) -> Value {
    let mut runs = std::iter::repeat_with(run).take(5);
    let of_warmup = |report: &Value| report["warmup"]["totals"]["records_not_sent"].as_u64().unwrap_or(0);
    let report = runs.find(|report| total(report, "records_not_sent") + of_warmup(report) == 0);
    let report = report.expect("one of five runs is let run to its end");
    assert_eq!(total(&report, "records_produced"), total(&report, "records_offered"), "{:#}", report["totals"]);
    report
}

#[test]
fn the_baseline_twice_in_a_row() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("engine-data")).unwrap();
    scratch.write("engine-data/notes.txt", "mine");
    for _ in 0..2 {
        let ended = scratch.run("--footprint 256Mi --duration 1s --report report.json --log-format text");
        assert_eq!(ended.code(), 0, "{ended}");
        ended.says(&["256 MiB", "overwritten in place", "engine-data/", "produced", "limited by", "verify with"]);
        let report = scratch.report_of(&ended, "report.json");
        assert!(total(&report, "bytes_produced") > 0);
        assert_eq!(report["confirmation"], "target");
        let findings = scratch.verify_clean("engine-data/ --expect report.json");
        for kind in ["gap", "duplicate", "corrupt"] {
            assert_eq!(findings["counts"][kind]["findings"], 0, "{findings:#}");
        }
    }
    assert_eq!(scratch.read("engine-data/notes.txt"), b"mine");
}

#[test]
fn the_specification_s_slow_example_is_exact() {
    let scratch = Scratch::new();
    let report = all_produced(|| scratch.report("--payload-size=512 --rate=125000 --duration=2s --target null"));
    // 250,000 bytes are 488.28 records: the 489th fell due before the end.
    assert!((488..=489).contains(&total(&report, "records_offered")), "{:#}", report["totals"]);
    assert_eq!(report["pacing"]["target_bytes_per_second"], 125_000.0);
}

#[test]
fn the_specification_s_audited_example() {
    let scratch = Scratch::new();
    let report = scratch.report("--sink=file:logs/payloads.3.bin --audit-every=1000 --rotate-size-mb=1 --records=5500");
    let names = scratch.names("logs");
    for name in ["payloads.3.bin", "payloads.3.json", "payloads.3.log"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    let (logs, rest): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.contains(".log"));
    assert_eq!(rest.iter().filter(|name| name.contains(".bin.")).count(), logs.len() - 1, "{names:?}");
    let mut sequences = Vec::new();
    for log in &logs {
        for line in String::from_utf8(scratch.read(&format!("logs/{log}"))).unwrap().lines() {
            let field = |name: &str| {
                line.split(' ').find_map(|part| part.strip_prefix(name)).unwrap_or_else(|| panic!("{line}")).to_owned()
            };
            // Each line says where to find the record.
            let (offset, length): (usize, usize) =
                (field("offset=").parse().unwrap(), field("length=").parse().unwrap());
            let data = scratch.read(&format!("logs/{}", log.replacen(".log", ".bin", 1)));
            let record = &data[offset..offset + length];
            let header = Header::decode(record).unwrap();
            assert!(is_intact(record) && header.sequence.to_string() == field("sequence="), "{line}: {header:?}");
            sequences.push(header.sequence);
        }
    }
    sequences.sort_unstable();
    assert_eq!(sequences, [0, 1000, 2000, 3000, 4000, 5000]);
    assert_eq!(total(&report, "records_produced"), 5500);
    scratch.verify_clean("logs/ --expect report.json");
}

#[test]
fn the_specification_s_fast_example_is_scraped_while_it_runs() {
    let scratch = Scratch::new();
    let words = "--payload-size=4096 --rate=937500000 --duration=1s --metrics-addr=:0 --target null --report r.json";
    let mut engine = Live::start(&mut scratch.engine(words));
    engine.line("937.5 MB/s (7.5 Gbit/s)");
    let address = crate::metrics::address(&mut engine);
    engine.event("start");
    let page = crate::metrics::get(&address, "/metrics").body;
    assert!(page.contains("generator_target_rate_bytes_per_second{target=\"null\"} 937500000"), "{page}");
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    let report = scratch.report_of(&ended, "r.json");
    let (offered, produced) = (total(&report, "records_offered"), total(&report, "records_produced"));
    assert!(offered.abs_diff(228_882) <= 1 && produced > 0, "{:#}", report["totals"]);
    // A machine may be too slow for this rate; then the report does not say that the rate was met.
    assert_eq!(produced + total(&report, "records_not_sent"), offered, "{:#}", report["totals"]);
    let met = verdict::is_met(produced as f64 / offered as f64);
    assert_eq!(report["verdict"]["limited_by"] == "rate", met, "{:#}", report["verdict"]);
}

#[test]
fn a_compressor_removes_what_was_asked_for() {
    let scratch = Scratch::new();
    for wanted in [0.0, 0.3, 0.75] {
        let words = "--target file:data.bin --payload-size 4096 --ring-size 4Mi --direct off --overwrite";
        let report = scratch.report(&format!("{words} --bytes 4Mi --compressibility {wanted}"));
        let period = report["payload"]["repeat_period_bytes"].as_u64().unwrap() as usize;
        let data = scratch.read("data.bin");
        // Before the ring repeats: a compressor with a long memory would remove all of a repetition.
        let data = &data[..period.min(data.len())];
        let removed = 1.0 - zstd::bulk::compress(data, 1).unwrap().len() as f64 / data.len() as f64;
        let said = number(&report, "/payload/compressibility_measured");
        assert!((removed - wanted).abs() <= 0.02 && (said - removed).abs() <= 0.02, "{wanted}: {removed}, said {said}");
    }
}

#[test]
fn a_compressibility_that_cannot_be_reached_is_told() {
    let scratch = Scratch::new();
    let words = "--target null --records 1000 --compressibility 0.95 --payload-size";
    let short = scratch.run(&format!("{words} 64"));
    assert_eq!(short.code(), 0, "{short}");
    short.says(&["--compressibility 0.95 is out of reach"]);
    let long = scratch.run(&format!("{words} 4096"));
    assert!(long.code() == 0 && !long.stderr.contains("out of reach"), "{long}");
}

#[test]
fn eight_producers_on_two_cores() {
    let scratch = Scratch::new();
    let words = "--target null --parallel 8 --cores 0-1 --rate 80MB/s --duration 500ms --report r.json";
    let report = all_produced(|| {
        let ended = scratch.run(words);
        ended.says(&["80 MB/s = 8 × 10 MB/s (640 Mbit/s)"]);
        scratch.report_of(&ended, "r.json")
    });
    let each: Vec<_> =
        report["producers"].as_array().unwrap().iter().map(|one| count(one, "records_offered")).collect();
    assert!(each.len() == 8 && each.iter().max().unwrap() - each.iter().min().unwrap() <= 1, "{each:?}");
}

#[test]
fn steady_records_carry_their_exact_due_times() {
    let scratch = Scratch::new();
    let words = "--target file:data.bin --overwrite --payload-size 1000 --rate 3MB/s --duration 500ms";
    all_produced(|| scratch.report(words));
    let headers = headers(&scratch.read("data.bin"));
    assert!((1499..=1501).contains(&headers.len()), "{}", headers.len());
    for (number, header) in headers.iter().enumerate() {
        assert_eq!((header.sequence, header.weight, header.producer_id), (number as u64, 1, 0));
        let due = header.timestamp_ns - headers[0].timestamp_ns;
        let exact = number as u64 * 1_000_000_000 / 3000;
        assert!(due.abs_diff(exact) <= 2, "record {number} was due at {due}, not {exact}");
    }
}

#[test]
fn a_burst_s_records_fall_due_at_its_start_and_average_the_rate() {
    let scratch = Scratch::new();
    let words = "--mode burst --burst-on 100ms --burst-off 150ms --rate 4MB/s --payload-size 1000";
    let words = format!("--target file:data.bin --overwrite {words} --duration 1s");
    let report = all_produced(|| scratch.report(&words));
    assert_eq!(total(&report, "records_offered"), 4000, "{:#}", report["totals"]);
    let headers = headers(&scratch.read("data.bin"));
    assert_eq!(headers.len(), 4000);
    for (number, header) in headers.iter().enumerate() {
        let due = header.timestamp_ns - headers[0].timestamp_ns;
        assert_eq!(due, number as u64 / 1000 * 250_000_000, "record {number}");
    }
}

#[test]
fn what_waits_for_its_block_is_neither_late_nor_lost() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    let words = "--target null --parallel 1 --rate 100kB/s --payload-size 1000 --duration 500ms";
    // Longer than a run waits for its last records.
    let report = all_produced(|| scratch.report(&format!("{words} --linger 400ms")));
    assert_eq!(total(&report, "records_offered"), 50, "{:#}", report["totals"]);
    // Of a machine that holds the loop up for more than a millisecond it loses some.
    let most_are_produced = (0..4).any(|_| {
        let report = scratch.report(&format!("{words} --linger 20ms --catch-up 0s"));
        2 * total(&report, "records_produced") > total(&report, "records_offered")
    });
    assert!(most_are_produced, "each time half of the records were lost");
}

#[test]
fn a_burst_without_a_rate_is_silent_in_between() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    // Five bursts, of which a machine that stands still may miss one as a whole.
    let words = "--mode burst --burst-on 20ms --burst-off 230ms --duration 1100ms --rotate-size-mb 900";
    scratch.report(&format!("--target file:data.bin --direct off --payload-size 64Ki {words}"));
    let stamps: Vec<_> = headers(&scratch.read("data.bin")).iter().map(|header| header.timestamp_ns).collect();
    let first = *stamps.iter().min().unwrap();
    // The first record may be sent a little after the first burst began.
    let early = 20_000_000;
    for stamp in &stamps {
        let in_cycle = (stamp - first + early) % 250_000_000;
        assert!(in_cycle < 60_000_000, "a record was sent in a silence, {in_cycle} ns into its cycle");
    }
    assert!(stamps.last().unwrap() - first > 400_000_000, "a burst comes again and again");
}

#[test]
fn sampled_records_carry_their_weight() {
    let scratch = Scratch::new();
    let words = "--mode sampled --weight 50 --rate 10MB/s --payload-size 1000 --duration 1s";
    let report = all_produced(|| scratch.report(&format!("--target file:data.bin --overwrite {words}")));
    let headers = headers(&scratch.read("data.bin"));
    assert!((199..=201).contains(&headers.len()), "{}", headers.len());
    assert!(headers.iter().all(|header| header.weight == 50));
    assert_eq!(total(&report, "logical_bytes_produced"), 50 * total(&report, "bytes_produced"));
    assert_eq!(number(&report, "/pacing/target_bytes_per_second"), 10e6);
}

#[test]
fn phases_follow_each_other() {
    let scratch = Scratch::new();
    scratch.write(
        "run.yaml",
        "target: file:data.bin\npayload_size: 1000\nphases:\n  - {duration: 300ms, rate: 1MB/s}\n  - {duration: 200ms, rate: 5MB/s}\n  - {duration: 400ms, rate: 2MB/s, mode: burst, burst_on: 50ms, burst_off: 150ms}\n",
    );
    let report = all_produced(|| scratch.report("--config run.yaml --overwrite"));
    let headers = headers(&scratch.read("data.bin"));
    assert_eq!(total(&report, "records_produced"), headers.len() as u64);
    let due = |from_ms: u64, to_ms: u64| {
        let of = |header: &&Header| {
            (from_ms * 1_000_000..to_ms * 1_000_000).contains(&(header.timestamp_ns - headers[0].timestamp_ns))
        };
        headers.iter().filter(of).count()
    };
    let counts = [due(0, 300), due(300, 500), due(500, 700), due(700, 900)];
    for (count, exact) in counts.into_iter().zip([300, 1000, 400, 400]) {
        assert!(count.abs_diff(exact) <= 1, "{counts:?}");
    }
    assert_eq!(counts.iter().sum::<usize>(), headers.len());
    let phases = report["phases"].as_array().unwrap();
    let modes: Vec<_> = phases.iter().map(|phase| (phase["number"].as_u64(), phase["mode"].as_str())).collect();
    assert_eq!(modes, [(Some(1), Some("steady")), (Some(2), Some("steady")), (Some(3), Some("burst"))]);
    for key in ["records_offered", "records_produced"] {
        let sum = phases.iter().map(|phase| count(phase, key)).sum::<u64>();
        assert_eq!(sum, total(&report, key), "{key}: {phases:#?}");
    }
    assert_eq!(phases[2]["start_seconds"], 0.5, "{phases:#?}");
    assert!(phases.iter().all(|phase| phase["latency_seconds"]["response"]["p99"].is_f64()), "{phases:#?}");
}

#[test]
fn a_ramp_has_results_for_each_of_its_rates() {
    let scratch = Scratch::new();
    let words = "--target file:data.bin --payload-size 1000 --rate 1MB/s --ramp-to 3MB/s --ramp-steps 3 --duration 3s";
    let report = all_produced(|| scratch.report(&format!("{words} --overwrite")));
    let phases = report["phases"].as_array().unwrap();
    let offered: Vec<_> = phases.iter().map(|phase| count(phase, "records_offered")).collect();
    assert_eq!(offered.len(), 3, "{offered:?}");
    for (offered, rate) in offered.iter().zip([1000, 2000, 3000]) {
        assert!(offered.abs_diff(rate) <= rate / 5, "{phases:#?}");
    }
    assert_eq!(offered.iter().sum::<u64>(), 6000);
    assert!(phases.iter().all(|phase| phase["latency_seconds"]["response"]["p99"].is_f64()), "{phases:#?}");
    scratch.verify_clean("data.bin --expect report.json");
}

#[test]
fn a_warm_up_is_reported_apart_and_keeps_its_sequences() {
    let scratch = Scratch::new();
    let words = "--target file:data.bin --overwrite --payload-size 1000 --rate 2MB/s --warmup 250ms --duration 500ms";
    let report = all_produced(|| scratch.report(words));
    let (warm, measured) = (count(&report["warmup"]["totals"], "records_offered"), total(&report, "records_offered"));
    assert!(warm.abs_diff(500) <= 1 && measured.abs_diff(1000) <= 1, "{warm} {measured}");
    assert_eq!(report["producers"][0]["first_sequence"], warm);
    assert_eq!(headers(&scratch.read("data.bin")).len() as u64, warm + measured);
    scratch.verify_clean("data.bin --expect report.json");
}

#[test]
fn limits_are_exact() {
    let scratch = Scratch::new();
    // What the records stand for counts towards no limit.
    let weighty = "--mode sampled --weight 50 --bytes 1001000";
    let limits = [("--records 1001", 1001), ("--bytes 1001000", 1001), ("--bytes 1000500", 1001), (weighty, 1001)];
    for (limit, records) in limits {
        let words = format!("--target null --payload-size 1000 --parallel 3 --cores 0-1 {limit}");
        assert_eq!(total(&scratch.report(&words), "records_produced"), records, "{limit}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let scratch = Scratch::new();
    let words = "--annotate off --payload-size 100-900 --records 3000";
    for (name, seed) in [("a", 7), ("b", 7), ("c", 8)] {
        scratch.report(&format!("--target file:{name}.bin {words} --seed {seed}"));
    }
    assert_eq!(scratch.read("a.bin"), scratch.read("b.bin"));
    assert_ne!(scratch.read("a.bin"), scratch.read("c.bin"));
}

#[test]
fn shards_of_a_fleet_share_a_folder() {
    let scratch = Scratch::new();
    for shard in [0, 1] {
        let words = format!("--target file:data/ --parallel 2 --run-id fleet --shard {shard}/2 --records 2000");
        let ended = scratch.run(&format!("{words} --report r{shard}.json"));
        assert_eq!(ended.code(), 0, "{ended}");
    }
    let findings = scratch.verify_clean("data/ --expect r0.json --expect r1.json");
    let ids: Vec<_> = findings["producers"].as_array().unwrap().iter().map(|one| &one["producer_id"]).collect();
    assert_eq!(ids, [0, 1, 2, 3], "{findings:#}");
}

/// A warm-up is on top of what the limits allow.
#[test]
fn a_warm_up_leaves_the_limits_whole() {
    let scratch = Scratch::new();
    for limit in ["--records 100", "--bytes 100000"] {
        let words = "--payload-size 1000 --rate 1MB/s --warmup 200ms";
        let report = scratch.report(&format!("--target file:data.bin --overwrite {words} {limit}"));
        assert_eq!(total(&report, "records_produced"), 100, "{limit}");
        assert!(report["warmup"]["totals"]["records_produced"].as_u64().unwrap() > 0, "{limit}");
        scratch.verify_clean("data.bin --expect report.json");
    }
}
