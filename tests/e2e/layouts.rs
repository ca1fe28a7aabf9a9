//! Every layout of a file, through both back ends, with and without O_DIRECT, for records that fit sectors and
//! those that do not.

use crate::harness::Scratch;
use crate::report::total;

const LAYOUTS: [(&str, &str); 3] = [
    ("append", "--rotate-size-mb 1000 --bytes 6Mi"),
    ("rotated", "--rotate-size-mb 1 --bytes 6Mi"),
    ("ring", "--preallocate 2Mi --bytes 9Mi"),
];
const SIZES: [&str; 3] = ["4096", "1000", "100-9000"];

fn all(io: &str, direct: &str) {
    for (layout, how) in LAYOUTS {
        for size in SIZES {
            let scratch = Scratch::new();
            let words = format!(
                "--target file:data/ --parallel 2 --block-size 64Ki --payload-size {size} --io {io} --direct {direct} {how}"
            );
            let report = scratch.report(&words);
            let findings = scratch.verify_clean("data/");
            let read = findings["records"].as_u64().unwrap();
            let produced = total(&report, "records_produced");
            assert!(total(&report, "wire_bytes") >= total(&report, "bytes_produced"));
            assert_eq!(total(&report, "records_offered"), produced);
            match layout {
                "ring" => {
                    assert!(read < produced && read > produced / 8, "{words}: {read} of {produced}");
                    assert_eq!(findings["records_overwritten"], produced - read, "{words}: {findings:#}");
                }
                _ => assert_eq!(read, produced, "{words}"),
            }
            let rotated = scratch.names("data").iter().filter(|name| name.contains(".bin.")).count();
            assert_eq!(rotated > 0, layout == "rotated", "{words}: {:?}", scratch.names("data"));
            let expected = scratch.verify_clean("data/ --expect report.json");
            assert_eq!(expected["records"], findings["records"]);
        }
    }
}

#[test]
fn uring_buffered() {
    all("uring", "off");
}

#[test]
fn uring_direct() {
    all("uring", "on");
}

#[test]
fn syscall_buffered() {
    all("syscall", "off");
}

#[test]
fn syscall_direct() {
    all("syscall", "on");
}

#[test]
fn more_producers_than_cores_and_several_folders() {
    let scratch = Scratch::new();
    let report = scratch.report("--target file:a/ --target file:b/ --cores 0-1 --parallel 8 --bytes 8MB");
    assert_eq!(report["producers"].as_array().unwrap().len(), 8);
    for folder in ["a", "b"] {
        let data = scratch.names(folder).into_iter().filter(|name| name.ends_with(".bin")).count();
        assert_eq!(data, 4, "{:?}", scratch.names(folder));
    }
    scratch.verify_clean("a/ b/ --expect report.json");
}

#[test]
fn a_block_size_that_direct_cannot_align_names_the_binary_spelling() {
    let scratch = Scratch::new();
    let ended = scratch.run("--target file:data/ --direct on --block-size 1M");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["1Mi"]);
}

#[test]
fn fsync_of_every_kind_keeps_the_books() {
    for fsync in ["never", "end", "each"] {
        let scratch = Scratch::new();
        scratch.report(&format!("--target file:data/ --fsync {fsync} --bytes 2MB --block-size 256Ki"));
        scratch.verify_clean("data/ --expect report.json");
    }
}
