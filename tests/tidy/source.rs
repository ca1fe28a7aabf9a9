//! Just enough Rust lexing to count, without a parser: text in which comments and literals are blank.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A source file: as it is, and with every comment and literal blanked out, line for line.
pub struct Source {
    /// From the project's root, with `/`.
    pub path: String,
    pub text: String,
    pub code: String,
}

impl Source {
    pub fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let relative = path.strip_prefix(root).expect("found below the root");
        Self { path: relative.to_string_lossy().into_owned(), code: blank(&text), text }
    }

    /// The room of a file in `src/`: `src/pace.rs` and `src/pace/tests.rs` are `pace`.
    pub fn room(&self) -> Option<&str> {
        self.path.starts_with("src/").then(|| self.module()[0])
    }

    /// The path of a file in `src/` as a module: `src/pace/tests.rs` is `pace::tests`.
    pub fn module(&self) -> Vec<&str> {
        self.path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect()
    }

    /// A file with nothing but tests, or what they share.
    pub fn is_test(&self) -> bool {
        let is_named_so = |name: &str| self.path.ends_with(&format!("/{name}.rs"));
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || is_named_so("tests")
            || is_named_so("testing")
    }
}

/// All files below `folder` with this ending, in order; build output and hidden folders aside.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, ending));
        } else if path.is_file() && name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Replaces comments and the insides of literals by spaces, keeping line breaks.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        match end {
            Some(end) => {
                out.extend(chars[at..end].iter().map(|&c| if c == '\n' { c } else { ' ' }));
                at = end;
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `None` if none begins there.
fn token_end(chars: &[char], at: usize) -> Option<usize> {
    let next = |ahead: usize| chars.get(at + ahead).copied().unwrap_or('\0');
    let inside_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], next(1)) {
        ('/', '/') => Some(until(chars, at, '\n')),
        ('/', '*') => Some(block_comment_end(chars, at)),
        ('"', _) => Some(string_end(chars, at + 1)),
        ('r', '"' | '#') if !inside_word => raw_string_end(chars, at + 1),
        ('b', 'r') if !inside_word => raw_string_end(chars, at + 2),
        // A lifetime has no closing quote right behind one character.
        ('\'', '\\') => Some(until(chars, at + 3, '\'') + 1),
        ('\'', _) if next(2) == '\'' => Some(at + 3),
        _ => None,
    }
}

fn until(chars: &[char], from: usize, stop: char) -> usize {
    (from..chars.len()).find(|&at| chars[at] == stop).unwrap_or(chars.len())
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], mut at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    at += hashes;
    if chars.get(at) != Some(&'"') {
        return None;
    }
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    Some((at + 1..chars.len()).find(|&at| closes(at)).map_or(chars.len(), |at| at + 1 + hashes))
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

/// Byte offsets at which `word` stands alone in `code`.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

/// Line of a byte offset, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Functions with a body: (name, first line, number of lines).
pub fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = vec![];
    for at in words(code, "fn") {
        let rest = &code[at..];
        let name: String = rest[2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(body) = body_start(rest) else { continue };
        if name.is_empty() {
            continue;
        }
        let end = closing_brace(rest, body);
        found.push((name, line_of(code, at), line_of(rest, end)));
    }
    found
}

/// Where the body of the function at the start of `rest` opens; `None` for a declaration.
fn body_start(rest: &str) -> Option<usize> {
    let mut depth = 0i32;
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(at),
            _ if depth < 0 => return None,
            _ => {}
        }
    }
    None
}

fn closing_brace(rest: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in rest[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    rest.len()
}

/// The paths after `prefix::` in `code`: `crate::a::b` and `crate::{a, b::c}` give `a::b`, `a` and `b::c`.
pub fn imports(code: &str, prefix: &str) -> Vec<(Vec<String>, usize)> {
    let start = format!("{prefix}::");
    let mut found = vec![];
    for at in words(code, prefix) {
        let Some(rest) = code[at..].strip_prefix(start.as_str()) else { continue };
        let line = line_of(code, at);
        found.extend(paths(rest).into_iter().map(|path| (path, line)));
    }
    found
}

/// Where chains of `super::` lead, from the crate's root: in the file of `a::b`, `super::c` is `a::c`, and in a module
/// inside that file, `super::super::c` is.
pub fn imports_upwards(code: &str, module: &[&str]) -> Vec<(Vec<String>, usize)> {
    let inner = inner_modules(code);
    let mut found = vec![];
    for at in words(code, "super").filter(|at| !code[..*at].ends_with("super::")) {
        let (mut rest, mut levels) = (&code[at..], 0);
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, levels) = (next, levels + 1);
        }
        if levels == 0 {
            continue;
        }
        let around = inner.iter().filter(|(_, body)| body.contains(&at)).map(|(name, _)| name.clone());
        let mut path: Vec<String> = module.iter().map(|&name| name.to_owned()).chain(around).collect();
        path.truncate(path.len().saturating_sub(levels));
        for below in paths(rest) {
            let whole = path.iter().cloned().chain(below).collect();
            found.push((whole, line_of(code, at)));
        }
    }
    found
}

/// `code` with what is compiled for tests only blanked out.
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let mut end = rest[at..].find(['{', ';']).map_or(rest.len(), |skip| at + skip);
        if rest[end..].starts_with('{') {
            end = closing_brace(rest, end);
        }
        end = rest.len().min(end + 1);
        out.push_str(&rest[..at]);
        out.extend(rest[at..end].chars().map(|c| if c == '\n' { c } else { ' ' }));
        rest = &rest[end..];
    }
    out + rest
}

/// Modules with a body in this file: name and where the body is, outer ones first.
fn inner_modules(code: &str) -> Vec<(String, Range<usize>)> {
    let mut found = vec![];
    for at in words(code, "mod") {
        let name = first_word(&code[at + 3..]);
        let Some(open) = code[at..].find(['{', ';']).map(|skip| at + skip) else { continue };
        if !name.is_empty() && code[open..].starts_with('{') {
            found.push((name, open..closing_brace(code, open)));
        }
    }
    found
}

/// `a::b` of `a::b(c)`; `a::b` and `c` of `{a::b, c}`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let text = text.trim_start();
    if text.starts_with('{') {
        let group = &text[1..closing_brace(text, 0)];
        let mut depth = 0;
        let parts = group.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        return parts.flat_map(paths).collect();
    }
    let first = first_word(text);
    if first.is_empty() {
        return vec![];
    }
    let below = text[first.len()..].strip_prefix("::").map_or_else(Vec::new, paths);
    if below.is_empty() {
        return vec![vec![first]];
    }
    below.into_iter().map(|rest| std::iter::once(first.clone()).chain(rest).collect()).collect()
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
