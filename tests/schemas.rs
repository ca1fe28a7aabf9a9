//! What `schemas/` ships agrees with the code: the record layout and the payload templates.

use engine::manifest::Fact;
use engine::payload::render::Stamps;
use engine::payload::template::{Facts, Kind, Template};
use engine::plan::{Annotate, TemplateFile};
use engine::record::{CRC_OFFSET, FLAG_SIGNED, HEADER_BYTES, Header, STAMP_END, STAMP_OFFSET};
use serde_json::Value;
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

fn load(name: &str) -> Template {
    let bytes = std::fs::read(schemas().join("fixtures/generator").join(name)).unwrap();
    Template::parse(&TemplateFile { name: name.into(), bytes: bytes.into() }, Annotate::Payload).unwrap()
}

fn render(template: &Template, sequence: u64) -> Vec<u8> {
    let mut record = vec![0; template.length() as usize];
    let baked = template.bake(&Facts { run_id: "run-2026", producer_id: 3 }, &mut record).unwrap();
    let at = 1_795_443_417_123_456_789;
    baked.stamp(&mut record, &Stamps { weight: 100, sequence, timestamp_unix_ns: at, submit_unix_ns: at });
    record
}

#[test]
fn the_json_templates_render_as_json() {
    for (name, weighted) in [("header-event.json", false), ("weighted-sample.json", true)] {
        let template = load(name);
        assert_eq!(template.kind(), Kind::Text);
        let event: Value = serde_json::from_slice(&render(&template, u64::MAX)).unwrap();
        assert_eq!(event["run_id"], "run-2026");
        assert_eq!(event["producer_id"], 3);
        assert_eq!(event["sequence"], "18446744073709551615");
        assert_eq!(event["timestamp"], "2026-11-23T14:16:57.123456789Z");
        assert!(event["crc32c"].is_u64());
        assert_eq!(event.get("weight").map(|weight| weight == "100"), weighted.then_some(true));
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

fn fits_image() -> Vec<u8> {
    let cards = [
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
        "END",
    ];
    let mut file: Vec<u8> = cards.iter().flat_map(|card| format!("{card:<80}").into_bytes()).collect();
    file.resize(2880, b' ');
    file.extend_from_slice(&pixels());
    file.resize(2 * 2880, 0);
    file
}

#[test]
fn the_fits_image_is_what_its_recipe_makes() {
    let path = schemas().join("fixtures/generator/image.fits");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, fits_image()).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == fits_image(), "{} differs; UPDATE=1 makes it anew", path.display());
    let template = load("image.fits");
    assert_eq!(template.kind(), Kind::Fits);
    let record = render(&template, 42);
    assert_eq!(record.len(), 2 * 2880);
    let shape = template.shape();
    let sequence = shape.slots.iter().find(|slot| slot.fact == Fact::Sequence).unwrap();
    let value = &record[sequence.offset as usize..][..sequence.width as usize];
    assert_eq!(value, format!("{:>20}", 42).as_bytes());
}
