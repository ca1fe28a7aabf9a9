//! What runs out, and what is closed. Drives that fill up: a tmpfs and an ext4 of 64 MiB, mounted for the test;
//! descriptors; folders of other users.

use crate::harness::{Ended, Live, Scratch, finish};
use crate::receive::{Receiver, number};
use crate::report::{count, total};
use serde_json::Value;
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of the test's own.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn new(scratch: &Scratch, args: &[&str]) -> Self {
        let point = scratch.path("drive");
        std::fs::create_dir(&point).unwrap();
        let output = Command::new("mount").args(args).arg(&point).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "these tests mount file systems and need root (sudo cargo test): {why}");
        Self(point)
    }

    pub fn tmpfs(scratch: &Scratch) -> Self {
        Self::new(scratch, &["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
    }

    pub fn ext4(scratch: &Scratch) -> Self {
        let image = scratch.path("image");
        File::create(&image).unwrap().set_len(72 << 20).unwrap();
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

/// The same limit, met by what is made beforehand.
#[test]
fn a_ring_over_the_limit_on_the_size_of_files_leaves_nothing() {
    let scratch = Scratch::new();
    let words = "--target file:data/new/ --parallel 2 --preallocate 8Mi --min-free 0 --records 10";
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -f 2000; exec \"$@\"", "bash"]).arg(env!("CARGO_BIN_EXE_engine"));
    let ended = finish(limited.args(words.split(' ')).current_dir(scratch.folder()));
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["payloads.", "mend: raise `ulimit -f`"]);
    assert_eq!(scratch.names("."), [""; 0]);
}

#[test]
fn standard_output_on_a_full_drive_says_so() {
    let scratch = Scratch::new();
    let _drive = Mounted::tmpfs(&scratch);
    let mut command = scratch.engine("--target stdout --payload-size 1000 --duration 30s --report report.json");
    let ended = Live::start(command.stdout(File::create(scratch.path("drive/stream.bin")).unwrap())).ended();
    assert_eq!(ended.code(), 1, "{ended}");
    let report = scratch.report_of(&ended, "report.json");
    let [no_space, io] = ["no_space", "io"].map(|kind| count(&report["errors"], kind));
    assert!(no_space > 0 && io == 0, "{:#}", report["errors"]);
    let written = std::fs::metadata(scratch.path("drive/stream.bin")).unwrap().len();
    assert_eq!(total(&report, "wire_bytes"), written);
}

#[test]
fn a_drive_that_is_mounted_read_only_is_no_question_of_permission() {
    let scratch = Scratch::new();
    let _drive = Mounted::new(&scratch, &["-t", "tmpfs", "-o", "size=64m,ro", "tmpfs"]);
    let ended = scratch.run("--target file:drive/data/ --min-free 0 --records 10");
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["drive is mounted read-only", "remount,rw"]);
}

#[test]
fn a_report_that_could_not_be_written_keeps_anything_from_starting() {
    let scratch = Scratch::new();
    let _drive = Mounted::new(&scratch, &["-t", "tmpfs", "-o", "size=64m,ro", "tmpfs"]);
    for words in [
        "--target file:data/ --records 10 --report drive/r.json",
        "--target file:data/ --records 10 --html drive/r.html",
        "saturate --target null --max-rate 1MB/s --report drive/r.json",
        "receive --listen tcp://127.0.0.1:0 --report drive/r.json",
    ] {
        let ended = scratch.run(words);
        assert_eq!(ended.code(), 3, "{words}: {ended}");
        ended.says(&["drive is mounted read-only", "remount,rw"]);
    }
    assert_eq!(scratch.names("."), ["drive"]);
}

/// A folder like /tmp, of another user, with this user's file in it.
fn shared_folder(scratch: &Scratch) {
    let folder = scratch.path("tmp");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o1777)).unwrap();
    scratch.write("tmp/r.json", "theirs");
    for path in [&folder, &scratch.path("tmp/r.json")] {
        chown(path, Some(12345), None).unwrap_or_else(|why| panic!("these tests need root (sudo cargo test): {why}"));
    }
}

/// As the kernel has it where `fs.protected_symlinks` is set; what a program reads of a link itself is out of its hands.
#[test]
fn a_stranger_s_link_in_a_folder_of_everybody_s_is_not_followed() {
    let scratch = Scratch::new();
    shared_folder(&scratch);
    scratch.write("precious", "mine");
    for (link, user) in [("stranger", 54321), ("owner", 12345), ("own", 0)] {
        let link = scratch.path(&format!("tmp/{link}"));
        symlink("../precious", &link).unwrap();
        lchown(link, Some(user), None).unwrap();
    }
    for words in [
        "--target null --records 10 --report tmp/stranger",
        "--target null --records 10 --html tmp/stranger",
        "--target file:tmp/stranger --records 10 --overwrite",
        "receive --listen tcp://127.0.0.1:0 --report tmp/stranger",
    ] {
        let ended = scratch.run(words);
        assert_eq!(ended.code(), 2, "{words}: {ended}");
        ended.says(&["user 54321 put the link", "tmp/stranger", "mend:"]);
        assert_eq!(scratch.read("precious"), b"mine");
    }
    for link in ["owner", "own"] {
        let ended = scratch.run(&format!("--target null --records 10 --report tmp/{link}"));
        assert_eq!(ended.code(), 0, "{ended}");
        scratch.report_of(&ended, "precious");
        scratch.write("precious", "mine");
    }
}

#[test]
fn another_user_s_report_in_a_folder_of_everybody_s_keeps_the_run_from_starting() {
    let scratch = Scratch::new();
    shared_folder(&scratch);
    // Without what makes root more than the others.
    let mut engine = Command::new("setpriv");
    engine.arg("--bounding-set=-dac_override,-fowner").arg(env!("CARGO_BIN_EXE_engine"));
    engine.args("--target file:data/ --records 10 --report tmp/r.json".split(' ')).current_dir(scratch.folder());
    let ended = finish(&mut engine);
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["tmp/r.json", "another user's", "mend:"]);
    assert_eq!((scratch.names("."), scratch.read("tmp/r.json")), (vec!["tmp".to_owned()], b"theirs".to_vec()));
}

/// Those who come meanwhile wait, and are served once there is a descriptor again.
#[test]
fn a_receiver_without_descriptors_goes_on() {
    let scratch = Scratch::new();
    let mut receiver = Receiver::start(&scratch, "--listen http://127.0.0.1:0 --report - --log-format json");
    let pid = receiver.live.pid().to_string();
    let limit = |files: &str| {
        let nofile = format!("--nofile={files}:");
        let output = Command::new("prlimit").args(["--pid", &pid, &nofile]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    // Standard input, output and error have them all.
    limit("3");
    let mut stream =
        TcpStream::connect(&receiver.address).unwrap_or_else(|error| panic!("{error}: {}", receiver.live.seen()));
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok").unwrap();
    receiver.live.event("accept");
    limit("256");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    let (ended, report) = receiver.stopped();
    assert_eq!(ended.code(), 0, "{ended}");
    assert_eq!((number(&report, "connections"), number(&report, "requests")), (1, 1));
    assert!(number(&report, "accept_errors") > 0, "{report:#}");
    assert_eq!(ended.stderr.matches("\"event\":\"accept\"").count(), 1, "{ended}");
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

fn free_bytes(folder: &Path) -> u64 {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().nth(1).and_then(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// Each with what may be written beyond, in one of three runs: nothing where files get their room beforehand.
#[test]
fn the_floor_of_free_space_is_kept() {
    for (how, beyond_mib) in [
        ("--rotate-size-mb 4 --direct on", 0),
        ("--rotate-size-mb 4 --direct on --retain 1 --rate 50MB/s --duration 2s", 0),
        ("--rotate-size-mb 20 --direct off --rate 200MB/s", 4),
        ("--rotate-size-mb 9999 --direct off", 16),
    ] {
        let (words, recycles) = (format!("--parallel 2 --min-free 30Mi {how}"), how.contains("--retain"));
        let keeps_it = |_| {
            let scratch = Scratch::new();
            let drive = Mounted::tmpfs(&scratch);
            let report = match recycles {
                true => scratch.report(&format!("--target file:drive/data/ {words}")),
                false => ended_full(&scratch, &format!("{words} --duration 30s")),
            };
            let is_reached = report["ended_early"].as_str().is_some_and(|why| why.contains("--min-free"));
            assert!(is_reached != recycles && total(&report, "records_failed") == 0, "{how}: {report:#}");
            free_bytes(&drive.0) >= (30 - beyond_mib) << 20
        };
        assert!((0..if beyond_mib == 0 { 1 } else { 3 }).any(keeps_it), "{how}: less is free");
    }
}

#[test]
fn a_file_that_has_its_room_is_filled_before_the_floor_ends_the_run() {
    let scratch = Scratch::new();
    let _drive = Mounted::tmpfs(&scratch);
    let words = "--parallel 1 --min-free 30Mi --rotate-size-mb 12 --direct on --duration 30s";
    // What is overwritten makes room first.
    for words in [words.to_owned(), format!("{words} --overwrite")] {
        let report = ended_full(&scratch, &words);
        assert!(report["ended_early"].as_str().unwrap().contains("--min-free"), "{}", report["ended_early"]);
        assert_eq!(total(&report, "wire_bytes"), 24 << 20, "two files are full, and a third has no room");
    }
}

#[test]
fn a_short_run_fits_where_a_whole_file_would_not() {
    let scratch = Scratch::new();
    let _drive = Mounted::ext4(&scratch);
    scratch.report("--target file:drive/data/ --parallel 1 --bytes 10MB --direct on");
    scratch.verify_clean("drive/data/ --expect report.json");
}

#[test]
fn a_ring_is_written_to_its_end() {
    let scratch = Scratch::new();
    let _drive = Mounted::ext4(&scratch);
    let words = "--preallocate 47Mi --parallel 1 --direct on --min-free 0 --bytes 60Mi";
    scratch.report(&format!("--target file:drive/data/ {words}"));
    let manifest: Value = serde_json::from_slice(&scratch.read("drive/data/payloads.0.json")).unwrap();
    let lap_bytes = count(&manifest["layout"], "lap_bytes");
    assert!((46 << 20..=47 << 20).contains(&lap_bytes), "{manifest:#}");
    scratch.verify_clean("drive/data/ --expect report.json");
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
