//! A window over a file or pipe: a buffer small enough for the cache that always starts at the next record.

use crate::base::align;
use crate::base::progress::ReadProgress;
use crate::wire::crc32c;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Fits the second-level cache with room for the rest.
pub const WINDOW_BYTES: usize = 256 << 10;
const BUFFER_BYTES: usize = WINDOW_BYTES + align::MARGIN_BYTES;

enum Input<'a> {
    /// Positioned reads; nothing at or past `end` is looked at, and nothing past `soft_end` without need.
    File {
        file: &'a File,
        next: u64,
        soft_end: u64,
        end: u64,
    },
    Pipe(&'a mut dyn Read),
}

pub struct Window<'a> {
    input: Input<'a>,
    buffer: Vec<u8>,
    head: usize,
    tail: usize,
    /// Offset in the source of `buffer[head]`.
    offset: u64,
    ended: bool,
    /// Who hears, and up to which offset it was told.
    progress: Option<(&'a ReadProgress, u64)>,
}

impl<'a> Window<'a> {
    /// The bytes `from..end` of a file; those from `soft_end` on only where a record reaches over it.
    pub fn file(file: &'a File, buffer: Vec<u8>, from: u64, soft_end: u64, end: u64) -> Self {
        Self::new(Input::File { file, next: from, soft_end, end }, buffer, from)
    }

    pub fn pipe(reader: &'a mut dyn Read) -> Self {
        Self::new(Input::Pipe(reader), Vec::new(), 0)
    }

    /// Like [`Self::pipe`], with a buffer of an earlier window and the offset where the reader is.
    pub fn piece(reader: &'a mut dyn Read, buffer: Vec<u8>, offset: u64) -> Self {
        Self::new(Input::Pipe(reader), buffer, offset)
    }

    fn new(input: Input<'a>, mut buffer: Vec<u8>, offset: u64) -> Self {
        buffer.resize(buffer.len().max(BUFFER_BYTES), 0);
        Self { input, buffer, head: 0, tail: 0, offset, ended: false, progress: None }
    }

    /// Tells what goes by, whenever the buffer is filled; a file's bytes count up to the soft end.
    pub fn watched(self, progress: &'a ReadProgress) -> Self {
        let from = self.offset;
        Self { progress: Some((progress, from)), ..self }
    }

    fn tell(&mut self, offset: u64) {
        let at = match &self.input {
            Input::File { soft_end, .. } => offset.min(*soft_end),
            Input::Pipe(_) => offset,
        };
        if let Some((progress, told)) = &mut self.progress {
            progress.add(at.saturating_sub(*told));
            *told = at.max(*told);
        }
    }

    /// Gives the buffer back for the next window. What is left of a file's part is read again, and counts as read.
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.tell(match &self.input {
            Input::File { soft_end, .. } => *soft_end,
            Input::Pipe(_) => self.offset,
        });
        self.buffer.truncate(BUFFER_BYTES);
        self.buffer.shrink_to_fit();
        self.buffer
    }

    /// Offset of the window's start in the source.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is in the buffer.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.head..self.tail]
    }

    /// At least `want` bytes, or all that are left.
    #[inline]
    pub fn ensure(&mut self, want: usize) -> io::Result<&[u8]> {
        if self.tail - self.head < want && !self.ended {
            self.fill(want)?;
        }
        Ok(self.bytes())
    }

    fn fill(&mut self, want: usize) -> io::Result<()> {
        self.tell(self.offset);
        self.settle();
        while self.tail - self.head < want && !self.ended {
            // Step by step with what arrives: the length that a header claims is believed when its bytes are there.
            if self.tail == self.buffer.len() {
                self.buffer.resize((want + align::MARGIN_BYTES).min(self.buffer.len() * 2), 0);
                self.settle();
            }
            let needed = want - (self.tail - self.head);
            let space = &mut self.buffer[self.tail..];
            let got = match &mut self.input {
                Input::File { file, next, soft_end, end } => {
                    let wanted = soft_end.saturating_sub(*next).max(needed as u64).min(end.saturating_sub(*next));
                    let length = space.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
                    let got = retry(|| file.read_at(&mut space[..length], *next))?;
                    *next += got as u64;
                    got
                }
                Input::Pipe(reader) => retry(|| reader.read(space))?,
            };
            self.ended = got == 0;
            self.tail += got;
        }
        Ok(())
    }

    /// Moves what is there to its place at the front; see [`page`].
    fn settle(&mut self) {
        let front = align::index(&self.buffer, self.offset);
        self.buffer.copy_within(self.head..self.tail, front);
        (self.head, self.tail) = (front, front + self.tail - self.head);
    }

    /// Whether `length` bytes from the window's start on fit the buffer as it is.
    fn fits(&self, length: usize) -> bool {
        length + align::MARGIN_BYTES <= self.buffer.len()
    }

    /// Whether `length` more bytes exist. A pipe has to be read to know.
    #[inline]
    pub fn holds(&mut self, length: usize) -> io::Result<bool> {
        if self.tail - self.head >= length {
            return Ok(true);
        }
        match self.input {
            Input::File { end, .. } => Ok(end.saturating_sub(self.offset) >= length as u64),
            Input::Pipe(_) => Ok(self.ensure(length)?.len() >= length),
        }
    }

    /// The CRC32C of `from..to` (counted from the window's start, all of which exists), continuing `crc`.
    pub fn checksum(&mut self, crc: u32, from: usize, to: usize) -> io::Result<u32> {
        let mut crc = crc;
        self.visit(from, to, |bytes| crc = crc32c::append(crc, bytes))?;
        Ok(crc)
    }

    /// Shows all bytes of `from..to`, in order. What does not fit the buffer of a file is read past it, so that
    /// long records need no more memory than short ones.
    pub fn visit(&mut self, from: usize, to: usize, mut see: impl FnMut(&[u8])) -> io::Result<()> {
        if self.fits(to) || matches!(self.input, Input::Pipe(_)) {
            let bytes = self.ensure(to)?;
            see(bytes.get(from..to).ok_or(io::ErrorKind::UnexpectedEof)?);
            return Ok(());
        }
        let Input::File { file, .. } = &self.input else { return Err(io::ErrorKind::Unsupported.into()) };
        let here = self.bytes().len().min(to);
        see(self.bytes().get(from..here).unwrap_or_default());
        let mut at = self.offset + from.max(here) as u64;
        let end = self.offset + to as u64;
        let mut scratch = vec![0; BUFFER_BYTES];
        while at < end {
            let front = align::index(&scratch, at);
            let length = WINDOW_BYTES.min((end - at) as usize);
            let scratch = &mut scratch[front..];
            let got = retry(|| file.read_at(&mut scratch[..length], at))?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            see(&scratch[..got]);
            at += got as u64;
        }
        Ok(())
    }

    /// Up to `out.len()` bytes that lie `ahead` of the window's start; how many there were.
    pub fn peek(&mut self, ahead: usize, out: &mut [u8]) -> io::Result<usize> {
        let want = ahead + out.len();
        if self.fits(want) || matches!(self.input, Input::Pipe(_)) {
            let bytes = self.ensure(want)?;
            let there = bytes.get(ahead..).unwrap_or_default();
            let length = there.len().min(out.len());
            out[..length].copy_from_slice(&there[..length]);
            return Ok(length);
        }
        let Input::File { file, end, .. } = &self.input else { return Ok(0) };
        let at = self.offset + ahead as u64;
        let length = out.len().min(usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX));
        let mut got = 0;
        while got < length {
            match retry(|| file.read_at(&mut out[got..length], at + got as u64))? {
                0 => break,
                more => got += more,
            }
        }
        Ok(got)
    }

    /// Moves the window's start; `length` bytes must exist.
    #[inline]
    pub fn skip(&mut self, length: usize) {
        self.offset += length as u64;
        if length <= self.tail - self.head {
            self.head += length;
            return;
        }
        (self.head, self.tail) = (0, 0);
        if let Input::File { next, .. } = &mut self.input {
            *next = self.offset;
            self.ended = false;
        }
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    /// Gives at most so many bytes a read.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(space.len());
            self.0.read(&mut space[..most])
        }
    }

    fn is_in_place(window: &Window, data: &[u8], base: u64) {
        let bytes = window.bytes();
        let at = (window.offset() - base) as usize;
        assert_eq!(bytes, &data[at..at + bytes.len()]);
        assert_eq!(bytes.as_ptr() as usize % align::PAGE_BYTES, window.offset() as usize % align::PAGE_BYTES);
    }

    #[test]
    fn bytes_lie_in_their_page_as_in_the_source_however_they_come_and_go() {
        let data = pattern(3 * WINDOW_BYTES + 77);
        for (drop, step, want) in [(1 << 20, 4096, 4096), (4095, 4097, 9000), (4097, 65_537, 64), (300, 1000, 1000)] {
            let (mut reader, base) = (Drops(&data, drop), 5 << 40 | 1234);
            let mut window = Window::piece(&mut reader, Vec::new(), base);
            // A fill puts what is there in place; what was skipped since moves with its place.
            while window.ensure(want).unwrap().len() >= step {
                is_in_place(&window, &data, base);
                window.skip(step);
            }
            is_in_place(&window, &data, base);
        }
    }

    #[test]
    fn a_pipes_buffer_grows_with_what_came_and_is_given_back_small() {
        let data = pattern(5 * WINDOW_BYTES);
        let mut reader = Drops(&data, 100_000);
        let mut window = Window::piece(&mut reader, Vec::new(), 17);
        window.ensure(10).unwrap();
        window.skip(9);
        let want = 4 * WINDOW_BYTES + 1;
        assert!(window.ensure(want).unwrap().len() >= want);
        assert!(window.buffer.len() <= want + align::MARGIN_BYTES, "{}", window.buffer.len());
        is_in_place(&window, &data, 17);
        assert_eq!(window.ensure(1 << 40).unwrap(), &data[9..], "the end, after a claim that nothing backs");
        let buffer = window.into_buffer();
        assert_eq!(buffer.len(), BUFFER_BYTES);
        let mut window = Window::piece(&mut reader, buffer, 0);
        assert_eq!(window.ensure(1).unwrap(), b"");
    }

    #[test]
    fn a_part_of_a_file_is_seen_from_any_place_with_a_buffer_of_one_size() {
        let data = pattern(4 * WINDOW_BYTES);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&data).unwrap();
        let (from, end) = (4099, data.len() - 5);
        for length in [WINDOW_BYTES - 1, WINDOW_BYTES, WINDOW_BYTES + 1, 2 * WINDOW_BYTES + 4097] {
            let mut window = Window::file(&file, Vec::new(), from, end as u64, end as u64);
            window.ensure(100).unwrap();
            is_in_place(&window, &data, 0);
            window.skip(3);
            let mut seen = Vec::new();
            window.visit(1, length, |bytes| seen.extend_from_slice(bytes)).unwrap();
            assert!(seen == data[4103..4102 + length], "{length} bytes are shown as they are");
            let mut ahead = [0; 9];
            assert_eq!(window.peek(length - 4, &mut ahead).unwrap(), 9);
            assert_eq!(ahead, data[4102 + length - 4..][..9]);
            assert_eq!(window.buffer.len(), BUFFER_BYTES);
            window.skip(length);
            assert!(!window.ensure(4096).unwrap().is_empty());
            is_in_place(&window, &data, 0);
            window.skip(end - window.offset() as usize - 2);
            assert_eq!(window.ensure(64).unwrap(), &data[end - 2..end], "nothing past the end is looked at");
        }
    }
}
