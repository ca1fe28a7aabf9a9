//! Files that are replayed: which they are, and the lines of them.

use crate::base::fatal::Fatal;
use crate::base::{limits, paths, program, units};
use crate::plan::TemplateFile;
use std::io;
use std::path::{Path, PathBuf};

/// What is left out of a folder of templates, and what of it cannot be used, is named up to so many times.
pub const NAMED_MAX: usize = 3;

/// What becomes of the ends of lines that are records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnds {
    /// In files, streams and bodies of several records, lines stay lines.
    Kept,
    /// A message of Kafka is no part of a text.
    Cut,
}

/// The lines of a file that are not blank.
fn lines_of(file: &TemplateFile, ends: LineEnds) -> impl Iterator<Item = TemplateFile> {
    let end: &[u8] = if ends == LineEnds::Kept { b"\n" } else { b"" };
    // A byte order mark is no part of the first one.
    let bytes = file.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&file.bytes);
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines = lines.enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    lines.map(move |(at, line)| {
        let name = format!("line {} of {}", at + 1, file.name);
        TemplateFile { name, bytes: [line, end].concat().into() }
    })
}

/// A file, or the plain files of a folder in name order, hidden ones left out.
pub fn read(path: &Path, split: Option<LineEnds>) -> Result<Vec<TemplateFile>, Fatal> {
    let flag = format!("--payload-template '{}'", path.display());
    let fail = |what: String, at: &Path, why: &io::Error| {
        Fatal::usage(format!("{what}: {why}")).mend(paths::mend_reading("payload-template", at, why))
    };
    let facts = std::fs::metadata(path).map_err(|why| fail(flag.clone(), path, &why))?;
    let mut names: Vec<PathBuf> = vec![path.to_owned()];
    if facts.is_dir() {
        (names, _) = template_names(path).map_err(|why| fail(flag.clone(), path, &why))?;
    }
    if names.is_empty() || names.len() > limits::TEMPLATE_FILES_MAX {
        let (count, most) = (names.len(), limits::TEMPLATE_FILES_MAX);
        let what = format!("{flag} holds {count} files; it takes 1 to {most}");
        return Err(Fatal::usage(what).mend("put templates there and nothing else, or name one file"));
    }
    let mut total = 0u64;
    let mut files = Vec::new();
    for name in names {
        let shown = name.display();
        let facts = std::fs::metadata(&name).map_err(|why| fail(format!("{flag}: {shown}"), &name, &why))?;
        total = total.saturating_add(facts.len());
        let each_max = if split.is_some() { limits::TEMPLATE_BYTES_MAX } else { limits::RECORD_BYTES_MAX };
        if !facts.is_file() || facts.len() > each_max || total > limits::TEMPLATE_BYTES_MAX {
            let each = units::format_size(each_max);
            let all = units::format_size(limits::TEMPLATE_BYTES_MAX);
            let what = format!("{flag}: {shown} ({}) passes the limits", units::format_size(facts.len()));
            return Err(Fatal::usage(what).mend(format!("plain files of at most {each} each and {all} together")));
        }
        let bytes = std::fs::read(&name).map_err(|why| fail(format!("{flag}: {shown}"), &name, &why))?;
        let name = name.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        files.push(TemplateFile { name, bytes: bytes.into() });
    }
    let Some(ends) = split else { return Ok(files) };
    let most = limits::TEMPLATE_FILES_MAX;
    let lines: Vec<_> = files.iter().flat_map(|file| lines_of(file, ends)).take(most + 1).collect();
    if lines.is_empty() || lines.len() > most {
        let count = if lines.is_empty() { "no line".to_owned() } else { format!("more than {most} lines") };
        let what = format!("{flag} has {count} that is not blank; --template-lines takes 1 to {most}");
        let mend = match (lines.is_empty(), path.is_dir()) {
            (true, _) => "a file with lines".to_owned(),
            (false, true) => format!("files of at most {most} lines together"),
            (false, false) => format!("head -n {most} {} > part", program::quoted_path(path)),
        };
        return Err(Fatal::usage(what).mend(mend));
    }
    Ok(lines)
}

/// The plain files of a folder that are not hidden, and what else is there, both in name order.
fn template_names(folder: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A link that leads nowhere is no reason to refuse the others.
        let is_template = !hidden && std::fs::metadata(entry.path()).is_ok_and(|facts| facts.is_file());
        let kind = if is_template { &mut names } else { &mut others };
        kind.push(entry.path());
    }
    names.sort();
    others.sort();
    Ok((names, others))
}

/// What of a folder of templates is not replayed; `None`: nothing, or it is no folder.
pub fn left_out(path: &Path) -> Option<String> {
    let (_, others) = template_names(path).ok()?;
    let named = others.iter().take(NAMED_MAX).filter_map(|other| other.file_name());
    let named: Vec<_> = named.map(|name| format!("'{}'", name.display())).collect();
    let more = match others.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!others.is_empty()).then(|| {
        let path = path.display();
        format!("--payload-template {path}: left out, since hidden or no plain file: {}{more}", named.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replayed_in_name_order() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("b.json", "22"), ("a.json", "1"), (".hidden", "x")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let files = read(folder.path(), None).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a.json", "b.json"]);
        let told = left_out(folder.path()).unwrap();
        assert!(told.ends_with(": '.hidden', 'sub'"), "{told}");
        for name in [".a", ".b"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        assert!(left_out(folder.path()).unwrap().ends_with(": '.a', '.b', '.hidden' and 1 more"));
        std::os::unix::fs::symlink("nowhere", folder.path().join(".a-link")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        assert_eq!(read(folder.path(), None).unwrap().len(), 2);
        assert!(left_out(folder.path()).unwrap().ends_with(": '.a', '.a-link', '.b' and 3 more"));
        assert_eq!((left_out(&folder.path().join("a.json")), left_out(&folder.path().join("sub"))), (None, None));
        let one = read(&folder.path().join("b.json"), None).unwrap();
        assert_eq!(&*one[0].bytes, b"22");
        assert!(read(&folder.path().join("sub"), None).unwrap_err().what.contains("0 files"));
        assert!(read(&folder.path().join("none"), None).is_err());
    }

    #[test]
    fn lines_are_records_with_their_ends_where_lines_stay_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        let lines = |text: &str, ends| {
            std::fs::write(&path, text).unwrap();
            read(&path, Some(ends)).map(|lines| {
                let shown =
                    |line: &TemplateFile| (line.name.clone(), String::from_utf8_lossy(&line.bytes).into_owned());
                lines.iter().map(shown).collect::<Vec<_>>()
            })
        };
        let named = |number, text: &str| (format!("line {number} of events.ndjson"), text.to_owned());
        let text = "\u{feff}{\"a\":1}\r\n\n  \n{\"a\": 2} ";
        assert_eq!(lines(text, LineEnds::Kept).unwrap(), [named(1, "{\"a\":1}\n"), named(4, "{\"a\": 2} \n")]);
        assert_eq!(lines(text, LineEnds::Cut).unwrap(), [named(1, "{\"a\":1}"), named(4, "{\"a\": 2} ")]);
        assert!(lines("\n\n", LineEnds::Cut).unwrap_err().what.contains("no line"));
        let most = limits::TEMPLATE_FILES_MAX;
        assert_eq!(lines(&"x\n".repeat(most), LineEnds::Cut).unwrap().len(), most);
        let many = lines(&"x\n".repeat(most + 1), LineEnds::Cut).unwrap_err();
        assert!(many.mend.unwrap().starts_with("head -n 10000 "), "{}", many.what);
    }
}
