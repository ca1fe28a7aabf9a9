//! FITS checksums: ones'-complement sums of 32-bit words, and their text.
//!
//! Source: "Definition of the Flexible Image Transport System", version 4.0 (2018), appendix J.

use crate::payload::render::FITS_CHECKSUM_BYTES;

/// The sum of big-endian 32-bit words, not yet folded; a last partial word is filled with zeros. Exact up to
/// 16 GiB.
pub fn sum_words(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<4>();
    let whole: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    whole + u64::from(u32::from_be_bytes(last))
}

/// A sum in ones'-complement arithmetic: what goes beyond 32 bits comes in again at the bottom.
#[inline]
pub fn fold(sum: u64) -> u32 {
    let mut sum = sum;
    while sum > u64::from(u32::MAX) {
        sum = (sum & u64::from(u32::MAX)) + (sum >> 32);
    }
    sum as u32
}

/// Four letters or digits for each byte, whose values less `0` add up to it (the loop of appendix J, run at
/// compile time).
const LETTERS: [[u8; 4]; 256] = {
    let mut letters = [[0; 4]; 256];
    let mut byte = 0;
    while byte < 256 {
        letters[byte] = four_letters(byte as u8);
        byte += 1;
    }
    letters
};

const fn four_letters(byte: u8) -> [u8; 4] {
    let quotient = byte / 4 + b'0';
    let mut four = [quotient + byte % 4, quotient, quotient, quotient];
    loop {
        let mut clean = true;
        let mut pair = 0;
        while pair < 4 {
            if is_punctuation(four[pair]) || is_punctuation(four[pair + 1]) {
                four[pair] += 1;
                four[pair + 1] -= 1;
                clean = false;
            }
            pair += 2;
        }
        if clean {
            return four;
        }
    }
}

/// What stands between the digits, the capital and the small letters of ASCII.
const fn is_punctuation(letter: u8) -> bool {
    matches!(letter, 0x3a..=0x40 | 0x5b..=0x60)
}

/// The value of `CHECKSUM` for an HDU whose words add up to `sum` while that value is sixteen ASCII zeros.
#[inline]
pub fn encode_checksum(sum: u32) -> [u8; FITS_CHECKSUM_BYTES] {
    let mut text = [0; FITS_CHECKSUM_BYTES];
    for (at, byte) in (!sum).to_be_bytes().into_iter().enumerate() {
        for (group, letter) in LETTERS[byte as usize].into_iter().enumerate() {
            // The text starts at column 12, the last byte of a word: everything moves on by one.
            text[(group * 4 + at + 1) % FITS_CHECKSUM_BYTES] = letter;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_as_astropy_makes_them() {
        assert_eq!(&encode_checksum(868_229_149), b"hcHjjc9ghcEghc9g");
        assert_eq!(&encode_checksum(0x1234_5678), b"QleaTkbTQkbZQkbZ");
        assert_eq!(&encode_checksum(0xdead_beef), b"49FH48D948DG48D9");
        assert_eq!(&encode_checksum(1), b"orrrqooooooooooo");
        assert_eq!(&encode_checksum(!0), &[b'0'; 16]);
    }

    proptest! {
        #[test]
        fn an_encoded_checksum_completes_any_sum(sum in 1u32..) {
            let text = encode_checksum(sum);
            prop_assert!(text.iter().all(u8::is_ascii_alphanumeric));
            // At byte 3 of a word, in the place of zeros.
            let with = |text: &[u8]| sum_words(&[b"'''", text, b"'"].concat());
            let total = u128::from(sum) + u128::from(with(&text)) - u128::from(with(&[b'0'; 16]));
            prop_assert_eq!(total % u128::from(u32::MAX), 0);
        }
    }
}
