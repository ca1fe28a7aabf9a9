//! A text in the bodies of responses, whatever pieces they come in: found in constant memory, and what is behind it
//! kept in part, since that says why.

use crate::base::limits;
use crate::base::words::{WORDS_BYTES_MAX, Words};
use memchr::memmem::Finder;
use std::sync::Arc;

// Something of what is behind the text has a place, too.
const _: () = assert!(limits::HTTP_REFUSED_BY_BYTES_MAX < WORDS_BYTES_MAX);

/// What is looked for; the same for all connections.
#[derive(Debug)]
pub struct Sought {
    finder: Finder<'static>,
    /// Of each start of the text that is longer by one than its index: the longest shorter start that it ends with
    /// (Knuth, Morris and Pratt, 1977).
    borders: Vec<usize>,
}

impl Sought {
    /// `text` has a byte at least.
    pub fn new(text: &[u8]) -> Self {
        let mut borders = vec![0; text.len()];
        for at in 1..text.len() {
            borders[at] = longer(text, &borders, borders[at - 1], text[at]);
        }
        Self { finder: Finder::new(text).into_owned(), borders }
    }

    fn text(&self) -> &[u8] {
        self.finder.needle()
    }
}

/// The longest start of `text` that a stream ends with, which ended with one of `matched` bytes before this byte.
fn longer(text: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
    while matched > 0 && text[matched] != byte {
        matched = borders[matched - 1];
    }
    matched + usize::from(text[matched] == byte)
}

/// The search in one body after the other. Once made, it never allocates.
#[derive(Clone, Debug)]
pub struct Seeker {
    sought: Arc<Sought>,
    /// This body is searched.
    searches: bool,
    /// So many bytes of the text are what was read last.
    matched: usize,
    found: bool,
    excerpt: Words,
}

impl Seeker {
    pub fn new(sought: Arc<Sought>) -> Self {
        Self { sought, searches: false, matched: 0, found: false, excerpt: Words::default() }
    }

    /// Another body begins.
    pub fn begin(&mut self, searches: bool) {
        (self.searches, self.matched, self.found) = (searches, 0, false);
        self.excerpt.clear();
    }

    /// The next piece of the body; whether the text was in it so far.
    pub fn read(&mut self, piece: &[u8]) -> bool {
        if self.found {
            self.excerpt.add(piece);
        } else if self.searches
            && let Some(end) = self.end_of_text(piece)
        {
            self.found = true;
            self.excerpt.add(self.sought.text());
            self.excerpt.add(&piece[end..]);
        }
        self.found
    }

    /// Where the text ends in this piece. It may have begun in one before.
    fn end_of_text(&mut self, piece: &[u8]) -> Option<usize> {
        let text = self.sought.text();
        // One that begins before the piece ends within so many bytes.
        let (front, rest) = piece.split_at(piece.len().min(text.len() - 1));
        if let Some(end) = step(&self.sought, &mut self.matched, front) {
            return Some(end);
        }
        if rest.is_empty() {
            return None;
        }
        if let Some(start) = self.sought.finder.find(piece) {
            return Some(start + text.len());
        }
        self.matched = 0;
        step(&self.sought, &mut self.matched, &piece[piece.len() - front.len()..])
    }

    /// The text and what is behind it, of the last body in which it was found.
    pub fn excerpt(&self) -> &Words {
        &self.excerpt
    }
}

/// Byte by byte; where the text ends, if it does.
fn step(sought: &Sought, matched: &mut usize, bytes: &[u8]) -> Option<usize> {
    for (at, byte) in bytes.iter().enumerate() {
        *matched = longer(sought.text(), &sought.borders, *matched, *byte);
        if *matched == sought.borders.len() {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seek(text: &[u8], pieces: &[&[u8]]) -> (bool, String) {
        let mut seeker = Seeker::new(Arc::new(Sought::new(text)));
        seeker.begin(true);
        let found = pieces.iter().fold(false, |_, piece| seeker.read(piece));
        (found, seeker.excerpt().to_string())
    }

    #[test]
    fn a_text_is_found_across_pieces_with_what_is_behind_it() {
        let body = b"{\"took\":3,\"errors\":true,\"items\":[]}";
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let pieces = [&body[..first], &body[first..second], &body[second..]];
                let found = (true, "\"errors\":true,\"items\":[]}".to_owned());
                assert_eq!(seek(b"\"errors\":true", &pieces), found, "cut at {first} and {second}");
            }
        }
        assert_eq!(seek(b"x", &[b"abc", b"", b"dxe"]), (true, "xe".into()), "a single byte");
        assert_eq!(seek(b"\"errors\":true", &[b"\"errors\":tr", b"\"errors\":", b"tru"]), (false, String::new()));
        let long = [b"no".as_slice(), &[b'y'; 2 * WORDS_BYTES_MAX]].concat();
        assert_eq!(seek(b"no", &[&long]).1, format!("no{}…", "y".repeat(WORDS_BYTES_MAX - 2)));
    }

    #[test]
    fn each_body_is_searched_by_itself() {
        let mut seeker = Seeker::new(Arc::new(Sought::new(b"ab")));
        seeker.begin(true);
        assert!(!seeker.read(b"a"));
        seeker.begin(true);
        assert!(!seeker.read(b"b"), "it began in another body");
        seeker.begin(false);
        assert!(!seeker.read(b"ab"), "nobody asked");
        seeker.begin(true);
        assert!(seeker.read(b"ab") && seeker.read(b"x"));
        seeker.begin(true);
        assert!(!seeker.read(b"x") && seeker.excerpt().to_string().is_empty());
    }

    proptest! {
        // Few letters, so that starts of the text come again within it.
        #[test]
        fn cuts_hide_and_invent_nothing(text in "[ab]{1,9}", body in "[ab]{0,60}", cuts in proptest::collection::vec(0usize..60, 0..6)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            let ends = cuts.iter().copied().chain([body.len()]);
            let mut from = 0;
            let pieces: Vec<_> = ends.map(|to| &body.as_bytes()[std::mem::replace(&mut from, to)..to]).collect();
            let behind = body.find(&text).map(|at| body[at..].to_owned());
            prop_assert_eq!(seek(text.as_bytes(), &pieces), (behind.is_some(), behind.unwrap_or_default()));
        }
    }
}
