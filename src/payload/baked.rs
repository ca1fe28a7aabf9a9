//! The hot half of templates: stamps the slots of a record and mends its checksum.

use crate::manifest::Fact;
use crate::payload::fits_checksum::{encode_checksum, fold, sum_words};
use crate::payload::placeholders::{Placed, value_bytes_max};
use crate::payload::render::{self, Stamps, Style, TEXT_BYTES_MAX};
use crate::wire::crc32c;

/// A slot that changes with each record.
#[derive(Clone, Copy, Debug)]
struct Part {
    fact: Fact,
    style: Style,
    start: usize,
    end: usize,
    /// Multiplied with it, the remainder of the slot's bytes is their share of the record's CRC.
    crc_shift: u32,
    /// Turned by so many bits, the sum of the slot's bytes is their share of the HDU's sum.
    sum_turn: u32,
}

/// What is written last, over all the rest.
#[derive(Clone, Debug)]
enum Check {
    None,
    /// The record's CRC32C with blank slots, and the slots it goes to.
    Crc32c {
        base: u32,
        slots: Vec<Part>,
    },
    /// The primary HDU's sum with blank slots, and where its text goes.
    Fits {
        base: u32,
        start: usize,
    },
}

/// A template of one producer: stamps records at a cost that does not depend on their length.
#[derive(Clone, Debug)]
pub struct Baked {
    parts: Vec<Part>,
    check: Check,
}

impl Baked {
    /// `record` is blank in the slots that change, and `0` in those of checksums; `primary` is what a FITS
    /// checksum covers.
    pub(super) fn new(slots: &[Placed], primary: &[u8], record: &[u8]) -> Self {
        let parts = |wanted: fn(Fact) -> bool| -> Vec<Part> {
            let of_interest = slots.iter().filter(|placed| wanted(placed.slot.fact));
            of_interest.map(|placed| Part::new(placed, record.len())).collect()
        };
        let crc_slots = parts(|fact| fact == Fact::Crc32c);
        let fits_slot = parts(|fact| fact == Fact::FitsChecksum).pop();
        let check = match fits_slot {
            Some(slot) => Check::Fits { base: fold(sum_words(primary)), start: slot.start },
            None if crc_slots.is_empty() => Check::None,
            None => Check::Crc32c { base: crc32c::checksum(record), slots: crc_slots },
        };
        Self { parts: parts(changes), check }
    }

    /// Writes the slots and the checksum of one record: baked bytes of the same template and producer, stamped
    /// before or not. Same stamps, same bytes.
    #[inline]
    pub fn stamp(&self, record: &mut [u8], stamps: &Stamps) {
        match &self.check {
            Check::None => self.parts.iter().for_each(|part| {
                part.write(record, stamps);
            }),
            Check::Crc32c { base, slots } => {
                let mut crc = *base;
                for part in &self.parts {
                    crc ^= crc32c::multiply(remainder(&part.write(record, stamps)), part.crc_shift);
                }
                for slot in slots {
                    render::place_decimal(slot.style, u64::from(crc), &mut record[slot.start..slot.end]);
                }
            }
            Check::Fits { base, start } => {
                let mut sum = u64::from(*base);
                for part in &self.parts {
                    let share = fold(sum_words(&part.write(record, stamps)));
                    sum += u64::from(share.rotate_right(part.sum_turn));
                }
                let text = encode_checksum(fold(sum));
                record[*start..*start + text.len()].copy_from_slice(&text);
            }
        }
    }
}

impl Part {
    fn new(placed: &Placed, record_bytes: usize) -> Self {
        let start = placed.slot.offset as usize;
        let end = start + placed.slot.width as usize;
        Self {
            fact: placed.slot.fact,
            style: placed.style,
            start,
            end,
            crc_shift: crc32c::shift((record_bytes - end) as u64),
            sum_turn: (end % 4) as u32 * 8,
        }
    }

    /// Renders the slot into the record; returns it as the end of a text that is zeros before it, which
    /// neither sum sees.
    #[inline]
    fn write(&self, record: &mut [u8], stamps: &Stamps) -> [u8; TEXT_BYTES_MAX] {
        let mut text = [0; TEXT_BYTES_MAX];
        let slot = &mut text[TEXT_BYTES_MAX - (self.end - self.start)..];
        render::stamp(self.fact, self.style, stamps, slot);
        record[self.start..self.end].copy_from_slice(slot);
        text
    }
}

/// Whether a fact is another one for each record.
fn changes(fact: Fact) -> bool {
    match fact {
        Fact::Sequence | Fact::Timestamp | Fact::TimestampNs | Fact::Weight | Fact::FitsDate => {
            debug_assert!(value_bytes_max(fact) + 2 <= TEXT_BYTES_MAX);
            true
        }
        Fact::RunId | Fact::ProducerId | Fact::Crc32c | Fact::FitsChecksum => false,
    }
}

#[inline]
fn remainder(text: &[u8; TEXT_BYTES_MAX]) -> u32 {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| text[at * 8 + byte]));
    crc32c::remainder_words([word(0), word(1), word(2), word(3)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::fits::is_intact;
    use crate::payload::fits_hdus::wrong_sum;
    use crate::payload::template::{Facts, Kind, Template};
    use crate::plan::{Annotate, TemplateFile};
    use proptest::prelude::*;

    /// An image of `pixels` bytes behind `comments` extra cards, and an extension after it.
    fn fits_file(pixels: &[u8], comments: usize) -> Vec<u8> {
        let mut cards = vec![
            "SIMPLE  =                    T".to_owned(),
            "BITPIX  =                    8".into(),
            "NAXIS   =                    1".into(),
            format!("NAXIS1  = {:>20}", pixels.len()),
            "PCOUNT  =                 2880 / says nothing without GROUPS".into(),
            "DATE-OBS= '2026-01-01T00:00:00.000'".into(),
        ];
        cards.resize(cards.len() + comments, "COMMENT any".into());
        cards.push("END".into());
        let mut file = cards.iter().map(|card| format!("{card:<80}")).collect::<String>().into_bytes();
        file.resize(file.len().next_multiple_of(2880), b' ');
        file.extend_from_slice(pixels);
        file.resize(file.len().next_multiple_of(2880), 0);
        let extension = ["XTENSION= 'IMAGE   '", "BITPIX  = 8", "NAXIS   = 0", "PCOUNT  = 0", "GCOUNT  = 1", "END"];
        let extension: String = extension.iter().map(|card| format!("{card:<80}")).collect();
        file.extend_from_slice(format!("{extension:<2880}").as_bytes());
        file
    }

    /// Appendix J byte by byte, with 16-bit halves as its own example has them.
    fn ones_complement_sum(bytes: &[u8]) -> u32 {
        let (mut high, mut low) = (0u64, 0u64);
        for word in bytes.chunks(4) {
            high += u64::from(word[0]) << 8 | u64::from(word[1]);
            low += u64::from(word[2]) << 8 | u64::from(word[3]);
        }
        while high >> 16 > 0 || low >> 16 > 0 {
            let (high_carry, low_carry) = (high >> 16, low >> 16);
            high = (high & 0xffff) + low_carry;
            low = (low & 0xffff) + high_carry;
        }
        (high << 16 | low) as u32
    }

    fn card<'a>(record: &'a [u8], keyword: &str) -> &'a str {
        let mut cards = record.chunks(80).map(|card| std::str::from_utf8(card).unwrap_or_default());
        cards.find(|card| card[..8].trim_end() == keyword).unwrap()
    }

    proptest! {
        #[test]
        fn every_stamped_fits_record_is_right(
            pixels in proptest::collection::vec(any::<u8>(), 0..9000), comments in 0usize..80,
            weight: u64, sequence: u64, timestamp_unix_ns: u64, submit_unix_ns: u64, producer_id: u32,
            flip: prop::sample::Index,
        ) {
            let file = fits_file(&pixels, comments);
            let bytes = file.as_slice().into();
            let template = Template::parse(&TemplateFile { name: "a.fits".into(), bytes }, Annotate::Payload).unwrap();
            prop_assert_eq!(template.kind(), Kind::Fits);
            let mut record = vec![0; template.length() as usize];
            let baked = template.bake(&Facts { run_id: "run-1", producer_id }, &mut record).unwrap();
            for sequence in [!sequence, sequence] {
                baked.stamp(&mut record, &Stamps { weight, sequence, timestamp_unix_ns, submit_unix_ns });
            }
            prop_assert_eq!(record.len() % 2880, 0);
            let data_bytes = pixels.len().next_multiple_of(2880);
            let primary = &record[..record.len() - 2880];
            prop_assert_eq!(ones_complement_sum(primary), u32::MAX);
            prop_assert!(is_intact(&record));
            prop_assert_eq!(wrong_sum(&record), None);
            let mut flipped = record.clone();
            flipped[flip.index(primary.len())] ^= 4;
            prop_assert!(!is_intact(&flipped));
            let data = &primary[primary.len() - data_bytes..];
            prop_assert_eq!(&data[..pixels.len()], &pixels[..]);
            let datasum = format!("'{}'", ones_complement_sum(data));
            prop_assert_eq!(card(&record, "DATASUM")[10..30].trim_end(), datasum);
            let sequence = sequence.to_string();
            prop_assert_eq!(card(&record, "SEQUENCE")[10..30].trim_start(), sequence);
            prop_assert_eq!(&card(&record, "RUNID")[10..17], "'run-1 ");
            prop_assert_eq!(&card(&record, "DATE-OBS")[10..35], "'2026-01-01T00:00:00.000'");
            prop_assert_eq!(&card(&record, "DATE").as_bytes()[11..34], render::fits_date(submit_unix_ns));
        }
    }

    /// `verify` would call each of its records damaged.
    #[test]
    fn a_file_with_a_wrong_sum_in_an_extension_is_refused() {
        let mut file = fits_file(&[1], 0);
        let end = file.len() - 2880 + 5 * 80;
        let cards = format!("{:<80}{:<80}", "CHECKSUM= 'aaaaaaaaaaaaaaaa'", "END");
        file[end..end + cards.len()].copy_from_slice(cards.as_bytes());
        let file = TemplateFile { name: "a.fits".into(), bytes: file.as_slice().into() };
        let why = Template::parse(&file, Annotate::Payload).unwrap_err();
        assert_eq!(why, "template 'a.fits': HDU 2: CHECKSUM does not hold");
        assert!(Template::parse(&file, Annotate::Off).is_ok());
    }
}
