//! A report as a page, again as text, and beside another.

use crate::harness::Scratch;
use crate::report::{number, total};
use engine::base::program::quoted;
use serde_json::Value;

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
    groups.join(",")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// On a slow host even an adaptive core may mostly spin before it is to wake: then its processor time says nothing.
fn mostly_polls(report: &Value) -> bool {
    let cpu = |key: &str| number(report, &format!("/cpu/{key}"));
    cpu("polling_seconds") > (cpu("user_seconds") + cpu("system_seconds")) / 2.0
}

#[test]
fn a_run_leaves_a_page_with_the_figures_of_its_report() {
    let scratch = Scratch::new();
    let words = "--target null --rate 3000001 --payload-size 100-900 --duration 1200ms --parallel 2 --poll adaptive \
                 --run-id p-1 --slo p99<100s,rate>=1TB/s --html page.html --report r.json";
    let ended = scratch.run(words);
    assert_eq!(ended.code(), 4, "{ended}");
    let report = scratch.report_of(&ended, "r.json");
    let page = text(&scratch.read("page.html"));
    let evidence = report["verdict"]["evidence"][0].as_str().unwrap().to_owned();
    let processor = match mostly_polls(&report) {
        true => "mostly polling".to_owned(),
        false => format!("{:.3} <small>s/GB</small>", number(&report, "/cpu/seconds_per_gigabyte")),
    };
    for part in [
        "Run p-1".to_owned(),
        "Exit 4: a threshold was missed".to_owned(),
        format!("<p class=\"value \">{}</p>", thousands(total(&report, "records_produced"))),
        format!("records of {} offered", thousands(total(&report, "records_offered"))),
        processor,
        evidence,
        "rate&gt;=1TB/s".to_owned(),
        "--html page.html".to_owned(),
        "<th>payload_size</th><td>100-900</td>".to_owned(),
    ] {
        assert!(page.contains(&part), "'{part}' is missing in:\n{page}");
    }
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(!page.contains("<script") && !page.contains("src="));
    // The same page of the same report, into a file and on standard output.
    assert_eq!(scratch.run("report r.json --html again.html").code(), 0);
    assert!(text(&scratch.read("again.html")) == page);
    let ended = scratch.run("report r.json --html -");
    assert!(ended.code() == 0 && text(&ended.stdout) == page, "{ended}");
}

#[test]
fn a_summary_can_be_had_again() {
    let scratch = Scratch::new();
    let ended = scratch.run("--target file:data/ --bytes 1MB --report r.json --log-format text");
    assert_eq!(ended.code(), 0, "{ended}");
    let again = scratch.run("report r.json");
    assert_eq!(again.code(), 0, "{again}");
    let said = text(&again.stdout);
    let figures = |text: &str| {
        let lines = text.lines().skip_while(|line| !line.starts_with("produced"));
        lines.take_while(|line| !line.starts_with("data")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(figures(&said).len() > 5, "{said}");
    assert_eq!(figures(&said), figures(&ended.stderr), "{ended}");
    let verify = format!("verify with {} verify", quoted(env!("CARGO_BIN_EXE_engine")));
    assert!(said.contains(&verify) && said.contains("data/ --expect r.json"), "{said}");
}

#[test]
fn a_merged_report_makes_a_page() {
    let scratch = Scratch::new();
    for shard in 0..2 {
        let words = format!("--target null --records 5000 --run-id f --parallel 1 --shard {shard}/2 --cores 0");
        assert_eq!(scratch.run(&format!("{words} --report {shard}.json")).code(), 0);
    }
    assert_eq!(scratch.run("merge 0.json 1.json --report m.json").code(), 0);
    let ended = scratch.run("report m.json --html m.html");
    assert_eq!(ended.code(), 0, "{ended}");
    let page = text(&scratch.read("m.html"));
    for part in ["engine merge 0.json 1.json", "10,000", "<th>shard</th><td>–</td>"] {
        assert!(page.contains(part), "'{part}' is missing in:\n{page}");
    }
    let ended = scratch.run("report m.json");
    assert!(text(&ended.stdout).contains("2 producers\n"), "{}", text(&ended.stdout));
}

#[test]
fn two_runs_side_by_side() {
    let scratch = Scratch::new();
    let run = |name: &str, words: &str| {
        // Of a core that polls the processor time says nothing, nor does that of a few bytes.
        let always = "--target null --duration 300ms --parallel 1 --poll adaptive";
        let ended = scratch.run(&format!("{always} {words} --report {name}"));
        assert_eq!(ended.code(), 0, "{ended}");
        scratch.report_of(&ended, name)
    };
    let a = run("a.json", "--rate 20MB/s");
    let b = run("b.json", "--rate 40MB/s --payload-size 512");
    let ended = scratch.run("compare a.json b.json --json");
    assert_eq!(ended.code(), 0, "{ended}");
    let found: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
    for (key, pointer) in [
        ("throughput.bytes_per_second", "/throughput/bytes_per_second"),
        ("totals.records_offered", "/totals/records_offered"),
        ("latency_seconds.response.p99", "/latency_seconds/response/p99"),
        ("latency_seconds.service.max", "/latency_seconds/service/max"),
        ("cpu.seconds_per_gigabyte", "/cpu/seconds_per_gigabyte"),
    ] {
        let figure = &found["figures"][key];
        let is_cpu = key.starts_with("cpu.");
        let is_void = is_cpu && (mostly_polls(&a) || mostly_polls(&b));
        assert_eq!(figure["void"].is_object(), is_void, "{key}: {found:#}");
        let [of_a, of_b] = [&a, &b].map(|report| report.pointer(pointer).and_then(Value::as_f64));
        // A fast host may take too little processor time for a figure.
        assert!(is_cpu || of_a.and(of_b).is_some(), "{key}: {found:#}");
        let ratio = of_a.zip(of_b).filter(|_| !is_void).map(|(a, b)| b / a);
        for (side, wanted) in [("a", of_a), ("b", of_b), ("ratio", ratio)] {
            let said = figure[side].as_f64();
            let is_near = said.zip(wanted).is_some_and(|(said, wanted)| (said / wanted - 1.0).abs() < 1e-9);
            assert!(is_near || said.or(wanted).is_none(), "{key}: {side}: {said:?} is not {wanted:?}");
        }
    }
    assert_eq!(found["figures"]["pacing.target_bytes_per_second"]["ratio"], 2.0);
    assert!(found["not_comparable"].to_string().contains("record sizes: 4096 and 512"), "{found:#}");
    let differ: Vec<_> = found["config"].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(differ.contains(&"rate") && differ.contains(&"payload_size") && !differ.contains(&"report"), "{differ:?}");
    let ended = scratch.run("compare a.json b.json");
    assert_eq!(ended.code(), 0, "{ended}");
    let said = text(&ended.stdout);
    for part in
        ["not comparable: different record sizes", "response p99.9", "target rate", "2.000", "rate: 20MB/s | 40MB/s"]
    {
        assert!(said.contains(part), "'{part}' is missing in:\n{said}");
    }
    let same = scratch.run("compare a.json a.json");
    assert!(
        !text(&same.stdout).contains("not comparable") && text(&same.stdout).contains("settings that differ: none")
    );
    for (words, code, said) in [
        ("a.json a.json --slo rate==1,service_p50<=1", 0, "  met     service_p50<=1 (1.0000)"),
        ("a.json a.json --slo rate>1", 4, "  missed  rate>1 (1.0000)"),
        ("a.json b.json --slo rate>0", 4, "  missed  rate>0 (not comparable: different record sizes: 4096 and 512)"),
    ] {
        let ended = scratch.run(&format!("compare {words}"));
        assert!(ended.code() == code && text(&ended.stdout).contains(said), "{words}: {ended}");
        let ended = scratch.run(&format!("compare {words} --json"));
        let found: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
        assert_eq!((ended.code(), found["slo"][0]["passed"] == true), (code, code == 0), "{words}: {found:#}");
    }
    let ended = scratch.run("compare a.json a.json --slo errors<=1");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["errors<=1", "run --slo errors==0"]);
}

#[test]
fn what_is_no_report_is_refused_by_name() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run("--target null --records 10 --report r.json").code(), 0);
    let mut other: Value = serde_json::from_slice(&scratch.read("r.json")).unwrap();
    other["schema_version"] = 7.into();
    scratch.write("old.json", other.to_string());
    scratch.write("text.json", "produced: a lot");
    scratch.write("foreign.json", "{\"jobs\": []}");
    for name in ["absent.json", "text.json", "foreign.json", "old.json"] {
        for words in
            [format!("report {name}"), format!("compare r.json {name}"), format!("compare {name} r.json --json")]
        {
            let ended = scratch.run(&words);
            assert_eq!(ended.code(), 2, "{words}: {ended}");
            ended.says(&[name, "mend:"]);
            assert!(ended.stdout.is_empty(), "{words}: {ended}");
        }
    }
    for words in ["report", "report r.json r.json", "compare r.json", "report r.json --html no/such/p.html"] {
        let ended = scratch.run(words);
        assert_eq!(ended.code(), 2, "{words}: {ended}");
        ended.says(&["mend:"]);
    }
}

#[test]
fn a_page_does_not_take_the_place_of_its_report() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run("--target null --records 10 --report r.json").code(), 0);
    let before = scratch.read("r.json");
    let ended = scratch.run("report r.json --html ./r.json");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["--html './r.json'", "'r.json', which is read", "mend:"]);
    assert!(scratch.read("r.json") == before);
}

#[test]
fn a_page_without_a_place_is_refused_before_the_run() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("folder")).unwrap();
    for (words, said) in [
        ("--html no/such/p.html", &["--html", "mkdir -p no/such"][..]),
        ("--html folder", &["--html", "folder/report.html"]),
        ("--html -", &["--html -", "engine report"]),
        ("--html x --report x", &["--html", "--report", "'x'"]),
    ] {
        let ended = scratch.run(&format!("--target null --records 10 {words}"));
        assert_eq!(ended.code(), 2, "{words}: {ended}");
        ended.says(said);
    }
    let ended = scratch.run("--target file:data/ --records 10 --html data/payloads.0.bin");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["--html", "payloads.0.bin"]);
    assert_eq!(scratch.names("."), ["folder"], "nothing was written");
}
