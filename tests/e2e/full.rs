//! Drives that fill up: a tmpfs and an ext4 of 64 MiB, mounted for the test.

use crate::harness::{Ended, Scratch, finish};
use crate::report::total;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// A small file system of the test's own.
struct Mounted(PathBuf);

impl Mounted {
    fn new(scratch: &Scratch, args: &[&str]) -> Self {
        let point = scratch.path("drive");
        std::fs::create_dir(&point).unwrap();
        let output = Command::new("mount").args(args).arg(&point).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "these tests mount file systems and need root (sudo cargo test): {why}");
        Self(point)
    }

    fn tmpfs(scratch: &Scratch) -> Self {
        Self::new(scratch, &["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
    }

    fn ext4(scratch: &Scratch) -> Self {
        let image = scratch.path("image");
        std::fs::File::create(&image).unwrap().set_len(72 << 20).unwrap();
        let mut make = Command::new("mkfs.ext4");
        let made = make.args(["-q", "-m", "0", "-O", "^has_journal"]).arg(&image).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self::new(scratch, &["-o", "loop", image.to_str().unwrap()])
    }
}

impl Drop for Mounted {
    /// The kernel lets go of a ring's files a little after the process is gone, and until then says "busy".
    fn drop(&mut self) {
        let unmount = |how: &[&str]| {
            let output = Command::new("umount").args(how).arg(&self.0).output();
            output.is_ok_and(|output| output.status.success())
        };
        if !(0..200).any(|_| unmount(&[])) {
            unmount(&["--lazy"]);
        }
    }
}

/// The run ended because the drive was full, and its report tells the truth.
fn ended_full(scratch: &Scratch, words: &str) -> Value {
    let ended: Ended = scratch.run(&format!("--target file:drive/data/ {words} --report report.json"));
    assert_eq!(ended.code(), 1, "{words}: {ended}");
    ended.says(&["ended_early"]);
    let report = scratch.report_of(&ended, "report.json");
    assert!(report["ended_early"].is_string(), "{report:#}");
    assert!(total(&report, "records_produced") > 0);
    scratch.verify_clean("drive/data/ --expect report.json");
    report
}

const HOW: [&str; 5] = [
    "--io uring --direct off",
    "--io syscall --direct off",
    "--io uring --direct on",
    "--io syscall --direct on --payload-size 1000",
    "--io uring --direct on --payload-size 100-9000",
];

fn fill(mount: fn(&Scratch) -> Mounted) {
    for how in HOW {
        for layout in ["--rotate-size-mb 9999", "--rotate-size-mb 8"] {
            let scratch = Scratch::new();
            let _drive = mount(&scratch);
            let words = format!("--parallel 2 --duration 30s --min-free 0 {layout} {how}");
            // A direct file takes its whole room beforehand: that may be refused before anything starts.
            if layout.ends_with("9999") && how.contains("--direct on") {
                let ended = scratch.run(&format!("--target file:drive/data/ {words}"));
                assert_eq!(ended.code(), 3, "{words}: {ended}");
                ended.says(&["free; the run would take", "mend:"]);
                continue;
            }
            let report = ended_full(&scratch, &words);
            assert!(report["ended_early"].as_str().unwrap().contains("No space left"), "{}", report["ended_early"]);
        }
    }
}

#[test]
fn a_full_tmpfs() {
    fill(Mounted::tmpfs);
}

#[test]
fn a_full_ext4() {
    fill(Mounted::ext4);
}

/// `ulimit -f` sends a signal whose default is to end the process, and the books with it.
#[test]
fn a_limit_on_the_size_of_files_ends_the_run_in_order() {
    for how in ["--io uring", "--io syscall"] {
        let scratch = Scratch::new();
        let words = format!("--target file:data/ --records 4000 --min-free 0 --direct off {how} --report report.json");
        let mut limited = Command::new("bash");
        limited.args(["-c", "ulimit -f 2000; exec \"$@\"", "bash"]).arg(env!("CARGO_BIN_EXE_engine"));
        let ended = finish(limited.args(words.split(' ')).current_dir(scratch.folder()));
        assert_eq!(ended.code(), 1, "{how}: {ended}");
        let report = scratch.report_of(&ended, "report.json");
        assert!(total(&report, "records_produced") > 0 && total(&report, "records_produced") < 4000, "{report:#}");
        scratch.verify_clean("data/ --expect report.json");
    }
}

#[test]
fn the_floor_of_free_space_ends_the_run_in_order() {
    let scratch = Scratch::new();
    let _drive = Mounted::tmpfs(&scratch);
    let ended = scratch.run("--target file:drive/data/ --min-free 100Mi --duration 10s");
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["100 MiB", "min-free", "mend:"]);
    assert!(scratch.names("drive").is_empty());
    let report = ended_full(&scratch, "--min-free 40Mi --rate 25MB/s --duration 20s");
    assert_eq!(total(&report, "records_failed"), 0);
    let why = report["ended_early"].as_str().unwrap();
    assert!(why.contains("--min-free"), "{why}");
}

#[test]
fn a_block_device_that_somebody_may_need_is_left_alone() {
    let scratch = Scratch::new();
    let _drive = Mounted::ext4(&scratch);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let point = scratch.path("drive").display().to_string();
    let device = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&point)).unwrap().split(' ').next().unwrap();
    let before = scratch.read("image");
    for more in ["", "--overwrite", "--overwrite-device XYZ"] {
        let ended = scratch.run(&format!("--target file:{device} --records 10 {more}"));
        assert!(matches!(ended.code(), 2 | 3), "{more}: {ended}");
        ended.says(&[device, "mend:"]);
    }
    assert!(scratch.read("image") == before, "the device was written to");
}

#[test]
fn an_audit_log_on_a_full_drive_ends_in_order_too() {
    let scratch = Scratch::new();
    let _drive = Mounted::tmpfs(&scratch);
    let words = "--parallel 2 --duration 30s --min-free 0 --rotate-size-mb 4 --audit-every 1 --payload-size 256";
    ended_full(&scratch, words);
}

#[test]
fn rings_that_do_not_fit_are_refused_before_the_start() {
    let scratch = Scratch::new();
    let _drive = Mounted::ext4(&scratch);
    let ended = scratch.run("--target file:drive/data/ --preallocate 1Gi --parallel 1 --min-free 0");
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["1 GiB", "--preallocate"]);
    assert_eq!(scratch.names("drive"), ["lost+found"]);
    // One that fits is reused at its size.
    for _ in 0..2 {
        scratch
            .report("--target file:drive/data/ --preallocate 48Mi --parallel 1 --min-free 0 --bytes 60Mi --overwrite");
        scratch.verify_clean("drive/data/ --expect report.json");
    }
}
