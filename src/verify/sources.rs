//! From what the user named to streams: folders by their manifests, files with their rotated siblings, pipes.

use super::findings::{Finding, Findings, Kind};
use crate::base::fatal::Fatal;
use crate::base::place;
use crate::manifest::{Layout, Manifest, RecordFormat};
use crate::sink::file::open;
use crate::sys::streams;
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What a manifest without data is.
pub const NO_DATA: &str = "there is a manifest, but no data file beside it";

/// Files of one producer in writing order, or one file without a manifest.
#[derive(Debug)]
pub struct DataStream {
    pub label: String,
    pub manifest: Option<Manifest>,
    /// The rotated ones, then the active one, if it is there, then what a killed run left as the next one.
    pub files: Vec<DataFile>,
    /// The next one is there, but no active one.
    pub active_is_gone: bool,
}

impl DataStream {
    /// The length of the active file.
    pub fn active_bytes(&self) -> u64 {
        self.files.last().filter(|file| !file.is_rotated).map_or(0, |file| file.length_bytes)
    }
}

#[derive(Debug)]
pub struct DataFile {
    pub path: PathBuf,
    pub length_bytes: u64,
    pub is_rotated: bool,
}

#[derive(Debug)]
pub enum Source {
    Data(Box<DataStream>),
    /// Read once, from its start: stdin (`None`) or a named pipe.
    Pipe(Option<PathBuf>),
}

/// Standard input. One that is closed must not pass for an empty one.
pub fn stdin() -> Result<Box<dyn io::Read>, Fatal> {
    if !streams::stdin_is_readable() {
        let closed = Fatal::usage("standard input is closed, or not open for reading");
        return Err(closed.mend("give it what is to be verified, or name a file in place of '-'"));
    }
    Ok(Box::new(io::stdin().lock()))
}

/// Resolves every source; what is there but cannot be used is a finding, what is not there ends the command.
pub fn resolve(names: &[String], findings: &mut Findings) -> Result<Vec<Source>, Fatal> {
    let mut resolver = Resolver { claimed: BTreeSet::new(), sources: Vec::new(), findings };
    for name in names {
        match name.as_str() {
            "-" if resolver.sources.iter().any(|source| matches!(source, Source::Pipe(None))) => {
                return Err(Fatal::usage("stdin ('-') is named twice").mend("name it once"));
            }
            "-" => resolver.sources.push(Source::Pipe(None)),
            name if name.contains("://") && !name.starts_with("file://") => {
                let what = format!("'{name}' cannot be verified; files, folders, '-' and kafka://host/topic can");
                return Err(Fatal::usage(what).mend("export the ids of its records and use --ids FILE"));
            }
            name => resolver.path(Path::new(name.strip_prefix("file://").unwrap_or(name)))?,
        }
    }
    Ok(resolver.sources)
}

struct Resolver<'a> {
    /// Files that belong to a stream already.
    claimed: BTreeSet<PathBuf>,
    sources: Vec<Source>,
    findings: &'a mut Findings,
}

impl Resolver<'_> {
    fn path(&mut self, path: &Path) -> Result<(), Fatal> {
        let facts = std::fs::metadata(path).map_err(|error| missing(path, &error))?;
        if facts.is_dir() {
            return self.folder(path);
        }
        if facts.file_type().is_fifo() || facts.file_type().is_char_device() {
            self.sources.push(Source::Pipe(Some(path.to_owned())));
            return Ok(());
        }
        if path.extension().is_some_and(|extension| extension == "json")
            && let Ok(Some(manifest)) = Manifest::read(path)
        {
            return self.manifest(path, manifest);
        }
        self.file(path, None)
    }

    fn folder(&mut self, folder: &Path) -> Result<(), Fatal> {
        let names = list(folder).map_err(|error| missing(folder, &error))?;
        let before = self.sources.len();
        for path in names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
            // What is no manifest of ours is none of our business.
            let Ok(Some(manifest)) = Manifest::read(path) else { continue };
            self.manifest(path, manifest)?;
        }
        // Data whose manifest is gone is still data.
        for path in names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "bin")) {
            self.file(path, None)?;
        }
        for path in &names {
            if let Some(data) = active_of(path).filter(|_| !self.claimed.contains(path)) {
                self.rotated_alone(&data)?;
            }
        }
        if self.sources.len() == before && !names.iter().any(|path| self.claimed.contains(path)) {
            return Err(Fatal::usage(format!("{} holds no data of this engine", folder.display()))
                .mend("name the folder or file that --target file:PATH wrote"));
        }
        Ok(())
    }

    fn manifest(&mut self, path: &Path, manifest: Manifest) -> Result<(), Fatal> {
        match data_of(path, &manifest).map_err(|error| missing(path, &error))? {
            Some(data) => self.file(&data, Some(manifest)),
            None => self.lost(path, manifest),
        }
    }

    /// A manifest whose data file is gone; what was rotated before may still be there. A run that is killed between the
    /// two renames of a rotation has a next file instead.
    fn lost(&mut self, path: &Path, manifest: Manifest) -> Result<(), Fatal> {
        if !self.claimed.insert(path.to_owned()) {
            return Ok(());
        }
        let label = path.display().to_string();
        let data = match manifest.data_file.as_str() {
            "" => path.with_extension("bin"),
            name => path.with_file_name(name),
        };
        // What cannot be looked into proves nothing.
        let next = next_of(&data, Some(&manifest)).filter(|_| manifest.records != RecordFormat::Opaque);
        let active_is_gone = next.is_some();
        if !active_is_gone {
            let finding = Finding::new(Kind::Truncated, NO_DATA).producer(manifest.producer_id);
            self.findings.add(Finding { source: Some(label.clone()), ..finding });
        }
        // The name that it states may lead nowhere.
        let rotated = rotated_of(&data, Some(&manifest)).unwrap_or_default();
        let files = self.claim(rotated, next)?;
        self.sources.push(Source::Data(Box::new(DataStream {
            label,
            manifest: Some(manifest),
            files,
            active_is_gone,
        })));
        Ok(())
    }

    /// Rotated files of which neither manifest nor data file is left.
    fn rotated_alone(&mut self, data: &Path) -> Result<(), Fatal> {
        if data.exists() {
            return Ok(());
        }
        let rotated = rotated(data).map_err(|error| missing(data, &error))?;
        let files = self.claim(rotated, None)?;
        let label = data.display().to_string();
        self.sources.push(Source::Data(Box::new(DataStream { label, manifest: None, files, active_is_gone: false })));
        Ok(())
    }

    /// `named`: the manifest that led here.
    fn file(&mut self, data: &Path, named: Option<Manifest>) -> Result<(), Fatal> {
        if self.claimed.contains(data) {
            return Ok(());
        }
        let label = data.display().to_string();
        let manifest = match named {
            // That of a device may lie anywhere.
            Some(manifest) if Path::new(&manifest.data_file) == data => Ok(Some(manifest)),
            _ => Manifest::find(data),
        };
        let manifest = manifest.unwrap_or_else(|error| {
            let beside = data.with_extension("json");
            if Manifest::is_foreign(&beside) {
                self.findings.explain(format!("{} is no manifest of this engine, and is left aside", beside.display()));
                return None;
            }
            let what = format!("the manifest cannot be read, so the data is judged without it: {error}");
            let source = Some(beside.display().to_string());
            self.findings.add(Finding { source, ..Finding::new(Kind::Malformed, what) });
            None
        });
        let rotated = rotated_of(data, manifest.as_ref()).map_err(|error| missing(data, &error))?;
        let active = [Some(data.to_owned()), next_of(data, manifest.as_ref())];
        let files = self.claim(rotated, active.into_iter().flatten())?;
        self.sources.push(Source::Data(Box::new(DataStream { label, manifest, files, active_is_gone: false })));
        Ok(())
    }

    /// The files of one stream in writing order.
    fn claim(
        &mut self,
        rotated: Vec<PathBuf>,
        active: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Vec<DataFile>, Fatal> {
        let rotated = rotated.into_iter().map(|path| (path, true));
        let mut files = Vec::new();
        for (path, is_rotated) in rotated.chain(active.into_iter().map(|path| (path, false))) {
            let length_bytes = length_of(&path).map_err(|error| missing(&path, &error))?;
            self.claimed.insert(path.clone());
            files.push(DataFile { path, length_bytes, is_rotated });
        }
        // A rotated file that was named before its active one is part of the stream now.
        let claimed: BTreeSet<&PathBuf> = files.iter().map(|file| &file.path).collect();
        self.sources.retain(|source| match source {
            Source::Data(stream) => {
                stream.manifest.is_some() || !stream.files.iter().any(|f| claimed.contains(&f.path))
            }
            Source::Pipe(_) => true,
        });
        Ok(files)
    }
}

fn missing(path: &Path, error: &io::Error) -> Fatal {
    Fatal::usage(format!("{}: {error}", path.display())).mend("name an existing file or folder that you may read")
}

/// What a folder holds but for folders, pipes and the like: who opens a pipe waits until somebody writes. A link that
/// leads nowhere is told of where it is opened.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_other = std::fs::metadata(&path).is_ok_and(|facts| !holds_data(&facts));
        if !is_other {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The data file that the manifest at `path` speaks of.
fn data_of(path: &Path, manifest: &Manifest) -> io::Result<Option<PathBuf>> {
    let named = path.with_file_name(&manifest.data_file);
    if !manifest.data_file.is_empty() && is_data(&named) {
        return Ok(Some(named));
    }
    let beside = |candidate: &PathBuf| {
        let extension = candidate.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        candidate.file_name() != path.file_name()
            && candidate.with_extension("json").file_name() == path.file_name()
            && !matches!(extension, "json" | "log" | "tmp" | "html" | "next")
    };
    let usual = path.with_extension("bin");
    if usual.is_file() {
        return Ok(Some(usual));
    }
    Ok(list(place::folder(path))?.iter().find(|candidate| beside(candidate)).and_then(|found| {
        // As the user wrote the folder, so that files are recognised when named twice.
        Some(path.with_file_name(found.file_name()?))
    }))
}

/// A file, or a device, whose manifest lies somewhere else.
fn is_data(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| holds_data(&facts))
}

fn holds_data(facts: &Metadata) -> bool {
    facts.is_file() || facts.file_type().is_block_device()
}

/// The rotated files of a stream: a ring has none, and without a manifest it may have some.
fn rotated_of(data: &Path, manifest: Option<&Manifest>) -> io::Result<Vec<PathBuf>> {
    if manifest.is_none_or(|manifest| manifest.layout == Layout::Append) { rotated(data) } else { Ok(Vec::new()) }
}

/// The file that was prepared to follow the active one, where a killed run may have gone over to it before the keeper
/// came to rename the two.
fn next_of(data: &Path, manifest: Option<&Manifest>) -> Option<PathBuf> {
    let killed = manifest.is_some_and(|manifest| manifest.layout == Layout::Append && !manifest.complete);
    let next = open::next_path(data);
    let holds_bytes = || std::fs::metadata(&next).is_ok_and(|facts| facts.is_file() && facts.len() > 0);
    (killed && holds_bytes()).then_some(next)
}

/// The data file that a rotated one in a folder of ours was once.
fn active_of(rotated: &Path) -> Option<PathBuf> {
    let (stem, suffix) = rotated.file_name()?.to_str()?.split_once(".bin.")?;
    is_timestamp(suffix).then(|| rotated.with_file_name(format!("{stem}.bin")))
}

/// `<data>.<UTC timestamp>`, oldest first.
fn rotated(data: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = data.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = list(place::folder(data))?
        .iter()
        .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
        .filter(|other| other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).is_some_and(is_timestamp))
        .collect();
    names.sort();
    Ok(names.into_iter().map(|name| data.with_file_name(name)).collect())
}

fn is_timestamp(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_digit() || b"TZ-:._+".contains(&byte);
    text.len() >= 8 && text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(allowed)
}

/// Bytes of a file or block device.
fn length_of(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let facts = file.metadata()?;
    if facts.is_file() { Ok(facts.len()) } else { file.seek(SeekFrom::End(0)) }
}
