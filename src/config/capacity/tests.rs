use super::*;
use crate::base::fatal::Exit;
use crate::config::{Command, cli};
use crate::host::capacity::{self, Projection, Scale};
use crate::host::fake::Tree;
use crate::payload::bake::Draft;
use crate::payload::framing::Framing;
use crate::plan::{self, FileLayout, HttpPlan, RunPlan, TargetPlan, TcpPlan};
use std::ffi::OsString;

fn read(words: &str) -> Result<CapacityArgs, Vec<Fatal>> {
    let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    parse(&args, &Deps::new(|| Ok(())))
}

#[test]
fn targets_are_kinds_or_urls() {
    for (text, route) in [
        ("null", Route::Null),
        ("tmpfs", Route::Tmpfs),
        ("file:/dev/shm/x/", Route::Tmpfs),
        ("file:///mnt/nvme0/", Route::File),
        ("tcp://192.0.2.1:1", Route::Tcp),
        ("kafka://192.0.2.1:9092/topic", Route::Kafka),
    ] {
        assert_eq!(read(&format!("--target {text}")).unwrap().demand.route, route, "{text}");
    }
    for text in ["udp://x:1", "https://x/", "kafka:x", "disk"] {
        let errors = read(&format!("--target {text}")).unwrap_err();
        assert!(errors[0].what.contains(text) && errors[0].mend.is_some(), "{text}: {errors:?}");
    }
}

#[test]
fn this_host_is_judged_by_the_card_that_leads_to_the_target() {
    let tree = Tree::new(&[
        ("/sys/class/net/eth0/device/x", ""),
        ("/sys/class/net/eth0/operstate", "up"),
        ("/sys/class/net/eth0/speed", "25000"),
        ("/sys/class/net/eth1/device/x", ""),
        ("/sys/class/net/eth1/operstate", "up"),
        ("/sys/class/net/eth1/speed", "100000"),
        ("/proc/net/route", "Iface\neth0 00000000 0 1 0 0 0 00000000 0 0 0\n"),
    ]);
    let machine = |target: &str| {
        let args = ["--target".to_owned(), target.to_owned()];
        let deps = Deps { sysfs: tree.sysfs(), ..Deps::new(|| Ok(())) };
        parse(&args, &deps).unwrap().machine
    };
    let gbits = |target: &str| machine(target).nic_gbits;
    assert_eq!(gbits("kafka://192.0.2.1:9092/t"), Some(25.0));
    assert_eq!(gbits("kafka"), Some(100.0), "nobody said where it leads");
    assert_eq!(machine("kafka://broker:9092,192.0.2.1:9092/t").unknown, ["broker"]);
    assert_eq!((gbits("tcp://127.0.0.1:9000"), gbits("http://localhost:8080/")), (None, None));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let words = "--rate 8Gb/s --payload-size 1 --parallel 0 --mtu 9 --calibrate maybe --host /no/such.yaml";
    let errors = read(words).unwrap_err();
    for word in ["rate", "payload-size", "parallel", "mtu", "calibrate", "target", "/no/such.yaml"] {
        assert!(errors.iter().any(|error| error.what.contains(word)), "{word}: {errors:?}");
    }
    assert!(read("--target null --rate 0").is_err());
    let unlimited = &read("--target null --rate unlimited").unwrap_err()[0];
    assert!(unlimited.what.contains("'unlimited'") && unlimited.mend.is_some(), "{unlimited}");
}

#[test]
fn a_rate_in_records_counts_with_their_length() {
    let rate = |words: &str| read(&format!("--target null {words}")).map(|plan| plan.demand.rate_bytes_per_second);
    assert_eq!(rate("--rate 1000rec/s --payload-size 500").unwrap(), Some(500_000.0));
    assert_eq!(rate("--rate 0.5rec/s").unwrap(), Some(2048.0));
    let told = &rate("--rate 0.001rec/s --payload-size 64").unwrap_err()[0];
    assert!(told.what.contains("whole bytes"), "{told}");
    let told = &rate("--rate 1000rec").unwrap_err()[0];
    assert!(told.what.contains("50000rec/s"), "the unit that was meant: {told}");
    assert!(rate("--rate 9999999999GB/s").is_err(), "more than any run takes");
}

#[test]
fn what_run_refuses_is_not_planned() {
    let refused = &read("--target null --rate 1000rec/s --payload-size 16").unwrap_err()[0];
    let said = "--payload-size 16 is less than the 64 B of a record with its header\n  mend: --payload-size=64";
    assert_eq!((refused.exit, refused.to_string().as_str()), (Exit::Usage, said));
    assert!(read("--target null --payload-size 64").is_ok());
}

#[test]
fn producers_have_room_on_the_cores_and_targets_no_password() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "cores: 2").unwrap();
    let crowded = format!("--target null --host {} --parallel 65536", file.path().display());
    let told = read(&crowded).unwrap_err()[0].to_string();
    assert!(told.contains("there is room for 1024 producers") && told.ends_with("--parallel 1024"), "{told}");
    assert!(read(&crowded.replace("65536", "1024")).is_ok());
    for target in ["http://me:s3cret@192.0.2.1/x?token=s3cret", "https://me:s3cret@192.0.2.1/"] {
        let told = read(&format!("--target {target}")).unwrap_err()[0].to_string();
        assert!(told.contains("a password in a flag") && !told.contains("s3cret"), "{told}");
    }
}

#[test]
fn a_plan_for_this_host_measures_it_and_one_for_another_does_not() {
    let here = read("--target kafka --rate 8GB/s --payload-size 1Ki --parallel 3 --mtu 9000 --json").unwrap();
    assert!(here.calibrate && here.json && !here.described && here.machine.mtu == 9000);
    assert_eq!(here.demand.rate_bytes_per_second, Some(8e9));
    assert_eq!((here.demand.record_bytes, here.demand.producers), (1024, Some(3)));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"cores\": 32}").unwrap();
    let path = file.path().display();
    let there = read(&format!("--target kafka --host {path}")).unwrap();
    assert!(there.described && !there.calibrate && there.machine.cores == 32);
    assert!(read(&format!("--target kafka --host {path} --calibrate on")).is_err());
}

/// A host of eight processors with room for all rings.
fn host() -> Tree {
    Tree::new(&[
        ("/proc/self/status", "Cpus_allowed_list:\t0-7\nCapEff:\tffffffffffffffff\n"),
        ("/sys/devices/system/cpu/online", "0-7"),
        ("/proc/meminfo", "MemAvailable: 67108864 kB\n"),
    ])
}

/// What is planned, and what a run makes of the command that is printed. `folder` stands for the drive, which has less
/// room.
fn typed(words: &str, folder: &Path) -> (Projection, RunPlan, String) {
    let tree = host();
    let deps = Deps { sysfs: tree.sysfs(), ..Deps::new(|| Ok(())) };
    let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let asked = parse(&args, &deps).unwrap();
    let planned = capacity::project(&asked.demand, &asked.machine, Scale::of_described(&asked.machine));
    let command = planned.command.clone().unwrap_or_else(|| panic!("{words}: {}", planned.summary()));
    let mut typed = command.replace("HOST:PORT", "192.0.2.1:9");
    for drive in ["/mnt/nvme0/", "/dev/shm/engine/"] {
        typed = typed.replace(drive, &format!("{}/", folder.display()));
    }
    if let Some((before, rest)) = typed.clone().split_once(" --footprint ") {
        let flags = rest.split_once(' ').map_or("", |(_, flags)| flags);
        typed = format!("{before} --footprint 512Mi --min-free 0 {flags}");
    }
    let words = typed.split_whitespace().skip(1).map(OsString::from);
    let run = match cli::parse(words, [], &deps) {
        Ok(Command::Run(run)) => *run,
        other => panic!("{typed}: {other:?}"),
    };
    (planned, run, command)
}

#[test]
fn a_run_takes_the_command_as_it_was_planned() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["null", "stdout", "file", "tmpfs", "tcp", "http", "kafka"] {
        for (rate, size) in [("1MB/s", 512), ("1000rec/s", 1000), ("300MB/s", 4096), ("1GB/s", 4 << 20)] {
            for parallel in ["", "--parallel 1", "--parallel 20"] {
                if kind == "stdout" && parallel == "--parallel 20" {
                    continue;
                }
                let words = format!("--target {kind} --rate {rate} --payload-size {size} {parallel} --calibrate off");
                let (planned, run, command) = typed(&words, folder.path());
                let rate = run.rate_bytes_per_second.map(|rate| rate as f64);
                assert_eq!(rate, planned.rate_bytes_per_second, "{command}");
                assert_eq!((run.payload.record_bytes_min, run.payload.record_bytes_max), (size, size), "{command}");
                assert_eq!(Some(run.producers.len() as u32), planned.producers, "{command}");
                let idle = run.cores.iter().any(|core| core.producers.is_empty());
                assert!(!idle && !run.notes.iter().any(|note| note.contains("idle")), "{command}: {:?}", run.notes);
                check_target(&planned, &run, &command);
            }
        }
    }
}

#[test]
fn a_fast_producer_has_room_for_all_its_connections() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["tcp", "kafka"] {
        let words = format!("--target {kind} --rate 4.5GB/s --payload-size 65536 --parallel 1 --calibrate off");
        let (planned, run, command) = typed(&words, folder.path());
        assert_eq!(planned.connections, Some(2), "{command}");
        check_target(&planned, &run, &command);
    }
}

fn check_target(planned: &Projection, run: &RunPlan, command: &str) {
    // One for each connection, and one to prepare: fewer keep some of them idle.
    let blocks = run.cores[0].ring_bytes_per_lane / run.sink.block_bytes;
    match &run.producers[0].to {
        TargetPlan::Null | TargetPlan::Stdout => {}
        TargetPlan::File(file) => {
            let FileLayout::Ring { capacity_bytes } = file.layout else { panic!("{command}: {:?}", file.layout) };
            let ring_bytes = run.cores[0].ring_bytes_per_lane;
            let in_flight = plan::blocks_in_flight(run.sink.queue_depth, run.sink.block_bytes, ring_bytes);
            let all = in_flight == run.sink.queue_depth || 2 * ring_bytes > capacity_bytes;
            assert!(!file.direct || all, "{command}: {in_flight}");
        }
        TargetPlan::Tcp(TcpPlan { link, .. }) | TargetPlan::Http(HttpPlan { link, .. }) => {
            assert_eq!(Some(link.connections as u32), planned.connections, "{command}");
            assert!(blocks > link.connections as u64, "{command}: {blocks} blocks");
        }
        TargetPlan::Kafka(kafka) => {
            let partitions = kafka.partitions.unwrap_or(run.producers.len() as u32);
            let each = planned.connections.unwrap();
            assert_eq!(partitions, each * planned.producers.unwrap(), "{command}");
            assert!(blocks > u64::from(each) * limits::KAFKA_IN_FLIGHT_DEFAULT as u64, "{command}: {blocks} blocks");
        }
    }
}

/// Of processors with unlike caches.
fn ring_host(available: &str) -> Tree {
    let tree = host();
    tree.put("/proc/meminfo", &format!("MemAvailable: {available} kB\n"));
    for cpu in 0..8 {
        let cache = format!("/sys/devices/system/cpu/cpu{cpu}/cache/index2");
        for (name, text) in [("level", "2"), ("type", "Unified"), ("size", &format!("{}K", 512 << (cpu % 4)))] {
            tree.put(&format!("{cache}/{name}"), text);
        }
    }
    tree
}

fn ring_of_a_run(words: &[String], deps: &Deps) -> Result<u64, Vec<Fatal>> {
    match cli::parse(words.iter().map(OsString::from), [], deps)? {
        Command::Run(run) => Ok(run.cores[0].ring_bytes_per_lane),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The plan's ring against the one that its command gets, as it is printed. Where there is no room, that is what lacks.
fn check_ring(words: &str, deps: &Deps) -> u64 {
    let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let asked = parse(&args, deps).unwrap();
    let planned = project(&asked, Scale::of_described(&asked.machine), deps);
    let ring = planned.ring_bytes.unwrap();
    let Some(command) = &planned.command else {
        assert!(planned.lacks.iter().all(|lack| lack.starts_with("space: ")), "{words}: {}", planned.summary());
        return ring;
    };
    let typed: Vec<_> = command.split(' ').skip(1).map(|word| word.replace("HOST:PORT", "192.0.2.7:9")).collect();
    assert_eq!(planned.ring_bytes_total, Some(ring * u64::from(planned.producers.unwrap())), "{command}");
    let run = ring_of_a_run(&typed, deps);
    assert_eq!(run.unwrap_or_else(|errors| panic!("{typed:?}: {errors:?}")), ring, "{command}");
    ring
}

#[test]
fn rings_are_those_that_the_command_gets() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("file:{}/", folder.path().display());
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let tmpfs = format!("file:{}/", memory.path().display());
    for (available, uring) in [("67108864", true), ("4194304", true), ("67108864", false)] {
        let tree = ring_host(available);
        let probe: fn() -> Result<(), String> = if uring { || Ok(()) } else { || Err("EPERM".to_owned()) };
        let deps = Deps { sysfs: tree.sysfs(), ..Deps::new(probe) };
        let mut rings = std::collections::BTreeSet::new();
        for target in [
            "null",
            "stdout",
            &file,
            &tmpfs,
            "tcp",
            "tcp://127.0.0.1:9",
            "http",
            "http://127.0.0.1:9/",
            "http://localhost:9/in",
            "kafka",
            "kafka://127.0.0.1:9/t",
        ] {
            for (rate, size) in [("1MB/s", 512), ("1000rec/s", 1000), ("300MB/s", 4096), ("2GB/s", 128 << 10)] {
                for parallel in ["", "--parallel 1", "--parallel 20"] {
                    if target == "stdout" && parallel == "--parallel 20" {
                        continue;
                    }
                    let words = format!("--target {target} --rate {rate} --payload-size {size} {parallel}");
                    rings.insert(check_ring(&format!("{words} --calibrate off"), &deps));
                }
            }
        }
        assert!(rings.len() > 10, "{rings:?}");
    }
}

/// What the probe times lies as what a run bakes: its records, blocks, rings and lanes.
#[test]
fn heads_are_timed_as_the_records_of_a_run_lie() {
    for available in ["67108864", "4194304", "524288"] {
        let tree = ring_host(available);
        let deps = Deps { sysfs: tree.sysfs(), ..Deps::new(|| Ok(())) };
        for (size, producers) in [(512, 1), (1024, 14), (4096, 7), (16 << 10, 21), (1000, 100), (3 << 20, 7)] {
            let words = format!("--target null --payload-size {size} --parallel {producers}");
            let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            let timed = layout(&parse(&args, &deps).unwrap(), &deps);
            let run = match cli::parse(words.split_whitespace().map(OsString::from), [], &deps) {
                Ok(Command::Run(run)) => *run,
                other => panic!("{words} with {available} kB: {other:?}"),
            };
            let fullest = run.cores.iter().map(|core| core.producers.len()).max().unwrap();
            let (block_bytes, ring_bytes) = (run.sink.block_bytes, run.cores[0].ring_bytes_per_lane);
            let lanes = fullest as u32;
            assert_eq!(timed, Layout { lanes, record_bytes: size, block_bytes, ring_bytes }, "{words}");
            let draft = Draft::new(&run.payload, Framing::None, 0.0, 0, ring_bytes, block_bytes).unwrap();
            assert_eq!(timed.records_of_ring(), draft.starts().count(), "{words}");
            assert_eq!(timed.records_of_ring() * size, draft.bytes(), "{words}");
        }
    }
}

#[test]
fn where_there_is_no_direct_io_the_command_does_not_ask_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let tree = ring_host("67108864");
    let words = format!("--target file:{}/ --rate 1GB/s --payload-size 1000 --parallel 2", folder.path().display());
    let words = format!("{words} --calibrate off");
    let said = |probe| {
        let deps = Deps { sysfs: tree.sysfs(), direct_probe: probe, ..Deps::new(|| Ok(())) };
        check_ring(&words, &deps);
        let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let plan = project(&parse(&args, &deps).unwrap(), Scale::Projected { clock_ratio: 1.0 }, &deps);
        (plan.summary().contains(" --direct on"), plan.summary().contains("O_DIRECT, which is not to be had: "))
    };
    assert_eq!(said(|_, _| Ok(DRIVE)), (true, false));
    assert_eq!(said(|_, _| Err("no such thing".to_owned())), (false, true));
    assert_eq!(said(|_, _| Ok(Direct { useful: false, ..DRIVE })), (false, true));
}

#[test]
fn what_a_run_refuses_on_this_host_does_not_fit() {
    let plan = |available| {
        let tree = ring_host(available);
        let deps = Deps { sysfs: tree.sysfs(), ..Deps::new(|| Ok(())) };
        let words = "--target kafka --rate 4.5GB/s --parallel 1 --calibrate off";
        let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        project(&parse(&args, &deps).unwrap(), Scale::Projected { clock_ratio: 1.0 }, &deps)
    };
    assert!(plan("67108864").command.is_some_and(|command| command.ends_with(" --ring-size 11Mi")));
    let crowded = plan("1024");
    assert_eq!((crowded.verdict, &crowded.command), (Some(capacity::Verdict::DoesNotFit), &None));
    let said = "--ring-size 11 MiB: a ring of 11 MiB does not fit into a quarter of the available memory";
    assert!(crowded.lacks.len() == 1 && crowded.lacks[0].starts_with(said), "{:?}", crowded.lacks);
}

fn block_device() -> Option<std::path::PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let all = std::fs::read_dir("/dev").ok()?.flatten();
    all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device())).map(|entry| entry.path()).next()
}

#[test]
fn a_described_machine_has_rings_of_its_own() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "cores: 32\nnic_gbits: 400").unwrap();
    // Whatever this host has.
    let tree = ring_host("1024");
    let deps = Deps { sysfs: tree.sysfs(), ..Deps::new(|| Err("EPERM".to_owned())) };
    let plan = |words: &str| {
        let words = format!("{words} --host {}", file.path().display());
        let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let asked = parse(&args, &deps).unwrap();
        project(&asked, Scale::of_described(&asked.machine), &deps)
    };
    let rings = |words: &str| {
        let plan = plan(words);
        (plan.ring_bytes, plan.ring_bytes_total)
    };
    // 32 blocks of 1 MiB in flight and 8 to prepare; the cores share no cache there.
    assert_eq!(rings("--target file --rate 2GB/s --parallel 4"), (Some(40 << 20), Some(160 << 20)));
    assert_eq!(rings("--target file:/mnt/no-such/x/ --rate 2GB/s --parallel 1"), (Some(40 << 20), Some(40 << 20)));
    // Where this host has such a device, its capacity is not the described one's.
    if let Some(device) = block_device() {
        let words = format!("--target file:{} --rate 1GB/s --payload-size 4096", device.display());
        assert_eq!(rings(&words), (Some(40 << 20), Some(40 << 20)), "{words}");
    }
    assert_eq!(rings("--target null --rate 1GB/s --parallel 2"), (Some(64 << 20), Some(128 << 20)));
    let brokers = plan("--target kafka --rate 4.5GB/s --parallel 1");
    let told = brokers.command.as_ref().unwrap().split_once(" --ring-size ").unwrap().1.to_owned();
    assert_eq!((told.as_str(), brokers.ring_bytes), ("11Mi", Some(11 << 20)));
    assert!(brokers.summary().contains("\nrings         11 MiB of memory, for the one producer\n"));
    let drives = plan("--target file --rate 2GB/s --parallel 4");
    let said = drives.summary();
    assert!(said.contains("\nrings         40 MiB for each producer, 160 MiB of memory for all\n"), "{said}");
    assert!(said.contains("\n  - rings as a run chooses them where nothing is known of caches"), "{said}");
    assert_eq!(serde_json::to_value(&drives).unwrap()["ring_bytes_total"], 160 << 20);
    // What does not fit has rings all the same; a ceiling has no producers.
    let crowded = plan("--target kafka --rate 900GB/s");
    assert!(crowded.command.is_none() && crowded.ring_bytes.is_some(), "{crowded:?}");
    assert_eq!(rings("--target tcp"), (None, None));
}

#[test]
fn what_takes_one_producer_is_not_planned_for_more() {
    for target in ["stdout", "file:/dev/nvme0n1"] {
        let refused = read(&format!("--target {target} --parallel 2")).unwrap_err()[0].to_string();
        assert!(refused.contains("--parallel 2: the target takes one producer"), "{refused}");
        assert!(read(&format!("--target {target} --parallel 1")).is_ok());
    }
    assert!(read("--target file:/dev/shm/x/ --parallel 2").is_ok());
    assert!(read("--target file:/dev/no-such-folder/ --parallel 2").is_ok(), "files go there");
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("drive");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let words = format!("--target file:{} --parallel 2", link.display());
    assert!(read(&words).unwrap_err()[0].what.ends_with("the target takes one producer"));
    let host = folder.path().join("host.yaml");
    std::fs::write(&host, "cores: 8").unwrap();
    assert!(read(&format!("{words} --host {}", host.display())).is_ok(), "there it may be a file");
}
