//! Long lines of text, for whoever reads them on a terminal.

use crate::sys::streams;

/// Text for standard output, whose lines break between words where that is a terminal.
pub fn for_stdout(text: String) -> String {
    match streams::stdout_columns() {
        Some(columns) => broken_between_words(&text, columns),
        None => text,
    }
}

/// A terminal would break long lines within words. What follows stands below the message; a word that is longer than a
/// line stays whole.
pub fn broken_between_words(text: &str, columns: usize) -> String {
    const INDENT: &str = "      ";
    let mut out = String::new();
    for line in text.lines() {
        let mut used = 0;
        for (at, word) in line.split(' ').enumerate() {
            let width = word.chars().count();
            if at > 0 && used > INDENT.len() && used + 1 + width > columns {
                out.push('\n');
                out.push_str(INDENT);
                used = INDENT.len();
            } else if at > 0 {
                out.push(' ');
                used += 1;
            }
            out.push_str(word);
            used += width;
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_lines_that_break_between_words() {
        let line = " INFO a lap is whole rounds of the ring\n";
        assert_eq!(broken_between_words(line, 80), line);
        assert_eq!(broken_between_words(line, 27), " INFO a lap is whole rounds\n      of the ring\n");
        assert_eq!(broken_between_words(line, 26), " INFO a lap is whole\n      rounds of the ring\n");
        let path = " WARN /a/path/that/is/long is full\n";
        assert_eq!(broken_between_words(path, 12), " WARN /a/path/that/is/long\n      is\n      full\n");
    }
}
