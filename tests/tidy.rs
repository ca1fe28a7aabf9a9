//! The rules of the house, as tests. Each failure names the file, the line and the rule.

#[path = "tidy/source.rs"]
mod source;

use source::{Source, files, functions, imports, imports_upwards, line_of, without_tests, words};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 450;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Siblings that may import each other, each pair with its reason.
const CIRCLES: &[(&str, &str, &str)] = &[(
    "receive::kafka::entry",
    "receive::kafka::request",
    "a request enters its batches one by one, and what it brought is its own",
)];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let found = folders.iter().flat_map(|folder| files(&root().join(folder), ".rs"));
    let sources: Vec<_> = found.map(|path| Source::read(&root(), &path)).collect();
    assert!(!sources.is_empty(), "no source in {folders:?}");
    sources
}

#[track_caller]
fn assert_none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// A room of the table in ARCHITECTURE.md.
struct Room {
    floor: u32,
    /// Its place among those that the rooms of its floor share; a shared room may import those after it.
    shared: Option<usize>,
}

fn floors() -> BTreeMap<String, Room> {
    let text = read("ARCHITECTURE.md");
    let mut rooms = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (Ok(floor), [_, all, shared]) = (cells[0].parse(), cells.as_slice()) else { continue };
        let names = |cell: &str| -> Vec<String> {
            cell.split('`').skip(1).step_by(2).map(|name| name.split(['.', '/']).next().unwrap().to_owned()).collect()
        };
        let shared = names(shared);
        for name in names(all) {
            let shared = shared.iter().position(|other| *other == name);
            rooms.insert(name, Room { floor, shared });
        }
    }
    assert!(rooms.len() > 10, "ARCHITECTURE.md: the table of floors was not understood");
    rooms
}

fn may_import(rooms: &BTreeMap<String, Room>, from: &str, to: &str) -> Result<(), String> {
    let Some(mine) = rooms.get(from) else { return Err(format!("the room '{from}' is not in ARCHITECTURE.md")) };
    // Macros and items at the crate's root belong to no room.
    let Some(theirs) = rooms.get(to) else { return Err(format!("'{to}', imported by '{from}', is no room")) };
    let down = theirs.floor < mine.floor;
    let sideways = theirs.floor == mine.floor && theirs.shared.is_some_and(|at| mine.shared.is_none_or(|my| my < at));
    if from == to || down || sideways {
        return Ok(());
    }
    Err(format!("'{from}' (floor {}) must not import '{to}' (floor {})", mine.floor, theirs.floor))
}

#[test]
fn imports_go_down_only() {
    let rooms = floors();
    let mut wrong = vec![];
    for source in sources(&["src"]) {
        let room = source.room().expect("below src");
        if room == "lib" {
            continue;
        }
        let mut found = imports(&source.code, if room == "main" { "engine" } else { "crate" });
        found.extend(imports_upwards(&source.code, &source.module()));
        for (to, line) in found {
            if let Err(why) = may_import(&rooms, room, &to[0]) {
                wrong.push(format!("{}:{line}: {why}", source.path));
            }
        }
    }
    assert_none("imports go down only (ARCHITECTURE.md, Floors)", wrong);
}

/// Who imports whom among siblings below a room, a folder taken as one: one and the other, with a place in the first.
type Siblings = BTreeMap<(String, String), String>;

fn siblings<'a>(all: impl Iterator<Item = &'a Source> + Clone) -> Siblings {
    let modules: BTreeSet<_> = all.clone().map(|source| source.module().join("::")).collect();
    let mut found = Siblings::new();
    for source in all.filter(|source| !source.is_test()) {
        let (code, own) = (without_tests(&source.code), source.module());
        for (path, line) in imports(&code, "crate").into_iter().chain(imports_upwards(&code, &own)) {
            let shared = own.iter().zip(&path).take_while(|(mine, theirs)| mine == theirs).count();
            if shared == 0 || shared == own.len() || shared == path.len() {
                continue;
            }
            let (one, other) = (own[..=shared].join("::"), path[..=shared].join("::"));
            if modules.contains(&other) {
                found.entry((one, other)).or_insert_with(|| format!("{}:{line}", source.path));
            }
        }
    }
    found
}

/// The shortest way from the one to the other, both included.
fn way(siblings: &Siblings, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![from.to_owned()]];
    let mut at = 0;
    while let Some(way) = ways.get(at).cloned() {
        let last = way.last().expect("a way has a start");
        if last == to {
            return Some(way);
        }
        for (_, next) in siblings.keys().filter(|(one, _)| one == last) {
            if !ways.iter().any(|known| known.last() == Some(next)) {
                ways.push(way.iter().chain([next]).cloned().collect());
            }
        }
        at += 1;
    }
    None
}

/// Each import that leads back to who imports.
fn circles(siblings: &Siblings, allowed: &[(&str, &str, &str)]) -> Vec<String> {
    let is = |(one, other): &(String, String), a: &str, b: &str| one == a && other == b;
    let mut wrong = vec![];
    for (pair, place) in siblings {
        let Some(back) = way(siblings, &pair.1, &pair.0) else { continue };
        if allowed.iter().any(|(a, b, reason)| !reason.is_empty() && (is(pair, a, b) || is(pair, b, a))) {
            continue;
        }
        let through = match &back[1..back.len() - 1] {
            [] => String::new(),
            between => format!(" by way of '{}'", between.join("', '")),
        };
        wrong.push(format!("{place}: '{}' imports '{}', which imports it{through}", pair.0, pair.1));
    }
    let is_circle = |a: &str, b: &str| siblings.keys().any(|pair| is(pair, a, b)) && way(siblings, b, a).is_some();
    let gone = allowed.iter().filter(|(a, b, _)| !is_circle(a, b));
    wrong.extend(gone.map(|(a, b, _)| format!("tests/tidy.rs: '{a}' and '{b}' are no circle, and need no exception")));
    wrong
}

#[test]
fn siblings_import_each_other_in_no_circle() {
    let all = sources(&["src"]);
    assert_none("no circles below a room: move what both need to a third", circles(&siblings(all.iter()), CIRCLES));
}

#[test]
fn sinks_do_not_know_each_other() {
    let mut wrong = vec![];
    let all = sources(&["src"]);
    let own_file = |name: &str| all.iter().any(|source| source.path == format!("src/sink/{name}.rs"));
    for source in all.iter().filter(|source| source.path.starts_with("src/sink/") && !source.is_test()) {
        let module = source.module();
        let upwards = imports_upwards(&source.code, &module).into_iter().filter(|(path, _)| path.len() > 1);
        let upwards = upwards.filter(|(path, _)| path[0] == "sink").map(|(path, line)| (path[1].clone(), line));
        let named = imports(&source.code, "crate::sink").into_iter().map(|(path, line)| (path[0].clone(), line));
        let found = upwards.chain(named);
        let foreign = found.filter(|(name, _)| name != module[1] && own_file(name) && !is_shared_by_sinks(name));
        wrong.extend(foreign.map(|(name, line)| format!("{}:{line}: imports the sink '{name}'", source.path)));
    }
    assert_none("sinks never import each other", wrong);
}

/// A file in `src/sink/` that is no sink itself is named so in ARCHITECTURE.md: "`sink/NAME.rs` (shared)".
fn is_shared_by_sinks(name: &str) -> bool {
    read("ARCHITECTURE.md").contains(&format!("`sink/{name}.rs` (shared)"))
}

#[test]
fn unsafe_code_has_one_room_and_reasons() {
    let mut wrong = vec![];
    for source in sources(&["src", "tests", "examples", "fuzz"]) {
        let lines: Vec<_> = source.text.lines().collect();
        for at in words(&source.code, "unsafe") {
            let line = line_of(&source.code, at);
            if !source.path.starts_with("src/sys") {
                wrong.push(format!("{}:{line}: unsafe code lives in src/sys/", source.path));
            } else if !has_safety_comment(&lines, line) {
                wrong.push(format!("{}:{line}: say who upholds what, in a SAFETY comment right above", source.path));
            }
        }
    }
    assert_none("unsafe code", wrong);
}

/// Looks up from `line` (from 1) over the start of its statement and attributes to the comment above.
fn has_safety_comment(lines: &[&str], line: usize) -> bool {
    let is_reason = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
    let mut in_comment = false;
    for (distance, text) in lines[..line].iter().rev().map(|text| text.trim()).enumerate() {
        if is_reason(text) {
            return true;
        }
        let is_comment = text.starts_with("//");
        let ends_statement = text.is_empty() || text.ends_with([';', '}']) || text.ends_with('{');
        if distance > 0 && !is_comment && (in_comment || ends_statement || distance > 6) {
            return false;
        }
        in_comment |= is_comment;
    }
    false
}

#[test]
fn functions_fit_on_a_screen() {
    let mut wrong = vec![];
    for source in sources(&["src", "tests", "examples", "fuzz"]) {
        let long = functions(&source.code).into_iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX);
        wrong.extend(long.map(|(name, line, lines)| format!("{}:{line}: fn {name} has {lines} lines", source.path)));
    }
    assert_none(&format!("no function is longer than {FUNCTION_LINES_MAX} lines"), wrong);
}

#[test]
fn files_stay_short() {
    let mut wrong = vec![];
    for source in sources(&["src", "tests", "examples", "fuzz"]) {
        let lines = source.text.lines().count();
        let allowed = LONG_FILES.iter().any(|(path, reason)| *path == source.path && !reason.is_empty());
        if (lines > FILE_LINES_MAX) != allowed {
            wrong.push(format!("{}: {lines} lines (listed as long: {allowed})", source.path));
        }
    }
    assert_none(&format!("a file over {FILE_LINES_MAX} lines is split, or listed with its reason"), wrong);
}

#[test]
fn modules_are_files_beside_their_folder() {
    let mut wrong: Vec<_> =
        files(&root().join("src"), "mod.rs").iter().map(|path| path.display().to_string()).collect();
    wrong.retain(|path| path.ends_with("/mod.rs"));
    assert_none("a module is src/room.rs + src/room/part.rs, never mod.rs", wrong);
}

#[test]
fn nothing_is_left_for_later() {
    // In two halves, so that this file does not find itself.
    let marks = [("TO", "DO"), ("FIX", "ME"), ("X", "XX"), ("to", "do!("), ("unimple", "mented!(")];
    let mut wrong = vec![];
    for ending in [".rs", ".sh", ".py", ".c", ".md", ".toml", ".yaml", ".yml"] {
        for path in files(&root(), ending) {
            let text = fs::read_to_string(&path).expect("readable text");
            for mark in marks.map(|(head, tail)| format!("{head}{tail}")) {
                let word = mark.trim_end_matches("!(");
                let hits = words(&text, word).filter(|at| text[*at..].starts_with(&mark));
                wrong.extend(hits.map(|at| format!("{}:{}: {mark}", path.display(), line_of(&text, at))));
            }
        }
    }
    assert_none("real or nothing", wrong);
}

#[test]
fn tests_do_not_sleep() {
    let mut wrong = vec![];
    for source in sources(&["src", "tests"]) {
        let tests_at = if source.is_test() { Some(0) } else { source.code.find("#[cfg(test)]") };
        let Some(tests_at) = tests_at else { continue };
        let hits = words(&source.code, "sleep").filter(|at| *at >= tests_at && source.code[at + 5..].starts_with('('));
        wrong.extend(hits.map(|at| format!("{}:{}", source.path, line_of(&source.code, at))));
    }
    assert_none("a test waits for what it needs, it does not sleep", wrong);
}

#[test]
fn every_dependency_is_explained() {
    let architecture = read("ARCHITECTURE.md");
    let mut wrong = vec![];
    let mut in_table = false;
    for line in read("Cargo.toml").lines() {
        if line.starts_with('[') {
            in_table = line.contains("dependencies");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| in_table) {
            let name = name.trim().split('.').next().expect("a name");
            if !architecture.contains(&format!("`{name}`")) {
                wrong.push(name.to_owned());
            }
        }
    }
    assert_none("ARCHITECTURE.md says what each dependency is for", wrong);
}

#[test]
fn readme_knows_every_flag() {
    let readme = read("README.md");
    let mut wrong = vec![];
    for command in ["run", "receive", "verify", "doctor", "plan", "saturate"] {
        let help = Command::new(env!("CARGO_BIN_EXE_engine")).args([command, "--help"]).output().expect("engine runs");
        assert!(help.status.success(), "engine {command} --help: {}", String::from_utf8_lossy(&help.stderr));
        let text = String::from_utf8(help.stdout).expect("help is UTF-8");
        let flags = flags_in(&text);
        assert!(flags.len() > 3, "engine {command} --help shows {flags:?}");
        wrong.extend(flags.into_iter().filter(|flag| !flags_in(&readme).contains(flag)));
    }
    assert_none("README.md names every flag", wrong);
}

fn flags_in(text: &str) -> Vec<String> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mut flags = vec![];
    for (at, _) in text.match_indices("--") {
        let flag: String = text[at..].chars().take_while(|c| is_flag(*c)).collect();
        let starts = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-');
        if starts && flag.len() > 2 && flag.as_bytes()[2].is_ascii_lowercase() {
            flags.push(flag);
        }
    }
    flags.sort();
    flags.dedup();
    flags
}

#[test]
fn relative_links_lead_somewhere() {
    let mut wrong = vec![];
    for path in files(&root(), ".md") {
        let text = fs::read_to_string(&path).expect("readable text");
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().expect("split yields one part");
            let file = link.split('#').next().expect("split yields one part");
            let folder = path.parent().unwrap_or(Path::new("/"));
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") && !folder.join(file).exists()
            {
                wrong.push(format!("{}:{}: {link}", path.display(), line_of(&text, at)));
            }
        }
    }
    assert_none("relative links exist", wrong);
}

#[test]
fn changelog_has_this_version() {
    let heading = format!("## {}", env!("CARGO_PKG_VERSION"));
    let found = read("CHANGELOG.md").lines().any(|line| line == heading || line.starts_with(&format!("{heading} ")));
    assert!(found, "CHANGELOG.md has no heading '{heading}'");
}

#[test]
fn one_minimum_rust_version() {
    let minimum = env!("CARGO_PKG_RUST_VERSION");
    assert!(read("README.md").contains(&format!("Rust {minimum}")), "README.md does not state 'Rust {minimum}'");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs").stdout;
    let version = String::from_utf8(version).expect("a version is ASCII");
    let number = version.split([' ', '-']).nth(1).unwrap_or_else(|| panic!("'{version}' has no number"));
    let parts = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().expect("a number")).collect() };
    assert!(parts(number) >= parts(minimum), "rustc {number} is older than {minimum}");
}

#[test]
fn the_lexer_reads_rust() {
    let text =
        "fn a<'x>() { let s = \"}\\\"}\"; /* { /* } */ */ let c = '}'; let e = '\\''; } // }\nfn b();\nfn c() {\n}\n";
    let code = source::blank(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(functions(&code), [("a".to_owned(), 1, 1), ("c".to_owned(), 3, 2)]);
    assert_eq!(source::blank("r#\"unsafe \" \"#;x"), format!("{};x", " ".repeat(14)));
    let found = imports("use crate::{a::{b, c}, d}; crate::e::f(); mycrate::g", "crate");
    let names: Vec<_> = found.iter().map(|(path, _)| path.join("::")).collect();
    assert_eq!(names, ["a::b", "a::c", "d", "e::f"]);
    let up = "use super::{c, d::e}; pub(super) fn f() {} mod g { use super::super::h; use super::*; mod k; }";
    let paths: Vec<_> = imports_upwards(up, &["a", "b"]).into_iter().map(|(path, _)| path.join("::")).collect();
    assert_eq!(paths, ["a::c", "a::d::e", "a::h"]);
    let tests = "a; #[cfg(test)]\nmod b { c! {} } d; #[cfg(test)] use e; f";
    assert_eq!(source::without_tests(tests).split_whitespace().collect::<String>(), "a;d;f");
    let rooms = floors();
    assert!(may_import(&rooms, "base", "plan").is_err() && may_import(&rooms, "pace", "plan").is_ok());
    assert!(may_import(&rooms, "config", "observe").is_err() && may_import(&rooms, "run", "config").is_ok());
    assert!(
        !has_safety_comment(&["// SAFETY: x", "", "unsafe {"], 3)
            && has_safety_comment(&["// SAFETY: x", "unsafe {"], 2)
    );
    assert_eq!(flags_in("a --rate=1, `--bs` and --- or x--y"), ["--bs", "--rate"]);
}

#[test]
fn circles_are_named_by_both_ends() {
    let source = |path: &str, code: &str| Source { path: path.to_owned(), text: String::new(), code: code.to_owned() };
    let of = |all: &[Source], allowed: &[(&str, &str, &str)]| circles(&siblings(all.iter()), allowed);
    let pair = [
        source("src/r/a.rs", "#[cfg(test)] mod tests { use super::super::c; }"),
        source("src/r/a/deep.rs", "use crate::{r::{b::B, a::other}, s::c};"),
        source("src/r/b.rs", "\nuse super::{X, a};"),
        source("src/r/c.rs", "use super::b; use super::a; use crate::r::f;"),
        source("src/r/a/tests.rs", "use crate::r::c;"),
    ];
    let told = ["src/r/a/deep.rs:1: 'r::a' imports 'r::b', which imports it", "src/r/b.rs:2: 'r::b' imports 'r::a'"];
    let wrong = of(&pair, &[]);
    assert!(wrong.len() == 2 && wrong.iter().zip(told).all(|(wrong, told)| wrong.starts_with(told)), "{wrong:?}");
    assert_eq!(of(&pair, &[("r::b", "r::a", "why")]), [""; 0]);
    assert_eq!(of(&pair, &[("r::b", "r::a", "")]).len(), 2, "an exception has a reason");
    let gone = of(&pair[2..], &[("r::b", "r::a", "why")]);
    assert!(gone.len() == 1 && gone[0].contains("are no circle"), "{gone:?}");
    let long = [
        source("src/r/a.rs", "use super::b;"),
        source("src/r/b.rs", "use super::c;"),
        source("src/r/c.rs", "use super::a;"),
    ];
    let wrong = of(&long, &[]);
    assert!(wrong.len() == 3 && wrong[0].ends_with("'r::a' imports 'r::b', which imports it by way of 'r::c'"));
}
