//! What lies before and after a record so that it is one of a batch (format 2), at a fixed width.
//!
//! Before: length, attributes, timestamp delta, offset delta, key, length of the value. After: headers. The same frame
//! serves at any place in any batch: only the offset delta changes.

use super::varint;

/// The frame of every record of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameShape {
    key_bytes: Option<usize>,
    headers: Vec<Header>,
    length_width: usize,
    value_width: usize,
    delta_width: usize,
    before_bytes: usize,
    after_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    name: String,
    value_bytes: usize,
    /// Where its value is in the part after the record.
    value_at: usize,
}

/// Attributes and timestamp delta, both always 0.
const ZEROS: usize = 2;

impl FrameShape {
    /// For records of up to `record_bytes_max` in batches of up to `records_per_batch_max`; `headers` are names and
    /// widths of values.
    pub fn new(
        key_bytes: Option<usize>,
        headers: Vec<(String, usize)>,
        record_bytes_max: usize,
        records_per_batch_max: u32,
    ) -> Self {
        let mut after_bytes = width(headers.len());
        let headers = headers.into_iter().map(|(name, value_bytes)| {
            let value_at = after_bytes + width(name.len()) + name.len() + width(value_bytes);
            after_bytes = value_at + value_bytes;
            Header { name, value_bytes, value_at }
        });
        let headers = headers.collect();
        let value_width = width(record_bytes_max);
        let delta_width = width(records_per_batch_max.saturating_sub(1) as usize);
        let key_part = key_bytes.map_or(1, |bytes| width(bytes) + bytes);
        let body = ZEROS + delta_width + key_part + value_width;
        let length_width = width(body + record_bytes_max + after_bytes);
        let before_bytes = length_width + body;
        Self { key_bytes, headers, length_width, value_width, delta_width, before_bytes, after_bytes }
    }

    pub fn before_bytes(&self) -> usize {
        self.before_bytes
    }

    pub fn after_bytes(&self) -> usize {
        self.after_bytes
    }

    /// Bytes of a framed record.
    pub fn frame_bytes(&self, record_bytes: usize) -> usize {
        self.before_bytes + record_bytes + self.after_bytes
    }

    /// Writes everything but the key and the headers' values, which stay as they are, for the first place of a batch.
    pub fn bake(&self, before: &mut [u8], after: &mut [u8], record_bytes: usize) {
        assert_eq!((before.len(), after.len()), (self.before_bytes, self.after_bytes));
        let body = self.frame_bytes(record_bytes) - self.length_width;
        put_size(&mut before[..self.length_width], body);
        before[self.length_width..][..ZEROS].fill(0);
        self.put_delta(before, 0);
        let key_at = self.delta_at() + self.delta_width;
        match self.key_bytes {
            Some(bytes) => put_size(&mut before[key_at..][..width(bytes)], bytes),
            None => varint::put_padded(&mut before[key_at..=key_at], -1),
        }
        put_size(&mut before[self.before_bytes - self.value_width..], record_bytes);
        put_size(&mut after[..width(self.headers.len())], self.headers.len());
        for header in &self.headers {
            let value_length_at = header.value_at - width(header.value_bytes);
            let name_at = value_length_at - header.name.len();
            put_size(&mut after[name_at - width(header.name.len())..name_at], header.name.len());
            after[name_at..value_length_at].copy_from_slice(header.name.as_bytes());
            put_size(&mut after[value_length_at..header.value_at], header.value_bytes);
        }
    }

    /// Sets the record's place in its batch, from 0.
    #[inline]
    pub fn put_delta(&self, before: &mut [u8], delta: u32) {
        varint::put_padded(&mut before[self.delta_at()..][..self.delta_width], delta as i32);
    }

    /// The bytes of the key; none without a key.
    #[inline]
    pub fn key_mut<'a>(&self, before: &'a mut [u8]) -> &'a mut [u8] {
        let end = self.before_bytes - self.value_width;
        &mut before[end - self.key_bytes.unwrap_or(0)..end]
    }

    /// The bytes of a header's value, by the header's index.
    #[inline]
    pub fn value_mut<'a>(&self, after: &'a mut [u8], header: usize) -> &'a mut [u8] {
        let header = &self.headers[header];
        &mut after[header.value_at..][..header.value_bytes]
    }

    #[inline]
    fn delta_at(&self) -> usize {
        self.length_width + ZEROS
    }
}

fn width(size: usize) -> usize {
    varint::length(size as i64)
}

fn put_size(out: &mut [u8], size: usize) {
    varint::put_padded(out, i32::try_from(size).expect("sizes of a record stay far below 2 GiB"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digits::put_decimal;
    use proptest::prelude::*;

    #[test]
    fn the_smallest_frame_is_as_kafka_writes_it() {
        let shape = FrameShape::new(None, vec![], 6, 1);
        let (mut before, mut after) = (vec![9; shape.before_bytes()], vec![9; shape.after_bytes()]);
        shape.bake(&mut before, &mut after, 6);
        // The record of a batch that the Java client wrote with the value "sdfdsf".
        assert_eq!([&before[..], b"sdfdsf", &after].concat(), b"\x18\x00\x00\x00\x01\x0csdfdsf\x00");
    }

    #[test]
    fn keys_and_values_are_where_they_can_be_set() {
        let shape = FrameShape::new(Some(4), vec![("weight".into(), 3), ("n".into(), 2)], 1 << 20, 3000);
        let (mut before, mut after) = (vec![0; shape.before_bytes()], vec![0; shape.after_bytes()]);
        shape.bake(&mut before, &mut after, 70);
        shape.put_delta(&mut before, 2999);
        shape.key_mut(&mut before).copy_from_slice(b"abcd");
        put_decimal(shape.value_mut(&mut after, 0), 100);
        put_decimal(shape.value_mut(&mut after, 1), 7);
        // Body: zeros 2, delta 2, key 5, value's length 4, value 70, headers 1 + (1 + 6 + 1 + 3) + (1 + 1 + 1 + 2).
        assert_eq!(before, b"\xc8\x81\x80\x00\x00\x00\xee\x2e\x08abcd\x8c\x81\x80\x00");
        assert_eq!(after, b"\x04\x0cweight\x06100\x02n\x0407");
        assert_eq!(shape.key_mut(&mut before), b"abcd");
        assert_eq!(FrameShape::new(None, vec![], 1, 1).key_mut(&mut [0; 8]), b"");
    }

    proptest! {
        #[test]
        fn decimals_are_padded_with_zeros(value: u64, width in 1_usize..25) {
            let mut out = vec![0; width];
            put_decimal(&mut out, value);
            let full = format!("{value:0>25}");
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), &full[full.len() - width..]);
        }
    }
}
