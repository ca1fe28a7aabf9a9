//! Every plain `./engine …` and `./data-generator …` line of the README's shell blocks is understood, and its contents
//! name what it has.

use std::path::Path;
use std::process::Command;

fn examples(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = line == "```sh";
        } else if in_block && (line.starts_with("./engine") || line.starts_with("./data-generator")) {
            found.push(line);
        }
    }
    found
}

/// `./engine …` of a page's shell blocks, each without what follows in the shell.
fn commands(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = matches!(line, "```sh" | "```console");
        } else if let Some((_, command)) = line.split_once("./engine ").filter(|_| in_block) {
            found.push(command.split(['|', '>', '#', '&']).next().unwrap().trim().to_owned());
        }
    }
    found
}

#[test]
fn nobody_is_told_to_wait_for_another_host_on_loopback() {
    let there: Vec<_> = commands("HARDWARE.md").into_iter().filter(|command| command.starts_with("receive ")).collect();
    assert!(!there.is_empty(), "HARDWARE.md has lost its receiver");
    for command in there {
        let listen = command.split_whitespace().skip_while(|word| *word != "--listen").nth(1).unwrap();
        assert!(!listen.contains("://:") && !listen.contains("127.0.0.1"), "from another host: {command}");
    }
}

/// The README's headings as GitHub's links name them, those of the second level first.
fn anchors(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut sections, mut others) = (Vec::new(), Vec::new());
    let mut in_block = false;
    for line in text.lines() {
        in_block ^= line.starts_with("```");
        let Some((marks, title)) = line.split_once(' ').filter(|(marks, _)| !in_block && marks.starts_with('#')) else {
            continue;
        };
        let kept = title.to_lowercase().replace(' ', "-");
        let anchor = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        if marks == "##" { sections.push(anchor) } else { others.push(anchor) }
    }
    (sections, others)
}

#[test]
fn the_contents_name_every_section_and_links_lead_to_one() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (sections, others) = anchors(&text);
    let links = |text: &str| -> Vec<String> {
        text.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
    };
    let contents = links(text.split("\n## ").next().unwrap());
    for section in &sections {
        assert!(contents.contains(section), "the contents lack #{section}");
    }
    for link in links(&text) {
        assert!(sections.contains(&link) || others.contains(&link), "no heading for #{link}");
    }
}

/// The rows of the table for who comes from Kafka's tool: what stands there, and the first flags that stand here.
fn counterparts(text: &str) -> Vec<(&str, &str)> {
    let section = text.split("### From kafka-producer-perf-test").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `--"));
    let cells = rows.map(|row| row.trim_matches('|').split_once('|').unwrap());
    cells.map(|(there, here)| (there.trim(), here.split('`').nth(1).unwrap())).collect()
}

#[test]
fn what_stands_beside_flags_of_kafkas_tool_is_understood() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(scratch.path().join("lines.txt"), "the first of two lines\nand behind it the second\n").unwrap();
    std::fs::write(scratch.path().join("client.properties"), "acks=all\n").unwrap();
    let rows = counterparts(&text);
    let asked =
        ["--num-records", "--record-size", "--throughput", "--payload-file", "--command-config", "--warmup-records"];
    for flag in asked {
        assert!(rows.iter().any(|(there, _)| there.contains(flag)), "the table has lost {flag}: {rows:?}");
    }
    for (there, here) in rows {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.args(here.split(' ')).arg("--dry-run").current_dir(scratch.path());
        for (flag, value) in [("--target", "kafka://b1:9092/t"), ("--rate", "5000rec/s")] {
            if !here.contains(flag) {
                command.args([flag, value]);
            }
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{there}: {here}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_example_resolves() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("README.md")).unwrap();
    let examples = examples(&text);
    assert!(examples.len() >= 4, "the README has lost its examples: {examples:?}");
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::os::unix::fs::symlink(root.join("schemas"), scratch.path().join("schemas")).unwrap();
    for line in examples {
        assert!(
            !line.contains(['|', '>', '\'', '"', '$']),
            "a ```sh line is plain; write it as a console block: {line}"
        );
        let words = line.split_whitespace().skip(1);
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        let output = command.args(words).arg("--dry-run").current_dir(scratch.path()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {}\n{stderr}", output.status);
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(!plan["producers"].as_array().unwrap().is_empty(), "{line}");
    }
    let left = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 1, "a dry run writes nothing");
}
