//! System calls that fail: a back end that is forbidden, a drive that does not bring data to rest.

use crate::full::Mounted;
use crate::harness::{Scratch, finish};
use crate::receive::{Receiver, number};
use crate::report::{count, total};
use engine::sys::fs::{DirectIo, direct_io};
use serde_json::Value;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// `command` with what it is to run behind its own words.
fn around(mut command: Command, engine: &Command) -> Command {
    command.arg(engine.get_program()).args(engine.get_args());
    for (name, value) in engine.get_envs().filter(|(_, value)| value.is_none()) {
        let _absent = value;
        command.env_remove(name);
    }
    command
}

/// `engine` for which these system calls fail.
fn denied(scratch: &Scratch, errno: &str, calls: &str, words: &str) -> Command {
    scratch.write("deny.py", include_str!("deny.py"));
    let mut command = Command::new("python3");
    command.args(["deny.py", errno, calls]).current_dir(scratch.folder());
    around(command, &scratch.engine(words))
}

#[test]
fn where_io_uring_is_forbidden_system_calls_do_the_work() {
    let scratch = Scratch::new();
    let without_io_uring = |words: &str| denied(&scratch, "EPERM", "io_uring_setup", words);
    // Files may get system calls anyway.
    let receiver = Receiver::start(&scratch, "--listen tcp://127.0.0.1:0 --verify --once --report -");
    let words = format!("--target tcp://{} --parallel 2 --bytes 4Mi --report report.json", receiver.address);
    let ended = finish(&mut without_io_uring(&words));
    assert_eq!(ended.code(), 0, "{ended}");
    assert_eq!(ended.stderr.matches("io_uring cannot be used").count(), 1, "it says so once: {ended}");
    let produced = total(&scratch.report_of(&ended, "report.json"), "records_produced");
    let (receiver, received) = receiver.ended();
    assert_eq!((receiver.code(), number(&received, "records_received")), (0, produced), "{receiver}\n{received:#}");
    let ended = finish(&mut without_io_uring("--target file:data/ --parallel 2 --bytes 4Mi --report report.json"));
    assert_eq!(ended.code(), 0, "{ended}");
    scratch.report_of(&ended, "report.json");
    scratch.verify_clean("data/ --expect report.json");

    let ended = finish(&mut without_io_uring("--target file:other/ --io uring --bytes 4Mi"));
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["--io uring", "mend:"]);
    assert!(!scratch.path("other").exists());
}

/// As in a sandbox that does not know vmsplice, or under a filter that forbids it.
#[test]
fn where_no_page_can_be_lent_to_a_pipe_records_are_copied() {
    let scratch = Scratch::new();
    let words = "--target stdout --annotate off --records 100 --payload-size 1Ki --parallel 1 --seed 5";
    let lent = scratch.run(words);
    assert_eq!((lent.code(), lent.stdout.len()), (0, 100 << 10), "{lent}");
    for errno in ["ENOSYS", "EPERM"] {
        let ended = finish(&mut denied(&scratch, errno, "vmsplice", words));
        assert_eq!(ended.code(), 0, "{errno}: {ended}");
        assert!(ended.stdout == lent.stdout, "{errno}: {ended}");
    }
}

/// What that user can type (their `ulimit` goes no further than the hard limit), and who starts a container of theirs.
const RAISES_MEMLOCK: &str = "mend: sudo prlimit --pid $$ --memlock=unlimited, or LimitMEMLOCK=infinity in a systemd \
                              unit, or docker run --ulimit memlock=-1";

/// `engine` as a user who may lock so many bytes of memory.
fn with_little_locked_memory(scratch: &Scratch, bytes: u64, words: &str) -> Command {
    std::fs::set_permissions(scratch.folder(), Permissions::from_mode(0o777)).unwrap();
    let limited = |words: &str| {
        let mut command = Command::new("prlimit");
        command.arg(format!("--memlock={bytes}:{bytes}")).current_dir(scratch.folder());
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        around(command, &scratch.engine(words))
    };
    let tried = finish(&mut limited("--version"));
    let needs = "root, to run the engine as another user, and a clone in a folder that others may enter";
    assert_eq!(tried.code(), 0, "this test needs {needs}: {tried}");
    limited(words)
}

#[test]
fn what_cannot_be_locked_is_copied() {
    let scratch = Scratch::new();
    for (scheme, requests) in [("http", Some(3)), ("tcp", None)] {
        let receiver = Receiver::start(&scratch, &format!("--listen {scheme}://:0 --report -"));
        let words = format!("--target {scheme}://{} --records 3 --payload-size 16Mi --parallel 1", receiver.address);
        let ended = finish(&mut with_little_locked_memory(&scratch, 8 << 20, &words));
        let (_, received) = receiver.stopped();
        assert_eq!((ended.code(), number(&received, "bytes_received")), (0, 3 * (16 << 20)), "{scheme}: {ended}");
        assert!(requests.is_none_or(|requests| number(&received, "requests") == requests), "{received:#}");
    }
}

#[test]
fn rings_that_cannot_be_locked_stay_unregistered_and_are_refused_with_io_uring() {
    let scratch = Scratch::new();
    let limited = |words: &str| finish(&mut with_little_locked_memory(&scratch, 64 << 10, words));
    let ended = limited("--target file:data/ --direct on --parallel 1 --bytes 4Mi --report report.json");
    assert_eq!(ended.code(), 0, "{ended}");
    assert_eq!(ended.stderr.matches("locked memory is limited to 64 KiB").count(), 1, "{ended}");
    ended.says(&["buffers stay unregistered", RAISES_MEMLOCK]);
    scratch.report_of(&ended, "report.json");
    scratch.verify_clean("data/ --expect report.json");

    let ended = limited("--target file:other/ --parallel 1 --bytes 4Mi --io uring");
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["locked memory is limited to 64 KiB", RAISES_MEMLOCK]);
    assert!(!scratch.path("other").exists());
}

/// The rings alone fit into what may be locked: only the kernel can tell that the buffers beside them do not.
#[test]
fn what_only_the_kernel_finds_too_much_to_lock_is_told_as_well() {
    let scratch = Scratch::new();
    let words =
        "--direct on --payload-size 1000 --block-size 64Ki --ring-size 2Mi --queue-depth 32 --parallel 1 --bytes 4Mi";
    let limited = |words: &str| finish(&mut with_little_locked_memory(&scratch, 3 << 20, words));
    let ended = limited(&format!("--target file:data/ {words} --report report.json"));
    assert_eq!(ended.code(), 0, "{ended}");
    assert_eq!(ended.stderr.matches("locked memory is limited to 3 MiB").count(), 1, "{ended}");
    ended.says(&["buffers stay unregistered", RAISES_MEMLOCK]);
    scratch.report_of(&ended, "report.json");
    scratch.verify_clean("data/ --expect report.json");

    let ended = limited(&format!("--target file:other/ {words} --io uring"));
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["--io uring", "locked memory is limited to 3 MiB", RAISES_MEMLOCK]);
    assert!(!scratch.path("other").exists());

    let ended = limited(&format!("--target file:data/ --overwrite {words} --io uring"));
    assert_eq!(ended.code(), 3, "{ended}");
    scratch.verify_clean("data/ --expect report.json");
}

#[test]
fn a_file_system_without_locks_lets_a_run_pass() {
    for errno in ["EOPNOTSUPP", "ENOLCK", "ENOSYS", "EINVAL"] {
        let scratch = Scratch::new();
        let words = "--target file:data/ --parallel 2 --rotate-size-mb 1 --retain 0 --bytes 4Mi --report report.json";
        let ended = finish(&mut denied(&scratch, errno, "flock", words));
        assert_eq!(ended.code(), 0, "{errno}: {ended}");
        scratch.verify_clean("data/ --expect report.json");
    }
    let scratch = Scratch::new();
    let ended = finish(&mut denied(&scratch, "EIO", "flock", "--target file:data/ --parallel 1 --records 10"));
    assert_eq!(ended.code(), 5, "{ended}");
    ended.says(&["payloads.0.bin", "Input/output error"]);
}

#[test]
fn a_report_that_cannot_take_another_s_place_is_written_over_it() {
    let scratch = Scratch::new();
    // As where the file is a mount of its own.
    scratch.write("report.json", vec![b'x'; 1 << 20]);
    let ended = finish(&mut denied(&scratch, "EBUSY", "rename", "--target null --records 10 --report report.json"));
    assert_eq!(ended.code(), 0, "{ended}");
    scratch.report_of(&ended, "report.json");
    assert_eq!(scratch.names("."), ["deny.py", "report.json"]);
}

#[test]
fn a_sync_that_fails_is_told_where_one_was_asked_for() {
    for (fsync, code, produced) in [("never", 0, 100), ("end", 1, 100), ("each", 1, 0)] {
        let scratch = Scratch::new();
        let words = "--target file:data/ --parallel 1 --records 100 --io syscall --direct off --report report.json";
        let words = format!("{words} --fsync {fsync}");
        let ended = finish(&mut denied(&scratch, "EIO", "fsync,fdatasync", &words));
        assert_eq!(ended.code(), code, "{words}: {ended}");
        let report = scratch.report_of(&ended, "report.json");
        // What the drive took without a word is produced; what only the end's sync shows ends the run alone.
        assert_eq!(total(&report, "records_produced"), produced, "{words}: {report:#}");
        let uncertain = total(&report, "records_uncertain");
        assert_eq!((count(&report["errors"], "io"), uncertain > 0), (uncertain, fsync == "each"), "{report:#}");
        let why = report["ended_early"].as_str().unwrap_or_default();
        assert_eq!(why.contains("Input/output error"), code == 1, "{words}: {why}");
        assert!(code == 0 || why.contains("payloads.0.bin"), "{words}: {why}");
        // What speaks of the data is synced where they are.
        for name in ["payloads.0.json: ", "report.json: "] {
            let told = ended.stderr.contains(&format!("{name}it is there, but fsync failed"));
            assert_eq!(told, fsync != "never", "{name}: {ended}");
        }
    }
}

#[test]
fn a_report_that_is_not_on_the_drive_is_told() {
    let scratch = Scratch::new();
    let ended = finish(&mut denied(&scratch, "EIO", "fsync", "--target null --records 10 --report report.json"));
    assert_eq!(ended.code(), 1, "{ended}");
    ended.says(&["report.json: it is there, but fsync failed", "Input/output error", "mend:"]);
    let report: Value = serde_json::from_slice(&scratch.read("report.json")).unwrap();
    assert_eq!(total(&report, "records_produced"), 10, "{report:#}");
    assert_eq!(scratch.names("."), ["deny.py", "report.json"]);
}

/// Manifests and reports may lie where nothing can be synced.
#[test]
fn a_file_system_that_knows_no_sync_takes_manifests_and_reports() {
    for errno in ["EINVAL", "EOPNOTSUPP", "ENOSYS"] {
        let scratch = Scratch::new();
        let words = "--target file:data/ --parallel 1 --records 10 --report report.json";
        let ended = finish(&mut denied(&scratch, errno, "fsync", words));
        assert_eq!(ended.code(), 0, "{errno}: {ended}");
        assert!(!ended.stderr.contains("fsync failed"), "{errno}: {ended}");
        scratch.verify_clean("data/ --expect report.json");
    }
}

/// O_DIRECT is taken there, and does nothing.
#[test]
fn where_files_have_no_direct_io_the_page_cache_is_used_and_told() {
    for (options, direct) in [("loop", "on"), ("loop,data=journal", "off")] {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        File::create(&image).unwrap().set_len(72 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let _drive = Mounted::new(&scratch, &["-o", options, image.to_str().unwrap()]);
        let told = direct_io(&File::create(scratch.path("drive/probe")).unwrap());
        if told == DirectIo::Untold {
            // Before Linux 6.1 nobody can know.
            return;
        }
        let words = "--target file:drive/data/ --parallel 1 --preallocate 16Mi --min-free 0 --bytes 20Mi";
        let report = scratch.report(&format!("{words} --payload-size 4Ki"));
        assert_eq!(report["config"]["direct"], direct, "{options}");
        scratch.verify_clean("drive/data/ --expect report.json");
        if direct == "off" {
            let ended = scratch.run(&format!("{words} --payload-size 4Ki --direct on --overwrite"));
            assert_eq!(ended.code(), 3, "{ended}");
            ended.says(&["--direct on", "no direct I/O for files here", "mend: --direct=auto"]);
        }
    }
}

#[test]
fn a_rotated_file_that_cannot_be_synced_ends_the_run() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --parallel 1 --duration 60s --io syscall --direct off --rotate-size-mb 1";
    let ended = finish(&mut denied(&scratch, "EIO", "fsync", &format!("{words} --report report.json")));
    assert_eq!(ended.code(), 1, "{ended}");
    let report = scratch.report_of(&ended, "report.json");
    let why = report["ended_early"].as_str().unwrap_or_default();
    assert!(why.contains("Input/output error") && total(&report, "records_produced") > 0, "{report:#}");
}

#[test]
fn room_that_is_not_granted_at_the_start_is_exit_3_and_leaves_nothing() {
    for errno in ["EDQUOT", "EFBIG", "EROFS", "ENOSPC"] {
        let scratch = Scratch::new();
        let words = "--target file:data/new/ --parallel 2 --preallocate 1Mi --records 10";
        let ended = finish(&mut denied(&scratch, errno, "fallocate", words));
        assert_eq!(ended.code(), 3, "{errno}: {ended}");
        ended.says(&["payloads.", "mend:"]);
        assert_eq!(scratch.names("."), ["deny.py"], "{errno}");
        // What was there before stays as it is.
        std::fs::create_dir(scratch.path("data")).unwrap();
        scratch.write("data/payloads.0.bin", "");
        let words = words.replace("data/new/", "data/");
        let ended = finish(&mut denied(&scratch, errno, "fallocate", &words));
        assert_eq!(ended.code(), 3, "{errno}: {ended}");
        assert!(scratch.names("data").contains(&"payloads.0.bin".to_owned()), "{errno}");
        assert!(!scratch.path("data/payloads.1.bin").exists() && scratch.read("data/payloads.0.bin").is_empty());
    }
}

/// What was overwritten is not promised only because the last sync failed.
#[test]
fn a_last_sync_that_fails_changes_nothing_about_what_is_there() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --parallel 1 --preallocate 256Ki --bytes 1Mi --io syscall --direct off";
    let ended = finish(&mut denied(&scratch, "EIO", "fdatasync", &format!("{words} --report report.json")));
    assert_eq!(ended.code(), 1, "{ended}");
    let report = scratch.report_of(&ended, "report.json");
    assert!(count(&report["producers"][0], "retained_first_sequence") > 0, "{report:#}");
    scratch.verify_clean("data/ --expect report.json");
}
