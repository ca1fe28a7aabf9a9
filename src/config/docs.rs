//! `--help` and the README's table, made from the table of keys.

use crate::config::capacity::PLAN_FLAGS;
use crate::config::doctor::DOCTOR_FLAGS;
use crate::config::keys::{Group, KEYS, Key};
use crate::config::merge::MERGE_FLAGS;
use crate::config::receive::RECEIVE_FLAGS;
use crate::config::reports::{COMPARE_FLAGS, REPORT_FLAGS};
use crate::config::saturate::SATURATE_FLAGS;
use crate::config::verify::VERIFY_FLAGS;

const WIDTH: usize = 100;
const INDENT: usize = 6;
const CODES_INDENT: usize = 5;

type Codes = [(u8, &'static str)];

const DONE: (u8, &str) = (0, "done");
const UNWRITTEN: (u8, &str) = (1, "the result could not be written");
const USAGE: (u8, &str) = (2, "bad flags or configuration; nothing was started");
const HOST: (u8, &str) = (3, "this host cannot run the plan; the message names the command that mends it");
const UNREACHABLE: (u8, &str) = (5, "the target could not be reached at the start");

const RUN_CODES: &Codes = &[
    DONE,
    (1, "some records failed or are uncertain, a limit ended the run, or verify found damage"),
    USAGE,
    HOST,
    (4, "an SLO was missed"),
    UNREACHABLE,
];
const VERIFY_CODES: &Codes = &[
    (0, "intact"),
    (
        1,
        "DAMAGED; INCOMPLETE: nothing is wrong, but what a broker has removed, or carries no facts, is not proved; \
         NOTHING PROVED: no record carries facts (--annotate off); OTHER RUNS: what was looked for is intact, but \
         theirs is there too; nothing to verify; or a source that cannot be read to its end",
    ),
    (2, "bad flags, or a source that is not there; nothing was read"),
    (5, "no broker could be reached"),
];
const RECEIVE_CODES: &Codes = &[
    (0, "done; with --verify: what came is intact"),
    (1, "--verify found damage, what came is not of the run that was expected, or the report could not be written"),
    USAGE,
    (3, "this host cannot listen there; the message names the command that mends it"),
];
const SATURATE_CODES: &Codes = &[
    (0, "a rate was found, and held in the longer run"),
    (
        1,
        "a run ended early, the search was interrupted, or other work disturbed most of its runs, so that more may hold than was confirmed",
    ),
    USAGE,
    HOST,
    (4, "no rate held, or the one found did not hold in the longer run"),
    UNREACHABLE,
];
const DOCTOR_CODES: &Codes = &[(0, "nothing is fatal"), UNWRITTEN, (2, "bad flags"), (3, "something is fatal")];
const PLAN_CODES: &Codes = &[
    (0, "it fits, or may"),
    UNWRITTEN,
    (2, "bad flags, or a description that cannot be read"),
    (3, "it does not fit, and what lacks is named; or this host could not be measured"),
];
const UNREAD: (u8, &str) = (2, "bad flags, or a report that cannot be read");
const REPORT_CODES: &Codes = &[DONE, UNWRITTEN, UNREAD];
const COMPARE_CODES: &Codes = &[DONE, UNWRITTEN, UNREAD, (4, "a threshold of --slo was missed, or has no ratio")];

const ABOUT: &str = "Engine offers records to files, standard output, TCP, HTTP or Kafka at a stated rate, and reports \
                     what became of each of them.";
const EXAMPLES: &str = "\
Examples
  engine                                                      what can this drive take?
  engine --target file:/mnt/nvme0/ --rate 2GB/s --duration 1m --report report.json
  engine --target kafka://localhost:9092/test --rate 50000rec/s --duration 1m
  engine verify /mnt/nvme0/ --expect report.json              is everything there?

";

/// The help of a command; `None` where there is no such command.
pub fn help(command: &str) -> Option<String> {
    match command {
        "run" => Some(run_help()),
        "verify" => Some(verify_help()),
        "receive" => Some(receive_help()),
        "saturate" => Some(saturate_help()),
        "doctor" => Some(doctor_help()),
        "plan" => Some(plan_help()),
        "merge" => Some(merge_help()),
        "report" => Some(report_help()),
        "compare" => Some(compare_help()),
        "schema" => Some(
            "engine schema config|report\n\nPrints the JSON Schema of the configuration file or of the report.\n"
                .into(),
        ),
        _ => None,
    }
}

fn run_help() -> String {
    let mut out = wrapped(ABOUT, 0);
    out.push_str(
        "\nengine [run] [flags]            generate load\n\
         engine receive --listen URL     be the other end of tcp://, http:// or kafka://\n\
         engine verify SOURCE... [flags] read back what was written and prove it complete\n\
         engine saturate [flags]         find the highest rate that holds\n\
         engine doctor [flags]           what on this host stands in the way, and what mends it\n\
         engine plan --target URL        what a rate needs of a machine\n\
         engine report REPORT [flags]    render a report again, as text or as a page\n\
         engine compare REPORT REPORT    two reports side by side, and what sets them apart\n\
         engine merge REPORT... [flags]  add the reports of a fleet to one\n\
         engine schema config|report     print a JSON Schema\n\
         engine help COMMAND             what a command does, and its flags\n\n",
    );
    out.push_str(EXAMPLES);
    let intro = "Without any flag: the baseline. Files in ./engine-data/ are overwritten in place for 10 s at full \
                 speed; --footprint says how much they take. Every flag is also a variable (--payload-size: \
                 ENGINE_PAYLOAD_SIZE; several targets with spaces between, several headers, properties, \
                 thresholds or serial numbers with a line each) and a key of --config (payload_size); \
                 flags win over variables, variables over the file; headers, properties and thresholds of other names \
                 are joined.";
    out.push_str(&wrapped(intro, 0));
    for group in Group::ALL {
        out.push_str(&format!("\n{}\n", group.title()));
        for key in KEYS.iter().filter(|key| key.group == *group) {
            out.push_str(&format!("  {}  [{}]\n", flag(key), key.default));
            out.push_str(&wrapped(key.help, INDENT));
        }
    }
    out.push_str(
        "\nRates and sizes: a number, then k M G T (1000) or Ki Mi Gi Ti (1024), then B, b or bit, then /s.\n",
    );
    out.push_str("A rate may also count records: 50000rec/s. Durations need a unit: 250us, 30s, 5m, 1h.\n\n");
    out.push_str(&exit_codes(RUN_CODES));
    out
}

fn verify_help() -> String {
    let mut out = String::from("engine verify SOURCE... [flags]\n\n");
    out.push_str(&wrapped(
        "Reads files, folders, - (standard input) or Kafka topics (kafka://HOST:PORT[,HOST:PORT]/TOPIC) and reports gaps, duplicates, reordering, corruption, truncation \
         and records of other runs. Ctrl-C or SIGTERM ends it without a verdict, as a signal does: a shell shows 130 or \
         143.",
        0,
    ));
    list_flags(&mut out, VERIFY_FLAGS, VERIFY_CODES);
    out
}

fn receive_help() -> String {
    let mut out = String::from("engine receive --listen URL [flags]\n\n");
    out.push_str(&wrapped(
        "Takes what engine run (or anything else) sends, throws it away or checks every record, and says at the end \
         how much came how fast. Ctrl-C ends it in order. HTTP requests of any method and path are answered with 204.",
        0,
    ));
    list_flags(&mut out, RECEIVE_FLAGS, RECEIVE_CODES);
    out
}

fn saturate_help() -> String {
    let mut out = String::from("engine saturate [flags of saturate and of run]\n\n");
    out.push_str(&wrapped(
        "Finds the highest rate that the target keeps up with: at least 99.5 % of what is due is produced, no record \
         fails, and every --slo is met. Each rate is a run of its own; what is found must hold in one more, longer run. \
         The search sets --rate, --duration and --log-format of each run; --records, --bytes, --html, --dry-run, \
         --metrics-hold, --run-id, --start-at, --shard and --ramp-to have no place in it, nor have phases with rates of \
         their own, or phases that are over before the longest run.",
        0,
    ));
    list_flags(&mut out, SATURATE_FLAGS, SATURATE_CODES);
    out
}

fn doctor_help() -> String {
    let mut out = String::from("engine doctor [flags]\n\n");
    out.push_str(&wrapped(
        "Looks at the host and judges each item as fatal, hint, unknown or fine: its value, why it matters, what it is \
         worth, and what mends it. It needs no privilege and changes nothing. Exit 3: something is fatal.",
        0,
    ));
    list_flags(&mut out, DOCTOR_FLAGS, DOCTOR_CODES);
    out
}

fn plan_help() -> String {
    let mut out = String::from("engine plan --target URL [--rate R] [flags]\n\n");
    out.push_str(&wrapped(
        "What a rate needs: cores, network, drives, memory, connections; what limits first; the command line. Ranges, \
         with their assumptions. Exit code 3 where it does not fit, with what lacks.",
        0,
    ));
    list_flags(&mut out, PLAN_FLAGS, PLAN_CODES);
    out
}

fn merge_help() -> String {
    let mut out = String::from("engine merge REPORT... [flags]\n\n");
    out.push_str(&wrapped(
        "Adds the reports that the processes of one run (--run-id, --shard I/N) wrote: counts and histograms are summed, \
         percentiles come from the sums, seconds are put together by the wall clock, rates are over the time from the \
         first start to the last end, settings that differ are null, thresholds are held against all of it, exit_code \
         is the worst, or 4 if one of these is missed, and not 0 where a shard is missing. Reports of different runs or \
         of the same producers are refused. The exit code is 0 when the merged report was written.",
        0,
    ));
    list_flags(&mut out, MERGE_FLAGS, REPORT_CODES);
    out
}

fn report_help() -> String {
    let mut out = String::from("engine report REPORT [flags]\n\n");
    out.push_str(&wrapped(
        "Prints the summary of a report that engine run --report or engine merge wrote, on standard output, or makes a \
         page of it: one HTML file that needs nothing else, with the rate and the response time of each second, the \
         latency by percentile, producers, thresholds, host and settings. The exit code is that of rendering, not \
         that of the run.",
        0,
    ));
    list_flags(&mut out, REPORT_FLAGS, REPORT_CODES);
    out
}

fn compare_help() -> String {
    let mut out = String::from("engine compare A.json B.json [flags]\n\n");
    out.push_str(&wrapped(
        "Holds two reports side by side: rates, the books, processor time, percentiles of service and response, pacing \
         error and verdict, each with the ratio of B to A, then the settings and host facts that differ. It says first \
         what makes the two hard to compare: other targets, record sizes, modes, confirmations or shards. Exit 0 \
         whatever the difference, unless a threshold of --slo is missed.",
        0,
    ));
    list_flags(&mut out, COMPARE_FLAGS, COMPARE_CODES);
    out
}

fn list_flags(out: &mut String, flags: &[(&str, &str, &str)], codes: &Codes) {
    out.push('\n');
    for (name, value, help) in flags {
        out.push_str(format!("  --{name} {value}").trim_end());
        out.push('\n');
        out.push_str(&wrapped(help, INDENT));
    }
    out.push('\n');
    out.push_str(&exit_codes(codes));
}

fn exit_codes(codes: &Codes) -> String {
    let line = |(code, meaning): &(u8, &str)| {
        let text = wrapped(meaning, CODES_INDENT);
        format!("  {code}  {}", text.trim_start())
    };
    std::iter::once("Exit codes\n".to_owned()).chain(codes.iter().map(line)).collect()
}

/// `--block-size S, --bs S`.
fn flag(key: &Key) -> String {
    let one = |name: &str| format!("--{name} {}", key.placeholder()).trim_end().to_owned();
    key.names().map(one).collect::<Vec<_>>().join(", ")
}

fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut line = " ".repeat(indent);
    for word in text.split_whitespace() {
        if line.chars().count() > indent && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(indent);
        }
        if line.len() > indent {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;
    use crate::config::keys::PHASES_KEY;
    use crate::config::{Deps, cli};
    use std::ffi::OsString;
    use std::path::PathBuf;

    const README_START: &str = "<!-- flags -->";
    const README_END: &str = "<!-- /flags -->";

    /// The table between the README's markers.
    fn readme_table() -> String {
        let mut out = String::from("| flag | meaning | default |\n|---|---|---|\n");
        let cell = |text: &str| text.replace('|', "\\|");
        for group in Group::ALL {
            out.push_str(&format!("| **{}** | | |\n", group.title()));
            for key in KEYS.iter().filter(|key| key.group == *group) {
                let (flag, help, default) = (cell(&flag(key)), cell(key.help), cell(key.default));
                out.push_str(&format!("| `{flag}` | {help} | {default} |\n"));
            }
        }
        let stages: Vec<_> = KEYS.iter().filter(|key| key.phase).map(|key| format!("`{}`", key.config_key())).collect();
        out.push_str(&format!(
            "\nEvery flag is also a variable (`--payload-size`: `ENGINE_PAYLOAD_SIZE`; several targets with spaces \
             between, several headers, properties, thresholds or serial numbers with a line each) and a key of the \
             configuration file (`payload_size`; dashes are understood too). Flags win over variables, variables over \
             the file; of headers, properties and thresholds those of the same name, or on the same figure, are \
             replaced, and the others joined. Only the file has `{PHASES_KEY}`: a list of stages, each with any of {}; \
             what a stage leaves out it takes from outside.\n",
            stages.join(", ")
        ));
        out
    }

    /// `text` with what lies between the markers replaced; `None` where they are missing.
    fn with_table(text: &str, table: &str) -> Option<String> {
        let (before, rest) = text.split_once(README_START)?;
        let (_, after) = rest.split_once(README_END)?;
        Some(format!("{before}{README_START}\n{table}{README_END}{after}"))
    }

    #[test]
    fn the_readme_has_the_table_of_the_flags() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let wanted = with_table(&text, &readme_table()).expect("README.md has the markers of the flags table");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        } else {
            assert!(text == wanted, "README.md is out of date: UPDATE=1 cargo test --lib config");
        }
    }

    #[test]
    fn help_names_every_flag_and_fits_the_screen() {
        let help = help("run").unwrap();
        for key in KEYS {
            assert!(help.contains(&format!("--{}", key.name)), "{}", key.name);
        }
        assert!(help.contains("--fsync never|end|each  [end]\n"), "a choice is shown whole");
        assert!(help.contains("Exit codes") && super::help("verify").unwrap().contains("--expect"));
        assert!(help.starts_with("Engine offers records") && help.contains("\nengine help COMMAND "));
        for line in help.lines() {
            assert!(line.chars().count() <= 110, "{line}");
        }
        assert!(super::help("nonsense").is_none());
    }

    #[test]
    fn each_command_lists_its_exit_codes() {
        for (command, codes) in [
            ("run", "012345"),
            ("verify", "0125"),
            ("receive", "0123"),
            ("saturate", "012345"),
            ("doctor", "0123"),
            ("plan", "0123"),
            ("merge", "012"),
            ("report", "012"),
            ("compare", "0124"),
        ] {
            let help = help(command).unwrap();
            let (_, table) = help.split_once("Exit codes\n").unwrap();
            let first: String = table.lines().filter_map(|line| line.strip_prefix("  ")?.chars().next()).collect();
            assert_eq!(first.replace(' ', ""), codes, "{command}");
            assert!(table.lines().all(|line| line.chars().count() <= WIDTH), "{command}: {table}");
        }
        assert!(help("verify").unwrap().contains("INCOMPLETE") && !help("report").unwrap().contains("SLO"));
    }

    #[test]
    fn the_examples_of_the_help_are_understood() {
        let examples: Vec<_> = EXAMPLES.lines().filter_map(|line| line.strip_prefix("  engine")).collect();
        assert_eq!(examples.len(), 4);
        for example in examples {
            let words = example.split("   ").next().unwrap_or_default().split_whitespace().map(OsString::from);
            let deps = Deps::new(|| Ok(()));
            let wrong = cli::parse(words, std::iter::empty(), &deps).err().unwrap_or_default();
            // This host need not be able to run it.
            let usage: Vec<_> = wrong.iter().filter(|fatal| fatal.exit == Exit::Usage).collect();
            assert!(usage.is_empty(), "{example}: {usage:?}");
        }
    }
}
