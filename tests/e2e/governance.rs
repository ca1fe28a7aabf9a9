//! The governance adapter against a server of the test's own: what it is told, and what a bad server costs.

use crate::api::{Api, Reply, Request};
use crate::harness::{Ended, Live, Scratch, finish};
use crate::metrics::{address, get, metric};
use crate::report::{count, total};
use crate::server::reserved;
use engine::record::Header;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

const CRC_AT: usize = 60;
const RECORD: usize = 512;

/// The report of a run that went well, and what it says of governance; the events' books balance.
pub fn told(scratch: &Scratch, ended: &Ended) -> (Value, Value) {
    assert_eq!(ended.code(), 0, "governance never fails a run: {ended}");
    let report = scratch.report_of(ended, "r.json");
    let told = report["governance"].clone();
    let ends = ["posted", "dropped", "refused", "failed", "invalid"];
    assert_eq!(ends.iter().map(|end| count(&told, end)).sum::<u64>(), count(&told, "events_offered"), "{told:#}");
    (report, told)
}

pub fn run(scratch: &Scratch, api: &Api, words: &str) -> Ended {
    scratch.run(&format!("{words} --report r.json --log-format json --governance-url {}", api.url()))
}

fn crc_text(record: &[u8]) -> String {
    format!("crc32c:{:08x}", u32::from_le_bytes(record[CRC_AT..CRC_AT + 4].try_into().unwrap()))
}

#[test]
fn every_nth_record_is_told_of_between_start_and_end() {
    let scratch = Scratch::new();
    let api = Api::start(|_| Reply::taken());
    // A block has about 16 records, each with a time of its own.
    let words = "--target file:data/ --parallel 2 --records 2500 --payload-size 512 --run-id told --linger 5ms \
                 --mode sampled --weight 3 --rate 10MB/s --governance-every 10";
    let (report, told) = told(&scratch, &run(&scratch, &api, words));
    let requests = api.requests();
    let paths: Vec<_> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths[..3], ["/v1/runs", "/v1/producers", "/v1/producers"]);
    assert_eq!(paths.iter().filter(|path| **path == "/v1/runs/told/close").count(), 1);
    assert_eq!(paths.last(), Some(&"/v1/runs/told/close"));
    assert!(
        requests
            .iter()
            .all(|request| request.method == "POST" && request.header("content-type") == Some("application/json"))
    );
    let (start, end) = (&requests[0].body, &requests.last().unwrap().body);
    assert_eq!(
        (&start["run_id"], &start["sample_every"], &start["started_at"]),
        (&"told".into(), &"10".into(), &padded(&report))
    );
    assert_eq!(
        (&end["outcome"], &end["records_produced"], &end["events_posted"]),
        (&"completed".into(), &"2500".into(), &"250".into())
    );
    assert_eq!(requests[2].body["producer_id"], 1);
    let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for event in api.events() {
        let (producer, sequence) = (event["producer_id"].as_u64().unwrap(), event["sequence"].as_str().unwrap());
        let sequence: usize = sequence.parse().unwrap();
        let data = scratch.read(&format!("data/payloads.{producer}.bin"));
        let record = &data[sequence * RECORD..][..RECORD];
        assert_eq!(event["checksum"], crc_text(record), "{event}");
        let due_unix_ns = Header::decode(record).unwrap().timestamp_ns;
        let due = Timestamp::from_nanosecond(due_unix_ns.into()).unwrap();
        assert_eq!(event["timestamp"], format!("{due:.9}"), "{event}");
        assert_eq!((&event["size_bytes"], &event["weight"]), (&512.into(), &3.into()));
        assert_eq!((&event["run_id"], &event["target"]), (&"told".into(), &"file:data/".into()));
        seen.entry(producer).or_default().push(sequence as u64);
    }
    for (producer, sequences) in &seen {
        let last = report["producers"][*producer as usize]["last_sequence"].as_u64().unwrap();
        assert_eq!(*sequences, (0..=last).step_by(10).collect::<Vec<_>>(), "producer {producer}");
    }
    assert_eq!((count(&told, "posted"), count(&told, "every"), count(&told, "not_announced")), (250, 10, 0));
    assert_eq!((count(&told, "announced"), &told["last_error"], &told["url"]), (4, &Value::Null, &api.url().into()));
}

/// The report leaves out zeros at the end of a second's fraction, the contract does not.
fn padded(report: &Value) -> Value {
    let text = report["started_at"].as_str().unwrap().trim_end_matches('Z');
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{seconds}.{fraction:0<9}Z").into()
}

#[test]
fn records_without_a_header_have_the_checksum_of_their_bytes() {
    let scratch = Scratch::new();
    for (words, length) in [("--annotate off --payload-size 40", 40), ("--payload-template event.txt", 0)] {
        scratch.write("event.txt", "run {{run_id}} record {{sequence}} at {{timestamp}}\n");
        let api = Api::start(|_| Reply::taken());
        let words = format!(
            "--target file:one.bin --parallel 1 --overwrite --records 40 --rate 1MB/s {words} --governance-every 7"
        );
        let (_, told) = told(&scratch, &run(&scratch, &api, &words));
        assert_eq!(count(&told, "posted"), 6, "{told}");
        let data = scratch.read("one.bin");
        let length = if length > 0 { length } else { data.len() / 40 };
        for event in api.events() {
            let sequence: usize = event["sequence"].as_str().unwrap().parse().unwrap();
            let crc = crc32c::crc32c(&data[sequence * length..][..length]);
            assert_eq!(
                (&event["checksum"], &event["size_bytes"]),
                (&format!("crc32c:{crc:08x}").into(), &length.into())
            );
        }
    }
}

#[test]
fn a_template_without_placeholders_is_told_of_by_its_header() {
    let scratch = Scratch::new();
    scratch.write("blob.bin", [7; 100]);
    let api = Api::start(|_| Reply::taken());
    let words = "--target file:one.bin --parallel 1 --records 40 --rate 1MB/s --payload-template blob.bin";
    let (_, told) = told(&scratch, &run(&scratch, &api, &format!("{words} --governance-every 7")));
    assert_eq!(count(&told, "posted"), 6, "{told}");
    let data = scratch.read("one.bin");
    for event in api.events() {
        let sequence: usize = event["sequence"].as_str().unwrap().parse().unwrap();
        let record = &data[sequence * 164..][..164];
        assert_eq!((&event["checksum"], &event["size_bytes"]), (&crc_text(record).into(), &164.into()));
    }
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    let scratch = Scratch::new();
    let api = Api::start(|request| match request.number {
        0 | 3 => Reply::status(503, "Retry-After: 0\r\n"),
        5 => Reply::status(429, ""),
        6 => Reply::hang_up(),
        _ => Reply::taken(),
    });
    let (_, told) = told(
        &scratch,
        &run(&scratch, &api, "--target null --parallel 1 --records 500 --rate 1MB/s --governance-every 1"),
    );
    assert_eq!((count(&told, "posted"), count(&told, "events_offered")), (500, 500), "{told:#}");
    assert_eq!(count(&told, "not_announced"), 0, "{told:#}");
    assert!(told["last_error"].is_string(), "{told:#}");
    let sequences: Vec<u64> =
        api.events().iter().map(|event| event["sequence"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(sequences, (0..500).collect::<Vec<_>>(), "what was answered with an error is not taken");
}

#[test]
fn a_dead_server_costs_only_counters() {
    let scratch = Scratch::new();
    let (address, _kept) = reserved();
    let url = format!("http://{address}");
    let words = format!(
        "--target null --parallel 1 --records 20000 --report r.json --log-format json --governance-every 1 --governance-url {url}"
    );
    let ended = scratch.run(&words);
    let (report, told) = told(&scratch, &ended);
    assert_eq!((total(&report, "records_produced"), count(&told, "events_offered")), (20_000, 20_000));
    assert_eq!(
        (count(&told, "posted"), count(&told, "announced"), count(&told, "not_announced")),
        (0, 0, 3),
        "{told:#}"
    );
    assert!(told["last_error"].as_str().unwrap().contains(&url), "{told:#}");
    ended.says(&["\"level\":\"WARN\"", "governance was not told of everything", "the run goes on"]);
}

#[test]
fn a_server_that_never_answers_holds_nothing_up() {
    let scratch = Scratch::new();
    // It answers nobody before the test is over: a core that waited for it would never end.
    let api = Api::start(|_| Reply::never());
    let words = "--target null --parallel 1 --records 100000 --drain-timeout 300ms --governance-every 1";
    let (report, told) = told(&scratch, &run(&scratch, &api, words));
    assert_eq!((total(&report, "records_produced"), count(&told, "events_offered")), (100_000, 100_000));
    assert_eq!(count(&told, "posted"), 0);
    assert!(count(&told, "dropped") >= 90_000, "the queue is bounded: {told:#}");
}

#[test]
fn what_the_server_refuses_is_counted_and_told() {
    let scratch = Scratch::new();
    let api = Api::start(|request| match request.path.starts_with("/v1/events") {
        true => Reply::status(422, "").with(r#"{"title":"no such tenant"}"#),
        false => Reply::taken(),
    });
    let ended = run(&scratch, &api, "--target null --parallel 1 --records 300 --rate 1MB/s --governance-every 1");
    let (_, told) = told(&scratch, &ended);
    assert_eq!((count(&told, "refused"), count(&told, "announced")), (300, 3), "{told:#}");
    let why = told["last_error"].as_str().unwrap();
    assert!(why.contains("422") && why.contains("no such tenant"), "{why}");
    assert_eq!(api.events().len(), 0);
    ended.says(&["no such tenant"]);
}

#[test]
fn another_contract_is_followed_where_it_fits_and_refused_where_not() {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(crate::harness::repository("schemas/openapi/governance.yaml")).unwrap();
    // Events one by one, and other names of path parameters.
    let singles =
        text.replace("/v1/events/batch:", "/v1/else:").replace("{run_id}", "{id}").replace("name: run_id", "name: id");
    scratch.write("singles.yaml", singles);
    let api = Api::start(|_| Reply::taken());
    let words = "--target null --parallel 1 --records 30 --rate 1MB/s --run-id x --governance-every 10 --governance-spec singles.yaml";
    let (_, told) = told(&scratch, &run(&scratch, &api, words));
    assert_eq!(count(&told, "posted"), 3, "{told:#}");
    let paths: Vec<_> = api.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths[2..], ["/v1/events", "/v1/events", "/v1/events", "/v1/runs/x/close"]);

    let other = text
        .replace("/v1/producers:", "/v1/streams:")
        .replace("required: [run_id, producer_id, sequence,", "required: [tenant, run_id, producer_id, sequence,")
        .replace("engine_version, started_at, targets", "started_at, targets")
        .replace("        engine_version:\n", "        version_of_engine:\n");
    scratch.write("other.yaml", other);
    for extra in ["", "--dry-run"] {
        let words = format!("--target file:data/ --records 10 --governance-spec other.yaml {extra}");
        let ended = run(&scratch, &api, &words);
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&[
            "--governance-spec 'other.yaml' does not fit",
            "POST /v1/producers: there is no such path",
            "POST /v1/events: \"tenant\" is required and not known here",
            "POST /v1/runs: \"engine_version\" is not allowed",
            "mend: ",
        ]);
        assert!(!scratch.path("data").exists(), "nothing was started");
    }
    assert_eq!(api.requests().len(), paths.len(), "nothing was posted");
}

/// A contract that fits at first sight, and by which every sixteenth checksum is none.
#[test]
fn what_does_not_follow_the_contract_never_leaves() {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(crate::harness::repository("schemas/openapi/governance.yaml")).unwrap();
    let odd = text.replace("'^crc32c:[0-9a-f]{8}$'", "'^crc32c:(00000000|[0-9a-f]{7}[1-9a-f])$'");
    assert_ne!(odd, text);
    scratch.write("odd.yaml", odd);
    let api = Api::start(|_| Reply::taken());
    let words = "--target null --parallel 1 --records 640 --rate 1MB/s --governance-every 1 --governance-spec odd.yaml";
    let ended = run(&scratch, &api, words);
    let (_, told) = told(&scratch, &ended);
    let (posted, invalid) = (count(&told, "posted"), count(&told, "invalid"));
    assert!(posted + invalid == 640 && invalid > 0 && posted > 320, "{told:#}");
    let events = api.events();
    assert_eq!(events.len() as u64, posted, "the others of a batch go without it");
    assert!(events.iter().all(|event| !event["checksum"].as_str().unwrap().ends_with('0')));
    assert!(told["last_error"].as_str().unwrap().contains("checksum"), "{told:#}");
    ended.says(&["checksum"]);
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let scratch = Scratch::new();
    for (words, said) in [
        ("--governance-every 10", "--governance-every has no effect without --governance-url"),
        ("--governance-spec x.yaml", "--governance-spec has no effect"),
        ("--governance-url ftp://x/", "neither http:// nor https://"),
        ("--governance-url http://x/ --governance-spec none.yaml", "none.yaml"),
        ("--governance-url http://me:hidden@x/", "--governance-token-file"),
    ] {
        let ended = scratch.run(&format!("--target null --parallel 1 --records 1 {words}"));
        assert_eq!(ended.code(), 2, "{words}: {ended}");
        ended.says(&[said]);
        assert!(!ended.stderr.contains("hidden"), "{ended}");
    }
    let ended = finish(
        &mut scratch.engine("--target null --parallel 1 --governance-url http://h:1/v/ --governance-every 5 --dry-run"),
    );
    let plan: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(plan["observe"]["governance"]["url"], "http://h:1/v", "{plan:#}");
    assert_eq!(
        (&plan["observe"]["governance"]["every"], &plan["config"]["governance_every"]),
        (&5.into(), &"5".into())
    );
}

#[test]
fn logs_and_metrics_name_what_is_in_force() {
    let scratch = Scratch::new();
    let api = Api::start(|_| Reply::taken());
    let words = format!(
        "--target null --parallel 1 --rate 1MB/s --duration 500ms --stats-interval 100ms --log-format json --report r.json \
         --metrics-addr :0 --metrics-hold 60s --governance-every 3 --governance-url {}",
        api.url()
    );
    let mut engine = Live::start(&mut scratch.engine(&words));
    let address = address(&mut engine);
    assert_eq!(engine.event("start")["governance_every"], 3);
    assert_eq!(engine.event("interval")["governance_every"], 3);
    engine.event("summary");
    let page = get(&address, "/metrics").body;
    let ended = engine.ended();
    let (report, told) = told(&scratch, &ended);
    assert_eq!(metric(&page, "generator_governance_events_total"), count(&told, "events_offered") as f64);
    let posted =
        format!("generator_governance_events_total{{outcome=\"posted\",target=\"null\"}} {}", count(&told, "posted"));
    assert!(page.contains(&posted), "{posted} is missing in {page}");
    assert_eq!(count(&told, "posted"), total(&report, "records_produced").div_ceil(3));
}

#[test]
fn a_signal_while_the_end_is_announced_ends_the_hold_and_no_run() {
    let scratch = Scratch::new();
    let (asked, closing) = channel();
    let (answer, patience) = channel::<()>();
    let patience = Mutex::new(patience);
    let api = Api::start(move |request| {
        if request.path.ends_with("/close") {
            asked.send(()).unwrap();
            let _ = patience.lock().unwrap().recv_timeout(Duration::from_secs(20));
        }
        Reply::taken()
    });
    let words = format!(
        "--target null --parallel 1 --records 100 --rate 1MB/s --log-format json --report r.json --metrics-addr :0 \
         --metrics-hold 1h --governance-url {}",
        api.url()
    );
    let mut engine = Live::start(&mut scratch.engine(&words));
    closing.recv_timeout(Duration::from_secs(60)).unwrap();
    engine.signal("INT");
    engine.event("stopping");
    drop(answer);
    let (report, _) = told(&scratch, &engine.ended());
    assert!(report["ended_by_signal"].is_null(), "{report:#}");
}

#[test]
fn a_run_that_a_signal_cuts_short_has_ended_early() {
    let scratch = Scratch::new();
    let api = Api::start(|_| Reply::taken());
    let words = format!(
        "--target null --parallel 1 --rate 1MB/s --duration 60s --stats-interval 100ms --log-format json --report r.json \
         --governance-every 100 --governance-url {}",
        api.url()
    );
    let mut engine = Live::start(&mut scratch.engine(&words));
    engine.event("interval");
    engine.signal("INT");
    let (report, _) = told(&scratch, &engine.ended());
    assert_eq!(report["ended_by_signal"], "SIGINT", "{report:#}");
    let requests = api.requests();
    let last = requests.last().unwrap();
    assert!(last.path.ends_with("/close") && last.body["outcome"] == "ended_early", "{last:?}");
}

/// Requests look like what they are.
#[test]
fn the_test_server_reads_requests() {
    let api =
        Api::start(|request: &Request| if request.path == "/no" { Reply::status(404, "") } else { Reply::taken() });
    let url = api.url();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let post = |path: &str| {
        agent.post(format!("{url}{path}")).send_json(serde_json::json!({"a": 1})).unwrap().status().as_u16()
    };
    assert_eq!((post("/no"), post("/v1/runs")), (404, 202));
    let requests = api.requests();
    assert_eq!(
        (requests.len(), &requests[0].body["a"], requests[1].header("CONTENT-TYPE").is_some()),
        (2, &1.into(), true)
    );
}
