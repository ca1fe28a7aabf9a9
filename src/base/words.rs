//! A few words of somebody else, kept in place: nothing is allocated, and nothing in them steers a terminal.

use std::fmt::{self, Write};

/// So much of a text is kept.
pub const WORDS_BYTES_MAX: usize = 200;

/// The first bytes of a text, whatever they are; empty: nobody said anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Words {
    bytes: [u8; WORDS_BYTES_MAX],
    length: usize,
    /// There were more.
    cut: bool,
}

impl Default for Words {
    fn default() -> Self {
        Self { bytes: [0; WORDS_BYTES_MAX], length: 0, cut: false }
    }
}

impl Words {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds what there is room for.
    pub fn add(&mut self, more: &[u8]) {
        let kept = more.len().min(WORDS_BYTES_MAX - self.length);
        self.bytes[self.length..self.length + kept].copy_from_slice(&more[..kept]);
        self.length += kept;
        self.cut |= kept < more.len();
    }

    /// As the end of a sentence about what happened: `: "the words"`, or nothing.
    pub fn as_reason(&self) -> String {
        if self.length == 0 { String::new() } else { format!(": \"{self}\"") }
    }
}

/// As text on one line.
impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.bytes[..self.length].utf8_chunks() {
            for c in part.valid().chars() {
                if steers(c) { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
            }
            if !part.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        if self.cut { f.write_char('…') } else { Ok(()) }
    }
}

/// It moves the cursor, or turns round what follows it.
fn steers(c: char) -> bool {
    let is_direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_direction || matches!(c, '\u{2028}' | '\u{2029}')
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_is_kept_and_told_as_one_line_of_text() {
        let mut words = Words::default();
        assert_eq!(words.as_reason(), "");
        words.add(b"no\n\x1b[2Jkey");
        words.add(b" \xff in it");
        assert_eq!(words.as_reason(), ": \"no\\n\\u{1b}[2Jkey \u{fffd} in it\"");
        words.clear();
        words.add("a\u{202e}b \u{2066}é".as_bytes());
        assert_eq!(words.to_string(), "a\\u{202e}b \\u{2066}é");
        words.clear();
        words.add(&[b'x'; WORDS_BYTES_MAX]);
        assert_eq!(words.to_string(), "x".repeat(WORDS_BYTES_MAX), "all of it");
        words.add(b"");
        words.add(b"y");
        assert_eq!(words.to_string(), format!("{}…", "x".repeat(WORDS_BYTES_MAX)));
        words.clear();
        assert_eq!(words, Words::default());
    }
}
