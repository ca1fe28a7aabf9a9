//! A body in chunks, piece by piece. Source: RFC 9112, section 7.1.

use crate::base::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The hexadecimal length, and whether a digit was there.
    Size {
        value: u64,
        digits: bool,
    },
    /// The rest of the line after the length.
    Extension,
    /// The line feed that ends the length's line.
    SizeEnd,
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line, or within one.
    Trailer {
        empty: bool,
    },
    /// After a carriage return in the trailers.
    TrailerLf {
        empty: bool,
    },
    Done,
}

/// Where a chunked body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    /// The length of the chunk whose line is being read.
    size: u64,
    /// Bytes of this line or of the trailers.
    line_bytes: usize,
}

/// What was sent is no chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Chunks {
    pub fn begin() -> Self {
        Self { state: State::Size { value: 0, digits: false }, size: 0, line_bytes: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of data that come next, without anything between them.
    pub fn data_left(&self) -> u64 {
        if let State::Data { left } = self.state { left } else { 0 }
    }

    /// So many of them went by elsewhere.
    pub fn pass(&mut self, bytes: u64) {
        if let State::Data { left } = self.state {
            self.state = if left == bytes { State::DataCr } else { State::Data { left: left.saturating_sub(bytes) } };
        }
    }

    /// Takes what belongs to the body and shows its data; how many bytes that were.
    pub fn take(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            if let State::Data { left } = self.state {
                let length = usize::try_from(left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                data(&bytes[at..at + length]);
                self.pass(length as u64);
                at += length;
            } else {
                self.byte(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn byte(&mut self, byte: u8) -> Result<(), Malformed> {
        self.line_bytes += 1;
        if self.line_bytes > limits::RECEIVE_CHUNK_LINE_BYTES_MAX {
            return Err(Malformed);
        }
        self.state = match (self.state, byte) {
            (State::Size { value, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).ok_or(Malformed)?;
                let value = value.checked_mul(16).ok_or(Malformed)? + u64::from(digit);
                State::Size { value, digits: true }
            }
            (State::Size { value, digits: true }, b'\r') => {
                self.size = value;
                State::SizeEnd
            }
            (State::Size { value, digits: true }, b';' | b' ' | b'\t') => {
                self.size = value;
                State::Extension
            }
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, byte) if byte != b'\n' => State::Extension,
            (State::SizeEnd, b'\n') => {
                self.line_bytes = 0;
                if self.size == 0 { State::Trailer { empty: true } } else { State::Data { left: self.size } }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line_bytes = 0;
                State::Size { value: 0, digits: false }
            }
            (State::Trailer { empty }, b'\r') => State::TrailerLf { empty },
            (State::Trailer { .. }, byte) if byte != b'\n' => State::Trailer { empty: false },
            (State::TrailerLf { empty: true }, b'\n') => State::Done,
            (State::TrailerLf { empty: false }, b'\n') => State::Trailer { empty: true },
            _ => return Err(Malformed),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All data, and the bytes that the body took, however it is cut.
    fn read(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize), Malformed> {
        let (mut chunks, mut data, mut taken) = (Chunks::begin(), Vec::new(), 0);
        for part in bytes.chunks(piece) {
            let used = chunks.take(part, |bytes| data.extend_from_slice(bytes))?;
            taken += used;
            if used < part.len() {
                break;
            }
        }
        assert!(chunks.is_done() || taken == bytes.len());
        if chunks.is_done() { Ok((data, taken)) } else { Err(Malformed) }
    }

    #[test]
    fn chunks_extensions_and_trailers() {
        let body = b"4\r\nWiki\r\n6;name=\"x\"\r\npedia \r\n00E \r\nin \r\n\r\nchunks.\r\n0\r\nA: b\r\nC: d\r\n\r\n";
        let rest = b"GET /";
        for piece in 1..body.len() + 5 {
            let (data, taken) = read(&[&body[..], rest].concat(), piece).unwrap();
            assert_eq!((data.as_slice(), taken), (&b"Wikipedia in \r\n\r\nchunks."[..], body.len()));
        }
    }

    #[test]
    fn damage_is_refused() {
        for body in
            ["\r\n", "x\r\n", ";a\r\n", "4\nWiki", "4\r\nWikiX", "4\r\nWiki\rX", "10000000000000000\r\n", "0\r\nA\n"]
        {
            assert_eq!(read(body.as_bytes(), 3), Err(Malformed), "{body:?}");
        }
        let long = format!("1;{}\r\n", "x".repeat(limits::RECEIVE_CHUNK_LINE_BYTES_MAX));
        assert_eq!(read(long.as_bytes(), 100), Err(Malformed));
    }

    #[test]
    fn data_may_go_by_elsewhere() {
        let mut chunks = Chunks::begin();
        assert_eq!(chunks.take(b"a\r\n12", |_| {}), Ok(5));
        assert_eq!(chunks.data_left(), 8);
        chunks.pass(8);
        assert_eq!(chunks.take(b"\r\n0\r\n\r\n", |_| panic!("no data is left")), Ok(7));
        assert!(chunks.is_done());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'3')], 0..60), piece in 1usize..9) {
            let whole = read(&bytes, bytes.len().max(1));
            prop_assert_eq!(read(&bytes, piece), whole);
        }
    }
}
