//! A seeded sample of every fuzz target: each file of `tests/fuzz/corpus/`, as it is and changed a few thousand times.
//!
//! ```text
//! FUZZ_RUNS=1000000 FUZZ_SEED=7 cargo test --test fuzz     more of it, or another sample
//! FUZZ_INPUT=PATH cargo test --test fuzz template          one input again
//! ```
//! Coverage-guided runs: `scripts/fuzz.sh`.

#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets.rs"]
mod targets;

use engine::sys::allocation::{Counting, peak_bytes};
use mutate::Mutator;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs of a target that writes files, and of one that only computes.
const RUNS_DEFAULT: u64 = 3000;
const RUNS_DEFAULT_CHEAP: u64 = 20_000;
const CHEAP: [&str; 8] =
    ["cpu_list", "http_head", "http_response", "slo", "target_url", "template", "tls_messages", "units"];
const SEED_DEFAULT: u64 = 20_240_229;

/// An input of a few KiB that makes a parser hold this much has claimed a length and was believed.
const PEAK_BYTES_MAX: i64 = 48 << 20;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}='{text}' is no number")),
        Err(_) => default,
    }
}

/// The samples of a target, in order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

/// Feeds one input; where that fails, keeps it and says how to come back.
fn feed(name: &str, input: &[u8], origin: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let ((), peak) = peak_bytes(|| targets::run(name, input));
        assert!(peak <= PEAK_BYTES_MAX, "{} bytes of input made the parser hold {peak} bytes", input.len());
    }));
    let Err(panic) = outcome else { return };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}.input"));
    fs::write(&path, input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    eprintln!("{name}: {origin} fails; kept as {0}\n  FUZZ_INPUT={0} cargo test --test fuzz {name}", path.display());
    resume_unwind(panic);
}

fn smoke(name: &str) {
    if let Ok(path) = std::env::var("FUZZ_INPUT") {
        let input = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        return feed(name, &input, &path);
    }
    let samples = corpus(name);
    assert!(!samples.is_empty(), "{name} has no corpus");
    for (at, sample) in samples.iter().enumerate() {
        feed(name, sample, &format!("file {at} of its corpus"));
    }
    let seed = number("FUZZ_SEED", SEED_DEFAULT);
    let mut mutator = Mutator::new(seed);
    let runs = if CHEAP.contains(&name) { RUNS_DEFAULT_CHEAP } else { RUNS_DEFAULT };
    for run in 0..number("FUZZ_RUNS", runs) {
        let input = mutator.next(&samples);
        feed(name, &input, &format!("run {run} of FUZZ_SEED={seed}"));
    }
}

/// A test for each target, so that they share the processors.
macro_rules! smoke_tests {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })*
    };
}

smoke_tests! {
    config contract cpu_list expect histogram host http_head http_response ids kafka_answer kafka_asked kafka_batch
    kafka_control kafka_properties kafka_request machine manifest receive record reports slo target_url template
    tls_messages units verify
}

#[test]
fn every_target_is_tested_here_and_in_the_fuzz_crate() {
    let names: Vec<_> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TESTED);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).expect("the fuzz crate has a manifest");
    for name in names {
        let bin = format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&bin), "fuzz/Cargo.toml does not build {name}");
        let path = root.join(format!("fuzz/fuzz_targets/{name}.rs"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.contains(&format!("\"{name}\"")), "{} does not run {name}", path.display());
    }
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let samples = corpus("units");
    let some = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..50).map(|_| mutator.next(&samples)).collect::<Vec<_>>()
    };
    assert_eq!(some(1), some(1));
    assert_ne!(some(1), some(2));
}
