//! Flags, environment and file into one list: flags win over the environment, the environment over the file.

mod join;

use crate::base::document::Node;
use crate::base::fatal::Fatal;
use crate::base::{limits, program};
use crate::config::file;
use crate::config::keys::{self, ENV_IGNORED, ENV_PREFIX, KEYS, Key, Kind, PHASES_KEY};
use crate::config::nearest;
use crate::config::url;
use std::collections::BTreeMap;
use std::path::Path;

/// Who said it, as an error names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Flag,
    Variable,
    File { path: String, line: u64 },
}

/// One value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub text: String,
    pub source: Source,
}

impl Given {
    /// `--rate`, `ENGINE_RATE` or `run.yaml line 3: rate`.
    pub fn origin(&self, key: &Key) -> String {
        match &self.source {
            Source::Flag => format!("--{}", key.name),
            Source::Variable => key.variable(),
            Source::File { path, line } => format!("{path} line {line}: {}", key.config_key()),
        }
    }
}

/// A stage of `phases:`; every key in it is marked `phase`.
pub type PhaseTexts = BTreeMap<&'static str, Given>;

/// Everything that was said, not yet read.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, Vec<Given>>,
    pub phases: Vec<PhaseTexts>,
    /// The command line as it was typed.
    pub command: Vec<String>,
}

impl Settings {
    pub fn all(&self, name: &str) -> &[Given] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn one(&self, name: &str) -> Option<&Given> {
        self.all(name).last()
    }

    pub fn is_given(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Like a flag, in place of all that was said; `None`: as if nothing was.
    pub fn put(&mut self, name: &'static str, text: Option<String>) {
        let given = text.map(|text| Given { text, source: Source::Flag });
        self.values.insert(name, given.into_iter().collect());
    }
}

/// Flag values in the order they were typed, by key name.
pub type Flags = Vec<(&'static Key, String)>;

/// Merges the three sources. Every error of every source is added to `errors`.
pub fn merge(command: Vec<String>, flags: Flags, env: &[(String, String)], errors: &mut Vec<Fatal>) -> Settings {
    let mut from_flags = BTreeMap::new();
    for (key, text) in flags {
        push(&mut from_flags, key, Given { text, source: Source::Flag }, errors);
    }
    let from_env = read_env(env, errors);
    let config = from_flags.get("config").or_else(|| from_env.get("config")).and_then(|given| given.last().cloned());
    let mut settings = Settings { command, ..Settings::default() };
    if let Some(config) = config {
        read_file(&config.text, &mut settings, errors);
    }
    join::onto(&mut settings.values, from_env);
    join::onto(&mut settings.values, from_flags);
    reject_mixed_phases(&settings, errors);
    settings
}

fn push(into: &mut BTreeMap<&'static str, Vec<Given>>, key: &'static Key, given: Given, errors: &mut Vec<Fatal>) {
    let values = into.entry(key.name).or_default();
    if let (Some(first), false) = (values.first(), key.repeatable) {
        let origin = given.origin(key);
        let shown = |text: &str| if key.kind == Kind::Url { url::shown_address(text) } else { text.to_owned() };
        let (one, other) = (shown(&first.text), shown(&given.text));
        errors.push(Fatal::usage(format!("{origin} is given twice: '{one}' and '{other}'")));
    }
    values.push(given);
}

fn read_env(env: &[(String, String)], errors: &mut Vec<Fatal>) -> BTreeMap<&'static str, Vec<Given>> {
    let mut values = BTreeMap::new();
    for (name, text) in env {
        let Some(tail) = name.strip_prefix(ENV_PREFIX) else { continue };
        if ENV_IGNORED.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let known =
            keys::find(&tail.to_lowercase()).filter(|_| tail.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        let Some(key) = known else {
            let hint = nearest(&tail.to_lowercase()).map(|key| format!(" (did you mean {}?)", key.variable()));
            errors.push(
                // Its value stays out: it may be a credential.
                Fatal::usage(format!("{name} is no setting of engine{}", hint.unwrap_or_default()))
                    .mend(format!("unset {name}")),
            );
            continue;
        };
        for part in parts(key, text) {
            push(&mut values, key, Given { text: part.to_owned(), source: Source::Variable }, errors);
        }
    }
    values
}

/// The values in one variable. No URL holds white space; whatever else is repeatable has a line for each.
fn parts<'a>(key: &Key, text: &'a str) -> Vec<&'a str> {
    let parts: Vec<_> = match (key.repeatable, key.kind) {
        (false, _) => vec![text.trim()],
        (true, Kind::Url) => text.split_whitespace().collect(),
        (true, _) => text.lines().map(str::trim).filter(|line| !line.is_empty()).collect(),
    };
    // A variable that came out empty was not meant as none: no default takes its place.
    if parts.is_empty() { vec![""] } else { parts }
}

fn read_file(path: &str, settings: &mut Settings, errors: &mut Vec<Fatal>) {
    let document = match file::read(Path::new(path)) {
        Ok(document) => document,
        Err(fatal) => return errors.push(fatal),
    };
    let mut phases_seen = false;
    for entry in &document.0 {
        let at = |line| Source::File { path: path.to_owned(), line };
        if entry.key == PHASES_KEY {
            if phases_seen {
                errors.push(Fatal::usage(format!("{path} line {}: '{PHASES_KEY}' is given twice", entry.line)));
            }
            phases_seen = true;
            read_phases(path, entry.line, &entry.value, settings, errors);
            continue;
        }
        let Some(key) = keys::find(&entry.key) else {
            errors.push(unknown(path, entry.line, &entry.key));
            continue;
        };
        if is_outside_files(key) {
            let what = format!("{path} line {}: '{}' cannot be set in a file", entry.line, entry.key);
            errors.push(Fatal::usage(what).mend(format!("--{}", key.name)));
            continue;
        }
        let texts = match &entry.value {
            Node::List(items) if key.repeatable && !items.is_empty() => {
                items.iter().map(|(line, node)| (*line, node.text(key.kind.is_text()))).collect()
            }
            node => vec![(entry.line, node.text(key.kind.is_text()))],
        };
        if settings.is_given(key.name) {
            errors.push(Fatal::usage(format!("{path} line {}: '{}' is given twice", entry.line, entry.key)));
        }
        for (line, text) in texts {
            match text {
                Some(text) => settings.values.entry(key.name).or_default().push(Given { text, source: at(line) }),
                None => errors.push(no_scalar(path, line, key)),
            }
        }
    }
}

fn read_phases(path: &str, line: u64, node: &Node, settings: &mut Settings, errors: &mut Vec<Fatal>) {
    let example = "phases is a list of stages: [{duration: 10s, rate: 1MB/s}, {duration: 10s, mode: burst}]";
    let Node::List(items) = node else {
        return errors.push(Fatal::usage(format!("{path} line {line}: {example}")));
    };
    if items.is_empty() || items.len() > limits::PHASES_MAX {
        let (count, most) = (items.len(), limits::PHASES_MAX);
        errors.push(Fatal::usage(format!("{path} line {line}: phases has {count} stages; it takes 1 to {most}")));
    }
    for (line, item) in items.iter().take(limits::PHASES_MAX) {
        let Node::Map(entries) = item else {
            errors.push(Fatal::usage(format!("{path} line {line}: {example}")));
            continue;
        };
        let mut phase = PhaseTexts::new();
        for entry in entries {
            let Some(key) = keys::find(&entry.key).filter(|key| key.phase) else {
                errors.push(unknown_in_phase(path, entry.line, &entry.key));
                continue;
            };
            let Some(text) = entry.value.text(key.kind.is_text()) else {
                errors.push(no_scalar(path, entry.line, key));
                continue;
            };
            let source = Source::File { path: path.to_owned(), line: entry.line };
            if phase.insert(key.name, Given { text, source }).is_some() {
                errors.push(Fatal::usage(format!("{path} line {}: '{}' is given twice", entry.line, entry.key)));
            }
        }
        settings.phases.push(phase);
    }
}

/// A flag beside stages that say the same key would win over all of them: refused, but for the duration,
/// which ends the run as it always does.
fn reject_mixed_phases(settings: &Settings, errors: &mut Vec<Fatal>) {
    for key in KEYS.iter().filter(|key| key.phase && key.name != "duration") {
        let outside = settings.one(key.name).filter(|given| !matches!(given.source, Source::File { .. }));
        let inside = settings.phases.iter().find_map(|phase| phase.get(key.name));
        if let (Some(outside), Some(inside)) = (outside, inside) {
            let (origin, stage) = (outside.origin(key), inside.origin(key));
            errors.push(
                Fatal::usage(format!(
                    "{origin} '{}' stands against {stage} '{}' of a stage",
                    outside.text, inside.text
                ))
                .mend(format!("leave out {origin}, or take {} out of the stages", key.config_key())),
            );
        }
    }
}

/// A file that names the next one, or that makes every run a dry one, would surprise.
fn is_outside_files(key: &Key) -> bool {
    matches!(key.name, "config" | "dry-run")
}

fn no_scalar(path: &str, line: u64, key: &Key) -> Fatal {
    // YAML's null is no text; the target of that name needs its quotes.
    let example = match key.name {
        "target" => "\"null\", or file:PATH".to_owned(),
        _ => program::quoted(key.example),
    };
    let name = key.config_key();
    Fatal::usage(format!("{path} line {line}: '{name}' wants one value")).mend(format!("{name}: {example}"))
}

fn unknown(path: &str, line: u64, name: &str) -> Fatal {
    let hint = nearest(name).map(|key| format!(" (did you mean {}?)", key.config_key())).unwrap_or_default();
    let list = program::command("schema config lists them all");
    Fatal::usage(format!("{path} line {line}: unknown key '{name}'{hint}")).mend(list)
}

fn unknown_in_phase(path: &str, line: u64, name: &str) -> Fatal {
    let known: Vec<_> = KEYS.iter().filter(|key| key.phase).map(Key::config_key).collect();
    Fatal::usage(format!("{path} line {line}: '{name}' is no key of a stage"))
        .mend(format!("one of {}", known.join(", ")))
}

/// The key whose name is a slip of the finger away.
fn nearest(name: &str) -> Option<&'static Key> {
    let names = KEYS.iter().flat_map(Key::names);
    nearest::nearest(&name.replace('_', "-"), names).and_then(keys::find)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values;
    use proptest::prelude::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn flags(pairs: &[(&str, &str)]) -> Flags {
        pairs.iter().map(|(name, value)| (keys::find(name).unwrap(), value.to_string())).collect()
    }

    fn with_file(text: &str, more: &[(&str, &str)], variables: &[(&str, &str)]) -> (Settings, Vec<Fatal>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut given = flags(more);
        given.push((keys::find("config").unwrap(), file.path().display().to_string()));
        let mut errors = Vec::new();
        (merge(Vec::new(), given, &env(variables), &mut errors), errors)
    }

    #[test]
    fn unknown_variables_are_named_and_injected_ones_ignored() {
        let mut errors = Vec::new();
        let variables = env(&[
            ("ENGINE_RATES", "s3cret"),
            ("ENGINE_PORT_80_TCP", "x"),
            ("ENGINE_SERVICE_HOST", "x"),
            ("ENGINE_TUNING_STATE", "/x"),
            ("HOME", "/"),
        ]);
        let settings = merge(Vec::new(), Vec::new(), &variables, &mut errors);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].what.contains("ENGINE_RATES") && errors[0].what.contains("ENGINE_RATE?"), "{}", errors[0]);
        assert!(!errors[0].what.contains("s3cret"), "{}", errors[0]);
        assert!(!settings.is_given("rate"));
    }

    #[test]
    fn a_file_reports_all_it_has_wrong_with_lines() {
        let text = "rate: 1MB/s\nrote: 2\nrate: 2MB/s\nphases:\n  - duration: 1s\n    cores: 1\n  - 5\nseed: [1]\n";
        let (_, errors) = with_file(text, &[], &[]);
        let all: Vec<_> = errors.iter().map(|error| error.what.clone()).collect();
        for (line, word) in [
            ("line 2", "did you mean rate"),
            ("line 3", "twice"),
            ("line 6", "cores"),
            ("line 7", "list"),
            ("line 8", "seed"),
        ] {
            assert!(all.iter().any(|what| what.contains(line) && what.contains(word)), "{line} {word} in {all:?}");
        }
        assert_eq!(errors.len(), 5, "{all:?}");
    }

    #[test]
    fn texts_are_taken_as_they_are_written() {
        let text = "run_id: 1.10\nsasl_user: 0x10\nreport: 012\nhtml: 1e3\noverwrite_device: Yes\n\
                    target: [True, 7]\nrecords: 1e3\nseed: 0x10\noverwrite: True\n";
        let (settings, errors) = with_file(text, &[], &[]);
        assert!(errors.is_empty(), "{errors:?}");
        for (name, wanted) in [
            ("run-id", "1.10"),
            ("sasl-user", "0x10"),
            ("report", "012"),
            ("html", "1e3"),
            ("overwrite-device", "Yes"),
            // Numbers are numbers, however they are written.
            ("records", "1000"),
            ("seed", "16"),
            ("overwrite", "true"),
        ] {
            assert_eq!(settings.one(name).unwrap().text, wanted, "{name}");
        }
        assert_eq!(settings.all("target").iter().map(|given| given.text.as_str()).collect::<Vec<_>>(), ["True", "7"]);
    }

    #[test]
    fn dashes_and_aliases_are_the_same_key() {
        let (settings, errors) = with_file("queue-depth: 4\nbs: 1Mi\nsink: [file:a, file:b]\nretain: all\n", &[], &[]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(settings.one("queue-depth").unwrap().text, "4");
        assert_eq!(settings.one("block-size").unwrap().text, "1Mi");
        assert_eq!(settings.all("target").len(), 2);
        let (_, errors) = with_file("bs: 1\nblock_size: 2\n", &[], &[]);
        assert!(errors[0].what.contains("twice"));
    }

    #[test]
    fn keys_of_the_command_line_alone_are_refused_as_such() {
        for key in ["config", "dry_run", "dry-run"] {
            let (_, errors) = with_file(&format!("{key}: x\n"), &[], &[]);
            assert!(errors[0].what.contains("line 1") && errors[0].what.contains("cannot be set in a file"));
            assert!(!errors[0].what.contains("did you mean") && errors.len() == 1, "{errors:?}");
        }
    }

    #[test]
    fn a_variable_holds_several_values() {
        let mut errors = Vec::new();
        let variables = env(&[
            ("ENGINE_TARGET", "tcp://a:1 tcp://b:2"),
            ("ENGINE_KAFKA_PROPERTY", "acks=1\n\n  sasl.jaas.config=x required a=b;\n"),
            ("ENGINE_HTTP_HEADER", "X-A: b c\r\nX-B: d"),
            ("ENGINE_RUN_ID", " one "),
        ]);
        let settings = merge(Vec::new(), Vec::new(), &variables, &mut errors);
        let texts = |name: &str| settings.all(name).iter().map(|given| given.text.as_str()).collect::<Vec<_>>();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(texts("target"), ["tcp://a:1", "tcp://b:2"]);
        assert_eq!(texts("kafka-property"), ["acks=1", "sasl.jaas.config=x required a=b;"]);
        assert_eq!(texts("http-header"), ["X-A: b c", "X-B: d"]);
        assert_eq!(texts("run-id"), ["one"]);
    }

    #[test]
    fn what_came_out_empty_is_refused_where_it_was_said() {
        for (name, flag) in [("ENGINE_TARGET", "target"), ("ENGINE_SLO", "slo"), ("ENGINE_HTTP_HEADER", "http-header")]
        {
            let mut errors = Vec::new();
            let settings = merge(Vec::new(), Vec::new(), &env(&[(name, " \n")]), &mut errors);
            values::read(&settings, &mut errors);
            assert!(errors.len() == 1 && errors[0].what.starts_with(&format!("{name}: ")), "{name}: {errors:?}");
            let key = flag.replace('-', "_");
            let (settings, mut errors) = with_file(&format!("seed: 1\n{key}: []\n"), &[], &[]);
            values::read(&settings, &mut errors);
            assert!(errors.len() == 1 && errors[0].what.contains(&format!("line 2: '{key}'")), "{key}: {errors:?}");
        }
    }

    #[test]
    fn two_addresses_keep_their_secrets() {
        let mut errors = Vec::new();
        let twice = flags(&[("governance-url", "http://g/a?token=s3cret"), ("governance-url", "http://me:s3cret@g/b")]);
        merge(Vec::new(), twice, &[], &mut errors);
        assert_eq!(errors[0].what, "--governance-url is given twice: 'http://g/a' and 'http://g/b'");
    }

    #[test]
    fn what_is_put_stands_in_place_of_everything() {
        let (mut settings, _) = with_file("rate: 1\n", &[("slo", "p99<1s"), ("slo", "p50<1s")], &[]);
        settings.put("slo", Some("errors==0".to_owned()));
        settings.put("rate", None);
        assert_eq!(settings.all("slo").len(), 1);
        assert!(!settings.is_given("rate") && settings.one("rate").is_none());
    }

    #[test]
    fn stages_and_flags_do_not_fight_silently() {
        let stages = "phases: [{duration: 1s, rate: 1MB/s}]\n";
        let (_, errors) = with_file(stages, &[("rate", "2MB/s")], &[]);
        assert!(errors[0].what.contains("--rate"), "{errors:?}");
        let (_, errors) = with_file(stages, &[("duration", "2s")], &[]);
        assert!(errors.is_empty());
    }

    proptest! {
        #[test]
        fn flags_win_over_variables_over_file(flag: bool, variable: bool, file: bool) {
            let more: &[(&str, &str)] = if flag { &[("seed", "1")] } else { &[] };
            let variables: &[(&str, &str)] = if variable { &[("ENGINE_SEED", "2")] } else { &[] };
            let (settings, errors) = with_file(if file { "seed: 3\n" } else { "rate: 1\n" }, more, variables);
            prop_assert!(errors.is_empty());
            let wanted = [(flag, "1"), (variable, "2"), (file, "3")].iter().find(|(on, _)| *on).map(|(_, text)| *text);
            prop_assert_eq!(settings.one("seed").map(|given| given.text.as_str()), wanted);
        }

        #[test]
        fn no_file_panics(text in ".{0,80}|[a-z:\\[\\]{},\" \n-]{0,60}") {
            let _ = with_file(&text, &[], &[]);
        }
    }
}
