//! What records are made of, and how long they are.

use crate::base::fatal::Fatal;
use crate::base::{limits, place, program, units};
use crate::config::load::Settings;
use crate::config::values::Wanted;
use crate::payload::template;
use crate::plan::{Annotate, PayloadPlan, PayloadSource, TemplateFile};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KEY_FILE_BYTES_MAX: u64 = 1 << 20;
/// What is left out of a folder of templates is named up to so many times.
const LEFT_OUT_NAMED_MAX: usize = 3;

/// Lengths of the records of a run, header included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub min_bytes: u64,
    pub max_bytes: u64,
    pub mean_bytes: u64,
    /// All templates once; 0 for random bytes.
    pub cycle_bytes: u64,
    /// Templates; 0 for random bytes.
    pub count: usize,
}

impl Sizes {
    pub fn fixed_at(bytes: u64) -> Self {
        Self { min_bytes: bytes, max_bytes: bytes, mean_bytes: bytes, cycle_bytes: 0, count: 0 }
    }

    /// The one length of all records.
    pub fn fixed(&self) -> Option<u64> {
        (self.min_bytes == self.max_bytes).then_some(self.min_bytes)
    }

    /// So many bytes for so many records, in the long run. Of a range it is not known here: each producer draws as many
    /// lengths as its ring has room for, which may be few, and sends them over and over.
    pub fn mean(&self) -> Option<(u64, u64)> {
        match self.count {
            0 => self.fixed().map(|bytes| (bytes, 1)),
            count => Some((self.cycle_bytes, count as u64)),
        }
    }
}

pub fn resolve(settings: &Settings, wanted: &Wanted, errors: &mut Vec<Fatal>) -> (PayloadPlan, Sizes) {
    let (source, sizes, headed) = match &wanted.template {
        Some(path) => templates(path, settings, wanted, errors),
        None => random(wanted, errors),
    };
    let sign_key = wanted.sign_key.as_deref().and_then(|path| key_to_sign_with(path, errors));
    if wanted.sign_key.is_some() && wanted.annotate != Annotate::Payload {
        let what = "--sign-key signs the record header, which --annotate headers and off leave out";
        errors.push(Fatal::usage(what).mend("--annotate=payload"));
    }
    let plan = PayloadPlan {
        source,
        record_bytes_min: sizes.min_bytes,
        record_bytes_max: sizes.max_bytes,
        headed,
        seed: wanted.seed,
        annotate: wanted.annotate,
        sign_key,
    };
    (plan, sizes)
}

/// Source, sizes, and whether records have the record header.
fn random(wanted: &Wanted, errors: &mut Vec<Fatal>) -> (PayloadSource, Sizes, bool) {
    let (bytes_min, bytes_max) = wanted.payload_bytes;
    errors.extend(too_short(bytes_min, wanted.annotate));
    let mean_bytes = bytes_min.midpoint(bytes_max);
    let sizes = Sizes { min_bytes: bytes_min, max_bytes: bytes_max, mean_bytes, cycle_bytes: 0, count: 0 };
    let source = PayloadSource::Random { compressibility: wanted.compressibility };
    (source, sizes, wanted.annotate == Annotate::Payload)
}

/// What is wrong with records of this length, if something is.
pub fn too_short(bytes: u64, annotate: Annotate) -> Option<Fatal> {
    let least = least_bytes(annotate);
    let what = || format!("--payload-size {bytes} is less than the {least} B of a record with its header");
    (bytes < least).then(|| Fatal::usage(what()).mend(format!("--payload-size={least} or --annotate=off")))
}

fn least_bytes(annotate: Annotate) -> u64 {
    match annotate {
        Annotate::Payload => limits::RECORD_BYTES_MIN,
        Annotate::Headers | Annotate::Off => limits::RECORD_BYTES_MIN_UNANNOTATED,
    }
}

fn templates(
    path: &Path,
    settings: &Settings,
    wanted: &Wanted,
    errors: &mut Vec<Fatal>,
) -> (PayloadSource, Sizes, bool) {
    for name in ["payload-size", "compressibility"].iter().filter(|name| settings.is_given(name)) {
        let what = format!("--{name} and --payload-template {}: a template has its own bytes", path.display());
        errors.push(Fatal::usage(what).mend(format!("leave out --{name} or --payload-template")));
    }
    // For a plan that is refused in the end.
    let fallback = Sizes::fixed_at(wanted.payload_bytes.1);
    let files = match read_templates(path) {
        Ok(files) => files,
        Err(fatal) => {
            errors.push(fatal);
            return (PayloadSource::Templates(Arc::new([])), fallback, false);
        }
    };
    let is_folder = path.is_dir();
    let flag = |file: &TemplateFile| {
        let at = if is_folder { path.join(&file.name) } else { path.to_owned() };
        format!("--payload-template '{}'", at.display())
    };
    let (mut lengths, mut headed, mut slots) = (Vec::new(), Vec::new(), 0);
    for file in &files {
        match template::check(file, wanted.annotate) {
            Ok(found) if !found.headed && wanted.sign_key.is_some() && wanted.annotate == Annotate::Payload => {
                let what = format!("--sign-key signs the record header, and '{}' has placeholders instead", file.name);
                errors.push(Fatal::usage(what).mend("leave out --sign-key, or the placeholders of the template"));
            }
            Ok(found) => {
                lengths.push(found.record_bytes);
                headed.extend(found.headed.then_some(file));
                slots += found.slots;
            }
            Err(why) => errors.push(Fatal::usage(format!("{}: {why}", flag(file))).mend(another(wanted.annotate))),
        }
    }
    if let Some(file) = headed.first().filter(|_| headed.len() < lengths.len()) {
        let what = format!("{} has no place for the facts, but other templates of the run have", flag(file));
        errors.push(Fatal::usage(what).mend("put a placeholder such as {{sequence}} into it, or --annotate=off"));
    }
    if slots > limits::TEMPLATE_SLOTS_MAX {
        let most = limits::TEMPLATE_SLOTS_MAX;
        let what = format!("--payload-template '{}' has {slots} placeholders; it takes {most} in all", path.display());
        errors.push(Fatal::usage(what).mend("shorter or fewer templates, or --annotate=off"));
    }
    let is_headed = !headed.is_empty();
    let cycle_bytes: u64 = lengths.iter().sum();
    let sizes = match (lengths.iter().min(), lengths.iter().max()) {
        (Some(&min_bytes), Some(&max_bytes)) => {
            let count = lengths.len();
            Sizes { min_bytes, max_bytes, mean_bytes: cycle_bytes / count as u64, cycle_bytes, count }
        }
        _ => fallback,
    };
    (PayloadSource::Templates(files.into()), sizes, is_headed)
}

/// In place of a template that makes no records.
fn another(annotate: Annotate) -> String {
    match annotate {
        Annotate::Payload => "--annotate=off, which sends files byte for byte".to_owned(),
        Annotate::Headers | Annotate::Off => {
            let (least, most) = (limits::RECORD_BYTES_MIN_UNANNOTATED, units::format_size(limits::RECORD_BYTES_MAX));
            format!("a file of {least} B to {most}")
        }
    }
}

/// A file, or the plain files of a folder in name order, hidden ones left out.
fn read_templates(path: &Path) -> Result<Vec<TemplateFile>, Fatal> {
    let flag = format!("--payload-template '{}'", path.display());
    let fail = |what: String, at: &Path, why: &io::Error| {
        Fatal::usage(format!("{what}: {why}")).mend(place::mend_reading("payload-template", at, why))
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
        if !facts.is_file() || facts.len() > limits::RECORD_BYTES_MAX || total > limits::TEMPLATE_BYTES_MAX {
            let each = units::format_size(limits::RECORD_BYTES_MAX);
            let all = units::format_size(limits::TEMPLATE_BYTES_MAX);
            let what = format!("{flag}: {shown} ({}) passes the limits", units::format_size(facts.len()));
            return Err(Fatal::usage(what).mend(format!("plain files of at most {each} each and {all} together")));
        }
        let bytes = std::fs::read(&name).map_err(|why| fail(format!("{flag}: {shown}"), &name, &why))?;
        let name = name.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        files.push(TemplateFile { name, bytes: bytes.into() });
    }
    Ok(files)
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
    let named = others.iter().take(LEFT_OUT_NAMED_MAX).filter_map(|other| other.file_name());
    let named: Vec<_> = named.map(|name| format!("'{}'", name.display())).collect();
    let more = match others.len().saturating_sub(LEFT_OUT_NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!others.is_empty()).then(|| {
        let path = path.display();
        format!("--payload-template {path}: left out, since hidden or no plain file: {}{more}", named.join(", "))
    })
}

/// The key of a run, which may have to be made first: only where no bytes are lost by that.
fn key_to_sign_with(path: &Path, errors: &mut Vec<Fatal>) -> Option<[u8; 16]> {
    let key = sign_key(path, errors);
    let is_vacant = match std::fs::metadata(path) {
        Ok(facts) => facts.is_file() && facts.len() == 0,
        Err(why) => why.kind() == io::ErrorKind::NotFound,
    };
    if let Some(fatal) = errors.last_mut().filter(|_| key.is_none() && is_vacant) {
        fatal.mend = Some(format!("head -c 32 /dev/urandom > {}", program::quoted_path(path)));
    }
    key
}

/// The key that records were signed with: the first 16 bytes of SHA-256 of the file.
pub fn sign_key(path: &Path, errors: &mut Vec<Fatal>) -> Option<[u8; 16]> {
    let shown = path.display();
    let unread = |why: io::Error| {
        Fatal::usage(format!("--sign-key '{shown}': {why}")).mend(place::mend_reading("sign-key", path, &why))
    };
    let read = || -> Result<Vec<u8>, Fatal> {
        let facts = std::fs::metadata(path).map_err(unread)?;
        if !facts.is_file() || facts.len() == 0 || facts.len() > KEY_FILE_BYTES_MAX {
            let most = units::format_size(KEY_FILE_BYTES_MAX);
            let what = format!("--sign-key '{shown}': {} B; a key is a plain file of 1 B to {most}", facts.len());
            return Err(Fatal::usage(what).mend(format!("--sign-key=FILE of 1 B to {most}")));
        }
        std::fs::read(path).map_err(unread)
    };
    match read() {
        Ok(bytes) => Sha256::digest(&bytes).first_chunk().copied(),
        Err(fatal) => {
            errors.push(fatal);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values;

    #[test]
    fn a_folder_is_replayed_in_name_order() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("b.json", "22"), ("a.json", "1"), (".hidden", "x")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let files = read_templates(folder.path()).unwrap();
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
        assert_eq!(read_templates(folder.path()).unwrap().len(), 2);
        assert!(left_out(folder.path()).unwrap().ends_with(": '.a', '.a-link', '.b' and 3 more"));
        assert_eq!((left_out(&folder.path().join("a.json")), left_out(&folder.path().join("sub"))), (None, None));
        let one = read_templates(&folder.path().join("b.json")).unwrap();
        assert_eq!(&*one[0].bytes, b"22");
        assert!(read_templates(&folder.path().join("sub")).unwrap_err().what.contains("0 files"));
        assert!(read_templates(&folder.path().join("none")).is_err());
    }

    /// What a folder of such files comes to, and what is wrong with it.
    fn resolved(files: &[(&str, &[u8])], annotate: &str) -> (PayloadPlan, Vec<Fatal>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let mut settings = Settings::default();
        settings.put("payload-template", Some(folder.path().display().to_string()));
        settings.put("annotate", Some(annotate.to_owned()));
        let mut errors = Vec::new();
        let wanted = values::read(&settings, &mut errors);
        let (plan, _) = resolve(&settings, &wanted, &mut errors);
        (plan, errors)
    }

    #[test]
    fn records_are_as_long_as_the_payload_makes_them() {
        let (plain, text): (&[u8], &[u8]) = (&[7; 100], b"number {{sequence}}");
        let bounds = |files: &[(&str, &[u8])], annotate: &str| {
            let (plan, errors) = resolved(files, annotate);
            assert!(errors.is_empty(), "{errors:?}");
            (plan.record_bytes_min, plan.record_bytes_max, plan.headed)
        };
        assert_eq!(bounds(&[("a", plain), ("b", &plain[..20])], "payload"), (84, 164, true));
        assert_eq!(bounds(&[("a", text)], "payload"), (27, 27, false));
        for annotate in ["headers", "off"] {
            assert_eq!(bounds(&[("a", plain), ("b", text)], annotate), (text.len() as u64, 100, false));
        }
        let mut settings = Settings::default();
        for (annotate, headed) in [("payload", true), ("headers", false), ("off", false)] {
            settings.put("annotate", Some(annotate.to_owned()));
            let wanted = values::read(&settings, &mut Vec::new());
            let (plan, _) = resolve(&settings, &wanted, &mut Vec::new());
            assert_eq!((plan.record_bytes_min, plan.record_bytes_max, plan.headed), (4096, 4096, headed), "{annotate}");
        }
    }

    #[test]
    fn templates_that_mix_headers_and_placeholders_are_refused() {
        let (plain, text): (&[u8], &[u8]) = (&[7; 100], b"number {{sequence}}");
        for files in [[("a", plain), ("b", text)], [("a", text), ("b", plain)]] {
            let (_, errors) = resolved(&files, "payload");
            let named = if files[0].1 == plain { "/a' has no place" } else { "/b' has no place" };
            assert!(errors.len() == 1 && errors[0].what.contains(named), "{errors:?}");
        }
    }

    /// The manifest names each of them, and has to be readable.
    #[test]
    fn placeholders_are_counted_over_all_templates() {
        let half = "{{weight}}".repeat(limits::TEMPLATE_SLOTS_MAX / 2);
        let (_, errors) = resolved(&[("a", half.as_bytes()), ("b", half.as_bytes())], "payload");
        assert_eq!(errors, []);
        let more = half.clone() + "{{weight}}";
        let (_, errors) = resolved(&[("a", half.as_bytes()), ("b", more.as_bytes())], "payload");
        assert!(errors.len() == 1 && errors[0].what.contains("has 300001 placeholders"), "{errors:?}");
    }

    #[test]
    fn a_key_is_the_hash_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "abc").unwrap();
        let mut errors = Vec::new();
        let key = sign_key(&path, &mut errors).unwrap();
        assert_eq!(key[..4], [0xba, 0x78, 0x16, 0xbf]);
        std::fs::write(&path, "").unwrap();
        assert!(sign_key(&path, &mut errors).is_none() && errors.len() == 1);
    }

    #[test]
    fn a_key_is_to_be_made_only_where_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let [long, empty, missing] = ["long", "empty", "missing"].map(|name| folder.path().join(name));
        std::fs::File::create(&long).unwrap().set_len(2 << 20).unwrap();
        std::fs::write(&empty, "").unwrap();
        let mends = |read: fn(&Path, &mut Vec<Fatal>) -> Option<[u8; 16]>| {
            [&long, &empty, &missing, &folder.path().to_owned()].map(|path| {
                let mut errors = Vec::new();
                assert_eq!((read(path, &mut errors), errors.len()), (None, 1), "{}", path.display());
                errors.pop().and_then(|fatal| fatal.mend).unwrap()
            })
        };
        assert_eq!(mends(key_to_sign_with).map(|mend| mend.contains("> ")), [false, true, true, false]);
        assert_eq!(mends(sign_key).map(|mend| mend.contains("> ")), [false; 4]);
        assert!(mends(sign_key)[0].starts_with("--sign-key=FILE of 1 B"));
    }
}
