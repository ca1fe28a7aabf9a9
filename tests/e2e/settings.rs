//! Flags, variables, configuration files: what is refused, how, and what a dry run tells.

use crate::harness::{Ended, Live, Scratch, feed, finish, repository};
use serde_json::Value;

fn plan(scratch: &Scratch, words: &str) -> Value {
    let ended = scratch.run(&format!("{words} --dry-run"));
    assert_eq!(ended.code(), 0, "{words}: {ended}");
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{words}: {error}: {ended}"))
}

#[test]
fn without_any_flag_it_is_the_file_baseline() {
    let scratch = Scratch::new();
    let plan = plan(&scratch, "");
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(plan["cores"].as_array().unwrap().len(), (cpus - 1).max(1), "{plan:#}");
    assert_eq!(plan["phases"][0]["duration_ns"], 10_000_000_000u64);
    for producer in plan["producers"].as_array().unwrap() {
        assert_eq!(producer["file"]["layout"]["kind"], "ring");
        let data = producer["file"]["data"].as_str().unwrap();
        assert!(data.contains("engine-data/payloads."), "{data}");
    }
    let notes = plan["notes"].to_string();
    assert!(notes.contains("engine-data/") && notes.contains("overwritten in place"), "{notes}");
    assert_eq!(scratch.names("."), [""; 0], "a dry run writes nothing");
}

#[test]
fn a_dry_run_resolves_everything_and_writes_nothing() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --parallel 3 --rate 10MB/s --audit-every 10 --report r.json --metrics-addr :0";
    let plan = plan(&scratch, words);
    assert_eq!(plan["producers"].as_array().unwrap().len(), 3);
    assert_eq!(plan["rate_bytes_per_second"], 10_000_000);
    assert_eq!(scratch.names("."), [""; 0]);
}

#[test]
fn everything_wrong_is_said_at_once_and_nothing_starts() {
    let scratch = Scratch::new();
    scratch.write("run.yaml", "target: file:data/\nrote: 5\nseed: 1\nseed: 2\n");
    let ended =
        finish(scratch.engine("--config run.yaml --bogus 1 --rate 1Mb/s --duration 10").env("ENGINE_BOGUS_TOO", "1"));
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&[
        "--bogus",
        "--rate",
        "1mbit",
        "1MB",
        "--duration",
        "no unit",
        "ENGINE_BOGUS_TOO",
        "rote",
        "line 2",
        "line 4",
    ]);
    assert_eq!(scratch.names("."), ["run.yaml"]);
    assert!(ended.stdout.is_empty(), "{ended}");
}

#[test]
fn what_kubernetes_injects_is_tolerated() {
    let scratch = Scratch::new();
    let mut command = scratch.engine("--target null --records 10");
    command.env("ENGINE_PORT", "tcp://10.0.0.1:80").env("ENGINE_PORT_80_TCP_ADDR", "10.0.0.1");
    let ended = finish(command.env("ENGINE_SERVICE_HOST", "10.0.0.1"));
    assert_eq!(ended.code(), 0, "{ended}");
}

#[test]
fn flags_win_over_variables_and_these_over_the_file() {
    let scratch = Scratch::new();
    scratch.write("run.json", r#"{"target": "null", "seed": 1, "payload_size": 256, "records": 5}"#);
    let mut command = scratch.engine("--config run.json --seed 3 --report -");
    let ended = finish(command.env("ENGINE_SEED", "2").env("ENGINE_PAYLOAD_SIZE", "512"));
    assert_eq!(ended.code(), 0, "{ended}");
    let last = ended.stdout.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap();
    let report: Value = serde_json::from_slice(last).unwrap();
    crate::report::check(&report);
    assert_eq!(report["totals"]["bytes_produced"], 5 * 512);
    assert_eq!(report["config"]["seed"].to_string().trim_matches('"'), "3", "{}", report["config"]);
}

#[test]
fn a_result_does_not_take_the_place_of_what_the_run_reads() {
    let scratch = Scratch::new();
    let text = r#"{"target": "null", "records": 5}"#;
    scratch.write("run.json", text);
    for flag in ["--report", "--html"] {
        let ended = scratch.run(&format!("--config run.json {flag} ./run.json"));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&[flag, "that the run itself reads (--config)"]);
    }
    assert_eq!(scratch.read("run.json"), text.as_bytes());
}

#[test]
fn a_configuration_may_come_through_a_pipe_but_not_without_an_end() {
    let scratch = Scratch::new();
    let through = |text: &[u8]| feed(&mut scratch.engine("--config /dev/stdin --dry-run"), text);
    let ended = through(b"target: file:data/\nseed: 12\n");
    assert_eq!(ended.code(), 0, "{ended}");
    let plan: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(plan["config"]["seed"].to_string().trim_matches('"'), "12", "{plan:#}");
    let ended = through("# nothing but remarks\n".repeat(100_000).as_bytes());
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["--config '/dev/stdin'", "more than 1048576 bytes"]);
}

/// A template that failed leaves such a file; without it the run would be the baseline.
#[test]
fn a_configuration_that_says_nothing_is_refused() {
    let scratch = Scratch::new();
    for text in ["", "# target: file:data/\n"] {
        scratch.write("c.yaml", text);
        let ended = scratch.run("--config c.yaml");
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&["--config 'c.yaml' is empty", "mend:"]);
    }
    assert_eq!(scratch.names("."), ["c.yaml"]);
}

/// As Java's tools take it from a file, where the backslash joins both lines.
#[test]
fn a_password_behind_a_line_that_goes_on_is_refused_unseen() {
    let scratch = Scratch::new();
    let jaas = [
        "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\",
        "username=\"me\" password=\"pa55\";",
    ];
    let refused = |ended: Ended| {
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&["sasl.jaas.config", "one property, on one line", "mend:"]);
        let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
        assert!(!said.contains("pa55"), "{said}");
    };
    scratch.write("list.json", serde_json::json!({"kafka_property": jaas}).to_string());
    scratch.write("text.json", serde_json::json!({"kafka_property": [jaas.join("\n")]}).to_string());
    for words in ["--dry-run", "--duration 1s --report -"] {
        let words = format!("--target kafka://127.0.0.1:1/t {words}");
        refused(finish(scratch.engine(&words).env("ENGINE_KAFKA_PROPERTY", jaas.join("\n"))));
        refused(scratch.run(&format!("{words} --config list.json")));
        refused(scratch.run(&format!("{words} --config text.json")));
    }
}

#[test]
fn what_is_no_target_is_told_what_is() {
    let scratch = Scratch::new();
    for target in ["ftp://localhost/x", "redis://localhost:1", "udp://localhost:1"] {
        let ended = scratch.run(&format!("--target {target}"));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&[target, "null", "stdout", "file:", "tcp:", "http:", "kafka:"]);
    }
}

#[test]
fn thresholds_decide_the_exit_code() {
    let scratch = Scratch::new();
    let run = |slo: &str| {
        let words = format!("--target null --rate 1MB/s --duration 300ms --report r.json --slo {slo}");
        let ended = scratch.run(&words);
        (ended.code(), scratch.report_of(&ended, "r.json"))
    };
    let (code, report) = run("rate>=1TB/s,errors==0");
    assert_eq!(code, 4);
    let passed: Vec<_> = report["slo"].as_array().unwrap().iter().map(|slo| slo["passed"].as_bool()).collect();
    assert_eq!(passed, [Some(false), Some(true)]);
    assert_eq!(run("p50<10s,errors==0,rate>=100kB/s").0, 0);
    // Those of a variable hold beside those of a flag.
    let mut both = scratch.engine("--target null --rate 1MB/s --duration 300ms --slo errors==0");
    let ended = finish(both.env("ENGINE_SLO", "rate>=1TB/s"));
    assert_eq!(ended.code(), 4, "{ended}");
}

#[test]
fn shards_have_ids_of_their_own_and_exact_shares() {
    let scratch = Scratch::new();
    let words = "--target null --parallel 3 --rate 1000003 --run-id fleet --shard";
    let shards = [0, 1].map(|shard| plan(&scratch, &format!("{words} {shard}/2")));
    let ids: Vec<_> = shards.iter().flat_map(|plan| plan["producers"].as_array().unwrap()).map(|p| &p["id"]).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
    let rates = shards.iter().map(|plan| plan["rate_bytes_per_second"].as_u64().unwrap());
    assert_eq!(rates.sum::<u64>(), 1_000_003);
    let share =
        |producer: &Value| producer["schedule"][0]["schedule"]["rate"]["logical_bytes_per_second"].as_u64().unwrap();
    let shares: Vec<_> = shards.iter().flat_map(|plan| plan["producers"].as_array().unwrap()).map(share).collect();
    assert_eq!(shares.iter().sum::<u64>(), 1_000_003);
    assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
    let without_parallel = scratch.run("--target null --shard 0/2 --dry-run");
    assert_eq!(without_parallel.code(), 2, "{without_parallel}");
    without_parallel.says(&["--parallel"]);
    let without_name = scratch.run("--target null --parallel 3 --shard 0/2 --dry-run");
    assert_eq!(without_name.code(), 2, "{without_name}");
    without_name.says(&["--shard 0/2 needs --run-id", "--run-id=nightly-7"]);
}

#[test]
fn the_schemas_are_those_that_are_shipped() {
    let scratch = Scratch::new();
    for kind in ["config", "report"] {
        let ended = scratch.run(&format!("schema {kind}"));
        assert_eq!(ended.code(), 0, "{ended}");
        let shipped = std::fs::read(repository(&format!("schemas/{kind}.schema.json"))).unwrap();
        let (printed, shipped): (Value, Value) =
            (serde_json::from_slice(&ended.stdout).unwrap(), serde_json::from_slice(&shipped).unwrap());
        assert_eq!(printed, shipped, "{kind}");
    }
}

#[test]
fn a_report_that_could_not_be_written_is_refused_before_the_start() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("reports")).unwrap();
    for path in ["reports", "nowhere/report.json"] {
        let ended = scratch.run(&format!("--target file:data/ --records 10 --report {path}"));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&[path, "mend:"]);
    }
    assert_eq!(scratch.names("."), ["reports"]);
}

#[test]
fn a_path_below_a_file_is_one_mistake() {
    let scratch = Scratch::new();
    scratch.write("file", "");
    let ended = scratch.run("--target file:file/data/ --records 10");
    assert_eq!((ended.code(), ended.stderr.matches("engine: ").count()), (2, 1), "{ended}");
}

#[test]
fn logs_are_json_in_a_pipe_and_text_when_asked() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --parallel 3 --rate 3MB/s --duration 450ms --stats-interval 200ms --audit-every 7";
    let ended = scratch.run(words);
    let lines: Vec<Value> =
        ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    assert_eq!((of("start").len(), of("stop").len(), of("summary").len()), (1, 1, 1), "{ended}");
    let intervals = of("interval");
    for producer in 0..3 {
        let mine: Vec<_> = intervals.iter().filter(|line| line["producer"] == producer).collect();
        assert!(!mine.is_empty() && mine.iter().all(|line| line["audit_every"] == 7), "{ended}");
    }
    let text = scratch.run(&format!("{words} --overwrite --log-format text"));
    assert_eq!(text.code(), 0);
    assert!(text.stderr.lines().all(|line| !line.starts_with('{')), "{text}");
    text.says(&["writes", "produced", "response", "service", "p99.9", "limited by", "verify with"]);
}

#[test]
fn help_and_version() {
    let scratch = Scratch::new();
    for words in ["--help", "run --help", "verify --help"] {
        let ended = scratch.run(words);
        assert!(ended.code() == 0 && ended.stdout.len() > 500, "{words}: {ended}");
    }
    let version = scratch.run("--version");
    assert!(version.code() == 0 && version.stdout.starts_with(b"engine "), "{version}");
}

#[test]
fn a_bad_flag_is_one_on_every_host() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run("--target null --cores 1000").code(), 3);
    let ended = scratch.run("--target null --cores 1000 --shard 0/2");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["--cores", "--shard"]);
}

#[test]
fn an_error_does_not_steer_the_terminal() {
    let ended = Scratch::new().run("--target \u{1b}[2Jx");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["\u{fffd}[2Jx"]);
    assert!(!ended.stderr.contains('\u{1b}'), "{ended}");
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let scratch = Scratch::new();
    for words in ["schema report", "--help", "--dry-run"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = Live::start(scratch.engine(words).stdout(full)).ended();
        assert_eq!(ended.code(), 1, "{words}: {ended}");
        ended.says(&["standard output"]);
    }
}

#[test]
fn a_stage_that_says_what_its_mode_ignores_is_refused() {
    let scratch = Scratch::new();
    for (said, word) in
        [("weight: 5", "weight"), ("burst_on: 1s", "burst_on"), ("mode: sampled, burst_off: 1s", "burst_off")]
    {
        scratch.write("c.yaml", format!("target: \"null\"\nphases:\n  - {{duration: 1s, rate: 1MB/s, {said}}}\n"));
        let ended = scratch.run("--config c.yaml --dry-run");
        assert_eq!(ended.code(), 2, "{said}: {ended}");
        ended.says(&["c.yaml line 3", word, "has no effect in a stage without mode"]);
    }
    scratch.write("c.yaml", "target: \"null\"\nphases:\n  - {duration: 9s, rate: 1MB/s, ramp_steps: 3}\n");
    scratch.run("--config c.yaml --dry-run").says(&["c.yaml line 3", "no effect in a stage without ramp_to"]);
    let ramp = scratch.run("--target null --rate 1MB/s --duration 9s --ramp-steps 3 --dry-run");
    assert_eq!(ramp.code(), 2, "{ramp}");
    ramp.says(&["--ramp-steps has no effect without --ramp-to"]);
    let stages =
        "phases: [{duration: 1s, rate: 1MB/s, mode: sampled, weight: 5}, {duration: 10s, rate: 1MB/s, ramp_to: 9MB/s}]";
    scratch.write("c.yaml", format!("target: \"null\"\n{stages}\n"));
    plan(&scratch, "--config c.yaml");
}
