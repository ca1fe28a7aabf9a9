//! Seeded changes to sample inputs: enough to reach the odd corners without a coverage-guided fuzzer.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// An input is not grown beyond this.
const INPUT_BYTES_MAX: usize = 8 << 10;

const NUMBERS: [u64; 12] =
    [0, 1, 63, 64, 65, 2880, 1 << 28, (1 << 28) + 1, u32::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX];

const WORDS: [&[u8]; 26] = [
    b"-",
    b".",
    b",",
    b":",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"{{sequence}}",
    b"{{crc32c}}",
    b"{{",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x1e",
    b"ENGR",
    b"null",
    b"-1",
    b"1e308",
    b"NaN",
    b"\xff",
    b"\xc3\xa9",
    b"99999999999999999999",
    b" ",
];

pub struct Mutator {
    random: Xoshiro256PlusPlus,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.random.next_u64() % end as u64) as usize
    }

    /// One to six changes to one of the samples.
    pub fn next(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = samples[self.below(samples.len())].clone();
        for _ in 0..1 + self.below(6) {
            self.change(&mut bytes, samples);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(64) + 1);
        match self.below(11) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                let into = self.below(bytes.len() + 1);
                bytes.splice(into..into, copy);
            }
            3 => {
                let other = &samples[self.below(samples.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            4 => drop(bytes.splice(at..end.min(at + 1), [self.random.next_u64() as u8])),
            5 => drop(bytes.splice(at..end, WORDS[self.below(WORDS.len())].iter().copied())),
            6 => drop(bytes.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
            7 => self.change_decimal(bytes, at),
            8 => self.change_word(bytes, at),
            9 => self.swap_lines(bytes),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
        }
    }

    fn number(&mut self) -> u64 {
        let number = NUMBERS[self.below(NUMBERS.len())];
        number.wrapping_add(self.random.next_u64() % 3)
    }

    /// Replaces the next decimal at or after `at`.
    fn change_decimal(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|skip| at + skip) else { return };
        let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = self.number().to_string();
        bytes.splice(start..start + digits, number.into_bytes());
    }

    /// Overwrites one, two, four or eight bytes with a little-endian number, aligned as in a header.
    fn change_word(&mut self, bytes: &mut [u8], at: usize) {
        let width = 1 << self.below(4);
        let number = self.number().to_le_bytes();
        if let Some(word) = bytes.get_mut(at / width * width..).and_then(|rest| rest.get_mut(..width)) {
            word.copy_from_slice(&number[..width]);
        }
    }

    fn swap_lines(&mut self, bytes: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if !lines.is_empty() {
            let (one, other) = (self.below(lines.len()), self.below(lines.len()));
            lines.swap(one, other);
            *bytes = lines.concat();
        }
    }
}
