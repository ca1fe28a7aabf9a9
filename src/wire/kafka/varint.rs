//! Zigzag varints, as protocol buffers have them.
//!
//! Padded ones keep a constant width with continuation bits (`0x80 … 0x00`): not the shortest form, but every reader
//! understands it.

/// The most bytes that a varint of 32 and of 64 bits may take.
pub const INT_BYTES_MAX: usize = 5;
pub const LONG_BYTES_MAX: usize = 10;

/// Small numbers of either sign become small numbers without one.
#[inline]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes of the shortest form.
pub const fn length(value: i64) -> usize {
    let bits = 64 - zigzag(value).leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

/// Fills all of `out` with `value`; it must have at least [`length`] bytes.
#[inline]
pub fn put_padded(out: &mut [u8], value: i32) {
    let mut left = zigzag(i64::from(value));
    let Some((last, others)) = out.split_last_mut() else { return };
    for byte in others {
        *byte = left as u8 | 0x80;
        left >>= 7;
    }
    debug_assert!(left < 0x80, "{value} needs {} bytes", length(i64::from(value)));
    *last = left as u8 & 0x7f;
}

/// Writes the shortest form at the start of `out` and returns its length.
pub fn put(out: &mut [u8], value: i64) -> usize {
    let bytes = length(value);
    let mut left = zigzag(value);
    for byte in &mut out[..bytes - 1] {
        *byte = left as u8 | 0x80;
        left >>= 7;
    }
    out[bytes - 1] = left as u8;
    bytes
}

/// The value at the start of `bytes` and how many bytes it takes; `None` if it has no end or does not fit.
#[inline]
pub fn read(bytes: &[u8]) -> Option<(i64, usize)> {
    let (value, used) = read_unsigned(bytes, LONG_BYTES_MAX)?;
    Some((unzigzag(value), used))
}

/// As [`read`], of 32 bits.
#[inline]
pub fn read_int(bytes: &[u8]) -> Option<(i32, usize)> {
    let (value, used) = read_unsigned(bytes, INT_BYTES_MAX)?;
    Some((i32::try_from(unzigzag(value)).ok()?, used))
}

#[inline]
fn read_unsigned(bytes: &[u8], bytes_max: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(bytes_max).enumerate() {
        let part = u64::from(byte & 0x7f);
        if at == LONG_BYTES_MAX - 1 && part > 1 {
            return None;
        }
        value |= part << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let encoded = |value| {
            let mut out = [0; LONG_BYTES_MAX];
            let used = put(&mut out, value);
            out[..used].to_vec()
        };
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(-1), [1]);
        assert_eq!(encoded(63), [0x7e]);
        assert_eq!(encoded(64), [0x80, 0x01]);
        assert_eq!(encoded(i64::from(i32::MIN)), [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(encoded(i64::MIN).len(), LONG_BYTES_MAX);
        let mut padded = [9; 3];
        put_padded(&mut padded, 1);
        assert_eq!(padded, [0x82, 0x80, 0x00]);
    }

    #[test]
    fn what_does_not_fit_or_end_is_refused() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x80; 9]), None);
        assert_eq!(read(&[0xff; 12]), None);
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None);
        assert_eq!(read_int(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
        assert_eq!(read_int(&[0xff, 0xff, 0xff, 0xff, 0x7f]), None);
    }

    proptest! {
        #[test]
        fn shortest_and_padded_forms_read_back(value: i32, long: i64, extra in 0_usize..4) {
            let mut out = [0; LONG_BYTES_MAX];
            let used = put(&mut out, long);
            prop_assert_eq!((read(&out), used), (Some((long, used)), length(long)));
            let width = (length(i64::from(value)) + extra).min(INT_BYTES_MAX);
            put_padded(&mut out[..width], value);
            prop_assert_eq!(read_int(&out), Some((value, width)));
        }
    }
}
