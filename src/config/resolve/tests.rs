mod defaults;
mod network;
mod properties;
mod shown;

use super::*;
use crate::base::fatal::Exit;
use crate::config::keys;
use crate::config::{load, plan_to_json, values};
use crate::host::fake::Tree;
use crate::plan::{Schedule, WireRate};
use proptest::prelude::*;

/// A machine of eight processors and 16 GiB.
fn machine() -> Tree {
    Tree::new(&[
        ("/proc/self/status", "Cpus_allowed_list:\t0-7\nCapEff:\tffffffffffffffff\n"),
        ("/proc/meminfo", "MemAvailable: 16777216 kB\n"),
    ])
}

type Uring = fn() -> Result<(), String>;

fn try_plan(flags: &[(&str, &str)], tree: &Tree, uring: Uring) -> Result<RunPlan, Vec<Fatal>> {
    try_with(flags, &[], tree, uring)
}

fn try_with(
    flags: &[(&str, &str)],
    variables: &[(&str, &str)],
    tree: &Tree,
    uring: Uring,
) -> Result<RunPlan, Vec<Fatal>> {
    let mut errors = Vec::new();
    let flags = flags.iter().map(|(name, value)| (keys::find(name).unwrap(), value.to_string())).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let settings = load::merge(Vec::new(), flags, &variables, &mut errors);
    let wanted = values::read(&settings, &mut errors);
    let deps = Deps { sysfs: tree.sysfs(), ..Deps::new(uring) };
    resolve(&settings, &wanted, &deps, errors)
}

fn plan(flags: &[(&str, &str)]) -> RunPlan {
    try_plan(flags, &machine(), || Ok(())).unwrap_or_else(|errors| panic!("{flags:?}: {errors:?}"))
}

fn refused(flags: &[(&str, &str)]) -> String {
    let errors = try_plan(flags, &machine(), || Ok(())).expect_err("these flags contradict each other");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn null_takes_all_cores_but_one() {
    let plan = plan(&[("target", "null")]);
    assert_eq!(plan.cores.iter().map(|core| core.cpu).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((plan.free_cpus.as_slice(), plan.poll, plan.producers.len()), (&[0][..], Poll::Busy, 7));
    assert_eq!((plan.phases.len(), plan.phases[0].duration_ns), (1, 10_000_000_000));
    assert_eq!(plan.producers[3].schedule[0].schedule, Schedule::Unlimited);
    assert_eq!(plan.cores[0].ring_bytes_per_lane, 64 << 20);
    assert_eq!(plan.effective_config["parallel"], 7);
    assert_eq!(plan.effective_config["catch_up"], "10s");
    assert!(plan.effective_config["slo"].is_null());
}

#[test]
fn the_rate_is_the_total_and_its_shares_are_exact() {
    let plan = plan(&[("target", "null"), ("rate", "937500001"), ("parallel", "8"), ("cores", "0-1")]);
    let shares: Vec<_> = plan.producers.iter().map(|producer| producer.schedule[0].schedule).collect();
    let steady = |bytes| Schedule::Steady { rate: WireRate { logical_bytes_per_second: bytes, weight: 1 } };
    assert_eq!((shares[0], shares[7]), (steady(117_187_501), steady(117_187_500)));
    assert_eq!(plan.rate_bytes_per_second, Some(937_500_001));
    assert_eq!(plan.cores[1].producers, [1, 3, 5, 7]);
    assert!(plan.notes[0].starts_with("937.5 MB/s = 8 × 117.2 MB/s (7.5 Gbit/s"), "{:?}", plan.notes);
    assert!(plan.producers[1].stagger_ns > 0 && plan.producers[1].stagger_ns < plan.producers[2].stagger_ns);
}

#[test]
fn rates_in_records_are_kept_in_bytes() {
    let fixed = plan(&[("target", "null"), ("rate", "1krec/s"), ("parallel", "1")]);
    assert_eq!((fixed.rate_bytes_per_second, &fixed.effective_config["rate"]), (Some(4_096_000), &"1krec/s".into()));
    assert!(fixed.notes.iter().any(|note| note.contains("1000rec/s") && note.contains("4096 B")), "{:?}", fixed.notes);
    let slow = plan(&[("target", "null"), ("rate", "0.5rec/s"), ("parallel", "1")]);
    assert_eq!(slow.rate_bytes_per_second, Some(2048));
    let told = refused(&[("target", "null"), ("rate", "1krec/s"), ("payload-size", "100-300")]);
    assert!(
        told.contains("1000rec/s") && told.contains("--payload-size=200") && told.contains("--rate=200000"),
        "{told}"
    );
    plan(&[("target", "null"), ("rate", "200kB/s"), ("payload-size", "100-300")]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let stages = "[{duration: 1s, rate: 10rec/s}, {duration: 1s, rate: unlimited}, {duration: 1s}]";
    std::fs::write(file.path(), format!("rate: 20rec/s\nphases: {stages}\n")).unwrap();
    let staged = plan(&[("target", "null"), ("config", &file.path().display().to_string())]);
    let rates: Vec<_> = staged.phases.iter().map(|phase| phase.rate_bytes_per_second).collect();
    assert_eq!(rates, [Some(40_960), None, Some(81_920)]);
}

#[test]
fn a_shard_has_its_own_ids() {
    let flags = [("target", "null"), ("shard", "2/3"), ("parallel", "4"), ("rate", "12000"), ("run-id", "f")];
    let shard = plan(&flags);
    assert_eq!(shard.producers.iter().map(|p| p.id).collect::<Vec<_>>(), [8, 9, 10, 11]);
    assert_eq!(shard.rate_bytes_per_second, Some(4000));
    let held = plan(&[flags.as_slice(), &[("slo", "rate>=9kB/s,records_per_second>6,p99<5ms")]].concat());
    assert_eq!(held.observe.slo.iter().map(|slo| slo.threshold).collect::<Vec<_>>(), [3000.0, 2.0, 0.005]);
    let alone = refused(&[("target", "null"), ("shard", "0/2")]);
    assert!(alone.contains("needs --parallel") && alone.contains("mend: --run-id="), "{alone}");
}

#[test]
fn a_single_file_has_one_producer_and_a_folder_many() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}/out.bin", folder.path().display());
    let base = [("target", url.as_str()), ("min-free", "0"), ("audit-every", "10"), ("rotate-size-mb", "1")];
    let single = plan(&base);
    let file = single.producers[0].file().unwrap();
    assert_eq!((single.producers.len(), single.cores.len()), (1, 1));
    assert!(file.data.ends_with("out.bin") && file.log.as_ref().unwrap().ends_with("out.log"));
    assert_eq!(file.layout, FileLayout::Rotating { limit_bytes: 1 << 20, retain: None });
    let many = plan(&[&base[..], &[("parallel", "2")]].concat());
    assert!(many.producers[1].file().unwrap().data.ends_with("out.1.bin"));
    let url = format!("file:{}", folder.path().display());
    let all = plan(&[("target", &url), ("min-free", "0"), ("preallocate", "1Mi"), ("io", "syscall")]);
    assert_eq!((all.producers.len(), all.io), (7, Io::Syscall));
    assert!(all.producers[6].file().unwrap().data.ends_with("payloads.6.bin"));
    assert!(all.cores[0].ring_bytes_per_lane <= 1 << 20 && all.sink.block_bytes <= 1 << 19);
    assert!(all.notes.iter().any(|note| note.contains("7 MiB (7 × 1 MiB")), "{:?}", all.notes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a plan writes nothing");
}

#[test]
fn what_of_a_ring_stays_unused_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}/", folder.path().display());
    let base = [("target", url.as_str()), ("min-free", "0"), ("parallel", "1"), ("block-size", "1Mi")];
    for (more, told) in [
        (&[("preallocate", "64Mi"), ("ring-size", "40Mi")][..], Some("of which the last 24 MiB stay unused")),
        (&[("preallocate", "64Mi"), ("ring-size", "32Mi")], None),
        (&[("preallocate", "64Mi")], None),
        (&[("preallocate", "79Mi")], None),
        (&[("bytes", "10MB")], None),
    ] {
        let made = plan(&[&base[..], more].concat());
        let notes = || made.notes.iter().filter(|note| note.contains("stay unused"));
        assert_eq!(notes().count(), usize::from(told.is_some()), "{more:?}: {:?}", made.notes);
        assert!(notes().all(|note| note.contains(told.unwrap_or_default())), "{more:?}: {:?}", made.notes);
    }
}

#[test]
fn what_a_producer_writes_is_its_part() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}/", folder.path().display());
    let base = [("target", url.as_str()), ("min-free", "0"), ("parallel", "2"), ("payload-size", "1000")];
    // Of a file, 800 bytes are left for a record that would be longer.
    for (more, bytes) in [
        (&[("bytes", "10MB")][..], 5_001_077),
        (&[("bytes", "10MB"), ("preallocate", "64Mi")], 5_001_000),
        (&[("duration", "3s")], u64::MAX),
    ] {
        let made = plan(&[&base[..], more].concat());
        assert_eq!(made.producers[1].file().unwrap().run_bytes_max, bytes, "{more:?}");
    }
}

#[test]
fn what_is_written_includes_the_warm_up() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}/", folder.path().display());
    let base = [("target", url.as_str()), ("min-free", "0"), ("payload-size", "1000"), ("warmup", "2s")];
    for (more, bytes, line) in [
        (&[("rate", "1MB/s"), ("duration", "3s")][..], Some(5_000_000), "writes about 5 MB at most"),
        (&[("rate", "1MB/s"), ("records", "1000")], Some(3_000_000), "writes about 3 MB at most"),
        (&[("rate", "1MB/s"), ("bytes", "2MB")], Some(4_000_000), "writes about 4 MB at most"),
        (
            &[("records", "1000")],
            None,
            "writes as much as the target takes in a warm-up of 2 s, then about 1 MB at most",
        ),
        (&[("duration", "3s")], None, "writes as much as the target takes in 5 s"),
        (&[("duration", "inf")], None, "writes as fast as the target takes it, until it is stopped"),
        (&[("rate", "1000000GB/s"), ("duration", "500000h")], Some(u64::MAX), "writes about 18.45 EB at most"),
    ] {
        let made = plan(&[&base[..], more].concat());
        assert_eq!(made.payload_bytes_max, bytes, "{more:?}");
        assert!(made.notes.iter().any(|note| note == line), "{line}: {:?}", made.notes);
    }
}

#[test]
fn bytes_of_records_that_vary_are_rounded_up_by_each_producer() {
    let base = [("target", "null"), ("payload-size", "500-1500"), ("bytes", "2500")];
    for (parallel, bytes) in [("1", 4_000), ("2", 5_500), ("8", 7_000)] {
        let made = plan(&[&base[..], &[("parallel", parallel)][..]].concat());
        assert_eq!(made.payload_bytes_max, Some(bytes), "{parallel}");
    }
}

#[test]
fn a_threshold_that_leaves_no_room_below_the_rate_is_told() {
    let base = [("target", "null"), ("payload-size", "1000"), ("parallel", "2")];
    for (more, safe) in [
        (&[("rate", "1MB/s"), ("slo", "rate>=1MB/s")][..], Some("rate>=995kB/s is safe")),
        (&[("rate", "1MB/s"), ("slo", "rate>=997kB/s")], Some("rate>=995kB/s is safe")),
        (&[("rate", "1MB/s"), ("slo", "rate>2MB/s,errors==0")], Some("rate>=995kB/s is safe")),
        (&[("rate", "1.012GB/s"), ("slo", "rate>=1.012GB/s")], Some("rate>=1GB/s is safe")),
        (&[("rate", "1000rec/s"), ("slo", "records_per_second>=1000")], Some("records_per_second>=995 is safe")),
        (
            &[("rate", "1MB/s"), ("mode", "sampled"), ("weight", "10"), ("slo", "records_per_second==100")],
            Some("records_per_second>=99.5 is safe"),
        ),
        (
            &[("rate", "4MB/s"), ("shard", "1/4"), ("run-id", "f"), ("slo", "rate>=4MB/s")],
            Some("rate>=3.98MB/s is safe"),
        ),
        (&[("producer-rate", "1MB/s"), ("slo", "rate>=2MB/s")], Some("rate>=1.99MB/s is safe")),
        (&[("rate", "1MB/s"), ("slo", "rate>=995kB/s")], None),
        (&[("rate", "1MB/s"), ("slo", "rate<2MB/s,p99<5ms")], None),
        (&[("slo", "rate>=1MB/s")], None),
        (&[("rate", "1MB/s"), ("mode", "burst"), ("slo", "rate>=1MB/s")], None),
    ] {
        let made = plan(&[&base[..], more].concat());
        let told: Vec<_> = made.notes.iter().filter(|note| note.starts_with("--slo ")).collect();
        assert_eq!(told.len(), usize::from(safe.is_some()), "{more:?}: {told:?}");
        assert!(told.iter().all(|note| note.ends_with(safe.unwrap_or_default())), "{more:?}: {told:?}");
    }
    for (slo, words) in [
        ("rate>=1MB/s", "missed by a hair"),
        ("rate>=2MB/s", "cannot be met at the rate asked for, 1 MB/s; "),
        ("records_per_second>1001", "missed by a hair"),
        ("records_per_second>2000", "cannot be met at the rate asked for, 1000 records/s; "),
    ] {
        let made = plan(&[&base[..], &[("rate", "1MB/s"), ("slo", slo)]].concat());
        assert!(made.notes.iter().any(|note| note.starts_with("--slo ") && note.contains(words)), "{:?}", made.notes);
    }
}

#[test]
fn two_folders_are_dealt_round_robin() {
    let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let urls = [&left, &right].map(|folder| format!("file:{}/", folder.path().display()));
    let plan = plan(&[("target", &urls[0]), ("target", &urls[1]), ("min-free", "0"), ("parallel", "3")]);
    assert_eq!(plan.producers.iter().map(|p| p.target).collect::<Vec<_>>(), [0, 1, 0]);
    assert!(plan.producers[1].file().unwrap().data.starts_with(right.path()));
    assert!(refused(&[("target", &urls[0]), ("target", &urls[1]), ("parallel", "1")]).contains("2 targets"));
    assert!(
        refused(&[("target", "file:/x/a.bin"), ("target", "file:/x/a.bin"), ("parallel", "2")]).contains("/x/a.bin")
    );
}

#[test]
fn io_uring_is_tried_and_its_absence_told_once() {
    let flags = [("target", "tcp://localhost:1")];
    let no_uring = || Err("EPERM".to_owned());
    let fallen = try_plan(&flags, &machine(), no_uring).unwrap();
    assert_eq!(fallen.io, Io::Syscall);
    assert_eq!(fallen.notes.iter().filter(|note| note.contains("EPERM")).count(), 1);
    let errors = try_plan(&[&flags[..], &[("io", "uring")]].concat(), &machine(), no_uring).unwrap_err();
    assert!(errors[0].exit == Exit::Host && errors[0].what.contains("EPERM"));
}

#[test]
fn polling_is_busy_only_where_a_processor_is_left() {
    assert_eq!(plan(&[("target", "null"), ("cores", "0-7")]).poll, Poll::Adaptive);
    assert_eq!(plan(&[("target", "null"), ("cores", "0-6")]).poll, Poll::Busy);
    assert_eq!(plan(&[("target", "null"), ("cores", "0-6"), ("poll", "adaptive")]).poll, Poll::Adaptive);
}

#[test]
fn templates_decide_the_sizes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{}").unwrap();
    let path = file.path().display().to_string();
    let made = plan(&[("target", "null"), ("payload-template", &path)]);
    assert!(made.sink.block_bytes.is_multiple_of(64 + 2));
    for name in ["payload_size", "compressibility"] {
        assert!(made.effective_config[name].is_null(), "{name}: {:?}", made.effective_config);
    }
    let both = refused(&[("target", "null"), ("payload-template", &path), ("payload-size", "64")]);
    assert!(both.contains("--payload-size"), "{both}");
}

#[test]
fn one_size_of_records_is_said_in_one_way() {
    for (said, shown) in [("4Ki", "4096"), ("4096", "4096"), ("512-8Ki", "512-8192")] {
        assert_eq!(plan(&[("target", "null"), ("payload-size", said)]).effective_config["payload_size"], shown);
    }
    let config = plan(&[("target", "null")]).effective_config;
    assert_eq!((&config["payload_size"], &config["compressibility"]), (&"4096".into(), &"0".into()));
}

#[test]
fn a_template_that_is_wrong_is_named_once_with_a_mend() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.txt");
    std::fs::write(&file, "{{host}}").unwrap();
    for path in [folder.path(), file.as_path()] {
        let told = refused(&[("target", "null"), ("payload-template", &path.display().to_string())]);
        assert!(told.starts_with(&format!("--payload-template '{}': ", file.display())), "{told}");
        assert!(told.matches("a.txt").count() == 1 && told.contains("\n  mend: --annotate=off"), "{told}");
    }
}

#[test]
fn each_stage_has_a_line() {
    let told = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("parallel: 2\n{text}\n")).unwrap();
        let notes = plan(&[("target", "null"), ("config", &file.path().display().to_string())]).notes;
        let is_of_rates = |note: &String| ["stage", "warm-up", "and ", "1 MB/s"].iter().any(|s| note.starts_with(s));
        notes.into_iter().filter(is_of_rates).collect::<Vec<_>>()
    };
    let burst = "{duration: 60s, rate: 1MB/s, mode: burst, burst_on: 500ms, burst_off: 1500ms}";
    assert_eq!(
        told(&format!("warmup: 3s\nphases: [{{duration: 1s, rate: 1MB/s}}, {burst}, {{duration: inf}}]")),
        [
            "warm-up: steady, for 3 s, at 1 MB/s = 2 × 500 kB/s (8 Mbit/s)",
            "stage 1 of 3: steady, for 1 s, at 1 MB/s = 2 × 500 kB/s (8 Mbit/s)",
            "stage 2 of 3: burst of 500 ms in each 2 s, for 60 s, at 1 MB/s = 2 × 500 kB/s (8 Mbit/s)",
            "stage 3 of 3: steady, without an end, as fast as the target takes it",
        ]
    );
    let many = told(&format!("phases: [{}]", ["{duration: 1s}"; 25].join(", ")));
    assert_eq!((many.len(), many.last().map(String::as_str)), (21, Some("and 5 stages more")));
    assert_eq!(told("warmup: 3s\nrate: 1MB/s"), ["1 MB/s = 2 × 500 kB/s (8 Mbit/s)"]);
}

#[test]
fn a_duration_beside_phases_says_which_of_them_ends_the_run() {
    let told = |phases: &str, duration: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("phases: [{phases}]\n")).unwrap();
        let config = file.path().display().to_string();
        let notes = plan(&[("target", "null"), ("config", &config), ("duration", duration)]).notes;
        notes.into_iter().find(|note| note.contains("--duration"))
    };
    let (two, open) = ("{duration: 1s}, {duration: 2s}", "{duration: 1s}, {duration: inf}");
    for (phases, duration, said) in [
        (two, "1s", Some("--duration 1s ends the run in stage 1 of the 2 of phases: what follows is left out")),
        (two, "2500ms", Some("--duration 2.5s ends the run in stage 2 of the 2 of phases: the phases would take 3 s")),
        (two, "3s", None),
        (two, "20s", Some("the phases end the run after 3 s, before --duration 20s does")),
        (two, "inf", Some("the phases end the run after 3 s, before --duration inf does")),
        (open, "1s", Some("--duration 1s ends the run in stage 1 of the 2 of phases: what follows is left out")),
        (open, "5s", None),
        (open, "inf", None),
    ] {
        assert_eq!(told(phases, duration).as_deref(), said, "{phases} for {duration}");
    }
}

#[test]
fn contradictions_name_their_flags() {
    for (flags, words) in [
        (&[("target", "stdout"), ("report", "-")][..], "--report -"),
        (&[("target", "stdout"), ("report", "/dev/stdout")], "--report /dev/stdout would end up"),
        (&[("target", "stdout"), ("parallel", "2")], "--parallel 2"),
        (&[("target", "null"), ("fsync", "each")], "--fsync"),
        (&[("target", "null"), ("direct", "on")], "--direct on"),
        (&[("target", "null"), ("annotate", "headers")], "--annotate headers"),
        (&[("target", "null"), ("connections", "2")], "--connections"),
        (&[("target", "null"), ("acks", "1")], "--acks"),
        (&[("target", "null"), ("http-pipeline", "2")], "--http-pipeline"),
        (&[("target", "null"), ("weight", "5")], "--mode sampled"),
        (&[("target", "null"), ("burst-on", "1s")], "--mode burst"),
        (&[("target", "null"), ("metrics-hold", "1s")], "--metrics-addr"),
        (&[("target", "null"), ("stats-interval", "150ms")], "100ms"),
        (&[("target", "null"), ("payload-size", "32")], "64 B"),
        (&[("target", "null"), ("retain", "65537")], "'65537' is no whole number from 0 to 65536, or all"),
        (&[("target", "null"), ("annotate", "off"), ("sign-key", "/dev/null")], "--sign-key"),
        (&[("target", "null"), ("duration", "0s")], "0s"),
        (&[("target", "null"), ("run-id", "a b")], "--run-id"),
        (
            &[("target", "null"), ("slo", "rate>=1TB/s,p99<2h")],
            "--slo p99<2h: response times are measured up to an hour",
        ),
    ] {
        let told = refused(flags);
        assert!(told.contains(words), "{words} in {told}");
    }
    assert_eq!(plan(&[("target", "null"), ("annotate", "off"), ("payload-size", "16")]).sink.block_bytes, 256 << 10);
    let beside = [("target", "http://127.0.0.1:1/"), ("annotate", "headers"), ("payload-size", "16")];
    assert_eq!(plan(&beside).payload.record_bytes_min, 16);
}

#[test]
fn numbers_at_the_edge_overflow_nowhere() {
    let plan = plan(&[
        ("target", "null"),
        ("rate", "1000000000000000"),
        ("records", "18446744073709551614"),
        ("bytes", "inf"),
        ("duration", "inf"),
        ("seed", "18446744073709551615"),
        ("catch-up", "1000000h"),
        ("parallel", "7000"),
    ]);
    let sum: u128 = plan.producers.iter().map(|producer| u128::from(producer.records_max)).sum();
    assert_eq!(sum, 18_446_744_073_709_551_614);
    assert!(
        refused(&[("target", "null"), ("warmup", "2000000000s"), ("duration", "9000000000s")]).contains("292 years")
    );
}

#[test]
fn a_plan_shows_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}/", folder.path().display());
    let json =
        plan_to_json(&plan(&[("target", &url), ("min-free", "0"), ("slo", "p99<5ms,errors==0"), ("rate", "8GB/s")]));
    assert_eq!(json["producers"][0]["schedule"][0]["schedule"]["kind"], "steady");
    assert_eq!(json["observe"]["slo"][1], "errors==0");
    assert_eq!(json["sink"]["kind"], "file");
    assert_eq!(json["config"]["rate"], "8GB/s");
    assert!(json["producers"][0]["records_max"].is_null());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_combination_of_extremes_panics(
        chosen in proptest::collection::vec((0..keys::KEYS.len(), 0usize..12), 0..7), target in 0usize..5,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let folder_url = format!("file:{}/", folder.path().display());
        let url = [folder_url.as_str(), "null", "tcp://[::1]:9", "http://localhost/", "kafka://localhost/t"][target];
        let texts = [
            "18446744073709551615", "18446744073709551614", "1", "0", "0s", "584y", "9000000000s", "inf", "on", "burst",
            "sampled", "1000000000000000",
        ];
        let excluded = ["target", "config", "metrics-addr"];
        let mut flags = vec![("target", url)];
        for (key, text) in &chosen {
            let name = keys::KEYS[*key].name;
            if !excluded.contains(&name) && !flags.iter().any(|(seen, _)| *seen == name) {
                flags.push((name, texts[*text]));
            }
        }
        if let Ok(plan) = try_plan(&flags, &machine(), || Ok(())) {
            let lanes: usize = plan.cores.iter().map(|core| core.producers.len()).sum();
            prop_assert_eq!(lanes, plan.producers.len());
            prop_assert!(plan.producers.iter().all(|producer| producer.schedule.len() == plan.phases.len()));
            prop_assert!(plan.cores[0].ring_bytes_per_lane > 0 && plan.sink.block_bytes > 0);
        }
    }
}
