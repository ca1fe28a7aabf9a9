//! Files as payload: each is laid out once, baked for its producer, and then only its slots change.

use crate::base::limits::{self, RUN_ID_BYTES_MAX};
use crate::manifest::{Fact, Slot, TemplateShape};
use crate::payload::baked::Baked;
use crate::payload::fits;
use crate::payload::placeholders::{self, Layout, Placed};
use crate::payload::render::{self, Stamps};
use crate::plan::{Annotate, TemplateFile};
use crate::record::HEADER_BYTES;
use serde::de::IgnoredAny;

/// How the records of a template say who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They do not: the file byte for byte.
    Opaque,
    /// By the 64-byte record header in front of the file.
    Header,
    /// By slots in a text.
    Text,
    /// By cards of the primary FITS header.
    Fits,
}

/// A file with room for what changes, the same for every producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    name: String,
    kind: Kind,
    /// The record; slots and a record header are blank.
    bytes: Vec<u8>,
    slots: Vec<Placed>,
    /// FITS: what the checksum covers.
    primary_bytes: usize,
}

/// What does not change from record to record.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub run_id: &'a str,
    pub producer_id: u32,
}

/// Whether templates can carry this run id without escaping it.
///
/// # Errors
/// What is wrong with it.
pub fn check_run_id(run_id: &str) -> Result<(), String> {
    if run_id.is_empty() || run_id.len() > RUN_ID_BYTES_MAX {
        return Err(format!("run id '{run_id}' has {} bytes; it has 1 to {RUN_ID_BYTES_MAX}", run_id.len()));
    }
    match run_id.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '\'' | '\\')) {
        Some(c) => {
            let allowed = "ASCII letters, digits and punctuation without quotes and backslash";
            Err(format!("run id '{run_id}' has {c:?}; it is made of {allowed}"))
        }
        None => Ok(()),
    }
}

/// What the plan asks of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    pub record_bytes: u64,
    /// Records carry the record header.
    pub headed: bool,
    pub slots: usize,
}

/// # Errors
/// What is wrong with the file; the caller names it, by its path.
pub fn check(file: &TemplateFile, annotate: Annotate) -> Result<Outline, String> {
    Template::of(file, annotate).map(|template| Outline {
        record_bytes: template.length(),
        headed: template.kind() == Kind::Header,
        slots: template.slots.len(),
    })
}

impl Template {
    /// # Errors
    /// What is wrong with the file, its name first.
    pub fn parse(file: &TemplateFile, annotate: Annotate) -> Result<Self, String> {
        Self::of(file, annotate).map_err(|why| format!("template '{}': {why}", file.name))
    }

    fn of(file: &TemplateFile, annotate: Annotate) -> Result<Self, String> {
        let template = Self::lay_out(file, annotate)?;
        let length = template.length();
        if !(limits::RECORD_BYTES_MIN_UNANNOTATED..=limits::RECORD_BYTES_MAX).contains(&length) {
            let (min, max) = (limits::RECORD_BYTES_MIN_UNANNOTATED, limits::RECORD_BYTES_MAX);
            return Err(format!("a record of {length} bytes; it has {min} to {max}"));
        }
        Ok(template)
    }

    fn lay_out(file: &TemplateFile, annotate: Annotate) -> Result<Self, String> {
        let new = |kind, bytes| Self { name: file.name.clone(), kind, bytes, slots: Vec::new(), primary_bytes: 0 };
        if annotate != Annotate::Payload {
            return Ok(new(Kind::Opaque, file.bytes.to_vec()));
        }
        if fits::is_fits(&file.bytes) {
            let prepared = fits::prepare(&file.bytes)?;
            let template = new(Kind::Fits, prepared.bytes);
            return Ok(Self { slots: prepared.slots, primary_bytes: prepared.primary_bytes, ..template });
        }
        let found = placeholders::find(&file.bytes)?;
        if found.is_empty() {
            return Ok(new(Kind::Header, [&[0; HEADER_BYTES], &file.bytes[..]].concat()));
        }
        let with = |layout: Layout| Self { slots: layout.slots, ..new(Kind::Text, layout.bytes) };
        let is_named_json = is_named_json(&file.name);
        if is_named_json || starts_as_json(&file.bytes) {
            let json = with(placeholders::lay_out_json(&file.bytes, &found));
            match json.check_json() {
                Ok(()) => return Ok(json),
                Err(why) if is_named_json => return Err(format!("is no JSON with its placeholders filled in: {why}")),
                Err(_) => {}
            }
        }
        Ok(with(placeholders::lay_out_text(&file.bytes, &found)))
    }

    /// Renders it with the shortest and the longest values; what stands next to a value is JSON with both or
    /// with none between.
    fn check_json(&self) -> Result<(), String> {
        let longest = "x".repeat(RUN_ID_BYTES_MAX);
        for (run_id, number) in [("x", 0), (longest.as_str(), u64::MAX)] {
            let mut record = vec![0; self.bytes.len()];
            let baked = self.bake(&Facts { run_id, producer_id: number as u32 }, &mut record)?;
            let stamps = Stamps { weight: number, sequence: number, timestamp_unix_ns: number, submit_unix_ns: number };
            baked.stamp(&mut record, &stamps);
            for placed in self.slots.iter().filter(|placed| placed.slot.fact == Fact::Crc32c) {
                render::place_decimal(placed.style, number & u64::from(u32::MAX), slot_of(&mut record, &placed.slot));
            }
            for value in serde_json::Deserializer::from_slice(&record).into_iter::<IgnoredAny>() {
                value.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of one record, a record header included.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// For the manifest.
    pub fn shape(&self) -> TemplateShape {
        TemplateShape {
            name: self.name.clone(),
            length_bytes: self.length(),
            fits: self.kind == Kind::Fits,
            slots: self.slots.iter().map(|placed| placed.slot).collect(),
        }
    }

    /// Writes everything that does not change into `out`, of [`Template::length`] bytes. Records of one producer
    /// are copies of each other, so one baking serves them all. The first 64 bytes of [`Kind::Header`] are left
    /// to whoever stamps record headers.
    ///
    /// # Errors
    /// A run id that has no room; see [`check_run_id`].
    pub fn bake(&self, facts: &Facts<'_>, out: &mut [u8]) -> Result<Baked, String> {
        check_run_id(facts.run_id)?;
        let kept = if self.kind == Kind::Header { HEADER_BYTES } else { 0 };
        out[kept..].copy_from_slice(&self.bytes[kept..]);
        for placed in &self.slots {
            let slot = slot_of(out, &placed.slot);
            match placed.slot.fact {
                Fact::RunId => render::place(placed.style, facts.run_id.as_bytes(), slot),
                Fact::ProducerId => render::place_decimal(placed.style, u64::from(facts.producer_id), slot),
                Fact::Crc32c | Fact::FitsChecksum => slot.fill(b'0'),
                // Zeros add nothing to either sum, so that a stamp's share can simply be added.
                _ => slot.fill(0),
            }
        }
        Ok(Baked::new(&self.slots, &out[..self.primary_bytes], out))
    }
}

fn slot_of<'a>(record: &'a mut [u8], slot: &Slot) -> &'a mut [u8] {
    let start = slot.offset as usize;
    &mut record[start..start + slot.width as usize]
}

pub fn is_named_json(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".json", ".jsonl", ".ndjson"].iter().any(|ending| name.ends_with(ending))
}

/// Numbers and placeholders in a row are JSON values too, but nobody means them so.
fn starts_as_json(bytes: &[u8]) -> bool {
    match bytes.trim_ascii_start() {
        [b'{', next, ..] => *next != b'{',
        [first, ..] => matches!(first, b'[' | b'"'),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::crc32c;
    use proptest::prelude::*;
    use serde_json::Value;

    fn file(name: &str, bytes: &[u8]) -> TemplateFile {
        TemplateFile { name: name.into(), bytes: bytes.into() }
    }

    fn parse(name: &str, bytes: &[u8]) -> Template {
        Template::parse(&file(name, bytes), Annotate::Payload).unwrap()
    }

    fn rendered(template: &Template, facts: &Facts<'_>, stamps: &Stamps) -> Vec<u8> {
        let mut record = vec![0; template.length() as usize];
        template.bake(facts, &mut record).unwrap().stamp(&mut record, stamps);
        record
    }

    fn stamps(weight: u64, sequence: u64, timestamp_unix_ns: u64) -> Stamps {
        Stamps { weight, sequence, timestamp_unix_ns, submit_unix_ns: timestamp_unix_ns }
    }

    fn value_of<'a>(record: &'a [u8], slot: &Slot) -> &'a str {
        let text = std::str::from_utf8(&record[slot.offset as usize..][..slot.width as usize]).unwrap().trim();
        if slot.quoted { text.strip_prefix('"').unwrap().strip_suffix('"').unwrap() } else { text }
    }

    /// The checksum computed over everything, as a reader does.
    fn full_crc(record: &[u8], template: &Template) -> u32 {
        let mut blank = record.to_vec();
        for slot in template.shape().slots.iter().filter(|slot| slot.fact == Fact::Crc32c) {
            slot_of(&mut blank, slot).fill(b'0');
        }
        crc32c::checksum(&blank)
    }

    const EVERYTHING: &[u8] = br#"{"run":"{{run_id}}","p":{{producer_id}},"ps":"{{producer_id}}","s":{{sequence}},
        "at":"{{ timestamp }}","ns":[{{timestamp_ns}},"{{timestamp_ns}}"],"w":"{{weight}}","{{sequence}}":1,
        "text":"say \"{{sequence}} of {{run_id}} in {{crc32c}}\"","sum":{{crc32c}},"sums":"{{crc32c}}"}"#;

    fn numbers() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 0u64..1000]
    }

    proptest! {
        #[test]
        fn json_stays_json_and_the_checksum_right(
            run_id in "[!#-&(-\\[\\]-~]{1,64}", producer_id: u32, weight in numbers(), sequence in numbers(),
            timestamp_unix_ns in numbers(), before in numbers(),
        ) {
            let template = parse("all.json", EVERYTHING);
            let mut record = vec![0; template.length() as usize];
            let baked = template.bake(&Facts { run_id: &run_id, producer_id }, &mut record).unwrap();
            baked.stamp(&mut record, &stamps(before, before, before));
            baked.stamp(&mut record, &stamps(weight, sequence, timestamp_unix_ns));
            let value: Value = serde_json::from_slice(&record).unwrap();
            prop_assert_eq!(&value["run"], &Value::from(run_id.clone()));
            prop_assert_eq!(&value["p"], &Value::from(producer_id));
            prop_assert_eq!(&value["ps"], &Value::from(producer_id.to_string()));
            prop_assert_eq!(&value["s"], &Value::from(sequence.to_string()));
            prop_assert_eq!(&value["ns"][0], &Value::from(timestamp_unix_ns.to_string()));
            prop_assert_eq!(&value["ns"][0], &value["ns"][1]);
            prop_assert_eq!(&value["w"], &Value::from(weight.to_string()));
            prop_assert!(value.get(sequence.to_string()).is_some());
            let at: jiff::Timestamp = value["at"].as_str().unwrap().parse().unwrap();
            prop_assert_eq!(at.as_nanosecond(), i128::from(timestamp_unix_ns));
            let crc = full_crc(&record, &template);
            prop_assert_eq!(&value["sum"], &Value::from(crc));
            prop_assert_eq!(&value["sums"], &Value::from(crc.to_string()));
            let said = format!("say \"{sequence} ");
            prop_assert!(value["text"].as_str().unwrap().starts_with(&said));
        }

        #[test]
        fn a_text_carries_its_checksum_at_any_length(
            filler in "[a-z ]{0,300}", tail in "[a-z ]{0,300}", sequence: u64, timestamp_unix_ns: u64,
        ) {
            let source = format!("{filler}{{{{timestamp}}}};{{{{crc32c}}}}{tail}{{{{sequence}}}}");
            let template = parse("line.txt", source.as_bytes());
            let facts = Facts { run_id: "r", producer_id: 1 };
            let record = rendered(&template, &facts, &stamps(1, sequence, timestamp_unix_ns));
            for slot in template.shape().slots {
                let expected = match slot.fact {
                    Fact::Sequence => sequence.to_string(),
                    Fact::Crc32c => full_crc(&record, &template).to_string(),
                    _ => String::from_utf8(render::rfc3339_ns(timestamp_unix_ns).to_vec()).unwrap(),
                };
                prop_assert_eq!(value_of(&record, &slot), expected);
            }
        }

        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[{}\"a-z_:, \\\\]{0,80}") {
            for bytes in [&bytes[..], text.as_bytes(), format!("{{{{sequence}}}}{text}").as_bytes()] {
                let _ = Template::parse(&file("x.json", bytes), Annotate::Payload);
                let _ = Template::parse(&file("x", bytes), Annotate::Payload);
            }
        }
    }

    #[test]
    fn one_width_for_all_values() {
        let template = parse("all.json", EVERYTHING);
        let (low, high) = (stamps(0, 0, 0), stamps(u64::MAX, u64::MAX, u64::MAX));
        let facts = Facts { run_id: "r", producer_id: 0 };
        let (low, high) = (rendered(&template, &facts, &low), rendered(&template, &facts, &high));
        for at in 0..low.len() {
            let in_slot = template.slots.iter().any(|placed| {
                let start = placed.slot.offset as usize;
                (start..start + placed.slot.width as usize).contains(&at)
            });
            assert!(in_slot || low[at] == high[at], "offset {at}");
        }
    }

    #[test]
    fn a_retry_is_the_same_bytes() {
        let template = parse("all.json", EVERYTHING);
        let mut record = vec![0; template.length() as usize];
        let baked = template.bake(&Facts { run_id: "r", producer_id: 0 }, &mut record).unwrap();
        let of = |sequence| stamps(100, sequence, sequence * 1000);
        baked.stamp(&mut record, &of(5));
        let first = record.clone();
        baked.stamp(&mut record, &of(u64::MAX / 1000));
        assert_ne!(record, first);
        baked.stamp(&mut record, &of(5));
        assert_eq!(record, first);
    }

    #[test]
    fn the_kind_follows_the_content() {
        assert_eq!(parse("a.bin", b"\x01\x02 no text").kind(), Kind::Header);
        assert_eq!(parse("a.json", br#"{"plain": "json"}"#).length(), 64 + 17);
        assert_eq!(parse("a.csv", b"{{sequence}},{{weight}}\n").kind(), Kind::Text);
        let off = Template::parse(&file("a.csv", b"{{sequence}},{{wrong}}"), Annotate::Off).unwrap();
        assert_eq!((off.kind(), off.length(), off.shape().slots.len()), (Kind::Opaque, 22, 0));
        assert_eq!(rendered(&off, &Facts { run_id: "r", producer_id: 0 }, &stamps(1, 2, 3)), b"{{sequence}},{{wrong}}");
    }

    #[test]
    fn plain_text_gets_no_quotes() {
        let source = b"{{timestamp}} {{producer_id}} {{sequence}} 200\n";
        let widths = |name| {
            let shape = parse(name, source).shape();
            assert_eq!(shape.length_bytes, shape.slots.iter().map(|slot| u64::from(slot.width)).sum::<u64>() + 7);
            shape.slots.iter().map(|slot| (slot.width, slot.quoted)).collect::<Vec<_>>()
        };
        assert_eq!(widths("a.log"), [(30, false), (10, false), (20, false)]);
        // Its name says that it is JSON.
        assert_eq!(widths("a.jsonl"), [(32, true), (10, false), (22, true)]);
        for json in [&br#" {"n": {{sequence}}}"#[..], b"[{{sequence}}, 1, 2]", br#""{{sequence}}" "text""#] {
            assert!(parse("a.log", json).shape().slots[0].quoted, "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn a_header_is_left_to_its_stamper() {
        let template = parse("a.bin", b"body");
        let mut record = [7; 68];
        template.bake(&Facts { run_id: "r", producer_id: 0 }, &mut record).unwrap();
        assert_eq!((&record[..64], &record[64..]), (&[7; 64][..], &b"body"[..]));
    }

    #[test]
    fn faults_are_named() {
        let fault = |name, bytes: &[u8], annotate| Template::parse(&file(name, bytes), annotate).unwrap_err();
        let why = fault("a.json", br#"{"a": {{sequence}}"#, Annotate::Payload);
        assert!(why.contains("'a.json'") && why.contains("line 1"), "{why}");
        // With a longer number it would be one: `-4294967295`.
        let glued = fault("a.json", br#"[-{{producer_id}}, "and more of it"]"#, Annotate::Payload);
        assert!(glued.contains("no JSON"), "{glued}");
        let unknown = fault("a.txt", b"{{sequence}} {{host}}", Annotate::Payload);
        assert!(unknown.contains("'a.txt'") && unknown.contains("host"), "{unknown}");
        let told = check(&file("a.txt", b"{{sequence}} {{host}}"), Annotate::Payload).unwrap_err();
        assert!(!told.contains("a.txt"), "whoever asks knows its path: {told}");
        assert!(fault("empty", b"", Annotate::Off).contains("0 bytes"));
        assert!(fault("a.fits", b"SIMPLE  = T", Annotate::Payload).contains("END"));
        let template = parse("all.json", EVERYTHING);
        let mut record = vec![0; template.length() as usize];
        for run_id in ["", "two words", "quo\"te", "back\\slash", "é", &"x".repeat(65)] {
            assert!(template.bake(&Facts { run_id, producer_id: 0 }, &mut record).is_err(), "{run_id}");
        }
    }
}
