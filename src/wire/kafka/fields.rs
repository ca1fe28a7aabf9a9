//! Reads the fields of a message from bytes that anyone may have sent: bounded, without allocation.

use super::varint;
use std::fmt;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It ends inside a field; where the message is not whole yet, more bytes may mend it.
    Short { field: &'static str, wanted: usize, left: usize },
    /// A field has a value that cannot be.
    Value { field: &'static str, value: i64 },
    /// More elements of an array are claimed than fit into what is left.
    Elements { field: &'static str, count: u32, left: usize },
    /// A field that has to be text is not UTF-8.
    NotText { field: &'static str },
    /// Bytes follow after its last field.
    Trailing { bytes: usize },
}

impl Malformed {
    pub fn is_short(&self) -> bool {
        matches!(self, Self::Short { .. })
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { field, wanted, left } => {
                write!(f, "the message ends inside its {field}: {wanted} bytes are due, {left} are left")
            }
            Self::Value { field, value } => write!(f, "the message's {field} cannot be {value}"),
            Self::Elements { field, count, left } => {
                write!(f, "the message's {field} cannot be {count} where {left} bytes are left")
            }
            Self::NotText { field } => write!(f, "the message's {field} is not UTF-8"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes follow after the end of the message"),
        }
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for String {
    fn from(malformed: Malformed) -> Self {
        malformed.to_string()
    }
}

type Read<T> = Result<T, Malformed>;

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    left: &'a [u8],
}

macro_rules! numbers {
    ($($name:ident $bytes:literal)*) => {
        $(#[inline]
        pub fn $name(&mut self, field: &'static str) -> Read<$name> {
            let Some((number, left)) = self.left.split_first_chunk::<$bytes>() else {
                return Err(self.short(field, $bytes));
            };
            self.left = left;
            Ok($name::from_be_bytes(*number))
        })*
    };
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.left
    }

    numbers! { i8 1 i16 2 i32 4 u32 4 i64 8 }

    #[inline]
    pub fn take(&mut self, field: &'static str, bytes: usize) -> Read<&'a [u8]> {
        let Some((taken, left)) = self.left.split_at_checked(bytes) else { return Err(self.short(field, bytes)) };
        self.left = left;
        Ok(taken)
    }

    /// The number of an array's elements.
    #[inline]
    pub fn count(&mut self, field: &'static str) -> Read<u32> {
        let value = self.i32(field)?;
        u32::try_from(value).map_err(|_| Malformed::Value { field, value: i64::from(value) })
    }

    /// The number of an array's elements; `None`: null.
    pub fn nullable_count(&mut self, field: &'static str) -> Read<Option<u32>> {
        let value = self.i32(field)?;
        if value == -1 {
            return Ok(None);
        }
        u32::try_from(value).map(Some).map_err(|_| Malformed::Value { field, value: i64::from(value) })
    }

    /// The number of an array's elements of so many bytes or more each, for which room may be made; null is none.
    pub fn elements(&mut self, field: &'static str, bytes_min: usize) -> Read<usize> {
        let count = self.nullable_count(field)?.unwrap_or(0);
        self.fitting(field, count, bytes_min)
    }

    /// So many elements of `bytes_min` or more each, if they fit into what is left.
    pub fn fitting(&self, field: &'static str, count: u32, bytes_min: usize) -> Read<usize> {
        let (elements, left) = (count as usize, self.left.len());
        if elements <= left / bytes_min.max(1) { Ok(elements) } else { Err(Malformed::Elements { field, count, left }) }
    }

    /// The length of bytes that may be null, which counts as none.
    #[inline]
    pub fn nullable_length(&mut self, field: &'static str) -> Read<usize> {
        match self.i32(field)? {
            -1 => Ok(0),
            value => usize::try_from(value).map_err(|_| Malformed::Value { field, value: i64::from(value) }),
        }
    }

    /// Bytes that may be null, which counts as none.
    pub fn nullable_bytes(&mut self, field: &'static str) -> Read<&'a [u8]> {
        let length = self.nullable_length(field)?;
        self.take(field, length)
    }

    /// A string that is text.
    pub fn text(&mut self, field: &'static str) -> Read<&'a str> {
        let length = self.string_length(field)?;
        self.text_of(field, length)
    }

    pub fn nullable_text(&mut self, field: &'static str) -> Read<Option<&'a str>> {
        let length = self.nullable_string_length(field)?;
        length.map(|length| self.text_of(field, length)).transpose()
    }

    /// So many bytes of text.
    pub fn text_of(&mut self, field: &'static str, bytes: usize) -> Read<&'a str> {
        std::str::from_utf8(self.take(field, bytes)?).map_err(|_| Malformed::NotText { field })
    }

    #[inline]
    pub fn string(&mut self, field: &'static str) -> Read<&'a [u8]> {
        let length = self.string_length(field)?;
        self.take(field, length)
    }

    #[inline]
    pub fn nullable_string(&mut self, field: &'static str) -> Read<Option<&'a [u8]>> {
        let length = self.nullable_string_length(field)?;
        length.map(|length| self.take(field, length)).transpose()
    }

    /// The length of a string whose bytes follow.
    #[inline]
    pub fn string_length(&mut self, field: &'static str) -> Read<usize> {
        self.nullable_string_length(field)?.ok_or(Malformed::Value { field, value: -1 })
    }

    #[inline]
    pub fn nullable_string_length(&mut self, field: &'static str) -> Read<Option<usize>> {
        let value = self.i16(field)?;
        if value == -1 {
            return Ok(None);
        }
        usize::try_from(value).map(Some).map_err(|_| Malformed::Value { field, value: i64::from(value) })
    }

    #[inline]
    pub fn varint(&mut self, field: &'static str) -> Read<i32> {
        let Some((value, used)) = varint::read_int(self.left) else {
            return Err(self.bad_varint(field, varint::INT_BYTES_MAX));
        };
        self.left = &self.left[used..];
        Ok(value)
    }

    #[inline]
    pub fn varlong(&mut self, field: &'static str) -> Read<i64> {
        let Some((value, used)) = varint::read(self.left) else {
            return Err(self.bad_varint(field, varint::LONG_BYTES_MAX));
        };
        self.left = &self.left[used..];
        Ok(value)
    }

    /// Of the compact types; five bytes at most.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Read<u32> {
        let mut value = 0_u64;
        for at in 0..5 {
            let byte = self.i8(field)? as u8;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Malformed::Value { field, value: value as i64 });
            }
        }
        Err(Malformed::Value { field, value: -1 })
    }

    /// The tagged fields at the end of a compact structure.
    pub fn skip_tags(&mut self) -> Read<()> {
        for _ in 0..self.unsigned_varint("number of tags")? {
            self.unsigned_varint("tag")?;
            let bytes = self.unsigned_varint("size of a tag")?;
            self.take("tag", bytes as usize)?;
        }
        Ok(())
    }

    /// Bytes after their length as a varint, where -1 stands for null.
    #[inline]
    pub fn varint_bytes(&mut self, field: &'static str) -> Read<Option<&'a [u8]>> {
        let value = self.varint(field)?;
        if value == -1 {
            return Ok(None);
        }
        let length = usize::try_from(value).map_err(|_| Malformed::Value { field, value: i64::from(value) })?;
        self.take(field, length).map(Some)
    }

    pub fn end(&self) -> Read<()> {
        if self.left.is_empty() { Ok(()) } else { Err(Malformed::Trailing { bytes: self.left.len() }) }
    }

    #[cold]
    fn short(&self, field: &'static str, wanted: usize) -> Malformed {
        Malformed::Short { field, wanted, left: self.left.len() }
    }

    /// A varint without an end is short if more bytes could still end it.
    #[cold]
    fn bad_varint(&self, field: &'static str, bytes_max: usize) -> Malformed {
        let ended = self.left.iter().take(bytes_max).any(|byte| byte & 0x80 == 0);
        if !ended && self.left.len() < bytes_max {
            return self.short(field, self.left.len() + 1);
        }
        let mut bytes = [0; 8];
        let shown = self.left.len().min(8);
        bytes[..shown].copy_from_slice(&self.left[..shown]);
        Malformed::Value { field, value: i64::from_le_bytes(bytes) }
    }
}
