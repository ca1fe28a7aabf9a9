//! Block devices: written over only as they are named, and read back.

use crate::full::Mounted;
use crate::harness::{Scratch, finish};
use crate::report::count;
use engine::base::program::quoted;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// A device with a serial number, as nobody but the engine that is started with it sees it.
struct Device(String);

impl Device {
    fn over(image: &Path) -> Self {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(image).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "these tests make devices and need root (sudo cargo test): {why}");
        Self(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn engine(&self, scratch: &Scratch, words: &str) -> Command {
        let script = r#"set -e
            at=$(readlink -f "/sys/class/block/${1##*/}")
            size=$(cat "$at/size")
            mount -t tmpfs none "$at"
            echo "$size" >"$at/size"
            echo S1 >"$at/serial"
            shift
            exec "$@""#;
        let engine = scratch.engine(words);
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", script, "bash", &self.0]);
        command.arg(engine.get_program()).args(engine.get_args()).current_dir(scratch.folder());
        command
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _gone = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// It is full of what others left there.
#[test]
fn a_device_is_verified_by_the_command_that_is_offered() {
    let scratch = Scratch::new();
    scratch.report("--target file:image --payload-size 1000 --bytes 9Mi");
    File::options().write(true).open(scratch.path("image")).unwrap().set_len(8 << 20).unwrap();
    let device = Device::over(&scratch.path("image"));
    let at = &device.0;
    for words in [
        "--records 100",
        "--records 100 --payload-size 100-9000 --direct on",
        "--bytes 20Mi --direct off",
        "--bytes 20Mi --payload-size 1000 --direct on",
    ] {
        let words = format!("--target file:{at} --overwrite-device S1 {words} --log-format text --report report.json");
        let ended = finish(&mut device.engine(&scratch, &words));
        assert_eq!(ended.code(), 0, "{words}: {ended}");
        ended
            .says(&[&format!("verify with {} verify {at} --expect report.json", quoted(env!("CARGO_BIN_EXE_engine")))]);
        let report = scratch.report_of(&ended, "report.json");
        let producer = &report["producers"][0];
        let there = count(producer, "last_sequence") + 1 - count(producer, "retained_first_sequence");
        let manifest = format!("engine-{}.json", at.trim_start_matches("/dev/"));
        for source in [at.as_str(), manifest.as_str()] {
            let findings = scratch.verify_clean(&format!("{source} --expect report.json"));
            assert_eq!(count(&findings, "records"), there, "{words}: {source}");
        }
    }
}

#[test]
fn a_device_is_not_written_from_a_folder_that_takes_no_manifest() {
    let scratch = Scratch::new();
    File::create(scratch.path("image")).unwrap().set_len(8 << 20).unwrap();
    let device = Device::over(&scratch.path("image"));
    let _drive = Mounted::new(&scratch, &["-t", "tmpfs", "-o", "size=64m,ro", "tmpfs"]);
    let words = format!("--target file:{} --overwrite-device S1 --records 10", device.0);
    let ended = finish(device.engine(&scratch, &words).current_dir(scratch.path("drive")));
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&[device.0.as_str(), "working folder", "start in a folder that can be written"]);
    assert!(!ended.stderr.contains("remount"), "{ended}");
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

/// PATH and a producer's number may make a device's name, and what lies in a folder may lead to one.
#[test]
fn a_device_that_has_the_name_of_a_data_file_is_left_alone() {
    let scratch = Scratch::new();
    let before = vec![7_u8; 8 << 20];
    scratch.write("image", &before);
    let device = Device::over(&scratch.path("image"));
    let at = &device.0;
    std::fs::create_dir(scratch.path("data")).unwrap();
    for link in ["data/payloads.0.bin", "x.0"] {
        symlink(at, scratch.path(link)).unwrap();
    }
    for target in ["data/ --parallel 1", "x --parallel 2"] {
        for more in ["--direct on", "--direct off", "--direct on --overwrite", "--direct off --overwrite"] {
            let ended = scratch.run(&format!("--target file:{target} --records 100 {more}"));
            assert_eq!(ended.code(), 2, "{target} {more}: {ended}");
            ended.says(&[
                &format!("is a block device ({at})"),
                &format!("mend: --target=file:{at} --overwrite-device="),
            ]);
            assert!(std::fs::read(at).unwrap() == before, "{target} {more}: the device was written to");
        }
    }
    assert_eq!(scratch.names("data"), ["payloads.0.bin"]);
    assert_eq!(scratch.names("."), ["data", "image", "x.0"]);
}

/// What it still has of the first run could prove the second.
#[test]
fn a_run_id_names_one_run_of_a_device() {
    let scratch = Scratch::new();
    File::create(scratch.path("image")).unwrap().set_len(8 << 20).unwrap();
    let device = Device::over(&scratch.path("image"));
    for (run_id, code) in [("nightly", 0), ("nightly", 2), ("nightly-2", 0)] {
        let words = format!("--target file:{} --overwrite-device S1 --records 100 --run-id {run_id}", device.0);
        let ended = finish(&mut device.engine(&scratch, &words));
        assert_eq!(ended.code(), code, "{run_id}: {ended}");
        if code == 2 {
            ended.says(&[&device.0, "run 'nightly'", "mend: another --run-id"]);
        }
    }
}
