//! The endpoint, as `promtool` and a real Prometheus see it.

use crate::harness::{Live, Scratch, feed, poll};
use crate::report::{count, total};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// Where this engine serves, from its log.
pub fn address(engine: &mut Live) -> String {
    let port = engine.event("metrics")["address"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    format!("127.0.0.1:{port}")
}

pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn get(address: &str, path: &str) -> Page {
    ask(address, path, "")
}

fn ask(address: &str, path: &str, header: &str) -> Page {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{header}\r\n").unwrap();
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    // A server that is in a hurry may reset the connection behind a whole answer.
    assert!(read.is_ok() || !text.is_empty(), "{read:?}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    Page { status, head: head.to_owned(), body: body.to_owned() }
}

/// The sum over all labels.
pub fn metric(page: &str, name: &str) -> f64 {
    let lines = page
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' ')));
    let values: Vec<f64> = lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!values.is_empty(), "{name} is missing:\n{page}");
    values.iter().sum()
}

#[test]
fn counters_equal_the_report_after_the_run() {
    let scratch = Scratch::new();
    // Long enough for the requests that come during the run.
    let words = "--target file:data/ --parallel 2 --rate 20MB/s --warmup 200ms --duration 3s --report r.json \
                 --metrics-addr :0 --metrics-hold 60s";
    let mut engine = Live::start(&mut scratch.engine(words));
    let address = address(&mut engine);
    engine.event("start");
    assert_eq!((get(&address, "/ready").status, get(&address, "/health").status), (200, 200));
    assert_eq!(get(&address, "/nothing").status, 404);
    let first = get(&address, "/metrics");
    assert!(first.status == 200 && first.head.contains("version=0.0.4"), "{}", first.head);
    assert_eq!(metric(&first.body, "generator_produce_errors_total"), 0.0);
    engine.event("summary");
    assert_eq!((get(&address, "/ready").status, get(&address, "/health").status), (503, 200));
    let last = get(&address, "/metrics").body;
    let ended = engine.ended();
    let report = scratch.report_of(&ended, "r.json");
    let warm = &report["warmup"]["totals"];
    for (name, key) in [
        ("generator_records_offered_total", "records_offered"),
        ("generator_records_produced_total", "records_produced"),
        ("generator_records_uncertain_total", "records_uncertain"),
        ("generator_records_not_sent_total", "records_not_sent"),
        ("generator_bytes_produced_total", "bytes_produced"),
        ("generator_logical_bytes_produced_total", "logical_bytes_produced"),
        ("generator_wire_bytes_total", "wire_bytes"),
    ] {
        assert_eq!(metric(&last, name), (total(&report, key) + count(warm, key)) as f64, "{name}");
    }
    let produced = metric(&last, "generator_records_produced_total");
    assert_eq!(metric(&last, "generator_produce_latency_seconds_count"), produced);
    assert_eq!(metric(&last, "generator_service_latency_seconds_count"), produced);
    assert_eq!(metric(&last, "generator_in_flight_bytes"), 0.0);
    for label in ["producer=\"0\"", "producer=\"1\"", "target=\"file:data/\"", "kind="] {
        assert!(last.contains(label), "{label} is missing:\n{last}");
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let scratch = Scratch::new();
    let words = "--target null --rate 10MB/s --duration 300ms --metrics-addr 127.0.0.1:0 --metrics-hold 60s";
    let mut engine = Live::start(&mut scratch.engine(words));
    let address = address(&mut engine);
    engine.event("summary");
    // A scrape of the final numbers ends the hold: this one comes first.
    let open = ask(&address, "/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(open.head.contains("openmetrics-text") && open.body.ends_with("# EOF\n"), "{}\n{}", open.head, open.body);
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    let mut engine = Live::start(&mut scratch.engine(words));
    let address = crate::metrics::address(&mut engine);
    engine.event("summary");
    let page = get(&address, "/metrics").body;
    let said = feed(Command::new("promtool").args(["check", "metrics"]), page.as_bytes());
    assert!(said.code() == 0 && said.stdout.is_empty() && said.stderr.is_empty(), "{said}\n{page}");
    assert_eq!(engine.ended().code(), 0);
}

#[test]
fn a_signal_ends_the_hold() {
    let scratch = Scratch::new();
    let words = "--target null --records 10 --metrics-addr 127.0.0.1:0 --metrics-hold 1h --report r.json";
    let mut engine = Live::start(&mut scratch.engine(words));
    engine.event("summary");
    engine.signal("INT");
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    scratch.report_of(&ended, "r.json");
}

#[test]
fn an_address_that_is_taken_is_named_with_its_mend() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = scratch.run(&format!("--target file:data/ --metrics-addr {address} --records 10"));
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&[&address.to_string(), "ss -ltnp"]);
}

/// A Prometheus server of the test's own.
struct Prometheus {
    live: Live,
    address: String,
}

impl Prometheus {
    fn scraping(scratch: &Scratch, target: &str) -> Self {
        // The last sample is fetched once: a machine that is busy has a whole second for it.
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n  - job_name: engine\n    static_configs: [{{targets: [\"{target}\"]}}]\n"
        );
        scratch.write("prometheus.yml", config);
        let mut command = Command::new("prometheus");
        command.current_dir(scratch.folder()).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=tsdb",
            "--web.listen-address=127.0.0.1:0",
            "--log.format=json",
        ]);
        let mut live = Live::start(&mut command);
        let line = live.line("Listening on");
        let said: Value = serde_json::from_str(&line).unwrap();
        Self { address: said["address"].as_str().unwrap().to_owned(), live }
    }

    fn value(&self, query: &str) -> Option<f64> {
        let page = get(&self.address, &format!("/api/v1/query?query={query}"));
        let body = page.body.get(page.body.find('{')?..=page.body.rfind('}')?)?;
        let answer: Value = serde_json::from_str(body).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.live.child.kill();
        let _ = self.live.child.wait();
    }
}

#[test]
fn a_real_prometheus_sees_the_run_and_its_last_numbers() {
    let scratch = Scratch::new();
    let words = "--target null --parallel 2 --cores 0 --poll adaptive --rate 5MB/s --duration inf --report r.json \
                 --metrics-addr 127.0.0.1:0 --metrics-hold 60s";
    let mut engine = Live::start(&mut scratch.engine(words));
    let address = address(&mut engine);
    engine.event("start");
    let prometheus = Prometheus::scraping(&scratch, &address);
    let query = "sum(generator_records_produced_total)";
    poll("a first sample", || prometheus.value(query).filter(|records| *records > 0.0));
    poll("a target that is up", || prometheus.value("sum(up)").filter(|up| *up == 1.0));
    engine.signal("INT");
    // The next scrape ends the hold.
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    let report = scratch.report_of(&ended, "r.json");
    let produced = total(&report, "records_produced") as f64;
    let last = "sum(max_over_time(generator_records_produced_total[5m]))";
    poll("the last sample", || prometheus.value(last).filter(|records| *records == produced));
}
