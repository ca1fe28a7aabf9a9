//! The checksums that a FITS file states, HDU (header-data unit) by HDU: the FITS standard 4.0, section 4.4.2.7 and
//! appendix J.
//!
//! CHECKSUM makes the ones' complement sum of all big-endian 32-bit words of an HDU all ones; DATASUM is the sum
//! over the data alone, in decimal.

use crate::payload::fits_cards::{BLOCK_BYTES, CARD_BYTES, Card, keyword_of, primary_extent, value_of};
use crate::payload::fits_checksum::{fold, sum_words};

/// NAXIS may be this large.
const AXES_MAX: u64 = 999;

/// A card whose sum does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    Checksum,
    Datasum,
}

impl Sum {
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Checksum => "CHECKSUM",
            Self::Datasum => "DATASUM",
        }
    }
}

/// The first sum that does not hold, and the number of its HDU, from 1. An HDU without CHECKSUM and DATASUM claims
/// nothing, and neither does what follows the last HDU that can be read; the first HDU is always one.
pub fn wrong_sum(file: &[u8]) -> Option<(usize, Sum)> {
    let Some((header_bytes, data_bytes)) = primary_extent(file) else { return Some((1, Sum::Checksum)) };
    let (primary, extensions) = file.split_at(header_bytes + data_bytes);
    match wrong_sum_of_hdu(primary, header_bytes) {
        Some(sum) => Some((1, sum)),
        None => wrong_sum_of_extensions(extensions),
    }
}

/// The same for what follows the primary HDU.
pub fn wrong_sum_of_extensions(extensions: &[u8]) -> Option<(usize, Sum)> {
    let (mut rest, mut number) = (extensions, 2);
    while let Some((header_bytes, data_bytes)) = extension_extent(rest) {
        let (hdu, after) = rest.split_at(header_bytes + data_bytes);
        if let Some(sum) = wrong_sum_of_hdu(hdu, header_bytes) {
            return Some((number, sum));
        }
        (rest, number) = (after, number + 1);
    }
    None
}

fn wrong_sum_of_hdu(hdu: &[u8], header_bytes: usize) -> Option<Sum> {
    let (header, data) = hdu.split_at(header_bytes);
    let (mut has_checksum, mut datasum) = (false, None);
    for card in header.as_chunks::<CARD_BYTES>().0 {
        match keyword_of(card) {
            b"CHECKSUM" => has_checksum = text_of(card).is_some_and(|text| !text.is_empty()),
            b"DATASUM" => datasum = text_of(card).and_then(|text| text.parse::<u32>().ok()),
            _ => {}
        }
    }
    let data_sum = sum_words(data);
    let total = fold(data_sum + sum_words(header));
    let data_holds = datasum.is_none_or(|stated| stated == fold(data_sum));
    // The sum over all proves the data too: a DATASUM that was wrong in the user's own file is no damage.
    match (has_checksum, total == u32::MAX || total == 0, data_holds) {
        (true, true, _) | (false, _, true) => None,
        (_, _, false) => Some(Sum::Datasum),
        (true, false, true) => Some(Sum::Checksum),
    }
}

/// Bytes of an extension's header and of its data, both padded; `None` where there is no whole one. It need not be
/// as strict as for the primary HDU: a damaged card should show in the sum.
fn extension_extent(bytes: &[u8]) -> Option<(usize, usize)> {
    let cards = bytes.as_chunks::<CARD_BYTES>().0;
    let end = cards.iter().position(|card| keyword_of(card) == b"END")?;
    let header_bytes = ((end + 1) * CARD_BYTES).next_multiple_of(BLOCK_BYTES);
    let data_bytes = usize::try_from(data_bytes(&cards[..end])?).ok()?.checked_next_multiple_of(BLOCK_BYTES)?;
    (header_bytes.checked_add(data_bytes)? <= bytes.len()).then_some((header_bytes, data_bytes))
}

/// Bytes of an extension's data before padding.
fn data_bytes(cards: &[Card]) -> Option<u64> {
    let (mut bits, mut axes, mut groups, mut parameters) = (0i64, None, 1u64, 0u64);
    let mut lengths: Vec<u64> = Vec::new();
    for card in cards {
        let number = || text_of(card).and_then(|text| text.parse::<u64>().ok());
        match keyword_of(card) {
            b"BITPIX" => bits = text_of(card).and_then(|text| text.parse().ok()).unwrap_or(0),
            b"NAXIS" => axes = number().filter(|count| *count <= AXES_MAX),
            b"PCOUNT" => parameters = number().unwrap_or(0),
            b"GCOUNT" => groups = number().unwrap_or(1),
            keyword if is_axis_length(keyword) => lengths.extend(number()),
            _ => {}
        }
    }
    if lengths.len() as u64 != axes? {
        return None;
    }
    if lengths.is_empty() {
        return Some(0);
    }
    let elements = lengths.iter().try_fold(1u64, |product, length| product.checked_mul(*length))?;
    groups.checked_mul(parameters.checked_add(elements)?)?.checked_mul(bits.unsigned_abs() / 8)
}

fn is_axis_length(keyword: &[u8]) -> bool {
    keyword.strip_prefix(b"NAXIS").is_some_and(|axis| axis.iter().all(u8::is_ascii_digit))
}

/// The value of a card, without quotes and comment.
fn text_of(card: &Card) -> Option<&str> {
    std::str::from_utf8(value_of(card)).ok().map(|value| value.trim_matches('\'').trim())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The encoding of appendix J, as its C program has it.
    fn encode(sum: u32) -> [u8; 16] {
        let value = !sum;
        let mut ascii = [0u8; 16];
        for i in 0..4 {
            let byte = (value >> (24 - 8 * i)) & 0xff;
            let mut ch = [byte / 4 + u32::from(b'0'); 4];
            ch[0] += byte % 4;
            let mut again = true;
            while again {
                again = false;
                for pair in [0, 2] {
                    let punctuation = |c: u32| (0x3a..=0x40).contains(&c) || (0x5b..=0x60).contains(&c);
                    if punctuation(ch[pair]) || punctuation(ch[pair + 1]) {
                        ch[pair] += 1;
                        ch[pair + 1] -= 1;
                        again = true;
                    }
                }
            }
            for (j, c) in ch.iter().enumerate() {
                ascii[4 * j + i] = *c as u8;
            }
        }
        ascii.rotate_right(1);
        ascii
    }

    fn card(text: &str) -> Vec<u8> {
        format!("{text:<80}").into_bytes()
    }

    /// A FITS image of `data` with both checksums right, and the offset of its SEQUENCE value (20 digits wide).
    pub fn blob(sequence: u64, data: &[u8]) -> (Vec<u8>, usize) {
        let mut padded = data.to_vec();
        padded.resize(data.len().next_multiple_of(BLOCK_BYTES), 0);
        let mut bytes = Vec::new();
        for text in [
            "SIMPLE  =                    T".to_owned(),
            "BITPIX  =                    8".to_owned(),
            "NAXIS   =                    1".to_owned(),
            format!("NAXIS1  = {:>20}", data.len()),
            format!("SEQUENCE= {sequence:>20}"),
            format!("DATASUM = '{}'", fold(sum_words(&padded))),
            "CHECKSUM= '0000000000000000'".to_owned(),
            "END".to_owned(),
        ] {
            bytes.extend(card(&text));
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), b' ');
        bytes.extend(padded);
        let checksum = encode(fold(sum_words(&bytes)));
        let at = 6 * CARD_BYTES + 11;
        bytes[at..at + 16].copy_from_slice(&checksum);
        (bytes, 4 * CARD_BYTES + 10)
    }

    proptest! {
        #[test]
        fn a_right_blob_holds_and_any_flipped_bit_shows(
            sequence: u64, data in proptest::collection::vec(any::<u8>(), 1..4000), bit in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, _) = blob(sequence, &data);
            prop_assert_eq!(wrong_sum(&bytes), None);
            let bit = bit.index(bytes.len() * 8);
            // A flip inside the cards CHECKSUM or DATASUM may turn them into cards of another name.
            let names = 5 * CARD_BYTES..7 * CARD_BYTES;
            prop_assume!(!names.contains(&(bit / 8)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(wrong_sum(&bytes).is_some());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
            let _ = wrong_sum(&bytes);
            let mut headed = blob(1, b"x").0[..640].to_vec();
            headed.extend(bytes);
            let _ = wrong_sum(&headed);
        }
    }
}
