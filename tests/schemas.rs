//! What `schemas/` ships agrees with the code: the record layout, the payload templates, and examples of what is made
//! of them. `UPDATE=1 cargo test --test schemas` makes the FITS image and the examples anew.

use engine::manifest::Fact;
use engine::payload::fits_checksum::{encode_checksum, fold, sum_words};
use engine::payload::fits_hdus::wrong_sum;
use engine::payload::render::Stamps;
use engine::payload::template::{Facts, Kind, Template};
use engine::plan::{Annotate, TemplateFile};
use engine::record::{CRC_OFFSET, FLAG_SIGNED, HEADER_BYTES, Header, STAMP_END, STAMP_OFFSET};
use jsonschema::Validator;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

/// The fields of the header type: name, offset, bytes.
fn published_fields(layout: &Value) -> Vec<(String, usize, usize)> {
    let mut offset = 0;
    let fields = layout["types"]["header"]["seq"].as_array().expect("the header has fields").iter();
    fields
        .map(|field| {
            let bytes = match (&field["contents"], &field["size"], &field["type"]) {
                (Value::String(contents), _, _) => contents.len(),
                (_, Value::Number(size), _) => size.as_u64().unwrap() as usize,
                (_, _, Value::String(kind)) => kind.strip_prefix('u').unwrap().parse().unwrap(),
                _ => panic!("{field} has no size"),
            };
            let entry = (field["id"].as_str().unwrap().to_owned(), offset, bytes);
            offset += bytes;
            entry
        })
        .collect()
}

#[test]
fn the_published_record_layout_is_the_codes() {
    let text = std::fs::read_to_string(schemas().join("record.ksy")).unwrap();
    let layout: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(layout["meta"]["endian"], "le");
    let fields = published_fields(&layout);
    let header = Header {
        flags: FLAG_SIGNED,
        run_id: 0x0102_0304_0506_0708,
        producer_id: 0x1112_1314,
        record_length: 0x2122_2324,
        weight: 0x3132_3334_3536_3738,
        sequence: 0x4142_4344_4546_4748,
        timestamp_ns: 0x5152_5354_5556_5758,
        signature: 0x6162_6364_6566_6768,
        body_crc32c: 0x7172_7374,
        crc32c: 0x8182_8384,
    };
    let bytes = header.encode();
    let read: BTreeMap<&str, u64> = fields
        .iter()
        .map(|(name, offset, size)| {
            let field = &bytes[*offset..offset + size];
            (name.as_str(), field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        })
        .collect();
    let expected = BTreeMap::from([
        ("magic", u64::from(u32::from_le_bytes(*b"ENGR"))),
        ("format_version", layout["types"]["header"]["seq"][1]["valid"].as_u64().unwrap()),
        ("flags", u64::from(header.flags)),
        ("len_header", HEADER_BYTES as u64),
        ("run_id", header.run_id),
        ("producer_id", u64::from(header.producer_id)),
        ("len_record", u64::from(header.record_length)),
        ("weight", header.weight),
        ("sequence", header.sequence),
        ("timestamp_ns", header.timestamp_ns),
        ("signature", header.signature),
        ("body_crc32c", u64::from(header.body_crc32c)),
        ("crc32c", u64::from(header.crc32c)),
    ]);
    assert_eq!(read, expected);

    let place =
        |wanted: &str| fields.iter().find(|(name, ..)| name == wanted).map(|(_, at, size)| (*at, *size)).unwrap();
    assert_eq!(place("weight").0, STAMP_OFFSET);
    assert_eq!(place("body_crc32c").0, STAMP_END);
    assert_eq!(place("crc32c"), (CRC_OFFSET, HEADER_BYTES - CRC_OFFSET));
}

/// Which record of the run each example is.
const EXAMPLE: u64 = 42;
const FITS_BLOCK_BYTES: usize = 2880;

fn fixtures() -> PathBuf {
    schemas().join("fixtures/generator")
}

fn load(name: &str) -> Template {
    let bytes = std::fs::read(fixtures().join(name)).unwrap();
    Template::parse(&TemplateFile { name: name.into(), bytes: bytes.into() }, Annotate::Payload).unwrap()
}

fn render(template: &Template, sequence: u64) -> Vec<u8> {
    let mut record = vec![0; template.length() as usize];
    let baked = template.bake(&Facts { run_id: "run-2026", producer_id: 3 }, &mut record).unwrap();
    let at = 1_795_443_417_123_456_789;
    baked.stamp(&mut record, &Stamps { weight: 100, sequence, timestamp_unix_ns: at, submit_unix_ns: at });
    record
}

/// What is shipped there is what was made; `UPDATE=1` ships it.
#[track_caller]
fn assert_shipped(path: &Path, made: &[u8]) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, made).unwrap();
    }
    let (name, mend) = (path.display(), "UPDATE=1 cargo test --test schemas makes it anew");
    let shipped = std::fs::read(path).unwrap_or_else(|error| panic!("{name}: {error}; {mend}"));
    assert!(shipped == made, "{name} differs; {mend}");
}

/// The schema beside a template.
fn schema_of(template: &str) -> Validator {
    let name = template.replace(".json", ".schema.json");
    let text = std::fs::read_to_string(fixtures().join(name)).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// No key may be missing, be of another kind or come on top.
fn assert_nothing_else_is_valid(schema: &Validator, event: &Value) {
    for place in ["", "/sample", "/sample/sources/0"] {
        let Some(Value::Object(fields)) = event.pointer(place) else { continue };
        let spoil = |change: &dyn Fn(&mut Map<String, Value>)| {
            let mut spoiled = event.clone();
            change(spoiled.pointer_mut(place).unwrap().as_object_mut().unwrap());
            assert!(!schema.is_valid(&spoiled), "{spoiled:#}");
        };
        for key in fields.keys() {
            spoil(&|fields| drop(fields.remove(key)));
            spoil(&|fields| drop(fields.insert(key.clone(), Value::Null)));
        }
        spoil(&|fields| drop(fields.insert("more".into(), Value::Null)));
    }
}

#[test]
fn the_json_templates_render_as_their_schemas_say() {
    for (name, weighted) in [("header-event.json", false), ("weighted-sample.json", true)] {
        let (template, schema) = (load(name), schema_of(name));
        assert_eq!(template.kind(), Kind::Text);
        for sequence in [0, EXAMPLE, u64::MAX] {
            let event: Value = serde_json::from_slice(&render(&template, sequence)).unwrap();
            assert_eq!(event["run_id"], "run-2026");
            assert_eq!(event["producer_id"], 3);
            assert_eq!(event["sequence"], sequence.to_string());
            assert_eq!(event["timestamp"], "2026-11-23T14:16:57.123456789Z");
            assert!(event["crc32c"].is_u64());
            assert_eq!(event.get("weight").map(|weight| weight == "100"), weighted.then_some(true));
            let wrong: Vec<_> = schema.iter_errors(&event).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?}");
            assert_nothing_else_is_valid(&schema, &event);
        }
        assert_shipped(&fixtures().join("examples").join(name), &render(&template, EXAMPLE));
    }
}

/// A gradient with two stars on it, big-endian.
fn pixels() -> Vec<u8> {
    let star = |x: i32, y: i32, at: (i32, i32), peak: i32| peak / (1 + (x - at.0).pow(2) + (y - at.1).pow(2));
    let grid = (0..32).flat_map(|y| (0..32).map(move |x| (x, y)));
    grid.flat_map(|(x, y)| {
        let value = 400 + x + 2 * y + star(x, y, (9, 21), 20_000) + star(x, y, (24, 6), 7_000);
        (value as i16).to_be_bytes()
    })
    .collect()
}

const FITS_CARDS: [&str; 10] = [
    "SIMPLE  =                    T / conforms to FITS",
    "BITPIX  =                   16 / bits of a pixel",
    "NAXIS   =                    2",
    "NAXIS1  =                   32",
    "NAXIS2  =                   32",
    "OBJECT  = 'two stars'",
    "TELESCOP= 'engine  '           / made up",
    "INSTRUME= 'ccd-07  '",
    "EXPTIME =                 30.0 / seconds",
    "DATE-OBS= '2026-01-01T00:00:00.000' / stays as it is",
];

/// With sums of its own, so that strict readers take the template itself.
fn fits_image() -> Vec<u8> {
    let mut data = pixels();
    data.resize(FITS_BLOCK_BYTES, 0);
    let datasum = format!("'{}'", fold(sum_words(&data)));
    let file = |checksum: &str| {
        let sums = [
            format!("CHECKSUM= '{checksum}'   / HDU checksum"),
            format!("DATASUM = {datasum:<20} / data unit checksum"),
            "END".to_owned(),
        ];
        let cards = FITS_CARDS.map(str::to_owned).into_iter().chain(sums);
        let mut file: Vec<u8> = cards.flat_map(|card| format!("{card:<80}").into_bytes()).collect();
        file.resize(FITS_BLOCK_BYTES, b' ');
        file.extend_from_slice(&data);
        file
    };
    let checksum = encode_checksum(fold(sum_words(&file(&"0".repeat(16)))));
    file(std::str::from_utf8(&checksum).unwrap())
}

/// `tests/foreign/read_fits.py` asks astropy about the sums.
#[test]
fn the_fits_image_is_what_its_recipe_makes() {
    assert_shipped(&fixtures().join("image.fits"), &fits_image());
    assert_eq!(wrong_sum(&fits_image()), None);
    let template = load("image.fits");
    assert_eq!(template.kind(), Kind::Fits);
    let record = render(&template, EXAMPLE);
    assert_eq!(record.len(), 2 * FITS_BLOCK_BYTES);
    let shape = template.shape();
    let sequence = shape.slots.iter().find(|slot| slot.fact == Fact::Sequence).unwrap();
    let value = &record[sequence.offset as usize..][..sequence.width as usize];
    assert_eq!(value, format!("{EXAMPLE:>20}").as_bytes());
    assert_eq!(wrong_sum(&record), None);
    assert_shipped(&fixtures().join("examples/image.fits"), &record);
}
