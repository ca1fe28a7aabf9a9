//! From what the user named to streams: folders by their manifests, files with their rotated siblings, pipes.

mod named;

use super::findings::{Finding, Findings, Kind};
use crate::base::fatal::Fatal;
use crate::base::paths;
use crate::manifest::{Layout, Manifest, RecordFormat};
use crate::sys::streams;
use named::{active_of, begins_with_header, is_of_another_kind, next_of, numbered};
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

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
    /// Where it lies.
    pub device: u64,
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
    let mut resolver = Resolver { claimed: BTreeSet::new(), listed: None, sources: Vec::new(), findings };
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
            name => resolver.path(path_of(name))?,
        }
    }
    let mut sources = resolver.sources;
    rotated_first(&mut sources);
    Ok(sources)
}

/// Rotated files that lie elsewhere than their manifest are older than what lies beside it, and have to be known
/// before it judges what is missing.
fn rotated_first(sources: &mut [Source]) {
    let has_manifest = |source: &Source| matches!(source, Source::Data(stream) if stream.manifest.is_some());
    let is_rotated = |source: &Source| match source {
        Source::Data(stream) => stream.manifest.is_none() && stream.files.iter().all(|file| file.is_rotated),
        Source::Pipe(_) => false,
    };
    if let Some(last) = sources.iter().rposition(is_rotated) {
        sources[..=last].sort_by_key(has_manifest);
    }
}

/// A path, or the URL of a file as `--target` takes it.
fn path_of(name: &str) -> &Path {
    let bare = name.strip_prefix("file://").or_else(|| name.strip_prefix("file:")).filter(|bare| !bare.is_empty());
    match bare {
        // Something may have that very name.
        Some(bare) if Path::new(name).symlink_metadata().is_err() => Path::new(bare),
        _ => Path::new(name),
    }
}

struct Resolver<'a> {
    /// Files that belong to a stream already.
    claimed: BTreeSet<PathBuf>,
    /// The folder that was listed last: each of its streams asks for it.
    listed: Option<(PathBuf, Rc<[PathBuf]>)>,
    sources: Vec<Source>,
    findings: &'a mut Findings,
}

impl Resolver<'_> {
    /// See [`list`].
    fn list(&mut self, folder: &Path) -> io::Result<Rc<[PathBuf]>> {
        if let Some((_, paths)) = self.listed.as_ref().filter(|(listed, _)| listed == folder) {
            return Ok(paths.clone());
        }
        let paths: Rc<[PathBuf]> = list(folder)?.into();
        self.listed = Some((folder.to_owned(), paths.clone()));
        Ok(paths)
    }

    /// The rotated files of a stream: a ring has none, and without a manifest it may have some.
    fn rotated(&mut self, data: &Path, manifest: Option<&Manifest>) -> io::Result<Vec<PathBuf>> {
        if manifest.is_some_and(|manifest| manifest.layout != Layout::Append) {
            return Ok(Vec::new());
        }
        Ok(named::rotated(&self.list(paths::folder(data))?, data))
    }

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
        let names = self.list(folder).map_err(|error| missing(folder, &error))?;
        let before = self.sources.len();
        let mut unread = Vec::new();
        for path in names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
            match Manifest::read(path) {
                Ok(Some(manifest)) => self.manifest(path, manifest)?,
                // What is no manifest of ours is none of our business.
                Err(error) if !Manifest::is_foreign(path) => unread.push((path, error)),
                _ => {}
            }
        }
        for (path, error) in unread {
            self.torn(path, &error)?;
        }
        // Data whose manifest is gone is still data.
        for path in names.iter() {
            if self.is_called_as_data(path) {
                self.file(path, None)?;
            }
        }
        for path in names.iter() {
            if let Some(data) =
                active_of(path).filter(|data| !self.claimed.contains(path) && self.is_called_as_data(data))
            {
                self.rotated_alone(&data)?;
            }
        }
        if self.sources.len() == before && !names.iter().any(|path| self.claimed.contains(path)) {
            return Err(Fatal::usage(format!("{} holds no data of this engine", folder.display()))
                .mend("name the folder or file that --target file:PATH wrote"));
        }
        Ok(())
    }

    /// What cannot be read as a manifest, and may be what is left of one. Its data, if they are ours, are judged
    /// without it; where there are none, it has to be ours beyond doubt.
    fn torn(&mut self, path: &Path, error: &io::Error) -> Result<(), Fatal> {
        let is_ours = Manifest::begins_as_one(path);
        let beside = self.beside(path).map_err(|error| missing(path, &error))?;
        let known = beside.iter().find(|data| self.is_of_a_run(data) || begins_with_header(data));
        match known.or(beside.first().filter(|_| is_ours)) {
            Some(data) => self.file(data, None),
            None if is_ours => {
                let what = format!("the manifest cannot be read, and there is no data file beside it: {error}");
                let source = Some(path.display().to_string());
                self.findings.add(Finding { source, ..Finding::new(Kind::Malformed, what) });
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether its name is enough for it to be data of ours.
    fn is_called_as_data(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "bin") || self.is_of_a_run(path)
    }

    /// Whether it is called as the data file of another producer of a run that was found there: `ev.1.dat` beside
    /// `ev.0.dat`.
    fn is_of_a_run(&self, path: &Path) -> bool {
        let name = numbered(path);
        name.is_some() && !self.claimed.contains(path) && self.claimed.iter().any(|known| numbered(known) == name)
    }

    fn manifest(&mut self, path: &Path, manifest: Manifest) -> Result<(), Fatal> {
        match self.data_of(path, &manifest).map_err(|error| missing(path, &error))? {
            Some(data) => self.file(&data, Some(manifest)),
            None => self.lost(path, manifest),
        }
    }

    /// The data file that the manifest at `path` speaks of.
    fn data_of(&mut self, path: &Path, manifest: &Manifest) -> io::Result<Option<PathBuf>> {
        let named = path.with_file_name(&manifest.data_file);
        if !manifest.data_file.is_empty() && is_data(&named) {
            return Ok(Some(named));
        }
        let usual = path.with_extension("bin");
        if usual.is_file() {
            return Ok(Some(usual));
        }
        Ok(self.beside(path)?.into_iter().next())
    }

    /// What may be the data of a manifest at `path`, by its name.
    fn beside(&mut self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let is_data = |candidate: &&PathBuf| {
            candidate.with_extension("json").file_name() == path.file_name() && !is_of_another_kind(candidate)
        };
        let names = self.list(paths::folder(path))?;
        // As the user wrote the folder, so that files are recognised when named twice.
        let found = names.iter().filter(is_data).filter_map(|found| found.file_name());
        Ok(found.map(|name| path.with_file_name(name)).collect())
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
        let rotated = self.rotated(&data, Some(&manifest)).unwrap_or_default();
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
        let rotated = self.rotated(data, None).map_err(|error| missing(data, &error))?;
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
            // Its name may be another one than that of the data.
            named => Manifest::find(data).map(|found| found.or(named)),
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
        if let Some(manifest) = manifest.as_ref().filter(|manifest| !manifest.speaks_of(data)) {
            let what = format!("its manifest speaks of {}, which is not there", manifest.data_file);
            self.findings.explain(format!("{label}: {what}: taken for that of a file that was renamed"));
        }
        let rotated = self.rotated(data, manifest.as_ref()).map_err(|error| missing(data, &error))?;
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
            let (length_bytes, device) = length_and_device(&path).map_err(|error| missing(&path, &error))?;
            self.claimed.insert(path.clone());
            files.push(DataFile { path, length_bytes, device, is_rotated });
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

/// A file, or a device, whose manifest lies somewhere else.
fn is_data(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| holds_data(&facts))
}

fn holds_data(facts: &Metadata) -> bool {
    facts.is_file() || facts.file_type().is_block_device()
}

/// Bytes of a file or block device, and the device that they lie on.
fn length_and_device(path: &Path) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let facts = file.metadata()?;
    let is_device = facts.file_type().is_block_device();
    let length_bytes = if facts.is_file() { facts.len() } else { file.seek(SeekFrom::End(0))? };
    Ok((length_bytes, if is_device { facts.rdev() } else { facts.dev() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(findings: &mut Findings) -> Resolver<'_> {
        Resolver { claimed: BTreeSet::new(), listed: None, sources: Vec::new(), findings }
    }

    #[test]
    fn a_folder_is_listed_once_for_all_its_streams() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, third] = [1, 2, 3].map(|day| format!("a.bin.2026010{day}T000000.000000001Z"));
        let copies = ["a.bin.20260101", "a.bin.20260101T000000Z", "a.bin.old", "a.bin2"];
        let names: Vec<&str> = ["a.bin", &first, &second, "ab.bin"].into_iter().chain(copies).collect();
        let path = |name: &str| folder.path().join(name);
        names.iter().for_each(|name| std::fs::write(path(name), name).unwrap());
        let mut findings = Findings::default();
        let mut resolver = resolver(&mut findings);
        let expected = [path(names[1]), path(names[2])];
        assert_eq!(resolver.rotated(&path("a.bin"), None).unwrap(), expected);
        // What comes later is not seen.
        std::fs::write(path(&third), "").unwrap();
        assert_eq!(resolver.rotated(&path("a.bin"), None).unwrap(), expected);
        assert!(resolver.rotated(&path("ab.bin"), None).unwrap().is_empty());
        let other = tempfile::tempdir().unwrap();
        assert!(resolver.rotated(&other.path().join("a.bin"), None).unwrap().is_empty());
        assert_eq!(resolver.rotated(&path("a.bin"), None).unwrap().len(), 3, "the last folder alone is remembered");
    }

    #[test]
    fn files_of_one_drive_are_known_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one.bin", "two.bin"].map(|name| folder.path().join(name));
        std::fs::write(&one, "12345").unwrap();
        std::fs::write(&two, "").unwrap();
        let ((five, on), (none, on_too)) = (length_and_device(&one).unwrap(), length_and_device(&two).unwrap());
        assert_eq!((five, none, on), (5, 0, on_too));
    }
}
