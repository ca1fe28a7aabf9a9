//! Records that are rendered templates: facts in slots at fixed offsets, checked as far as the slots go.

use super::shape::{Claim, Flaw, HeaderShape, Key, Probe, Shape};
use super::window::Window;
use crate::manifest::{Fact, Slot, TemplateShape};
use crate::payload::fits_hdus::{self, Sum};
use crate::record::{self, Header};
use crate::wire::crc32c;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

const FITS_START: &[u8] = b"SIMPLE  =";
/// Bytes ahead that are looked at for zeros, where a record should follow.
const ZEROS_BYTES: usize = 64;

pub struct SlotsShape {
    templates: Vec<TemplateShape>,
    places: Vec<Place>,
    run_id: String,
    key: Key,
    lead_bytes: usize,
    /// Templates that cannot be rendered carry the record header instead.
    headed: HeaderShape,
    /// A key is given: what has slots instead of the header carries no signature.
    wants_signature: bool,
}

/// Templates that say their sequence in the same bytes: thousands of lines often do, and are looked for as one.
struct Place {
    first: usize,
    templates: BTreeSet<usize>,
}

fn places(templates: &[TemplateShape]) -> Vec<Place> {
    let mut found: BTreeMap<_, Place> = BTreeMap::new();
    for (index, shape) in templates.iter().enumerate() {
        let slot = shape.slots.iter().find(|slot| slot.fact == Fact::Sequence);
        let at = (shape.fits, slot.map(|slot| (slot.offset, slot.width, slot.quoted)));
        let place = found.entry(at).or_insert_with(|| Place { first: index, templates: BTreeSet::new() });
        place.templates.insert(index);
    }
    found.into_values().collect()
}

/// What one template says of the bytes.
enum Fit {
    Sound(Claim),
    Unsound(Claim, Flaw),
    Not,
}

impl SlotsShape {
    /// `None` where the slots do not say which record is which, so that only lengths could be looked at, or where
    /// a shape is impossible (no length, or a slot outside of it).
    pub fn new(templates: &[TemplateShape], run_id: &str, producer: u32, sign_key: Option<[u8; 16]>) -> Option<Self> {
        let inside = |shape: &TemplateShape| {
            let whole = shape.length_bytes > 0 && shape.length_bytes <= crate::base::limits::RECORD_BYTES_MAX;
            whole
                && shape.slots.iter().all(|slot| {
                    slot.offset.checked_add(u64::from(slot.width)).is_some_and(|end| end <= shape.length_bytes)
                })
        };
        let numbered = |shape: &TemplateShape| {
            shape.slots.is_empty() || shape.slots.iter().any(|slot| slot.fact == Fact::Sequence)
        };
        let some_slots = templates.iter().any(|shape| !shape.slots.is_empty());
        if !some_slots || !templates.iter().all(|shape| inside(shape) && numbered(shape)) {
            return None;
        }
        let ends = templates.iter().flat_map(|shape| &shape.slots).filter(|slot| slot.fact == Fact::Sequence);
        let lead = ends.map(|slot| slot.offset as usize + slot.width as usize).max().unwrap_or(0);
        Some(Self {
            templates: templates.to_vec(),
            places: places(templates),
            run_id: run_id.to_owned(),
            key: Key { run: record::run_id_hash(run_id), producer },
            lead_bytes: lead.max(record::HEADER_BYTES),
            headed: HeaderShape::new(sign_key),
            wants_signature: sign_key.is_some(),
        })
    }

    fn fit(&self, index: usize, window: &mut Window<'_>, expected: Option<u64>) -> io::Result<Fit> {
        let shape = &self.templates[index];
        let length = shape.length_bytes as usize;
        if shape.slots.is_empty() {
            return Ok(match self.headed.probe(window, None)? {
                Probe::Record(claim) if claim.length == shape.length_bytes => Fit::Sound(claim),
                Probe::Flawed(claim, flaw) if claim.length == shape.length_bytes => Fit::Unsound(claim, flaw),
                _ => Fit::Not,
            });
        }
        if !window.holds(length)? {
            return Ok(Fit::Not);
        }
        let Some(bytes) = window.ensure(length)?.get(..length) else { return Ok(Fit::Not) };
        let sequence = sequence_of(shape, bytes).filter(|at| at % self.templates.len() as u64 == index as u64);
        let number = sequence.or(expected);
        let Some(number) = number else { return Ok(Fit::Not) };
        let mut claim = Claim { key: self.key, sequence: number, length: shape.length_bytes, timestamp_unix_ns: 0 };
        let slots_hold = sequence.is_some() && self.identify(shape, bytes, &mut claim) && crc_holds(shape, bytes);
        Ok(if !slots_hold {
            Fit::Unsound(claim, Flaw::Slots)
        } else if let Some((_, sum)) = shape.fits.then(|| fits_hdus::wrong_sum(bytes)).flatten() {
            Fit::Unsound(claim, flaw_of(sum))
        } else if self.wants_signature {
            Fit::Unsound(claim, Flaw::Unsigned)
        } else {
            Fit::Sound(claim)
        })
    }

    /// Reads run and producer into `claim`; false where a slot cannot be read or two of them disagree.
    fn identify(&self, shape: &TemplateShape, bytes: &[u8], claim: &mut Claim) -> bool {
        let key = &mut claim.key;
        for slot in &shape.slots {
            let Some(text) = slot_text(slot, bytes) else { return false };
            match slot.fact {
                Fact::RunId if text != self.run_id && !text.is_empty() => key.run = record::run_id_hash(text),
                Fact::RunId if text.is_empty() => return false,
                Fact::ProducerId => match text.parse() {
                    Ok(id) => key.producer = id,
                    Err(_) => return false,
                },
                Fact::Sequence if text.parse() != Ok(claim.sequence) => return false,
                Fact::TimestampNs | Fact::Weight if text.parse::<u64>().is_err() => return false,
                Fact::Timestamp if text.parse::<jiff::Timestamp>().is_err() => return false,
                Fact::FitsDate if text.parse::<jiff::civil::DateTime>().is_err() => return false,
                _ => {}
            }
        }
        true
    }

    fn plausible(&self, bytes: &[u8]) -> bool {
        let count = self.templates.len() as u64;
        self.places.iter().any(|place| {
            let shape = &self.templates[place.first];
            if shape.slots.is_empty() {
                return Header::decode(bytes).is_some();
            }
            if shape.fits && !bytes.starts_with(FITS_START) {
                return false;
            }
            sequence_of(shape, bytes).is_some_and(|at| place.templates.contains(&((at % count) as usize)))
        })
    }
}

fn flaw_of(sum: Sum) -> Flaw {
    match sum {
        Sum::Checksum => Flaw::FitsChecksum,
        Sum::Datasum => Flaw::FitsDatasum,
    }
}

fn sequence_of(shape: &TemplateShape, bytes: &[u8]) -> Option<u64> {
    let slot = shape.slots.iter().find(|slot| slot.fact == Fact::Sequence)?;
    slot_text(slot, bytes)?.parse().ok()
}

/// The value in a slot, without quotes and padding.
fn slot_text<'a>(slot: &Slot, bytes: &'a [u8]) -> Option<&'a str> {
    let from = slot.offset as usize;
    let text = std::str::from_utf8(bytes.get(from..from + slot.width as usize)?).ok()?;
    if !slot.quoted {
        return Some(text.trim_matches(' '));
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (value, padding) = text[1..].split_once(quote)?;
    padding.bytes().all(|byte| byte == b' ').then(|| value.trim_end_matches(' '))
}

/// Whether every CRC32C slot holds the checksum of the record with all of them as ASCII zeros.
fn crc_holds(shape: &TemplateShape, bytes: &[u8]) -> bool {
    const ZEROS: [u8; 64] = [b'0'; 64];
    let mut slots: Vec<&Slot> = shape.slots.iter().filter(|slot| slot.fact == Fact::Crc32c).collect();
    if slots.is_empty() {
        return true;
    }
    slots.sort_unstable_by_key(|slot| slot.offset);
    let (mut crc, mut at) = (0, 0);
    for slot in &slots {
        let (from, to) = (slot.offset as usize, slot.offset as usize + slot.width as usize);
        let Some(between) = bytes.get(at..from) else { return false };
        crc = crc32c::append(crc, between);
        for zeros in (from..to).step_by(ZEROS.len()) {
            crc = crc32c::append(crc, &ZEROS[..ZEROS.len().min(to - zeros)]);
        }
        at = to;
    }
    crc = crc32c::append(crc, &bytes[at..]);
    slots.iter().all(|slot| slot_text(slot, bytes).and_then(|text| text.parse().ok()) == Some(crc))
}

impl Shape for SlotsShape {
    fn probe(&self, window: &mut Window<'_>, next: Option<u64>) -> io::Result<Probe> {
        window.ensure(self.lead_bytes)?;
        let count = self.templates.len();
        let expected = next.map(|at| (at % count as u64) as usize);
        let mut flawed = None;
        if let Some(index) = expected {
            match self.fit(index, window, next)? {
                Fit::Sound(claim) => return Ok(Probe::Record(claim)),
                Fit::Unsound(claim, flaw) => flawed = Some((claim, flaw)),
                Fit::Not => {}
            }
        }
        for index in (0..count).filter(|index| Some(*index) != expected) {
            match self.fit(index, window, None)? {
                Fit::Sound(claim) => return Ok(Probe::Record(claim)),
                Fit::Unsound(claim, flaw) if flawed.is_none() => flawed = Some((claim, flaw)),
                _ => {}
            }
        }
        if let Some((claim, flaw)) = flawed {
            return Ok(Probe::Flawed(claim, flaw));
        }
        // What is left of a record that was cut off still shows which one it was.
        for (index, shape) in self.templates.iter().enumerate() {
            let sequence = sequence_of(shape, window.bytes()).filter(|at| at % count as u64 == index as u64);
            if let Some(sequence) = sequence
                && !window.holds(shape.length_bytes as usize)?
            {
                let length = shape.length_bytes;
                return Ok(Probe::No(Some(Claim { key: self.key, sequence, length, timestamp_unix_ns: 0 })));
            }
        }
        Ok(Probe::No(None))
    }

    fn extent_holds(&self, window: &mut Window<'_>, claim: &Claim, flaw: Flaw) -> io::Result<bool> {
        if flaw.keeps_extent() {
            return Ok(true);
        }
        let mut bytes = vec![0; self.lead_bytes.max(ZEROS_BYTES)];
        let got = window.peek(claim.length as usize, &mut bytes)?;
        Ok(self.plausible(&bytes[..got]) || bytes[..got.min(ZEROS_BYTES)].iter().all(|byte| *byte == 0))
    }

    fn candidate(&self, bytes: &[u8]) -> Option<usize> {
        if super::scan::is_zero(bytes) {
            return None;
        }
        (0..bytes.len()).find(|at| self.plausible(&bytes[*at..]))
    }

    fn lead_bytes(&self) -> usize {
        self.lead_bytes
    }

    fn has_unchecked_signatures(&self) -> bool {
        self.headed.has_unchecked_signatures()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_alike_are_looked_for_as_one() {
        let slot = |offset| Slot { fact: Fact::Sequence, offset, width: 20, quoted: false };
        let line = |offset, length_bytes| TemplateShape {
            name: "line".into(),
            length_bytes,
            fits: false,
            slots: vec![slot(offset)],
        };
        let mut lines: Vec<_> = (0..10_000).map(|k| line(5, 30 + k % 7)).collect();
        lines[1] = line(9, 40);
        let found = places(&lines);
        let sizes: Vec<_> = found.iter().map(|place| (place.first, place.templates.len())).collect();
        assert_eq!(sizes, [(0, 9_999), (1, 1)]);
        let shape = SlotsShape::new(&lines, "r", 0, None).unwrap();
        let at = |offset: usize, sequence: u64| format!("{}{sequence:>20}, and more of it", "-".repeat(offset));
        assert!(shape.plausible(at(5, 10_002).as_bytes()) && shape.plausible(at(9, 1).as_bytes()));
        assert!(!shape.plausible(at(5, 1).as_bytes()) && !shape.plausible(at(9, 2).as_bytes()));
    }
}
