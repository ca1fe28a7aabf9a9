//! `engine doctor` on recorded hosts, each judged item by item, and on this one.
//!
//! `tests/doctor/NAME.host` is a host: `/path: line`, `/path -> link`, or `/path <<` and lines up to a dot. `{0-7}` in
//! a path stands for eight of them, and `{}`, `{+8}`, `{-8}` in its text for the number, moved by so much.
//! `NAME.verdicts` is what has to come out; `UPDATE=1` writes it, for a person to read.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doctor")
}

/// The numbers that a path stands for, with what is before and after the braces.
fn range(path: &str) -> Option<(&str, std::ops::RangeInclusive<i64>, &str)> {
    let (before, rest) = path.split_once('{')?;
    let (range, after) = rest.split_once('}')?;
    let (first, last) = range.split_once('-')?;
    Some((before, first.parse().unwrap()..=last.parse().unwrap(), after))
}

fn substituted(text: &str, number: i64) -> String {
    let mut parts = text.split('{');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (moved, after) = part.split_once('}').expect("a closing brace");
        let moved: i64 = if moved.is_empty() { 0 } else { moved.parse().expect("a number to move by") };
        out.push_str(&format!("{}{after}", number + moved));
    }
    out
}

fn put(root: &Path, path: &str, text: &str) {
    let Some((before, numbers, after)) = range(path) else {
        let file = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        return fs::write(file, format!("{text}\n")).unwrap();
    };
    for number in numbers {
        put(root, &format!("{before}{number}{after}"), &substituted(text, number));
    }
}

fn unpack(name: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(folder().join(format!("{name}.host"))).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    while let Some(line) = lines.next() {
        if let Some(path) = line.strip_suffix(" <<") {
            let body: Vec<_> = lines.by_ref().take_while(|line| *line != ".").collect();
            put(root.path(), path, &body.join("\n"));
        } else if let Some((path, target)) = line.split_once(" -> ") {
            let link = root.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, link).unwrap();
        } else {
            let (path, text) = line.split_once(": ").unwrap_or_else(|| panic!("{name}: '{line}' is no entry"));
            put(root.path(), path, text);
        }
    }
    root
}

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_engine")).arg("doctor").args(arguments).output().unwrap()
}

fn findings(output: &Output) -> Vec<Value> {
    let all: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    all["findings"].as_array().unwrap().clone()
}

fn line(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or_default();
    let subject = finding["subject"].as_str().map(|subject| format!(" ({subject})")).unwrap_or_default();
    format!("{:<7} {}{subject}: {}", text("verdict"), text("item"), text("value"))
}

/// Every verdict and value is the expected one, the exit code follows, and whatever is wrong has a command.
#[track_caller]
fn check(name: &str, arguments: &[&str], exit: i32) -> Vec<Value> {
    let root = unpack(name);
    let root = root.path().to_str().unwrap();
    let output = doctor(&[&["--json", "--root", root], arguments].concat());
    let found = findings(&output);
    let lines: String = found.iter().map(|finding| line(finding) + "\n").collect();
    let path = folder().join(format!("{name}.verdicts"));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &lines).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    for (number, (got, wanted)) in lines.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(got, wanted, "{name}.verdicts, line {}", number + 1);
    }
    assert_eq!(lines.lines().count(), wanted.lines().count(), "{name}:\n{lines}");
    assert_eq!(output.status.code(), Some(exit), "{name}");
    for finding in &found {
        let bad = ["fatal", "hint"].contains(&finding["verdict"].as_str().unwrap());
        assert_eq!(bad, !finding["fix"].as_array().unwrap().is_empty(), "{finding}");
        can_be_typed(finding);
        for key in ["why", "worth", "source"] {
            assert!(!finding[key].as_str().unwrap().is_empty(), "{finding}");
        }
    }
    let text = String::from_utf8(doctor(&[&["--root", root], arguments].concat()).stdout).unwrap();
    for finding in &found {
        assert!(text.contains(finding["value"].as_str().unwrap()), "the text leaves out {finding}\n{text}");
    }
    found
}

/// What a person has to do, by its first words.
const ADVICE: &[&str] = &[
    "LimitMEMLOCK=",
    "LimitNOFILE=",
    "Linux 6.1 or newer",
    "XFS or ext4 ",
    "a faster link",
    "add to the kernel's command line",
    "another host",
    "docker update ",
    "fewer --cores",
    "for each queue N",
    "mkfs.xfs on a drive of its own",
    "move it to a slot",
    "nvme.poll_queues=0 on the kernel's command line",
    "the cable",
];

/// What is neither a flag nor advice is a command that a shell takes as it stands.
#[track_caller]
fn can_be_typed(finding: &Value) {
    for fix in finding["fix"].as_array().unwrap().iter().map(|fix| fix.as_str().unwrap()) {
        if fix.starts_with("--") || ADVICE.iter().any(|words| fix.starts_with(words)) {
            continue;
        }
        let parsed = Command::new("bash").args(["-n", "-c", fix]).output().unwrap();
        assert!(parsed.status.success(), "{finding}: {fix}: {parsed:?}");
        // Words behind a command are a remark; a shell would take them as arguments.
        let command = fix.split(" # ").next().unwrap();
        assert!(!command.contains(", "), "{finding}: {fix}");
    }
}

fn fixes(findings: &[Value], item: &str) -> Vec<String> {
    let finding = findings.iter().find(|finding| finding["item"] == item).unwrap_or_else(|| panic!("no {item}"));
    finding["fix"].as_array().unwrap().iter().map(|fix| fix.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_tuned_two_socket_host() {
    let found = check("bare-two-socket", &["--cores", "33-63", "--target", "file:/data/"], 0);
    assert!(found.iter().all(|finding| finding["verdict"] == "fine"), "{found:?}");
    // The card is the fastest that is up: nothing leads to the broker.
    let root = unpack("bare-two-socket");
    let root = root.path().to_str().unwrap();
    let card = |cores: &str| -> Vec<String> {
        let output = doctor(&["--json", "--root", root, "--cores", cores, "--target", "kafka://192.0.2.1:9092/t"]);
        let found = findings(&output);
        let mine = found.iter().filter(|finding| finding["subject"] == "ens2np0" && finding["verdict"] != "fine");
        assert_eq!(found.iter().filter(|finding| finding["subject"] == "ens2np0").count(), 13, "{found:#?}");
        mine.map(line).collect()
    };
    assert_eq!(card("33-63"), Vec::<String>::new());
    let wrong = [
        "hint    nic.numa (ens2np0): node 1; 1-31 are on another one",
        "hint    nic.xps (ens2np0): no queue is mapped to 1-31",
    ];
    assert_eq!(card("1-32").iter().map(String::as_str).collect::<Vec<_>>()[0], wrong[0]);
    assert_eq!(card("1-31"), wrong);
}

#[test]
fn a_cloud_vm() {
    let found = check("cloud-vm", &[], 0);
    let queued = "sysctl -w net.core.default_qdisc=fq && tc qdisc replace dev eth0 root fq && \
                  tc qdisc replace dev eth0 root mq";
    assert_eq!(fixes(&found, "net.qdisc"), [queued]);
    assert_eq!(fixes(&found, "net.congestion_control"), ["sysctl net.ipv4.tcp_congestion_control=cubic"]);
    let root = unpack("cloud-vm");
    let output = doctor(&["--json", "--root", root.path().to_str().unwrap(), "--target", "tcp://127.0.0.1:9000"]);
    let here = findings(&output).into_iter().find(|finding| finding["item"] == "net.congestion_control").unwrap();
    assert_eq!(here["verdict"], "fine", "what stays on the host has reno: {here}");
}

#[test]
fn a_laptop() {
    let found = check("laptop", &[], 0);
    assert_eq!(fixes(&found, "cpu.smt"), ["--cores 1-4"]);
    assert_eq!(fixes(&found, "drive.write_cache"), ["hdparm -W1 /dev/sda"]);
    let passthrough = "add to the kernel's command line, as the boot loader has it, and reboot: iommu=pt";
    assert_eq!(fixes(&found, "iommu.mode"), [passthrough]);
}

#[test]
fn a_container_with_limits() {
    let found = check("container", &["--cores", "0-3"], 3);
    assert_eq!(fixes(&found, "container.cpu_quota")[0], "--cores 0-1");
    let root = unpack("container");
    let output = doctor(&["--json", "--root", root.path().to_str().unwrap()]);
    let quota = findings(&output).into_iter().find(|finding| finding["item"] == "container.cpu_quota").unwrap();
    assert_eq!(quota["verdict"], "fine", "the default cores keep to the quota");
}

#[test]
fn an_arm_server() {
    let found = check("arm-server", &["--target", "file:/mnt/nvme0/"], 0);
    assert_eq!(fixes(&found, "drive.mount"), ["mount -o remount,noatime /mnt/nvme0"]);
    assert!(fixes(&found, "process.kernel")[0].starts_with("Linux 6.1 or newer"));
    let root = unpack("arm-server");
    // Whatever is isolated: the IOMMU's mode takes no processor from the host, and gives none back.
    for isolated in ["", "1-30"] {
        put(root.path(), "/sys/devices/system/cpu/isolated", isolated);
        let arguments = ["--root", root.path().to_str().unwrap(), "--cores", "1-4", "--target", "file:/mnt/nvme0/"];
        let fixes = fixes(&findings(&doctor(&[&["--json"], &arguments[..]].concat())), "iommu.mode");
        assert_eq!(fixes, ["add to the kernel's command line, as the boot loader has it, and reboot: iommu=pt"]);
    }
    put(root.path(), "/sys/devices/system/cpu/isolated", "");
    let output = doctor(&["--json", "--root", root.path().to_str().unwrap(), "--for", "http"]);
    let found = findings(&output);
    let wrong =
        found.iter().filter(|finding| finding["subject"] == "enp1s0f0" && finding["verdict"] == "hint").map(line);
    let wanted = [
        "hint    nic.speed (enp1s0f0): 25 Gbit/s",
        "hint    nic.irq (enp1s0f0): 63 of 64 interrupts taken by 1-63",
        "hint    net.qdisc (enp1s0f0): mq, fq_codel (default fq_codel)",
        "hint    iommu.mode (enp1s0f0): lazy",
    ];
    assert_eq!(wrong.collect::<Vec<_>>(), wanted);
}

#[test]
fn a_host_with_everything_wrong() {
    let found = check("misconfigured", &["--cores", "0-3,8-11,15", "--for", "file", "--target", "file:/my data/x"], 3);
    assert_eq!(fixes(&found, "drive.mount"), ["mount -o remount,rw '/my data'"]);
    assert_eq!(fixes(&found, "drive.numa"), ["--cores 5-7"]);
    assert_eq!(fixes(&found, "cpu.smt"), ["--cores 0-3,15"]);
    assert_eq!(fixes(&found, "process.io_uring"), ["sysctl kernel.io_uring_disabled=0"]);
}

#[test]
fn the_cards_of_a_host_with_everything_wrong() {
    let root = unpack("misconfigured");
    let root = root.path().to_str().unwrap();
    let arguments = ["--json", "--root", root, "--cores", "0-3,8-11", "--target", "kafka://10.1.2.3:9092/t"];
    let output = doctor(&arguments);
    let found = findings(&output);
    let of = |subject: &str| -> Vec<String> {
        let mine = found.iter().filter(|finding| finding["subject"].as_str() == Some(subject));
        mine.map(|finding| format!("{} {}", finding["verdict"].as_str().unwrap(), finding["item"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(of("ens2"), ["hint nic.link", "unknown iommu.mode"]);
    let wrong = "nic.pcie nic.offloads nic.numa nic.irq nic.queues nic.xps nic.rings nic.coalescing net.qdisc";
    let wrong: Vec<_> = wrong.split(' ').map(|item| format!("hint {item}")).collect();
    assert_eq!(of("ens1")[..9], wrong);
    // A bond is as fast as its cards together, and gives its MTU to them.
    assert_eq!(of("bond0"), ["hint nic.speed", "hint nic.mtu", "fine nic.link"]);
    found.iter().for_each(can_be_typed);
    assert_eq!(fixes(&found, "nic.mtu")[0], "scripts/tune-host.sh apply --nic bond0 --mtu 9000");
    assert!(of("eno1").is_empty() && found.iter().any(|finding| finding["item"] == "iommu.mode"));
    assert_eq!(fixes(&found, "nic.rings")[1], "ethtool -G ens1 tx 4096 rx 4096");
    assert_eq!(fixes(&found, "nic.offloads")[1], "ethtool -K ens1 tso on gro on");
    assert_eq!(fixes(&found, "nic.queues"), ["ethtool -L ens1 combined 8"]);
    assert_eq!(
        fixes(&found, "nic.irq"),
        [
            "scripts/tune-host.sh apply --nic ens1 --cores 0-3,8-11",
            "systemctl stop irqbalance; for i in 40 41; do echo 4-7,12-14 > /proc/irq/$i/smp_affinity_list; done"
        ]
    );
    let missing = doctor(&["--json", "--root", root, "--nic", "nope"]);
    assert_eq!(missing.status.code(), Some(3));
}

#[test]
fn an_empty_tree_is_unknown_not_fine() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("proc")).unwrap();
    let output = doctor(&["--json", "--root", root.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    // Nothing was recorded, so nothing is known: not one item is called good or bad.
    let found = findings(&output);
    let judged: Vec<_> = found.iter().filter(|finding| finding["verdict"] != "unknown").map(line).collect();
    assert!(found.len() > 20 && judged.is_empty(), "{judged:#?}");
}

#[test]
fn this_host_is_judged_and_the_report_carries_it() {
    let output = doctor(&["--json"]);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    let found = findings(&output);
    for item in ["cpu.clock_source", "process.io_uring", "memory.available", "net.tcp_wmem", "drive.mount"] {
        assert!(found.iter().any(|finding| finding["item"] == item && finding["verdict"] != "unknown"), "{item}");
    }
    assert!(found.iter().any(|finding| finding["item"] == "cpu.load"));
    let scratch = tempfile::tempdir().unwrap();
    let arguments = ["--target", "null", "--records", "10", "--report", "r.json"];
    let run = Command::new(env!("CARGO_BIN_EXE_engine")).args(arguments).current_dir(scratch.path()).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let report: Value = serde_json::from_slice(&fs::read(scratch.path().join("r.json")).unwrap()).unwrap();
    let host = &report["host"];
    let judged = host["findings"].as_array().unwrap().len() + host["findings_fine"].as_array().unwrap().len();
    assert!(judged > 10, "{host}");
    let of_network = |finding: &Value| finding["item"].as_str().unwrap().starts_with("nic.");
    assert!(!host["findings"].as_array().unwrap().iter().any(of_network), "a run to null needs no card");
}

#[test]
fn processors_that_a_host_does_not_have_are_not_asleep() {
    let root = unpack("container");
    put(root.path(), "/sys/devices/system/cpu/present", "0-3");
    put(root.path(), "/sys/devices/system/cpu/online", "0");
    put(root.path(), "/proc/self/status", "Cpus_allowed_list:\t0");
    let output = doctor(&["--json", "--root", root.path().to_str().unwrap(), "--cores", "0-30"]);
    let found = findings(&output);
    let cores = found.iter().find(|finding| finding["item"] == "cpu.cores").unwrap();
    assert_eq!(cores["value"], "0-30: this process may not use 1-30; this host has only 0-3");
    let wake = "for cpu in 1 2 3; do echo 1 > /sys/devices/system/cpu/cpu$cpu/online; done";
    assert_eq!(fixes(&found, "cpu.cores"), ["--cores 0", wake]);
}

#[test]
fn no_advice_is_about_processors_that_a_host_does_not_have() {
    let root = unpack("cloud-vm");
    put(root.path(), "/sys/devices/system/cpu/present", "0-7");
    let root = root.path().to_str().unwrap();
    for (asked, there) in [("99", "1-7"), ("0-99", "0-7"), ("1-3,2000", "1-3")] {
        let output = doctor(&["--json", "--root", root, "--cores", asked]);
        assert_eq!(output.status.code(), Some(3), "{asked}");
        let found = findings(&output);
        assert_eq!(fixes(&found, "cpu.cores"), [format!("--cores {there}")], "{asked}");
        let isolation = format!("scripts/tune-host.sh apply --boot --cores {there} && reboot");
        assert_eq!(fixes(&found, "cpu.isolation")[0], isolation, "{asked}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_said_beside_what_is_judged_in_its_place() {
    let scratch = tempfile::tempdir().unwrap();
    let there = scratch.path().to_str().unwrap();
    for (target, absent) in [("data/", true), ("", false), ("x", false)] {
        let found = findings(&doctor(&["--json", "--target", &format!("file:{there}/{target}")]));
        let mount = found.iter().find(|finding| finding["item"] == "drive.mount").unwrap();
        let value = mount["value"].as_str().unwrap();
        assert_eq!(value.ends_with("/data/ is not there yet"), absent, "{target}: {value}");
    }
    let found = findings(&doctor(&["--json", "--target", "file:/no-such-folder/"]));
    let mount = found.iter().find(|finding| finding["item"] == "drive.mount").unwrap();
    // ext4 or XFS without odd options are fine, wherever the folder is.
    let said = "mount the drive there first: mkdir -p /no-such-folder/ && mount /dev/DRIVE /no-such-folder/";
    assert!(mount["verdict"] == "fine" || fixes(&found, "drive.mount")[0] == said, "{mount}");
}

#[test]
fn the_readme_names_every_group() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for item in engine::host::doctor::items::ITEMS {
        let group = item.name.split_once('.').unwrap().0;
        assert!(readme.contains(&format!("`{group}.*`")) || readme.contains(&format!("`{}`", item.name)), "{group}");
    }
}

#[test]
fn looking_takes_no_time_from_a_run() {
    use engine::host::Sysfs;
    use engine::host::doctor::{Scope, examine};
    let scope = Scope { cores: vec![0, 1], paths: vec![".".into()], network: true, ..Scope::default() };
    let once = || {
        let start = std::time::Instant::now();
        assert!(!examine(&Sysfs::default(), &scope).is_empty());
        start.elapsed()
    };
    let fastest = (0..20).map(|_| once()).min().unwrap();
    // To watch processors at work takes 200 ms; anything else is read at once, by a build without optimization, too.
    assert!(fastest.as_millis() < 150, "{fastest:?}");
}
