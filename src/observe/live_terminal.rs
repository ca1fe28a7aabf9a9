//! Standard error as the live line is drawn on it.

use crate::observe::live_line::live_columns;
use indicatif::TermLike;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Whether a terminal of this kind (`TERM`) knows how to clear a line.
pub fn erases(kind: Option<&OsStr>) -> bool {
    kind.is_some_and(|kind| !kind.is_empty() && kind != "dumb")
}

/// One line, and never up to the margin.
#[derive(Debug, Default)]
pub struct LiveTerminal {
    /// What is drawn at once.
    unwritten: Mutex<String>,
}

impl TermLike for LiveTerminal {
    fn width(&self) -> u16 {
        u16::try_from(live_columns()).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.moved(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.moved(lines, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.moved(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.moved(columns, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.write_str("\r\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let text = std::mem::take(&mut *self.unwritten.lock().unwrap_or_else(PoisonError::into_inner));
        io::stderr().write_all(text.as_bytes())
    }
}

impl LiveTerminal {
    fn moved(&self, by: usize, way: char) -> io::Result<()> {
        if by == 0 { Ok(()) } else { self.write_str(&format!("\x1b[{by}{way}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_is_drawn_on_one_line_short_of_the_margin() {
        let terminal = LiveTerminal::default();
        assert_eq!(usize::from(terminal.width()), live_columns());
        terminal.move_cursor_up(0).unwrap();
        terminal.clear_line().unwrap();
        terminal.write_str("line").unwrap();
        terminal.move_cursor_left(2).unwrap();
        assert_eq!(terminal.unwritten.lock().unwrap().as_str(), "\r\u{1b}[2Kline\u{1b}[2D");
    }

    #[test]
    fn nothing_is_drawn_where_it_could_not_be_cleared() {
        assert!(["xterm-256color", "linux", "screen"].iter().all(|kind| erases(Some(OsStr::new(kind)))));
        assert!(!erases(Some(OsStr::new("dumb"))) && !erases(Some(OsStr::new(""))) && !erases(None));
    }
}
