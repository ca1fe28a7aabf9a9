//! What the name of a file says of its stream.

use crate::base::paths;
use crate::manifest::{Layout, Manifest};
use crate::record::MAGIC;
use crate::sink::file::names;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What may lie beside data under their name.
pub fn is_of_another_kind(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    matches!(extension, "json" | "log" | "tmp" | "html" | "next")
}

/// The folder, what stands before the producer's number in a data file's name, and what stands behind it.
pub fn numbered(path: &Path) -> Option<(&Path, &str, &str)> {
    let (name, extension) = path.file_name()?.to_str()?.rsplit_once('.')?;
    let (stem, number) = name.rsplit_once('.')?;
    let is_number = number.parse::<u32>().is_ok_and(|id| id.to_string() == number);
    (is_number && !is_of_another_kind(path)).then_some((paths::folder(path), stem, extension))
}

pub fn begins_with_header(path: &Path) -> bool {
    let mut head = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == MAGIC
}

/// The file that was prepared to follow the active one, where a killed run may have gone over to it before the keeper
/// came to rename the two.
pub fn next_of(data: &Path, manifest: Option<&Manifest>) -> Option<PathBuf> {
    let killed = manifest.is_some_and(|manifest| manifest.layout == Layout::Append && !manifest.complete);
    let next = names::next_path(data);
    let holds_bytes = || std::fs::metadata(&next).is_ok_and(|facts| facts.is_file() && facts.len() > 0);
    (killed && holds_bytes()).then_some(next)
}

/// The data file that a rotated one in a folder of ours was once.
pub fn active_of(rotated: &Path) -> Option<PathBuf> {
    let name = rotated.file_name()?.to_str()?;
    let (data, suffix) = name.split_at_checked(name.len().checked_sub(names::ROTATION_SUFFIX_BYTES)?)?;
    let data = data.strip_suffix('.').filter(|_| names::is_rotation_suffix(suffix))?;
    Some(rotated.with_file_name(data))
}

/// `<data>.<UTC timestamp>`, as the file sink writes it, of the paths in a sorted list, oldest first. A copy with a date
/// behind its name is none.
pub fn rotated(paths: &[PathBuf], data: &Path) -> Vec<PathBuf> {
    let Some(name) = data.file_name().and_then(OsStr::to_str) else { return Vec::new() };
    let prefix = format!("{name}.");
    let starts_before = |path: &PathBuf| path.file_name().is_none_or(|other| other < OsStr::new(&prefix));
    let from = paths.partition_point(starts_before);
    let others = paths[from..].iter().filter_map(|path| path.file_name());
    let others = others.take_while(|other| other.as_encoded_bytes().starts_with(prefix.as_bytes()));
    let is_suffix = |other: &str| names::is_rotation_suffix(&other[prefix.len()..]);
    let rotated = others.filter(|other| other.to_str().is_some_and(is_suffix));
    rotated.map(|name| data.with_file_name(name)).collect()
}
