//! FITS blobs: what a primary header needs so that each record can say who it is and still be valid FITS.
//!
//! Source: "Definition of the Flexible Image Transport System", version 4.0 (2018), section 4 (cards and data
//! sizes). Only the primary header is stamped; extensions go as they are.

use crate::manifest::{Fact, Slot};
use crate::payload::fits_cards::{
    BLOCK_BYTES, CARD_BYTES, Card, VALUE_AT, data_bytes, find, keyword_of, primary_extent, read_cards, value_of,
};
use crate::payload::fits_checksum::{fold, sum_words};
use crate::payload::fits_hdus;
use crate::payload::placeholders::{Placed, value_bytes_max};
use crate::payload::render::Style;

/// Fixed-format integers end here (column 30).
const INTEGER_END: usize = 30;
/// The text of a string starts after its quote.
const STRING_AT: usize = VALUE_AT + 1;

/// A FITS file with room for what changes from record to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub bytes: Vec<u8>,
    pub slots: Vec<Placed>,
    /// The primary header and its data: what `CHECKSUM` covers.
    pub primary_bytes: usize,
}

/// Whether a file claims to be FITS.
pub fn is_fits(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SIMPLE  =")
}

/// Gives the primary header its cards, each once, in place where there is one already.
///
/// # Errors
/// What is wrong with the file, with the card's number and offset.
pub fn prepare(file: &[u8]) -> Result<Prepared, String> {
    let (mut cards, header_bytes) = read_cards(file)?;
    let data_bytes = data_bytes(&cards)?.next_multiple_of(BLOCK_BYTES as u64);
    let Some(data) = usize::try_from(data_bytes).ok().and_then(|bytes| file[header_bytes..].get(..bytes)) else {
        let there = file.len() - header_bytes;
        return Err(format!("the header announces {data_bytes} bytes of data (padded to 2880), the file has {there}"));
    };
    if !file.len().is_multiple_of(BLOCK_BYTES) {
        return Err(format!("its length, {} bytes, is no multiple of 2880", file.len()));
    }
    let mut slots = Vec::new();
    for (keyword, fact, comment) in FACT_CARDS {
        let card = fact_card(keyword, fact, comment);
        let at = upsert(&mut cards, keyword, card)?;
        slots.push(fact_slot(at, fact));
    }
    keep_datasum(&mut cards, data)?;
    if let Some((hdu, sum)) = fits_hdus::wrong_sum_of_extensions(&file[header_bytes + data.len()..]) {
        return Err(format!("HDU {hdu}: {} does not hold", sum.keyword()));
    }
    let mut bytes = cards.concat();
    bytes.extend_from_slice(&padded(b"END"));
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), b' ');
    let primary_bytes = bytes.len() + data.len();
    bytes.extend_from_slice(&file[header_bytes..]);
    Ok(Prepared { bytes, slots, primary_bytes })
}

/// Whether the sum of the primary header and its data is what the checksum promises: all ones.
pub fn is_intact(record: &[u8]) -> bool {
    primary_extent(record).is_some_and(|(header, data)| fold(sum_words(&record[..header + data])) == u32::MAX)
}

const FACT_CARDS: [(&str, Fact, &str); 6] = [
    ("RUNID", Fact::RunId, ""),
    ("PRODUCER", Fact::ProducerId, " / producer id"),
    ("SEQUENCE", Fact::Sequence, " / record number of the producer"),
    ("WEIGHT", Fact::Weight, " / records that this one stands for"),
    ("DATE", Fact::FitsDate, " / UTC, when the record was sent"),
    ("CHECKSUM", Fact::FitsChecksum, " / HDU checksum"),
];

fn is_integer(fact: Fact) -> bool {
    matches!(fact, Fact::ProducerId | Fact::Sequence | Fact::Weight)
}

fn fact_card(keyword: &str, fact: Fact, comment: &str) -> Card {
    let width = value_bytes_max(fact);
    let value = if is_integer(fact) { " ".repeat(INTEGER_END - VALUE_AT) } else { format!("'{:width$}'", "") };
    // Comments stand where other writers put them: some readers check the sum of a card they wrote anew.
    padded(format!("{keyword:<8}= {value:<20}{comment}").as_bytes())
}

fn fact_slot(card_index: usize, fact: Fact) -> Placed {
    let (start, width, style) = match fact {
        fact if is_integer(fact) => (VALUE_AT, INTEGER_END - VALUE_AT, Style::Right),
        fact => (STRING_AT, value_bytes_max(fact), Style::Left),
    };
    let offset = (card_index * CARD_BYTES + start) as u64;
    Placed { slot: Slot { fact, offset, width: width as u32, quoted: false }, style }
}

fn padded(text: &[u8]) -> Card {
    let mut card = [b' '; CARD_BYTES];
    card[..text.len()].copy_from_slice(text);
    card
}

/// Puts the card where one with its keyword is, or last; returns its index.
fn upsert(cards: &mut Vec<Card>, keyword: &str, card: Card) -> Result<usize, String> {
    let Some(at) = find(cards, keyword)? else {
        cards.push(card);
        return Ok(cards.len() - 1);
    };
    if cards.get(at + 1).is_some_and(|next| keyword_of(next) == b"CONTINUE") {
        let (card, offset) = (at + 2, (at + 1) * CARD_BYTES);
        return Err(format!("card {card} (offset {offset}) continues {keyword}, which has to fit one card"));
    }
    cards[at] = card;
    Ok(at)
}

/// Adds a `DATASUM` where there is none; one that is there has to be right.
fn keep_datasum(cards: &mut Vec<Card>, data: &[u8]) -> Result<(), String> {
    let sum = fold(sum_words(data));
    let Some(at) = find(cards, "DATASUM")? else {
        cards.push(padded(format!("DATASUM = {:<20} / data unit checksum", format!("'{sum}'")).as_bytes()));
        return Ok(());
    };
    let value = String::from_utf8_lossy(value_of(&cards[at])).into_owned();
    let text = value.trim_matches('\'').trim();
    // An empty string says that the sum is undefined.
    if text.is_empty() || text.parse() == Ok(sum) {
        return Ok(());
    }
    Err(format!("card {} (offset {}) says DATASUM = {value}, the data's is '{sum}'", at + 1, at * CARD_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(cards: &[&str]) -> Vec<u8> {
        let mut bytes: Vec<u8> = cards.iter().flat_map(|card| padded(card.as_bytes())).collect();
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), b' ');
        bytes
    }

    const BARE: [&str; 4] =
        ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0", "END"];

    proptest! {
        #[test]
        fn no_bytes_panic(tail in proptest::collection::vec(any::<u8>(), 0..4000), cut in 0usize..4000) {
            let mut file = [b"SIMPLE  =                    T", &tail[..]].concat();
            file.truncate(cut);
            let _ = prepare(&file);
        }

        #[test]
        fn no_axes_panic(axes in proptest::collection::vec(any::<i64>(), 1..5), bits in -70i64..70) {
            let mut cards = vec![BARE[0].to_owned(), format!("BITPIX  = {bits}"), format!("NAXIS   = {}", axes.len())];
            cards.extend((1..).zip(&axes).map(|(axis, length)| format!("NAXIS{axis:<3}= {length}")));
            cards.push("END".into());
            let cards: Vec<&str> = cards.iter().map(String::as_str).collect();
            let _ = prepare(&header(&cards));
        }
    }

    #[test]
    fn cards_are_added_before_end_and_the_header_grows() {
        let bare = prepare(&header(&BARE)).unwrap();
        assert_eq!((bare.bytes.len(), bare.primary_bytes), (2880, 2880));
        assert_eq!(bare.bytes[10 * 80..].trim_ascii_end(), b"END");

        let mut full = BARE[..3].to_vec();
        full.extend(["COMMENT nothing"; 30]);
        full.push("END");
        let full = prepare(&header(&full)).unwrap();
        assert_eq!(full.bytes.len(), 2 * 2880);
        assert_eq!(full.bytes[40 * 80..].trim_ascii_end(), b"END");
    }

    #[test]
    fn cards_that_are_there_stay_in_their_place() {
        let cards = [
            BARE[0],
            BARE[1],
            BARE[2],
            "SEQUENCE=                    7 / mine",
            "DATE-OBS= '2001-01-01'",
            "DATASUM = '0'",
            "END",
        ];
        let prepared = prepare(&header(&cards)).unwrap();
        let sequence = prepared.slots.iter().find(|placed| placed.slot.fact == Fact::Sequence).unwrap();
        assert_eq!(sequence.slot.offset, 3 * 80 + 10);
        assert_eq!(prepared.bytes[4 * 80..5 * 80].trim_ascii_end(), b"DATE-OBS= '2001-01-01'");
        let count = prepared.bytes.as_chunks::<80>().0.iter().filter(|card| keyword_of(card) == b"DATASUM").count();
        assert_eq!(count, 1);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let wrong = |cards: &[&str]| prepare(&header(cards)).unwrap_err();
        assert!(wrong(&[BARE[0], BARE[2], "END"]).contains("card 2 (offset 80) is NAXIS, not BITPIX"));
        assert!(wrong(&[BARE[0], "BITPIX  = 12", BARE[2], "END"]).contains("BITPIX = 12"));
        assert!(wrong(&BARE[..3]).contains("no END"));
        assert!(wrong(&["SIMPLE  = F", BARE[1], BARE[2], "END"]).contains("SIMPLE = T"));
        let twice = wrong(&[BARE[0], BARE[1], BARE[2], "DATE    = ''", "DATE    = ''", "END"]);
        assert!(twice.contains("card 4 (offset 240) and card 5 (offset 320)"), "{twice}");
        let long = wrong(&[BARE[0], BARE[1], BARE[2], "RUNID   = 'a&'", "CONTINUE  'b'", "END"]);
        assert!(long.contains("card 5 (offset 320) continues RUNID"), "{long}");
        let image = ["BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = 10", "END"];
        let short = wrong(&[&[BARE[0]], &image[..]].concat());
        assert!(short.contains("2880 bytes of data") && short.contains("has 0"), "{short}");
        let sum = wrong(&[BARE[0], BARE[1], BARE[2], "DATASUM = '5' / wrong", "END"]);
        assert!(sum.contains("card 4 (offset 240)") && sum.contains("'5'") && sum.contains("'0'"), "{sum}");
        let odd = [header(&BARE), vec![0; 7]].concat();
        assert!(prepare(&odd).unwrap_err().contains("2887 bytes"));
        let mut raw = header(&BARE);
        raw[85] = 0xff;
        assert!(prepare(&raw).unwrap_err().contains("0xff at offset 85"));
    }
}
