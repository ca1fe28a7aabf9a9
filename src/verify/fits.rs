//! The checksums of FITS blobs: the FITS standard 4.0, section 4.4.2.7 and appendix J.
//!
//! CHECKSUM makes the ones' complement sum of all big-endian 32-bit words of an HDU (header-data unit) all
//! ones; DATASUM is the sum over the data alone, in decimal.

use super::shape::Flaw;

const BLOCK_BYTES: usize = 2880;
const CARD_BYTES: usize = 80;
/// NAXIS may be this large.
const AXES_MAX: u64 = 999;

/// The first thing that does not hold. An HDU without CHECKSUM and DATASUM claims nothing, and neither does what
/// follows the last HDU that can be read; the first HDU is always one.
pub fn flaw(blob: &[u8]) -> Option<Flaw> {
    let mut rest = blob;
    while let Some(hdu) = Hdu::parse(rest) {
        let (header, after) = rest.split_at(hdu.header_bytes);
        let (data, after) = after.split_at(hdu.data_bytes);
        let data_sum = sum(0, data);
        let total = sum(data_sum, header);
        let data_holds = hdu.datasum.is_none_or(|claimed| claimed == data_sum);
        // The sum over all proves the data too: a DATASUM that was wrong in the user's own file is no damage.
        match (hdu.checksum, total == u32::MAX || total == 0, data_holds) {
            (true, true, _) | (false, _, true) => {}
            (_, _, false) => return Some(Flaw::FitsDatasum),
            (true, false, true) => return Some(Flaw::FitsChecksum),
        }
        rest = after;
    }
    (rest.len() == blob.len()).then_some(Flaw::FitsChecksum)
}

/// Continues a ones' complement sum over whole words; a last partial word is filled with zeros.
pub fn sum(start: u32, bytes: &[u8]) -> u32 {
    let (words, tail) = bytes.as_chunks::<4>();
    let mut total = u64::from(start);
    // 2^31 words fit a 64-bit sum without overflow.
    for part in words.chunks(1 << 31) {
        total += part.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum::<u64>();
        total = fold(total);
    }
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    fold(total + u64::from(u32::from_be_bytes(last))) as u32
}

fn fold(mut total: u64) -> u64 {
    while total >> 32 != 0 {
        total = (total & 0xffff_ffff) + (total >> 32);
    }
    total
}

struct Hdu {
    header_bytes: usize,
    data_bytes: usize,
    checksum: bool,
    datasum: Option<u32>,
}

impl Hdu {
    /// `None` where this is no whole HDU.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut bitpix, mut axes, mut groups, mut parameters) = (0i64, None, 1u64, 0u64);
        let mut lengths: Vec<u64> = Vec::new();
        let (mut checksum, mut datasum) = (false, None);
        let end = bytes.chunks_exact(CARD_BYTES).position(|card| {
            let number = || value(card).and_then(|text| text.parse::<u64>().ok());
            match card[..8].trim_ascii_end() {
                b"BITPIX" => bitpix = value(card).and_then(|text| text.parse().ok()).unwrap_or(0),
                b"NAXIS" => axes = number().filter(|count| *count <= AXES_MAX),
                b"PCOUNT" => parameters = number().unwrap_or(0),
                b"GCOUNT" => groups = number().unwrap_or(1),
                b"CHECKSUM" => checksum = value(card).is_some_and(|text| !text.is_empty()),
                b"DATASUM" => datasum = value(card).and_then(|text| text.parse().ok()),
                key if key.starts_with(b"NAXIS") => lengths.extend(number()),
                _ => {}
            }
            card[..8] == *b"END     "
        })?;
        let header_bytes = ((end + 1) * CARD_BYTES).next_multiple_of(BLOCK_BYTES);
        if lengths.len() as u64 != axes? {
            return None;
        }
        let elements = match lengths.split_first() {
            None => 0,
            // Random groups: the first axis is 0 and does not count.
            Some((0, others)) if groups > 0 && parameters > 0 => product(others)?,
            Some(_) => product(&lengths)?,
        };
        let values = if lengths.is_empty() { 0 } else { groups.checked_mul(parameters.checked_add(elements)?)? };
        let data = (bitpix.unsigned_abs() / 8).checked_mul(values)?;
        let data_bytes = usize::try_from(data).ok()?.checked_next_multiple_of(BLOCK_BYTES)?;
        (header_bytes.checked_add(data_bytes)? <= bytes.len()).then_some(Self {
            header_bytes,
            data_bytes,
            checksum,
            datasum,
        })
    }
}

fn product(lengths: &[u64]) -> Option<u64> {
    lengths.iter().try_fold(1u64, |all, length| all.checked_mul(*length))
}

/// The value of a card, without quotes and comment.
fn value(card: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(card.get(8..)?.strip_prefix(b"= ")?).ok()?.trim_start();
    match text.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next().map(str::trim_end),
        None => text.split('/').next().map(str::trim),
    }
}

#[cfg(test)]
pub(super) mod tests {
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
            format!("DATASUM = '{}'", sum(0, &padded)),
            "CHECKSUM= '0000000000000000'".to_owned(),
            "END".to_owned(),
        ] {
            bytes.extend(card(&text));
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), b' ');
        bytes.extend(padded);
        let checksum = encode(sum(0, &bytes));
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
            prop_assert_eq!(flaw(&bytes), None);
            let bit = bit.index(bytes.len() * 8);
            // A flip inside the cards CHECKSUM or DATASUM may turn them into cards of another name.
            let names = 5 * CARD_BYTES..7 * CARD_BYTES;
            prop_assume!(!names.contains(&(bit / 8)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(flaw(&bytes).is_some());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
            let _ = flaw(&bytes);
            let mut headed = blob(1, b"x").0[..640].to_vec();
            headed.extend(bytes);
            let _ = flaw(&headed);
        }
    }
}
