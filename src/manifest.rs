//! `payloads.<producer>.json`: what a data file holds, written by the file sink and read by `verify`.

use crate::base::paths::{self, Durability};
use crate::base::{bounded, limits};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

pub const FORMAT: &str = "engine-payload/1";
/// What [`Manifest::write`] begins with.
const HEAD: &str = "{\n  \"format\": \"engine-payload/";
/// What no other JSON has. They stand at both ends of a manifest.
const MARKS: [&str; 3] = ["\"engine-payload/", "\"data_file\"", "\"in_flight_bytes_max\""];

/// Runs that are remembered of what is overwritten in place.
const EARLIER_RUNS_MAX: usize = 64;

/// Written when the file is opened for a run (`complete: false`), and again at its orderly end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`]; anything else is not ours and is left alone.
    pub format: String,
    /// Name of the data file beside it, which rotated ones continue; of a device its path.
    #[serde(default)]
    pub data_file: String,
    pub run_id: String,
    /// Of what is overwritten in place: runs before this one, the last of them first, whose records may still be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_runs: Vec<String>,
    pub producer_id: u32,
    pub layout: Layout,
    pub records: RecordFormat,
    /// Bytes of the file that hold records of this run, exact once `complete`. A ring that has gone round
    /// holds `lap_bytes`.
    pub length_bytes: u64,
    /// False while the run is going on, and for ever after a kill.
    pub complete: bool,
    /// The first sequence still in the data file and its rotated siblings, and the one after the last.
    pub first_sequence: u64,
    pub next_sequence: u64,
    /// Sequences that were submitted but not confirmed, as inclusive ranges.
    pub missing: Vec<(u64, u64)>,
    /// More were missing than `missing` could name.
    #[serde(default)]
    pub missing_truncated: bool,
    /// The largest stretch at the data's end that a kill may leave unfinished.
    pub in_flight_bytes_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Layout {
    /// Appended from offset 0; rotated siblings are `<data file>.<UTC timestamp>`.
    Append,
    /// Overwritten in place every `lap_bytes`; each lap has the same record boundaries (`lap_records` of them).
    Ring { capacity_bytes: u64, lap_bytes: u64, lap_records: u64 },
}

/// How to find and check a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RecordFormat {
    /// Every record starts with the 64-byte header of `schemas/record.ksy`.
    Header,
    /// Record number `n` has the shape `templates[n % templates.len()]`; one without slots starts with the
    /// header instead.
    Slots { templates: Vec<TemplateShape> },
    /// Nothing in the payload says what a record is (`--annotate off`).
    Opaque,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateShape {
    pub name: String,
    pub length_bytes: u64,
    pub fits: bool,
    pub slots: Vec<Slot>,
}

/// A stretch of a template that is rendered anew for each record, at a fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub fact: Fact,
    pub offset: u64,
    pub width: u32,
    /// Quotes are part of the slot; the value is followed by spaces up to the width.
    pub quoted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    RunId,
    ProducerId,
    Sequence,
    /// RFC 3339, UTC, nanoseconds.
    Timestamp,
    TimestampNs,
    Weight,
    /// CRC32C of the record with this slot's bytes as ASCII zeros; decimal.
    Crc32c,
    /// FITS: `YYYY-MM-DDThh:mm:ss.sss` without a zone.
    FitsDate,
    /// FITS: the ASCII-encoded complement of the sum of the HDU.
    FitsChecksum,
}

impl Manifest {
    /// The runs whose records may be where another one is to write in place, the last of them first.
    pub fn runs(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.run_id).chain(&self.earlier_runs)
    }

    /// What the manifest of that run, `run_id`, remembers of this one and those before it.
    pub fn before(&self, run_id: &str) -> Vec<String> {
        self.runs().filter(|earlier| *earlier != run_id).take(EARLIER_RUNS_MAX).cloned().collect()
    }

    /// The manifest that lies beside `data` and speaks of it, or of a file that is not there: both were renamed. The
    /// error is that of a file in its usual place.
    pub fn find(data: &Path) -> io::Result<Option<Self>> {
        let mut usual = Ok(None);
        for (at, path) in Self::places(data).iter().enumerate().filter(|(_, path)| *path != data) {
            match Self::read(path) {
                // What lies in the working folder goes by the name of its device.
                Ok(Some(found)) if found.speaks_of(data) || at < 3 && found.is_of_none_there(path) => {
                    return Ok(Some(found));
                }
                Err(error) if at == 0 => usual = Err(error),
                _ => {}
            }
        }
        usual
    }

    pub fn speaks_of(&self, data: &Path) -> bool {
        let name = data.file_name().unwrap_or_default().to_string_lossy();
        self.data_file.is_empty() || self.data_file == name || Path::new(&self.data_file) == data
    }

    /// Whether what it speaks of is not where it would lie, of a manifest at `path`.
    fn is_of_none_there(&self, path: &Path) -> bool {
        path.with_file_name(&self.data_file).symlink_metadata().is_err()
    }

    /// Where the manifest of `data` may lie: its extension replaced, its name continued, or, of a device, in the
    /// working folder.
    fn places(data: &Path) -> [PathBuf; 4] {
        let mut continued = data.as_os_str().to_owned();
        continued.push(".json");
        let of_device = beside_device(data, "json");
        [data.with_extension("json"), data.with_extension("manifest.json"), continued.into(), of_device]
    }

    /// `Ok(None)` where there is no such file; an error where there is one that is not ours.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match bytes_of(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let manifest: Self = serde_json::from_slice(&text).map_err(io::Error::other)?;
        if manifest.format != FORMAT {
            return Err(io::Error::other(format!("format is '{}', not '{FORMAT}'", manifest.format)));
        }
        Ok(Some(manifest))
    }

    /// Whether the file is JSON that somebody else wrote, a report say. What is left of a manifest that was damaged or
    /// cut short is still ours.
    pub fn is_foreign(path: &Path) -> bool {
        let Ok(text) = bytes_of(path) else { return false };
        let is_json = matches!(text.trim_ascii_start().first(), Some(b'{' | b'['));
        let has = |mark: &str| memchr::memmem::find(&text, mark.as_bytes()).is_some();
        is_json && !HEAD.as_bytes().starts_with(&text) && !MARKS.into_iter().any(has)
    }

    /// Whether the file begins as only a manifest does.
    pub fn begins_as_one(path: &Path) -> bool {
        bytes_of(path).is_ok_and(|text| text.starts_with(HEAD.as_bytes()))
    }

    /// Replaces the file in one step, so that a reader never sees half of one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        self.put(path, Durability::Cached)
    }

    /// The same, also for who looks after a power cut. Blocks for the drive.
    ///
    /// # Errors
    /// Those of writing; and where [`paths::is_there_unsynced`], it is written all the same.
    pub fn write_synced(&self, path: &Path) -> io::Result<()> {
        self.put(path, Durability::Synced)
    }

    fn put(&self, path: &Path, durability: Durability) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        paths::put(path, &text, durability)
    }
}

/// What belongs to a device, which has no folder of its own, lies in the working folder: manifest and log.
pub fn beside_device(device: &Path, extension: &str) -> PathBuf {
    let name = device.file_name().map_or_else(|| "device".into(), |name| name.to_string_lossy());
    PathBuf::from(format!("engine-{name}.{extension}"))
}

/// A pipe of that name would wait for its writer for ever.
fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    bounded::read(path, limits::MANIFEST_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(records: RecordFormat) -> Manifest {
        Manifest {
            format: FORMAT.to_owned(),
            data_file: "/dev/sdb".to_owned(),
            run_id: "r".to_owned(),
            earlier_runs: Vec::new(),
            producer_id: 0,
            layout: Layout::Append,
            records,
            length_bytes: 0,
            complete: true,
            first_sequence: 0,
            next_sequence: 0,
            missing: Vec::new(),
            missing_truncated: false,
            in_flight_bytes_max: 0,
        }
    }

    /// The most slots that a run may have fit what a manifest's reader takes.
    #[test]
    fn a_slot_takes_little_of_a_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let bytes_with = |slots: usize| {
            let slot =
                Slot { fact: Fact::FitsChecksum, offset: limits::RECORD_BYTES_MAX, width: u32::MAX, quoted: false };
            let name = "a.fits".to_owned();
            let shape = TemplateShape { name, length_bytes: 0, fits: true, slots: vec![slot; slots] };
            let path = folder.path().join("payloads.0.json");
            manifest(RecordFormat::Slots { templates: vec![shape] }).write(&path).unwrap();
            std::fs::metadata(&path).unwrap().len()
        };
        assert!(bytes_with(1001) - bytes_with(1) < 200 * 1000);
    }

    #[test]
    fn writing_one_leaves_its_neighbours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("payloads.0.json.tmp"), "mine").unwrap();
        let manifest = manifest(RecordFormat::Header);
        manifest.write(&path("payloads.0.json")).unwrap();
        assert_eq!(Manifest::read(&path("payloads.0.json")).unwrap(), Some(manifest));
        assert_eq!(std::fs::read_to_string(path("payloads.0.json.tmp")).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn what_is_too_large_or_no_file_is_no_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payloads.0.json");
        assert_eq!(Manifest::read(&path).unwrap(), None);
        let ours = format!(
            r#"{{"format": "{FORMAT}", "run_id": "r", "producer_id": 0, "layout": {{"kind": "append"}},
                "records": {{"kind": "header"}}, "length_bytes": 0, "complete": true, "first_sequence": 0,
                "next_sequence": 0, "missing": [], "in_flight_bytes_max": 0}}"#
        );
        std::fs::write(&path, &ours).unwrap();
        assert_eq!(Manifest::read(&path).unwrap().unwrap().run_id, "r");
        let padded = ours + &" ".repeat(limits::MANIFEST_BYTES_MAX as usize);
        std::fs::write(&path, padded).unwrap();
        assert!(Manifest::read(&path).unwrap_err().to_string().contains("more than"));
        let device = Manifest::read(Path::new("/dev/null")).unwrap_err();
        assert!(device.to_string().contains("no regular file"), "{device}");
        assert!(Manifest::read(folder.path()).is_err());
    }
}
