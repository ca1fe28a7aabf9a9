//! Standard output: to a reader, to one that leaves, to a file.

use crate::harness::{Ended, Live, Scratch, Watch, finish};
use crate::modes::all_produced;
use crate::report::{count, total};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

/// `engine words | reader`; both ends.
fn pipe(scratch: &Scratch, words: &str, mut reader: Command) -> (Ended, Ended) {
    let mut engine = scratch.engine(words);
    let mut engine = Live::start(engine.stdout(Stdio::piped()));
    let stdout = engine.child.stdout.take().unwrap();
    let child = reader.stdin(stdout).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It holds the pipe's reading end; a reader that left must be gone for good.
    drop(reader);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (engine.ended(), Ended { status: output.status, stdout: output.stdout, stderr })
}

fn head(bytes: u64) -> Command {
    let mut command = Command::new("head");
    command.args(["-c", &bytes.to_string()]);
    command
}

#[test]
fn a_reader_verifies_what_it_gets() {
    let scratch = Scratch::new();
    for size in ["4096", "1000", "100-9000"] {
        let words = format!("--target stdout --payload-size {size} --bytes 30MB --report report.json");
        let mut verify = scratch.engine("verify - --json --expect report.json");
        // The report is there only at the end: first the stream alone, then the promise.
        let reader = scratch.engine("verify - --json");
        let (engine, reader) = pipe(&scratch, &words, reader);
        assert_eq!((engine.code(), reader.code()), (0, 0), "{engine}\n{reader}");
        let report = scratch.report_of(&engine, "report.json");
        assert_eq!((&report["confirmation"], &report["config"]["io"]), (&"kernel".into(), &"syscall".into()));
        let findings: serde_json::Value = serde_json::from_slice(&reader.stdout).unwrap();
        assert_eq!(findings["records"], report["totals"]["records_produced"]);
        let nothing = finish(verify.stdin(Stdio::null()));
        assert_eq!(nothing.code(), 1, "a promise without its records: {nothing}");
    }
}

#[test]
fn a_closed_stream_is_not_dev_null() {
    let scratch = Scratch::new();
    // What `sh` does to the engine's own streams.
    let run = |words: &str| {
        let line = format!("exec '{}' {words}", env!("CARGO_BIN_EXE_engine"));
        finish(Command::new("sh").args(["-c", &line]).current_dir(scratch.folder()))
    };
    for words in [">&-", "1< /dev/null"] {
        let ended = run(&format!("--target stdout --records 10 --report report.json {words}"));
        assert_eq!(ended.code(), 3, "{words}: {ended}");
        ended.says(&["stdout: standard output is closed, or not open for writing", "mend:"]);
    }
    let ended = run("--target null --duration 30s --log-format json --report - >&-");
    assert_eq!(ended.code(), 3, "before it starts, not after 30 s: {ended}");
    ended.says(&["--report: standard output is closed, or not open for writing", "mend: "]);
    assert!(!ended.stderr.contains("\"event\":\"start\""), "{ended}");
    for words in ["verify --json -", "schema report"] {
        let ended = run(&format!("{words} >&- < /dev/null"));
        assert_eq!(ended.code(), 1, "{words}: {ended}");
        ended.says(&["it is closed, or not open for writing", "mend:"]);
    }
    for words in ["verify -", "verify --ids -"] {
        let ended = run(&format!("{words} <&-"));
        assert_eq!(ended.code(), 2, "{words}: {ended}");
        ended.says(&["standard input is closed, or not open for reading", "mend:"]);
    }
    // Who wants neither may have that.
    let ended = run("--target stdout --records 10 --report report.json > /dev/null <&-");
    assert_eq!(ended.code(), 0, "{ended}");
    let ended = run("verify - < /dev/null");
    assert!(ended.code() == 1 && ended.stdout.starts_with(b"nothing to verify"), "{ended}");
}

#[test]
fn a_stream_of_text_is_told_what_it_needs() {
    let scratch = Scratch::new();
    scratch.write("event.json", r#"{"sequence":"{{sequence}}"}"#);
    let words = "--target stdout --payload-template event.json --records 1000";
    let (engine, reader) = pipe(&scratch, words, scratch.engine("verify -"));
    assert_eq!((engine.code(), reader.code()), (0, 1), "{engine}\n{reader}");
    let said = String::from_utf8_lossy(&reader.stdout);
    assert!(said.contains("need the manifest of a file target, or a list of ids (--ids FILE)"), "{reader}");
}

#[test]
fn a_reader_that_leaves_is_a_normal_end() {
    let scratch = Scratch::new();
    for annotate in ["payload", "off"] {
        let words = format!("--target stdout --annotate {annotate} --duration inf --report report.json");
        let (engine, head) = pipe(&scratch, &format!("{words} --log-format text"), head(3_000_000));
        assert_eq!(engine.code(), 0, "{engine}");
        engine.says(&["\nended       the reader closed its end"]);
        assert_eq!(head.stdout.len(), 3_000_000);
        let report = scratch.report_of(&engine, "report.json");
        assert!(total(&report, "bytes_produced") >= 3_000_000 - 4096, "{:#}", report["totals"]);
        assert!(report["verdict"]["evidence"].to_string().contains("reader closed"), "{:#}", report["verdict"]);
    }
}

#[test]
fn io_uring_is_not_promised_where_it_has_nothing_to_do() {
    let scratch = Scratch::new();
    for target in ["stdout", "null"] {
        let ended = scratch.run(&format!("--target {target} --io uring --records 1"));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&["--io has no effect", "mend: --io=auto"]);
    }
}

#[test]
fn a_file_takes_the_stream_as_well() {
    let scratch = Scratch::new();
    let mut command = scratch.engine("--target stdout --payload-size 1000 --records 20000 --report report.json");
    let ended = Live::start(command.stdout(File::create(scratch.path("stream.bin")).unwrap())).ended();
    assert_eq!(ended.code(), 0, "{ended}");
    scratch.report_of(&ended, "report.json");
    assert_eq!(scratch.read("stream.bin").len(), 20_000_000);
    scratch.verify_clean("stream.bin --expect report.json");
    scratch.verify_clean("stream.bin --threads 2");
    // A report beside it is no manifest.
    scratch.write("stream.json", scratch.read("report.json"));
    let findings = scratch.verify_clean("stream.bin");
    assert!(findings["explained"].to_string().contains("stream.json is no manifest of this engine"), "{findings:#}");
}

#[test]
fn what_a_warmup_produced_is_asked_for_as_well() {
    let scratch = Scratch::new();
    let words = "--target stdout --payload-size 1000 --rate 1MB/s --warmup 100ms --duration 100ms --report report.json";
    let mut command = scratch.engine(words);
    let ended = Live::start(command.stdout(File::create(scratch.path("stream.bin")).unwrap())).ended();
    assert_eq!(ended.code(), 0, "{ended}");
    let report = scratch.report_of(&ended, "report.json");
    assert!(count(&report["warmup"]["totals"], "records_produced") > 0, "{:#}", report["warmup"]);
    scratch.verify_clean("stream.bin --expect report.json");
    scratch.write("stream.bin", &scratch.read("stream.bin")[1000..]);
    let (findings, code) = scratch.verify("stream.bin --expect report.json");
    assert_eq!((code, &findings["counts"]["absent"]["records"]), (1, &1.into()), "{findings:#}");
}

/// What a link or a descriptor leads to takes the report; neither is replaced by a file.
#[test]
fn a_report_goes_where_its_path_leads() {
    let scratch = Scratch::new();
    // As `/dev/stdout` is one.
    symlink("/proc/self/fd/1", scratch.path("out")).unwrap();
    let mut command = scratch.engine("--target null --records 10 --report out");
    let mut file = File::create(scratch.path("r.json")).unwrap();
    let ended = Live::start(command.stdout(file.try_clone().unwrap())).ended();
    assert_eq!(ended.code(), 0, "{ended}");
    scratch.report_of(&ended, "r.json");
    // Who writes there next does not write over it.
    file.write_all(b"next\n").unwrap();
    assert!(scratch.read("r.json").ends_with(b"}\nnext\n"));
    std::fs::create_dir(scratch.path("runs")).unwrap();
    symlink("runs/1.json", scratch.path("latest.json")).unwrap();
    for seed in ["1", "2"] {
        let ended = scratch.run(&format!("--target null --records 10 --seed {seed} --report latest.json"));
        assert_eq!(ended.code(), 0, "{ended}");
        assert_eq!(scratch.report_of(&ended, "runs/1.json")["config"]["seed"].to_string().trim_matches('"'), seed);
    }
    assert!(scratch.path("out").is_symlink() && scratch.path("latest.json").is_symlink());
    assert_eq!(scratch.names("."), ["latest.json", "out", "r.json", "runs"]);
    assert_eq!(scratch.names("runs"), ["1.json"]);
}

#[test]
fn standard_output_by_another_name_is_standard_output() {
    let scratch = Scratch::new();
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let ended = scratch.run(&format!("--target null --records 10 --report {name}"));
        assert_eq!(ended.code(), 0, "{ended}");
        assert_eq!(ended.stdout.iter().filter(|byte| **byte == b'\n').count(), 1, "one line: {ended}");
        crate::report::check(&serde_json::from_slice(&ended.stdout).unwrap());
        for words in [format!("--target stdout --report {name}"), format!("--target null --html {name}")] {
            let ended = scratch.run(&format!("{words} --records 10"));
            assert_eq!(ended.code(), 2, "{ended}");
            ended.says(&[name, "standard output"]);
        }
    }
}

#[test]
fn an_unannotated_stream_is_the_same_in_pipe_and_file() {
    let scratch = Scratch::new();
    let words = "--annotate off --payload-size 64-5000 --seed 5 --bytes 20MB --ring-size 1Mi";
    let (engine, cat) = pipe(&scratch, &format!("--target stdout {words}"), Command::new("cat"));
    assert_eq!((engine.code(), cat.code()), (0, 0), "{engine}");
    scratch.report(&format!("--target file:data.bin {words}"));
    assert!(cat.stdout == scratch.read("data.bin"), "pipe and file differ");
    assert!(cat.stdout.len() >= 20_000_000);
}

#[test]
fn verify_takes_no_more_memory_for_more_data() {
    let scratch = Scratch::new();
    scratch.report("--target file:data.bin --bytes 256Mi --rotate-size-mb 500");
    let data = scratch.read("data.bin");
    let [little, much] = [16 << 20, data.len()].map(|bytes| verify_peak_kib(&scratch, &data[..bytes]));
    assert!(much <= little + (8 << 10), "{much} KiB for 256 MiB, {little} KiB for 16 MiB");
}

/// The most memory that it had when it had taken these records.
fn verify_peak_kib(scratch: &Scratch, records: &[u8]) -> u64 {
    let mut verify = scratch.engine("verify -");
    let mut verify = verify.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _watch = Watch::over(verify.id());
    verify.stdin.as_mut().unwrap().write_all(records).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", verify.id())).unwrap();
    // Its input ends here.
    drop(verify.stdin.take());
    assert_eq!(verify.wait().unwrap().code(), Some(0));
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    peak.and_then(|peak| peak.trim().parse().ok()).unwrap_or_else(|| panic!("no peak in {status}"))
}

#[test]
fn a_paced_stream_keeps_its_rate() {
    let scratch = Scratch::new();
    let words = "--target stdout --payload-size 1000 --rate 2MB/s --duration 500ms --report report.json";
    let report = all_produced(|| {
        let (engine, reader) = pipe(&scratch, words, scratch.engine("verify -"));
        assert_eq!((engine.code(), reader.code()), (0, 0), "{engine}\n{reader}");
        scratch.report_of(&engine, "report.json")
    });
    assert!(total(&report, "records_produced").abs_diff(1000) <= 1, "{:#}", report["totals"]);
}

/// The pipe is full: the run's end has to wait for the reader, and says so by not being ready any more.
#[test]
fn a_signal_in_the_drain_changes_nothing_and_a_second_one_ends_at_once() {
    for hard in [false, true] {
        let scratch = Scratch::new();
        let words = "--target stdout --duration 200ms --drain-timeout 60s --metrics-addr 127.0.0.1:0 --report r.json";
        let mut engine = Live::start(scratch.engine(words).stdout(Stdio::piped()));
        let address = crate::metrics::address(&mut engine);
        engine.event("start");
        crate::harness::poll("the drain", || (crate::metrics::get(&address, "/ready").status == 503).then_some(()));
        engine.signal("INT");
        engine.line("stopping in order");
        if hard {
            engine.insist("INT");
            let status = engine.child.wait().unwrap();
            assert_eq!(status.code(), Some(1), "{}", engine.seen());
            assert!(!scratch.path("r.json").exists());
            continue;
        }
        let mut stdout = engine.child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            stdout.read_to_end(&mut all).unwrap();
            all
        });
        let ended = engine.ended();
        assert_eq!(ended.code(), 0, "{ended}");
        let report = scratch.report_of(&ended, "r.json");
        assert_eq!(total(&report, "records_uncertain"), 0);
        scratch.write("stream.bin", reader.join().unwrap());
        scratch.verify_clean("stream.bin --expect r.json");
    }
}

/// Pipes with a name know no write that does not block.
#[test]
fn a_reader_that_never_reads_leaves_records_failed_or_unsent() {
    let scratch = Scratch::new();
    assert!(Command::new("mkfifo").arg(scratch.path("fifo")).status().unwrap().success());
    // Both of its ends.
    let named = File::options().read(true).write(true).open(scratch.path("fifo")).unwrap();
    let (reader, anonymous) = std::io::pipe().unwrap();
    for pipe in [Stdio::from(anonymous), Stdio::from(named.try_clone().unwrap())] {
        let words = "--target stdout --rate 10MB/s --duration 300ms --drain-timeout 300ms --report r.json";
        let ended = Live::start(scratch.engine(words).stdout(pipe)).ended();
        assert_eq!(ended.code(), 1, "{ended}");
        let report = scratch.report_of(&ended, "r.json");
        for fate in ["produced", "failed", "not_sent"] {
            assert!(total(&report, &format!("records_{fate}")) > 0, "{fate}: {:#}", report["totals"]);
        }
        assert_eq!(total(&report, "records_uncertain"), 0, "{:#}", report["totals"]);
    }
    // They stayed open, and full, until the engine gave up.
    drop((reader, named));
}
