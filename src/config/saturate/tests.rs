use super::*;
use crate::config::docs;

const ELSEWHERE: &str = "--target tcp://192.0.2.1:9";

fn try_parse(words: &str, variables: &[(&str, &str)]) -> Result<SaturatePlan, Vec<Fatal>> {
    let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let env = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    parse(&args, env, &Deps::new(|| Ok(())))
}

fn good(words: &str, variables: &[(&str, &str)]) -> SaturatePlan {
    try_parse(words, variables).unwrap_or_else(|errors| panic!("{words}: {errors:?}"))
}

fn refused(words: &str, variables: &[(&str, &str)]) -> String {
    let errors = try_parse(words, variables).expect_err(words);
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let words = format!("--config {}", file.path().display());
    (file, words)
}

#[test]
fn a_rate_for_other_runs_permits_nothing() {
    let (_file, config) = file("rate: 5MB/s\nduration: 1h\n");
    let (nothing, rate): (&[_], &[_]) = (&[], &[("ENGINE_RATE", "5MB/s")]);
    for (words, variables) in
        [(ELSEWHERE.to_owned(), nothing), (format!("{ELSEWHERE} {config}"), nothing), (ELSEWHERE.to_owned(), rate)]
    {
        let told = refused(&words, variables);
        assert!(told.contains("needs --max-rate") && told.contains("--max-rate=100MB/s"), "{words}: {told}");
    }
    let found = good(&format!("{ELSEWHERE} {config} --max-rate 1GB/s"), rate);
    assert_eq!(found.rate_max_bytes_per_second, Some(1_000_000_000));
    assert_eq!(good(&format!("{ELSEWHERE} --max-rate unlimited"), &[]).rate_max_bytes_per_second, None);
    good(&format!("--target null {config}"), rate);
    let capped = good(ELSEWHERE, &[("ENGINE_PRODUCER_RATE", "1MB/s")]);
    assert!(capped.rate_max_bytes_per_second.is_some(), "{capped:?}");
}

#[test]
fn no_rate_is_tried_above_what_the_producers_may_send() {
    let two = "--target null --parallel 2";
    for (words, max, is_capped) in [
        ("--producer-rate 1MB/s --max-rate 1GB/s", Some(2_000_000), true),
        ("--producer-rate 1MB/s", Some(2_000_000), true),
        ("--producer-rate 250rec/s --payload-size 4000", Some(2_000_000), true),
        ("--producer-rate 1MB/s --max-rate 1500kB/s", Some(1_500_000), false),
        ("--producer-rate 1MB/s --max-rate 2MB/s", Some(2_000_000), false),
        ("--max-rate 2MB/s", Some(2_000_000), false),
        ("", None, false),
    ] {
        let found = good(&format!("{two} {words}"), &[]);
        assert_eq!((found.rate_max_bytes_per_second, found.is_capped_by_producers), (max, is_capped), "{words}");
    }
    let told = refused(two, &[("ENGINE_PRODUCER_RATE", "400kB/s")]);
    assert!(told.contains("ENGINE_PRODUCER_RATE lets 2 producers send 800000 B/s, which is below"), "{told}");
    assert!(told.contains("--min-rate=800000, or unset ENGINE_PRODUCER_RATE"), "{told}");
}

#[test]
fn the_lowest_rate_has_a_byte_for_each_producer() {
    let words = "--target null --payload-size 64 --parallel 100 --min-rate 1rec/s";
    let told = refused(words, &[]);
    assert!(told.contains("--min-rate 1rec/s (64 B/s) over 100 producers"), "{told}");
    assert!(told.contains("--min-rate=100 or --parallel=64"), "{told}");
    good(&words.replace("1rec/s", "2rec/s"), &[]);
}

#[test]
fn each_run_may_write_over_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let words = format!("--target file:{}/ --parallel 1 --preallocate 1Mi --min-free 0", folder.path().display());
    assert!(refused(&words, &[]).contains("--overwrite"));
    let found = good(&format!("{words} --overwrite"), &[]);
    let [place, written] = found.notes.as_slice() else { panic!("{:?}", found.notes) };
    let told = format!("{}/: 1 MiB (1 × 1 MiB, overwritten in place), ", folder.path().display());
    assert!(place.starts_with(&told), "{place}");
    assert!(written.starts_with("writes as much as the target takes in 5 s; then each rate"), "{written}");
    let bounded = good(&format!("{words} --overwrite --max-rate 2MB/s"), &[]);
    assert!(bounded.notes[1].starts_with("writes at 2 MB/s at most: "), "{:?}", bounded.notes);
    assert!(good("--target null", &[]).notes.is_empty());
}

/// Records of 1000 B fill a block of a run without a rate; at a rate they would not in time.
#[test]
fn all_runs_go_to_the_drive_in_one_way() {
    // Where the build is there is mostly a drive; /tmp may be in memory.
    let built = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir_in(built.parent().unwrap()).unwrap();
    let deps = Deps::new(|| Ok(()));
    let facts = host_fs::facts(&deps.sysfs, folder.path()).unwrap();
    let is_useful = host_fs::probe_direct(&facts, folder.path()).is_ok_and(|direct| direct.useful);
    let on_drive = !host_fs::is_in_memory(folder.path());
    let words = format!("--target file:{}/ --parallel 1 --preallocate 8Mi --min-free 0", folder.path().display());
    let words = format!("{words} --overwrite");
    let way = |found: &SaturatePlan| {
        let said = found.run_args.iter().filter(|arg| arg.starts_with("--direct")).cloned().collect::<Vec<_>>();
        (said, found.notes.iter().any(|note| note.ends_with(", through the page cache")), found.page_cache)
    };
    let told = |found: &SaturatePlan| found.notes.iter().any(|note| note.starts_with("all runs go through the page"));
    for auto in ["", " --direct auto", " --direct=auto"] {
        let odd = good(&format!("{words} --payload-size 1000{auto}"), &[]);
        assert_eq!(way(&odd), (vec!["--direct=off".to_owned()], true, on_drive), "{auto}: {odd:?}");
        assert_eq!(told(&odd), is_useful, "{:?}", odd.notes);
    }
    let whole = good(&words, &[("ENGINE_DIRECT", "auto")]);
    let expected = if is_useful { "--direct=on" } else { "--direct=off" };
    assert_eq!(way(&whole), (vec![expected.to_owned()], !is_useful, on_drive && !is_useful), "{whole:?}");
    assert!(!told(&whole), "whole sectors fill blocks at any rate");
    let synced = good(&format!("{words} --payload-size 1000 --fsync each"), &[]);
    assert!(!synced.page_cache, "each block waits for the drive");
    let asked = good(&format!("{words} --payload-size 1000 --direct=off"), &[]);
    assert_eq!((way(&asked).0.len(), told(&asked), asked.page_cache), (1, false, on_drive));
    assert!(way(&good("--target null", &[])).0.is_empty());
}

#[test]
fn the_result_does_not_take_the_place_of_what_the_runs_read() {
    let (file, config) = file("seed: 7\n");
    let told = refused(&format!("--target null {config} --report {}", file.path().display()), &[]);
    assert!(told.contains("is a file that the run itself reads (--config)"), "{told}");
}

#[test]
fn what_the_search_cannot_set_is_refused_whoever_says_it() {
    for (name, text) in [
        ("records", "5"),
        ("bytes", "1MB"),
        ("html", "x.html"),
        ("metrics-hold", "1s"),
        ("run-id", "nightly-7"),
        ("start-at", "2030"),
        ("shard", "0/2"),
    ] {
        let told = refused(&format!("--target null --{name} {text}"), &[]);
        assert!(told.contains(&format!("--{name} has no place")), "{told}");
        let variable = keys::find(name).unwrap().variable();
        let told = refused("--target null", &[(&variable, text)]);
        assert!(told.contains(&format!("{variable} has no place")), "{told}");
        assert!(told.contains(&format!("unset {variable}")), "{told}");
        let key = name.replace('-', "_");
        let (_file, config) = file(&format!("{key}: {text}\n"));
        let told = refused(&format!("--target null {config}"), &[]);
        assert!(told.contains(&format!("line 1: {key} has no place")) && told.contains("take "), "{told}");
    }
    for name in SET_BY_THE_SEARCH {
        let told = refused(&format!("--target null --{name} 5s"), &[]);
        assert!(told.contains(&format!("--{name} is what the search sets")), "{told}");
    }
    let help = docs::help("saturate").unwrap();
    for name in SET_BY_THE_SEARCH.iter().chain(NOT_IN_A_SEARCH.iter().map(|(name, _)| name)) {
        assert!(help.contains(&format!("--{name}")), "{name} is not in the help");
    }
    assert!(help.contains("phases"), "{help}");
    let (_file, config) = file("phases: [{duration: 1s, rate: 1MB/s}]\n");
    assert!(refused(&format!("--target null {config}"), &[]).contains("line 1: rate of a stage"));
    let (_file, config) = file("phases: [{duration: 9s, ramp_to: 1MB/s}]\n");
    assert!(refused(&format!("--target null {config}"), &[]).contains("line 1: ramp_to of a stage"));
    let (_file, config) = file("phases: [{mode: burst}]\n");
    good(&format!("--target null {config}"), &[]);
}

/// However it is written; a page of that name is one.
#[test]
fn what_says_nothing_of_a_run_is_let_in() {
    let metrics = "--target null --metrics-addr 127.0.0.1:0";
    good(metrics, &[("ENGINE_METRICS_HOLD", "0s"), ("ENGINE_DRY_RUN", "false")]);
    good(metrics, &[("ENGINE_METRICS_HOLD", "0ms"), ("ENGINE_DRY_RUN", "no")]);
    good("--target null --parallel 1 --shard 0/1", &[("ENGINE_RECORDS", "inf")]);
    let (_file, config) = file("records: inf\nbytes: inf\n");
    good(&format!("--target null {config}"), &[]);
    assert!(refused("--target null --html off", &[]).contains("--html has no place"));
}

#[test]
fn stages_last_as_long_as_the_longest_run() {
    let (_short, short) = file("phases: [{duration: 4s}, {duration: 6s, mode: burst}]\n");
    let (_open, open) = file("phases: [{duration: 4s}, {duration: inf, mode: burst}]\n");
    for (config, more, part) in [
        (&short, "", Some("--confirm-duration is 30 s")),
        (&short, "--confirm-duration 10s", None),
        (&short, "--confirm-duration 1s --step-duration 11s", Some("--step-duration is 11 s")),
        (&open, "--confirm-duration 1h", None),
    ] {
        let words = format!("--target null {config} {more}");
        let Some(part) = part else {
            good(&words, &[]);
            continue;
        };
        let told = refused(&words, &[]);
        assert!(told.contains("phases last 10 s") && told.contains(part) && told.contains("inf"), "{words}: {told}");
    }
}

#[test]
fn rates_may_be_in_records() {
    let found = good("--target null --payload-size 1000 --min-rate 100rec/s --max-rate 5krec/s", &[]);
    assert_eq!((found.rate_min_bytes_per_second, found.rate_max_bytes_per_second), (100_000, Some(5_000_000)));
    let found = good("--target null --payload-size 1000 --parallel 1 --min-rate 0.5rec/s", &[]);
    assert_eq!(found.rate_min_bytes_per_second, 500);
    for (words, part) in [
        ("--min-rate unlimited", "--min-rate 'unlimited'"),
        ("--max-rate 0rec/s", "--max-rate '0rec/s'"),
        ("--max-rate 100rec/s", "below --min-rate: 100rec/s (409600 B/s), 1MB/s (1000000 B/s)"),
        ("--payload-size 100-300 --min-rate 1krec/s", "--min-rate 1000rec/s: a rate in records needs"),
        ("--payload-size 100-300 --max-rate 9krec/s", "--max-rate 9000rec/s: a rate in records needs"),
        ("--payload-size 100-300 --max-rate 9krec/s", "--max-rate=1800000"),
    ] {
        let told = refused(&format!("--target null {words}"), &[]);
        assert!(told.contains(part), "{words}: {told}");
    }
}
