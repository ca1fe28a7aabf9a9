//! One function for each parser of foreign bytes. It returns for every input, and panics where the parser breaks a
//! promise: what it accepted has to survive being written and read again, and two ways to read have to agree.
//!
//! `tests/fuzz.rs` feeds them a seeded sample, `fuzz/` coverage-guided input.

mod hosts;
mod http;
mod kafka;
mod reports;
mod tls;

use engine::base::document;
use engine::base::progress::ReadProgress;
use engine::base::units;
use engine::config;
use engine::config::slo;
use engine::config::url::Url;
use engine::governance;
use engine::host::{Sysfs, cpu};
use engine::manifest::Manifest;
use engine::observe::quantile;
use engine::pace::{Pacer, Patience};
use engine::payload::fits;
use engine::payload::render::Stamps;
use engine::payload::sign;
use engine::payload::template::{Facts, Kind, Template};
use engine::plan::{Annotate, RunPlan, SpecFile, TemplateFile, VerifyArgs};
use engine::record::{self, HEADER_BYTES, Header};
use engine::verify::findings::Findings;
use engine::verify::ids::{self, Columns};
use engine::verify::{self, expect};
use engine::wire::crc32c;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

fn histogram(data: &[u8]) {
    if let Ok(found) = std::str::from_utf8(data).map_err(|why| why.to_string()).and_then(quantile::decode) {
        assert!(found.is_empty() || found.min() <= found.max());
    }
}

pub type Target = fn(&[u8]);

/// Every target by the name of its folder in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config_file),
    ("contract", governance_contract),
    ("cpu_list", cpu_list),
    ("expect", expect_report),
    ("histogram", histogram),
    ("host", hosts::files),
    ("http_head", http::endpoint_head),
    ("http_response", http::responses),
    ("ids", id_list),
    ("kafka_answer", kafka::answer),
    ("kafka_asked", kafka::asked),
    ("kafka_batch", kafka::batch),
    ("kafka_control", kafka::control),
    ("kafka_properties", kafka::properties),
    ("kafka_request", kafka::request),
    ("machine", hosts::described),
    ("manifest", manifest_and_data),
    ("receive", http::request),
    ("record", record_header),
    ("reports", reports::others),
    ("slo", slo_expression),
    ("target_url", target_url),
    ("template", template),
    ("tls_messages", tls::messages),
    ("units", unit_texts),
    ("verify", record_stream),
];

/// Runs the target of that name.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of the list");
    target(data);
}

fn unit_texts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(rate) = units::parse_rate(&text) {
        assert!(units::format_rate(rate as f64).contains("bit/s"));
        assert_eq!(units::parse_rate(&rate.to_string()), Ok(rate));
    }
    if let Ok(bytes) = units::parse_size(&text) {
        assert!(!units::format_size(bytes).is_empty());
        assert_eq!(units::parse_size(&bytes.to_string()), Ok(bytes));
    }
    if let Ok(ns) = units::parse_duration_ns(&text) {
        assert!(!units::format_duration(ns).is_empty());
        assert_eq!(units::parse_duration_ns(&format!("{}s {}ns", ns / 1_000_000_000, ns % 1_000_000_000)), Ok(ns));
    }
}

fn slo_expression(data: &[u8]) {
    let Ok(parsed) = slo::parse(&String::from_utf8_lossy(data)) else { return };
    for one in parsed {
        assert!(one.threshold.is_finite() && one.threshold >= 0.0, "{one:?}");
        assert_eq!(slo::parse(&one.expression), Ok(vec![one]));
    }
}

fn cpu_list(data: &[u8]) {
    let Ok(cpus) = cpu::parse_list(&String::from_utf8_lossy(data)) else { return };
    assert!(cpus.is_sorted() && !cpus.is_empty());
    assert_eq!(cpu::parse_list(&cpu::format_list(&cpus)), Ok(cpus));
}

/// Keys whose values reach for files or names beyond the configuration; the target is set by a flag.
const REACHING_KEYS: [&str; 5] =
    ["payload_template", "sign_key", "metrics_addr", "governance_spec", "governance_token_file"];

fn config_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(document) = document::parse(&text) else { return };
    if document.0.iter().any(|entry| REACHING_KEYS.contains(&entry.key.replace('-', "_").as_str())) {
        return;
    }
    let scratch = Scratch::new();
    scratch.put("/proc/self/status", b"Cpus_allowed_list:\t0-3\n");
    scratch.put("/proc/meminfo", b"MemTotal: 8000000 kB\nMemAvailable: 8000000 kB\n");
    let path = scratch.put("/config.yaml", text.as_bytes());
    let deps = config::Deps { sysfs: scratch.sysfs(), ..config::Deps::new(|| Ok(())) };
    let args = ["--dry-run", "--target=null", "--config"].map(OsString::from).into_iter().chain([path.into()]);
    match config::parse(args, [], &deps) {
        Ok(config::Command::DryRun(plan)) => plan_holds_together(&plan),
        Ok(other) => panic!("--dry-run became {other:?}"),
        Err(errors) => assert!(!errors.is_empty()),
    }
}

fn governance_contract(data: &[u8]) {
    static PLAN: LazyLock<RunPlan> = LazyLock::new(|| {
        let args = ["--dry-run", "--target=null", "--parallel=1", "--cores=0", "--governance-url=http://h"];
        let deps = config::Deps::new(|| Ok(()));
        match config::parse(args.map(OsString::from), [], &deps) {
            Ok(config::Command::DryRun(plan)) => *plan,
            other => panic!("--dry-run became {other:?}"),
        }
    });
    let mut plan = PLAN.clone();
    let text = String::from_utf8_lossy(data).into();
    plan.observe.governance.as_mut().expect("its address is given").spec = Some(SpecFile { name: "it".into(), text });
    if let Err(fatal) = governance::check(&plan) {
        assert!(fatal.what.lines().count() > 1 && fatal.mend.is_some(), "{fatal}");
    }
}

fn plan_holds_together(plan: &RunPlan) {
    assert!(config::plan_to_json(plan).is_object());
    for producer in plan.producers.first().into_iter().chain(plan.producers.last()) {
        let (linger_ns, block_bytes) = (plan.sink.linger_ns, plan.sink.block_bytes);
        let patience = Patience { catch_up_ns: plan.catch_up_ns, linger_ns, block_bytes };
        let mut pacer = Pacer::new(&producer.schedule, producer.stagger_ns, patience);
        for now_ns in [0, 1, 999_999_999, 10_000_000_000, 86_400_000_000_000, u64::MAX / 2] {
            let expired = pacer.expired_bytes(now_ns);
            pacer.skip(expired);
            let grant = pacer.grant(now_ns);
            assert!(grant.budget_bytes == 0 || grant.first_due_ns <= now_ns, "{grant:?} at {now_ns}");
            pacer.take(grant.budget_bytes.min(1 << 30));
        }
    }
}

/// The first byte chooses how the rest is treated.
fn template(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let annotate = if choice & 1 == 0 { Annotate::Payload } else { Annotate::Off };
    let name = if choice & 2 == 0 { "template.json" } else { "template.txt" };
    let file = TemplateFile { name: name.into(), bytes: bytes.into() };
    let Ok(template) = Template::parse(&file, annotate) else { return };
    let mut record = vec![0; template.length() as usize];
    let facts = Facts { run_id: "fuzz-1", producer_id: 7 };
    let baked = template.bake(&facts, &mut record).expect("a run id that has room");
    let stamps = |n: u64| Stamps { weight: n, sequence: n, timestamp_unix_ns: n, submit_unix_ns: n };
    baked.stamp(&mut record, &stamps(12));
    let first = record.clone();
    baked.stamp(&mut record, &stamps(u64::MAX));
    rendered_well(&template, &record);
    baked.stamp(&mut record, &stamps(12));
    assert_eq!(record, first, "the same stamps are the same bytes");
    rendered_well(&template, &record);
}

fn rendered_well(template: &Template, record: &[u8]) {
    match template.kind() {
        Kind::Opaque | Kind::Header => {}
        Kind::Fits => assert!(fits::is_intact(record), "CHECKSUM does not hold"),
        Kind::Text => {
            if template.name().ends_with(".json") {
                let values = serde_json::Deserializer::from_slice(record).into_iter::<serde::de::IgnoredAny>();
                values.for_each(|value| assert!(value.is_ok(), "JSON stays JSON: {value:?}"));
            }
            crc_slots_hold(template, record);
        }
    }
}

fn crc_slots_hold(template: &Template, record: &[u8]) {
    use engine::manifest::Fact;
    let shape = template.shape();
    let slots: Vec<_> = shape.slots.iter().filter(|slot| slot.fact == Fact::Crc32c).collect();
    let range = |slot: &engine::manifest::Slot| slot.offset as usize..slot.offset as usize + slot.width as usize;
    let mut blank = record.to_vec();
    slots.iter().for_each(|slot| blank[range(slot)].fill(b'0'));
    let sum = crc32c::checksum(&blank).to_string();
    for slot in slots {
        let text = String::from_utf8_lossy(&record[range(slot)]).into_owned();
        assert_eq!(text.trim().trim_matches('"'), sum);
    }
}

fn record_header(data: &[u8]) {
    let Some(header) = Header::decode(data) else {
        return assert!(!record::is_intact(data));
    };
    assert_eq!(header.encode(), data[..HEADER_BYTES]);
    // Whatever the bytes, they can be made into a record by the right length and checksum.
    let header = Header { record_length: data.len() as u32, crc32c: 0, ..header };
    let mut record = [&header.encode(), &data[HEADER_BYTES..]].concat();
    let sum = crc32c::checksum(&record);
    record[record::CRC_OFFSET..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    assert!(record::is_intact(&record));
    let args = VerifyArgs::default();
    let findings = verify::verify_reader(&mut record.as_slice(), "memory", &args).expect("bytes can be read");
    assert_eq!(findings.records, 1, "{findings:?}");
}

/// The first byte chooses signatures, seals and how the pipe delivers. A pipe and a file of the same bytes are judged
/// alike.
fn record_stream(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let sign_key = (choice & 1 == 1).then_some([7; 16]);
    let bytes = &if choice & 4 == 4 { sealed(bytes, sign_key.as_ref()) } else { bytes.to_vec() }[..];
    let args = VerifyArgs { sign_key, threads: 1 + usize::from(choice >> 1 & 1), ..VerifyArgs::default() };
    let mut pipe = Trickle { bytes, step: 1 + usize::from(choice >> 3) * 73 };
    let piped = verify::verify_reader(&mut pipe, "stream", &args).expect("bytes can be read");
    judged(&piped);
    let scratch = Scratch::new();
    let path = scratch.put("/stream.dat", bytes);
    let args = VerifyArgs { sources: vec![path.display().to_string()], ..args };
    let filed = verify::verify(&args, &ReadProgress::default()).expect("the file can be read");
    judged(&filed);
    assert_eq!((piped.records, piped.bytes, &piped.counts), (filed.records, filed.bytes, &filed.counts));
    assert_eq!(piped.producers, filed.producers);
}

/// Gives every whole record its checksums and signature: behind them is the code that no random change would reach.
fn sealed(bytes: &[u8], key: Option<&[u8; 16]>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(header) = bytes.get(at..).filter(|rest| !rest.is_empty()).map(Header::decode) {
        let length = header.map_or(1, |header| header.record_length as usize);
        let (Some(header), Some(record)) = (header, bytes.get_mut(at..at + length)) else {
            at += 1;
            continue;
        };
        let mut header = Header { body_crc32c: crc32c::checksum(&record[HEADER_BYTES..]), crc32c: 0, ..header };
        if let Some(key) = key.filter(|_| header.flags & record::FLAG_SIGNED != 0) {
            let digest = sign::body_digest(key, &record[HEADER_BYTES..]);
            header.signature = sign::sign(key, &header.encode(), digest);
        }
        record[..HEADER_BYTES].copy_from_slice(&header.encode());
        let sum = crc32c::checksum(record);
        record[record::CRC_OFFSET..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        at += length;
    }
    bytes
}

fn judged(findings: &Findings) {
    assert!(findings.summary().lines().count() < 10_000);
    assert!(serde_json::to_string(findings).is_ok());
    assert_eq!(findings.clean, findings.damage.is_empty());
}

/// A reader that gives little at a time.
struct Trickle<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let step = self.step.min(out.len());
        self.bytes.read(&mut out[..step])
    }
}

fn id_list(data: &[u8]) {
    let mut columns = Columns::default();
    for (at, line) in data.split(|byte| *byte == b'\n').enumerate() {
        match Columns::parse(line) {
            Some(named) if at == 0 => columns = named,
            _ => {
                if let Ok(id) = ids::parse_line(line, &columns) {
                    ids::run_of(&id.run_id, &Default::default());
                }
            }
        }
    }
    let scratch = Scratch::new();
    let path = scratch.put("/ids.csv", data);
    let args = VerifyArgs { ids: Some(path.display().to_string()), ..VerifyArgs::default() };
    let findings = verify::verify(&args, &ReadProgress::default()).expect("the file can be read");
    judged(&findings);
    assert_eq!(findings.bytes, data.len() as u64);
}

fn expect_report(data: &[u8]) {
    let scratch = Scratch::new();
    let path = scratch.put("/report.json", data);
    let args = VerifyArgs { expect: vec![path], ..VerifyArgs::default() };
    let verdict = verify::verify_reader(&mut io::empty(), "nothing", &args);
    let Ok(expectation) = expect::parse(data) else {
        return assert!(verdict.is_err(), "a report that is none was taken");
    };
    let promised = expectation.producers.values().flat_map(|expected| {
        let ranges = expected.ranges();
        assert!(ranges.iter().all(|(from, to)| from <= to) && ranges.is_sorted());
        ranges
    });
    let promised = promised.count() > 0;
    let findings = verdict.expect("a report that can be read");
    judged(&findings);
    assert!(!promised || !findings.clean, "nothing was found where something is promised");
}

/// Between a manifest and the data that it speaks of, and between the files of a host.
const SEPARATOR: u8 = 0x1e;
/// Between a manifest and data whose records are to be sealed first.
const SEAL_SEPARATOR: u8 = 0x1f;

fn manifest_and_data(data: &[u8]) {
    let split = data.iter().position(|byte| matches!(*byte, SEPARATOR | SEAL_SEPARATOR)).unwrap_or(data.len());
    let (manifest, records) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    let scratch = Scratch::new();
    let manifest_path = scratch.put("/payloads.0.json", manifest);
    match data.get(split) {
        Some(&SEAL_SEPARATOR) => scratch.put("/payloads.0.bin", &sealed(records, None)),
        _ => scratch.put("/payloads.0.bin", records),
    };
    if let Ok(Some(read)) = Manifest::read(&manifest_path) {
        let copy = scratch.path("/copy.json");
        read.write(&copy).expect("a scratch folder takes a manifest");
        assert_eq!(Manifest::read(&copy).expect("our own manifest"), Some(read));
        fs::remove_file(copy).expect("it was just written");
    }
    let folder = scratch.path("/").display().to_string();
    let args = VerifyArgs { sources: vec![folder], threads: 1, ..VerifyArgs::default() };
    let findings = verify::verify(&args, &ReadProgress::default());
    judged(&findings.expect("a folder with a data file"));
}

fn target_url(data: &[u8]) {
    let Ok(url) = Url::parse(&String::from_utf8_lossy(data)) else { return };
    assert!(!url.hosts.is_empty() && !url.label().contains('?'));
    let again = Url::parse(&url.label()).expect("a label is a URL");
    assert_eq!((again.label(), again.hosts), (url.label(), url.hosts.clone()));
    assert!(url.request_target().is_ascii() && !url.host_header().is_empty());
}

/// A folder of this thread's that is empty at the start of each input.
struct Scratch {
    root: PathBuf,
}

thread_local! {
    // In memory where that can be: most of a run's time goes into making and removing small files.
    static FOLDER: tempfile::TempDir =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
}

impl Scratch {
    fn new() -> Self {
        let root = FOLDER.with(|folder| folder.path().to_owned());
        for entry in fs::read_dir(&root).expect("the folder is ours") {
            let path = entry.expect("a readable folder").path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("what the last input left can go");
        }
        Self { root }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    fn put(&self, absolute: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(absolute);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("folders can be made");
        fs::write(&path, bytes).expect("files can be written");
        path
    }

    fn sysfs(&self) -> Sysfs {
        Sysfs { root: self.root.clone() }
    }
}
