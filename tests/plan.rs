//! `engine plan` as a user meets it; what HARDWARE.md says of its reference builds is what the code says.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn plan(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_engine")).arg("plan").args(words).output().expect("engine runs")
}

fn json(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {errors}"))
}

/// The `yaml` blocks that begin with `# host: NAME`, as files.
fn builds(text: &str, folder: &Path) -> BTreeMap<String, PathBuf> {
    let blocks = text.split("```yaml\n# host: ").skip(1);
    let write = |block: &str| {
        let (name, rest) = block.split_once('\n').expect("a name and lines");
        let path = folder.join(format!("{name}.yaml"));
        std::fs::write(&path, rest.split("```").next().expect("a block")).expect("writable");
        (name.to_owned(), path)
    };
    blocks.map(write).collect()
}

fn verdict(plan: &Value) -> &'static str {
    match plan["verdict"].as_str() {
        Some("fits") => "fits",
        Some("uncertain") => "uncertain",
        Some("does_not_fit") => "does not fit",
        other => panic!("{other:?} is no verdict"),
    }
}

#[test]
fn the_reference_builds_are_what_hardware_md_says() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("HARDWARE.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let builds = builds(&text, folder.path());
    let (mut checked, mut seen) = (0, BTreeMap::new());
    for row in text.lines() {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, host, target, rate, expected, limits, _] = cells[..] else { continue };
        let Some(path) = builds.get(host) else { continue };
        let output = plan(&["--host", path.to_str().unwrap(), "--target", target, "--rate", rate, "--json"]);
        let plan = json(&output);
        assert_eq!((verdict(&plan), plan["limits_first"].as_str()), (expected, Some(limits)), "{row}");
        assert_eq!(output.status.code(), Some(if expected == "does not fit" { 3 } else { 0 }), "{row}");
        assert_eq!(plan["basis"], "projection");
        assert_eq!(plan["lacks"].as_array().unwrap().is_empty(), expected != "does not fit", "{row}");
        checked += 1;
        seen.insert(host.to_owned(), ());
    }
    assert!(checked >= 12 && seen.len() == builds.len() && builds.len() >= 4, "{checked} rows of {builds:?}");
}

/// A figure that nobody can look up is no measurement.
#[test]
fn each_measured_row_of_hardware_md_names_its_raw_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("HARDWARE.md")).unwrap();
    let (bounds, rest) = text.split_once("## Reference figures of peers").expect("a chapter of peers");
    let peers = rest.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let peers = peers.take_while(|line| line.starts_with('|'));
    let measured = bounds.lines().filter(|line| line.starts_with('|') && line.contains("| measured"));
    let mut checked = 0;
    for row in measured.chain(peers) {
        let mut files = row.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".md")).peekable();
        assert!(files.peek().is_some(), "{row}");
        for file in files {
            assert!(root.join("perf/runs").join(file).is_file(), "{file} is not below perf/runs");
        }
        checked += 1;
    }
    assert!(checked >= 10, "{checked} rows");
}

#[test]
fn the_roofs_of_the_processor_are_what_hardware_md_says() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("HARDWARE.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let host = builds(&text, folder.path()).remove("two-socket").expect("a build of two sockets");
    let (_, rooflines) = text.split_once("## Rooflines").expect("a chapter of rooflines");
    let rows = rooflines.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let mut checked = 0;
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let plan = json(&plan(&["--host", host.to_str().unwrap(), "--target", cells[1], "--json"]));
        let cores = plan["core_bytes_per_second"]["likely"].as_f64().unwrap() * 31.0 / 1e9;
        assert_eq!(cells[2], format!("{cores:.0} GB/s"), "{row}");
        checked += 1;
    }
    assert_eq!(checked, 4);
}

#[test]
fn this_host_is_measured_unless_told_not_to() {
    let here = json(&plan(&["--target", "null", "--json"]));
    assert!(here["calibration"]["core_ns"].as_f64().unwrap() > 0.0);
    assert!(here["core_bytes_per_second"]["likely"].as_f64().unwrap() > 0.0);
    let unmeasured = json(&plan(&["--target", "null", "--calibrate", "off", "--json"]));
    assert_eq!((unmeasured["basis"].as_str(), &unmeasured["calibration"]), (Some("projection"), &Value::Null));
}

#[test]
fn the_text_says_what_lacks_and_the_command_it_plans_is_understood() {
    let small = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(small.path(), "cores: 2\nnic_gbits: 10\n").unwrap();
    let output = plan(&["--host", small.path().to_str().unwrap(), "--target", "kafka", "--rate", "8GB/s"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    for word in ["projection", "lacks         network", "limits first", "assumptions"] {
        assert!(text.contains(word), "{word}:\n{text}");
    }
    let fits = json(&plan(&["--target", "tcp://127.0.0.1:9", "--rate", "1MB/s", "--calibrate", "off", "--json"]));
    let dry = dry_run(&fits);
    // What the rings come to is what the command gets.
    let total = fits["ring_bytes_total"].as_u64().unwrap();
    assert_eq!(Some(total), dry["ring_bytes_total"].as_u64(), "{fits}");
    assert_eq!(fits["ring_bytes"].as_u64().unwrap() * fits["producers"].as_u64().unwrap(), total);
}

/// The plan's command, typed into a shell.
fn dry_run(plan: &Value) -> Value {
    let command = plan["command"].as_str().unwrap();
    let dry = Command::new("sh").args(["-c", &format!("{command} --dry-run")]).output().unwrap();
    assert!(dry.status.success(), "{command}: {}", String::from_utf8_lossy(&dry.stderr));
    json(&dry)
}

#[test]
fn a_target_that_a_shell_would_take_apart_comes_whole_out_of_the_command() {
    let target = "http://127.0.0.1:9/in?tenant=a&x=b";
    let planned = json(&plan(&["--target", target, "--rate", "1MB/s", "--calibrate", "off", "--json"]));
    let dry = dry_run(&planned);
    assert_eq!(dry["phases"][0]["rate_bytes_per_second"], 1_000_000, "{}", planned["command"]);
}

#[test]
fn a_description_of_no_machine_is_refused_with_its_line() {
    let host = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let path = host.path().to_str().unwrap();
    for (text, expected) in [
        ("cores: 2\nclock_ghz: 1e308\n", "line 2: clock_ghz 1e308 is no number from 0.1 to 20"),
        ("cores: 2\nnic_gbits: fast\n", "line 2: nic_gbits fast is no number from 0.001 to 100000"),
        ("cores: [2\n", "line 1: this cannot be read as YAML or JSON"),
    ] {
        std::fs::write(path, text).unwrap();
        let output = plan(&["--host", path, "--target", "kafka", "--rate", "8GB/s"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("--host '{path}': {expected}")) && said.contains("mend:"), "{said}");
    }
}

#[test]
fn bad_input_is_exit_2_and_named() {
    for (words, named) in [
        (vec!["--rate", "8GB/s"], "--target"),
        (vec!["--target", "kafka", "--rate", "8Gb/s"], "8Gb"),
        (vec!["--target", "kafka", "--host", "/no/such.yaml"], "/no/such.yaml"),
        (vec!["--target", "kafka", "--speed", "1"], "--speed"),
        (vec!["--target", "null", "--rate", "1000rec/s", "--payload-size", "16"], "16 is less than the 64 B"),
        (vec!["--target", "null", "--payload-size"], "mend: --payload-size=4096\n"),
    ] {
        let output = plan(&words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(named), "{words:?}: {said}");
    }
}
