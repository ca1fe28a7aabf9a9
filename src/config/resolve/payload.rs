//! What records are made of, and how long they are.

use crate::base::fatal::Fatal;
use crate::base::{limits, paths, program, units};
use crate::config::load::Settings;
use crate::config::resolve::templates::{self, LineEnds, NAMED_MAX};
use crate::config::values::Wanted;
use crate::payload::template;
use crate::plan::{Annotate, PayloadPlan, PayloadSource, SinkKind, TemplateFile};
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;
use std::sync::Arc;

const KEY_FILE_BYTES_MAX: u64 = 1 << 20;

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

pub fn resolve(settings: &Settings, wanted: &Wanted, kind: SinkKind, errors: &mut Vec<Fatal>) -> (PayloadPlan, Sizes) {
    let (source, sizes, headed) = match &wanted.template {
        Some(path) => replayed(path, settings, (wanted, kind), errors),
        None => random(wanted, kind, errors),
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
fn random(wanted: &Wanted, kind: SinkKind, errors: &mut Vec<Fatal>) -> (PayloadSource, Sizes, bool) {
    let (bytes_min, bytes_max) = wanted.payload_bytes;
    let too_short = too_short(bytes_min, wanted.annotate);
    errors.extend(too_short.map(|fatal| fatal.mend(room_for_facts(kind))));
    let mean_bytes = bytes_min.midpoint(bytes_max);
    let sizes = Sizes { min_bytes: bytes_min, max_bytes: bytes_max, mean_bytes, cycle_bytes: 0, count: 0 };
    let source = PayloadSource::Random { compressibility: wanted.compressibility };
    (source, sizes, wanted.annotate == Annotate::Payload)
}

/// What is wrong with records of this length, if something is; what mends it is the caller's to say.
pub fn too_short(bytes: u64, annotate: Annotate) -> Option<Fatal> {
    let least = least_bytes(annotate);
    let what = || format!("--payload-size {bytes} is less than the {least} B of a record with its header");
    (bytes < least).then(|| Fatal::usage(what()))
}

/// In place of records without room for their header. Where the facts can stand beside them, `verify` keeps them.
fn room_for_facts(kind: SinkKind) -> String {
    let beside = if matches!(kind, SinkKind::Http | SinkKind::Kafka) { ", --annotate=headers" } else { "" };
    format!("--payload-size={}{beside} or --annotate=off", limits::RECORD_BYTES_MIN)
}

fn least_bytes(annotate: Annotate) -> u64 {
    match annotate {
        Annotate::Payload => limits::RECORD_BYTES_MIN,
        Annotate::Headers | Annotate::Off => limits::RECORD_BYTES_MIN_UNANNOTATED,
    }
}

fn replayed(
    path: &Path,
    settings: &Settings,
    (wanted, kind): (&Wanted, SinkKind),
    errors: &mut Vec<Fatal>,
) -> (PayloadSource, Sizes, bool) {
    for name in ["payload-size", "compressibility"].iter().filter(|name| settings.is_given(name)) {
        let what = format!("--{name} and --payload-template {}: a template has its own bytes", path.display());
        errors.push(Fatal::usage(what).mend(format!("leave out --{name} or --payload-template")));
    }
    // For a plan that is refused in the end.
    let fallback = Sizes::fixed_at(wanted.payload_bytes.1);
    let split = wanted.template_lines.then_some(if kind == SinkKind::Kafka { LineEnds::Cut } else { LineEnds::Kept });
    let files = match templates::read(path, split) {
        Ok(files) => files,
        Err(fatal) => {
            errors.push(fatal);
            return (PayloadSource::Templates(Arc::new([])), fallback, false);
        }
    };
    let is_folder = path.is_dir();
    let flag = |file: &TemplateFile| match (wanted.template_lines, is_folder) {
        (true, _) => format!("--payload-template '{}': {}", path.display(), file.name),
        (false, true) => format!("--payload-template '{}'", path.join(&file.name).display()),
        (false, false) => format!("--payload-template '{}'", path.display()),
    };
    let (mut lengths, mut headed, mut slots, mut wrong) = (Vec::new(), Vec::new(), 0, Vec::new());
    for file in &files {
        match template::check(file, wanted.annotate) {
            Ok(found) if !found.headed && wanted.sign_key.is_some() && wanted.annotate == Annotate::Payload => {
                let what = format!("--sign-key signs the record header, and '{}' has placeholders instead", file.name);
                wrong.push(Fatal::usage(what).mend("leave out --sign-key, or the placeholders of the template"));
            }
            Ok(found) => {
                lengths.push(found.record_bytes);
                headed.extend(found.headed.then_some(file));
                slots += found.slots;
            }
            Err(why) => wrong.push(Fatal::usage(format!("{}: {why}", flag(file))).mend(another(wanted))),
        }
    }
    let unnamed = wrong.len().saturating_sub(NAMED_MAX);
    errors.extend(wrong.into_iter().take(NAMED_MAX));
    if unnamed > 0 {
        let what = format!("--payload-template '{}': {unnamed} more cannot be used", path.display());
        errors.push(Fatal::usage(what));
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
fn another(wanted: &Wanted) -> String {
    let what = if wanted.template_lines { "lines" } else { "files" };
    match wanted.annotate {
        Annotate::Payload if wanted.template_lines => "--annotate=off, which changes a line's end at most".into(),
        Annotate::Payload => "--annotate=off, which sends files byte for byte".into(),
        Annotate::Headers | Annotate::Off => {
            let (least, most) = (limits::RECORD_BYTES_MIN_UNANNOTATED, units::format_size(limits::RECORD_BYTES_MAX));
            format!("{what} of {least} B to {most}")
        }
    }
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
        Fatal::usage(format!("--sign-key '{shown}': {why}")).mend(paths::mend_reading("sign-key", path, &why))
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
    use crate::config::{keys, values};

    #[test]
    fn what_is_wrong_with_many_is_told_of_a_few() {
        let short: Vec<_> = (0..9).map(|k| (["a", "b", "c", "d", "e", "f", "g", "h", "i"][k], &b"x"[..])).collect();
        let (_, errors) = resolved(&short, "off");
        assert_eq!(errors.len(), NAMED_MAX + 1, "{errors:?}");
        assert!(errors[NAMED_MAX].what.contains("6 more cannot be used"), "{errors:?}");
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
        let (plan, _) = resolve(&settings, &wanted, SinkKind::Null, &mut errors);
        (plan, errors)
    }

    #[test]
    fn what_is_too_short_for_the_header_may_keep_its_facts_beside_it() {
        let mut settings = Settings::default();
        settings.put("payload-size", Some("63".to_owned()));
        let wanted = values::read(&settings, &mut Vec::new());
        for (kind, mend) in [
            (SinkKind::Http, "--payload-size=64, --annotate=headers or --annotate=off"),
            (SinkKind::Kafka, "--payload-size=64, --annotate=headers or --annotate=off"),
            (SinkKind::File, "--payload-size=64 or --annotate=off"),
        ] {
            let mut errors = Vec::new();
            resolve(&settings, &wanted, kind, &mut errors);
            assert!(errors.len() == 1 && errors[0].mend.as_deref() == Some(mend), "{kind:?}: {errors:?}");
        }
    }

    #[test]
    fn the_least_lengths_are_those_that_the_help_names() {
        let help = keys::find("payload-size").unwrap().help;
        let least = [Annotate::Payload, Annotate::Headers, Annotate::Off].map(least_bytes);
        let told = format!("{} ({} with --annotate headers or off) to 256Mi", least[0], least[1]);
        assert!(least[1] == least[2] && help.contains(&told), "{told}: {help}");
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
            let (plan, _) = resolve(&settings, &wanted, SinkKind::Null, &mut Vec::new());
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
