//! What the effective configuration, the notes and `doctor` say of a plan.

use super::*;
use crate::host::{doctor, fs as host_fs};

fn config_of(text: &str, more: &[(&str, &str)]) -> serde_json::Map<String, serde_json::Value> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().display().to_string();
    let base = [("target", "null"), ("config", path.as_str())];
    plan(&[&base[..], more].concat()).effective_config
}

#[test]
fn stages_say_what_they_have_in_common() {
    let burst = config_of("phases: [{duration: 60s, mode: burst}]", &[]);
    assert_eq!((&burst["mode"], &burst["burst_on"]), (&"burst".into(), &"1s".into()));
    let sampled = "{duration: 1s, mode: sampled, weight: 10}";
    let mixed = config_of(&format!("phases: [{{duration: 1s, rate: 1MB/s}}, {sampled}, {sampled}]"), &[]);
    assert!(mixed["mode"].is_null() && mixed["rate"].is_null() && mixed["weight"] == "10", "{mixed:?}");
    let alike = config_of("rate: 1MB/s\nphases: [{duration: 1s, mode: steady}, {duration: 1s, rate: 1MB/s}]", &[]);
    assert_eq!((&alike["mode"], &alike["rate"], &alike["weight"]), (&"steady".into(), &"1MB/s".into(), &"100".into()));
    // The second one never comes.
    let cut = config_of("phases: [{duration: 9s}, {duration: 9s, mode: burst}]", &[("duration", "5s")]);
    assert_eq!((&cut["mode"], &cut["duration"]), (&"steady".into(), &"5s".into()));
}

#[test]
fn sizes_that_are_cut_are_told_and_shown_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}/", folder.path().display());
    let base = [("target", url.as_str()), ("min-free", "0"), ("parallel", "1"), ("preallocate", "1Mi")];
    let cut = plan(&[&base[..], &[("block-size", "1Mi"), ("ring-size", "8Mi")]].concat());
    assert_eq!((cut.sink.block_bytes, cut.cores[0].ring_bytes_per_lane), (512 << 10, 1 << 20));
    let config = &cut.effective_config;
    assert_eq!((&config["block_size"], &config["ring_size"]), (&524_288.into(), &1_048_576.into()));
    for words in ["--block-size 1 MiB is cut to 512 KiB: two", "--ring-size 8 MiB is cut to 1 MiB: it must fit"] {
        assert_eq!(cut.notes.iter().filter(|note| note.contains(words)).count(), 1, "{words}: {:?}", cut.notes);
    }
    let whole = plan(&[&base[..], &[("block-size", "256Ki"), ("ring-size", "1Mi")]].concat());
    assert!(!whole.notes.iter().any(|note| note.contains("is cut")), "{:?}", whole.notes);
    let one = plan(&[("target", "null"), ("block-size", "1000"), ("payload-size", "4096")]);
    assert_eq!(one.effective_config["block_size"], 4096);
}

#[test]
fn a_depth_beyond_the_ring_is_shown_as_it_is_had() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}/", folder.path().display());
    let base = [("target", url.as_str()), ("min-free", "0"), ("parallel", "1"), ("direct", "off"), ("io", "uring")];
    let deep = [&base[..], &[("block-size", "256Ki"), ("queue-depth", "32")]].concat();
    let is_cut = |made: &RunPlan| made.notes.iter().any(|note| note.contains("--queue-depth 32 is cut to 8: "));
    let cut = plan(&[&deep[..], &[("ring-size", "2Mi")]].concat());
    assert!(cut.effective_config["queue_depth"] == 8 && is_cut(&cut), "{:?}", cut.notes);
    let whole = plan(&deep);
    assert!(whole.effective_config["queue_depth"] == 32 && !is_cut(&whole), "{:?}", whole.notes);
    assert!(whole.cores[0].ring_bytes_per_lane >= 33 * (256 << 10));
}

#[test]
fn what_has_nothing_to_make_durable_is_never_synced() {
    let special = plan(&[("target", "file:/dev/null"), ("fsync", "each")]);
    assert_eq!(special.effective_config["fsync"], "never");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}/", folder.path().display());
    assert_eq!(plan(&[("target", &url), ("min-free", "0"), ("fsync", "each")]).effective_config["fsync"], "each");
}

#[test]
fn attempts_are_counted_where_a_property_counts_them() {
    let kafka = ("target", "kafka://localhost/t");
    assert!(plan(&[kafka]).effective_config["retry"].is_null(), "no limit but time");
    assert_eq!(plan(&[kafka, ("kafka-property", "retries=5")]).effective_config["retry"], 5);
    assert_eq!(plan(&[("target", "http://localhost/")]).effective_config["retry"], 3);
}

#[test]
fn times_that_properties_set_are_shown_to_the_last_digit() {
    let kafka = ("target", "kafka://localhost/t");
    let set = plan(&[kafka, ("kafka-property", "request.timeout.ms=45678"), ("kafka-property", "linger.ms=12345")]);
    let shown = |key: &str| set.effective_config[key].as_str().unwrap().to_owned();
    let ns = |key: &str| crate::base::units::parse_duration_ns(&shown(key));
    assert_eq!(ns("request_timeout"), Ok(45_678_000_000), "{}", shown("request_timeout"));
    assert_eq!(ns("linger"), Ok(12_345_000_000), "{}", shown("linger"));
    let round = plan(&[kafka, ("kafka-property", "request.timeout.ms=45500")]);
    assert_eq!(round.effective_config["request_timeout"], "45.5s");
}

#[test]
fn rskafka_has_one_request_in_flight() {
    let made = plan(&[("target", "kafka://localhost/t"), ("kafka-client", "rskafka"), ("idempotent", "off")]);
    let json = plan_to_json(&made);
    assert_eq!((&json["sink"]["queue_depth"], &json["producers"][0]["to"]["in_flight_max"]), (&1.into(), &1.into()));
    assert_eq!(made.effective_config["queue_depth"], 1);
}

#[test]
fn no_connection_is_idle_unless_that_is_asked_for_and_said() {
    let url = ("target", "tcp://localhost:1");
    let asked = |depth: &str| plan(&[url, ("connections", "16"), ("queue-depth", depth)]).notes;
    let words = "--queue-depth 4 lets no more than 4 of the 16 connections";
    assert_eq!(asked("4").iter().filter(|note| note.contains(words)).count(), 1, "{:?}", asked("4"));
    assert!(!asked("16").iter().any(|note| note.contains("lets no more")), "{:?}", asked("16"));
    for target in [url, ("target", "http://localhost/")] {
        let large = plan(&[target, ("payload-size", "16Mi"), ("connections", "64"), ("parallel", "1")]);
        assert_eq!(large.sink.queue_depth, 64, "{target:?}");
    }
}

#[test]
fn what_the_sources_say_by_name_is_joined() {
    let properties = ("ENGINE_KAFKA_PROPERTY", "acks=1\nenable.idempotence=false\nlinger.ms=5");
    let slo = ("ENGINE_SLO", "errors==0,p99<5ms");
    let flags = [("target", "kafka://localhost/t"), ("kafka-property", "linger.ms=20"), ("slo", "p99<1ms")];
    let made = try_with(&flags, &[properties, slo], &machine(), || Ok(())).unwrap();
    let TargetPlan::Kafka(kafka) = &made.producers[0].to else { panic!("{:?}", made.producers[0].to) };
    assert_eq!((kafka.acks, kafka.idempotent, kafka.linger_ns), (1, false, 20_000_000));
    let shown = serde_json::json!(["acks=1", "enable.idempotence=false", "linger.ms=20"]);
    assert_eq!(made.effective_config["kafka_property"], shown);
    let held: Vec<_> = made.observe.slo.iter().map(|slo| slo.expression.as_str()).collect();
    assert_eq!(held, ["errors==0", "p99<1ms"]);
}

/// io_uring would hand such writes to a worker on the same core.
#[test]
fn a_core_that_polls_writes_to_the_page_cache_by_system_calls() {
    // Where the build is there is mostly a drive; /tmp may be in memory.
    let built = std::env::current_exe().unwrap();
    let folders = [(); 2].map(|()| tempfile::tempdir_in(built.parent().unwrap()).unwrap());
    let on_drive = !host_fs::is_in_memory(folders[0].path());
    let where_calls_wait = if on_drive { Io::Uring } else { Io::Syscall };
    let [url, other] = folders.each_ref().map(|folder| format!("file:{}/", folder.path().display()));
    let flags = [("target", url.as_str()), ("min-free", "0"), ("direct", "off"), ("poll", "busy")];
    let made = try_plan(&flags, &machine(), || panic!("nobody needs it")).unwrap();
    assert_eq!((made.io, made.effective_config["io"].as_str()), (Io::Syscall, Some("syscall")));
    let with = |more: &[(&str, &str)]| plan(&[&flags[..], more].concat()).io;
    assert_eq!(with(&[("io", "uring")]), Io::Uring);
    assert_eq!(with(&[("fsync", "each")]), where_calls_wait, "who waits for the drive does not compete for the core");
    let two = ("target", other.as_str());
    assert_eq!(with(&[two, ("parallel", "4")]), Io::Syscall, "each core has one of the places");
    let on_one_core = with(&[two, ("parallel", "2"), ("cores", "0")]);
    assert_eq!(on_one_core, where_calls_wait, "one place does not hold up the other");
    let waits = [("target", url.as_str()), ("min-free", "0"), ("direct", "off"), ("poll", "adaptive")];
    assert_eq!(plan(&waits).io, where_calls_wait);
    // A small container has no such folder.
    let memory = tempfile::tempdir_in("/dev/shm").ok().filter(|folder| host_fs::is_in_memory(folder.path()));
    if let Some(memory) = memory {
        let url = format!("file:{}/", memory.path().display());
        let copies = [&[("target", url.as_str())], &waits[1..]].concat();
        assert_eq!(plan(&copies).io, Io::Syscall, "copying waits for no drive");
        assert_eq!(plan(&[&copies[..], &[("io", "uring")]].concat()).io, Io::Uring);
    }
    let device = [&[("target", "file:/dev/null")], &waits[2..]].concat();
    assert_eq!(plan(&device).io, Io::Uring, "its name alone is in memory");
}

#[test]
fn stages_of_a_few_whole_records_are_told_of() {
    let noted = |size: &str| {
        let flags = [("target", "null"), ("rate", "1MB/s"), ("ramp-to", "10MB/s"), ("parallel", "8")];
        let notes = plan(&[&flags[..], &[("payload-size", size)]].concat()).notes;
        notes.into_iter().find(|note| note.contains("with fewer than 10 records")).unwrap_or_default()
    };
    assert!(noted("1Mi").starts_with("10 stages with"), "{}", noted("1Mi"));
    assert!(noted("16Ki").starts_with("1 stage with"), "{}", noted("16Ki"));
    assert_eq!(noted("4Ki"), "");
}

/// It names the flags of each process.
#[test]
fn what_doctor_says_of_drives_on_two_nodes_is_a_plan() {
    let tree = machine();
    tree.put("/sys/devices/system/cpu/online", "0-7\n");
    for (node, list, cpus) in [(0, "0-3\n", 0..4), (1, "4-7\n", 4..8)] {
        tree.put(&format!("/sys/devices/system/node/node{node}/cpulist"), list);
        cpus.for_each(|cpu| tree.put(&format!("/sys/devices/system/cpu/cpu{cpu}/node{node}/x"), ""));
        tree.put(&format!("/sys/block/nvme{node}n1/device/device/numa_node"), &node.to_string());
    }
    let paths = vec!["/dev/nvme0n1".into(), "/dev/nvme1n1".into()];
    let scope = doctor::Scope { cores: (1..8).collect(), paths, ..doctor::Scope::default() };
    let found = doctor::examine(&tree.sysfs(), &scope);
    let fix = found.iter().find(|one| one.item == "drive.numa" && !one.fix.is_empty()).unwrap().fix[0].clone();
    let processes: Vec<_> = fix.split("--run-id").skip(1).map(|rest| format!("--run-id{rest}")).collect();
    assert_eq!(processes.len(), 2, "{fix}");
    for (process, ids) in processes.iter().zip([[0, 1, 2], [3, 4, 5]]) {
        let words: Vec<_> = process.split_whitespace().collect();
        let said = words.chunks_exact(2).filter_map(|pair| Some((pair[0].strip_prefix("--")?, pair[1])));
        let flags: Vec<_> = said.chain([("target", "null")]).collect();
        let plan = try_plan(&flags, &tree, || Ok(())).unwrap_or_else(|errors| panic!("{process}: {errors:?}"));
        assert_eq!(plan.producers.iter().map(|producer| producer.id).collect::<Vec<_>>(), ids, "{process}");
    }
}

#[test]
fn requests_that_go_before_they_are_full_are_told_of() {
    let noted = |flags: &[(&str, &str)]| {
        let http = [("target", "http://127.0.0.1:1/"), ("payload-size", "1000"), ("parallel", "1")];
        let notes = plan(&[&http[..], flags].concat()).notes;
        notes.into_iter().find(|note| note.contains("--http-records-per-request")).unwrap_or_default()
    };
    let (many, paced) = (("http-records-per-request", "500"), ("rate", "10MB/s"));
    let told = noted(&[many, paced]);
    assert!(told.starts_with("a request has about 3 records at this rate, not"), "{told}");
    assert!(told.contains("--linger 250 us") && told.contains("--linger=50ms"), "{told}");
    assert_eq!(noted(&[many, paced, ("linger", "50ms")]), "");
    assert_eq!(noted(&[many, ("rate", "unlimited")]), "");
    assert_eq!(noted(&[paced]), "");
}

#[test]
fn templates_that_become_something_else_than_they_look_like_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let noted = |name: &str, text: &str, annotate: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let flags = [("target", "http://127.0.0.1:1/"), ("rate", "1MB/s"), ("annotate", annotate)];
        let notes = plan(&[&flags[..], &[("payload-template", path.as_str())]].concat()).notes;
        notes.into_iter().find(|note| note.contains("template '")).unwrap_or_default()
    };
    let (filled, plain) = (r#"{"n": {{sequence}}, "a": 1}"#, r#"{"event": "of nobody"}"#);
    assert!(noted("a.json", filled, "headers").contains("sent as they stand"));
    assert!(noted("b.json", plain, "payload").contains("begin with a binary header of 64 B"));
    for (name, text, annotate) in
        [("c.json", filled, "payload"), ("d.json", plain, "headers"), ("e.bin", "of sixteen bytes", "payload")]
    {
        assert_eq!(noted(name, text, annotate), "", "{name}");
    }
}
