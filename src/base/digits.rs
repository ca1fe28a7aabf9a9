//! Numbers as decimal digits, without allocation.

/// Of the largest number.
pub const U64_DIGITS: usize = 20;

/// Writes `value` to the end of `digits`; returns where it starts.
#[inline]
pub fn decimal(value: u64, digits: &mut [u8; U64_DIGITS]) -> usize {
    let mut left = value;
    let mut start = U64_DIGITS;
    while left >= 10 {
        start -= 2;
        two_digits((left % 100) as u32, &mut digits[start..start + 2]);
        left /= 100;
    }
    if left > 0 || value == 0 {
        start -= 1;
        digits[start] = b'0' + left as u8;
    }
    start
}

const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

#[inline]
pub fn two_digits(number: u32, out: &mut [u8]) {
    out.copy_from_slice(&PAIRS[number as usize % 100]);
}

/// Fills `out` with `value` in decimal, zeros in front; 20 bytes hold every value, fewer its last digits.
#[inline]
pub fn put_decimal(out: &mut [u8], value: u64) {
    let mut left = value;
    let mut pairs = out.rchunks_exact_mut(2);
    for pair in &mut pairs {
        two_digits((left % 100) as u32, pair);
        left /= 100;
    }
    if let [first] = pairs.into_remainder() {
        *first = b'0' + (left % 10) as u8;
    }
}

/// Fills `place` with a number, blanks before it.
#[inline]
pub fn place_right(value: u64, place: &mut [u8]) {
    let mut digits = [b' '; U64_DIGITS];
    let start = decimal(value, &mut digits);
    debug_assert!(start + place.len() >= U64_DIGITS, "a number has more digits than its place");
    place.copy_from_slice(&digits[U64_DIGITS - place.len()..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_std_does(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut digits = [0; U64_DIGITS];
            let start = decimal(value, &mut digits);
            prop_assert_eq!(std::str::from_utf8(&digits[start..]).unwrap(), value.to_string());
            let wide = format!("{value:>20}");
            for width in value.to_string().len()..=U64_DIGITS {
                let mut place = vec![b'x'; width];
                place_right(value, &mut place);
                prop_assert_eq!(std::str::from_utf8(&place).unwrap(), &wide[U64_DIGITS - width..]);
            }
        }
    }
}
