//! A message between its offer and the kernel's taking all of it.

use crate::connect::tls::{TlsError, TlsSession};
use crate::sys::ring::{Loan, Piece, rest};
use std::ops::Range;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub tag: u32,
    pub pieces: [Piece; 2],
    pub taken: usize,
    /// The peer may read it in place.
    pub loan: Option<Loan>,
    /// Its memory is wanted again at once.
    pub copied: bool,
    /// The peer reads some of it in place that is to be left alone.
    pub lent: bool,
    /// Over TLS: what is sealed of it and not gone, and how many plain bytes that is.
    pub sealed: Range<usize>,
    pub sealed_plain: usize,
    /// The kernel has an operation of it, and was asked not to copy.
    pub submitted: bool,
    pub zero_copy: bool,
}

impl Outgoing {
    pub fn new(tag: u32, pieces: [Piece; 2], loan: Option<Loan>) -> Self {
        let (sealed, submitted, zero_copy, copied, lent) = (0..0, false, false, false, false);
        Self { tag, pieces, taken: 0, loan, copied, lent, sealed, sealed_plain: 0, submitted, zero_copy }
    }

    pub fn bytes(&self) -> usize {
        self.pieces[0].len() + self.pieces[1].len()
    }

    /// The kernel has taken so many bytes; how many of them the peer reads in place.
    pub fn took(&mut self, bytes: usize, loan: Option<Loan>) -> usize {
        let copied = self.pieces[0].len().saturating_sub(self.taken).min(bytes);
        self.taken += bytes;
        match loan {
            None => 0,
            Some(Loan::TakenBack) => bytes,
            Some(Loan::ForGood) => bytes - copied,
        }
    }

    /// What the kernel has not taken, at most `most` bytes.
    pub fn rest(&self, most: usize) -> [Piece; 2] {
        let [first, second] = rest(&self.pieces, self.taken);
        let first = first.start..first.end.min(first.start.saturating_add(most));
        let second = second.start..second.end.min(second.start.saturating_add(most - first.len()));
        // Of what is lent for good the first piece alone is copied.
        let as_it_is = !first.is_empty() || self.loan == Some(Loan::ForGood);
        if as_it_is { [first, second] } else { [second.clone(), second.end..second.end] }
    }
}

/// Seals both pieces into `out`, which lies beside them; returns the part of it that is filled.
///
/// # Errors
/// The session's keys are used up, or its cipher refuses: nothing can be sent any more.
pub fn seal(
    tls: &mut TlsSession,
    memory: &mut [u8],
    plain: [Piece; 2],
    out: Range<usize>,
) -> Result<Range<usize>, TlsError> {
    let mut filled = out.start;
    for piece in plain.into_iter().filter(|piece| !piece.is_empty()) {
        let (input, output) = if piece.end <= out.start {
            let (left, right) = memory.split_at_mut(out.start);
            (&left[piece], &mut right[filled - out.start..out.len()])
        } else {
            let (left, right) = memory.split_at_mut(piece.start);
            (&right[..piece.len()], &mut left[filled..out.end])
        };
        filled += tls.encrypt(input, output)?;
    }
    Ok(out.start..filled)
}

/// What is sent without a copy counts as locked memory (`ulimit -l`), and its notification as the socket's own memory
/// (`net.core.optmem_max`).
pub fn is_lack_of_memory(result: i32) -> bool {
    matches!(-result, libc::ENOMEM | libc::ENOBUFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_lent_for_good_the_first_piece_is_copied() {
        let mut outgoing = Outgoing::new(1, [0..100, 500..1500], Some(Loan::ForGood));
        let lent = Some(Loan::ForGood);
        assert_eq!([60, 140].map(|bytes| outgoing.took(bytes, lent)), [0, 100]);
        assert_eq!(outgoing.rest(usize::MAX), [100..100, 600..1500]);
        assert_eq!((outgoing.took(400, None), outgoing.took(500, lent), outgoing.taken), (0, 500, outgoing.bytes()));
    }

    #[test]
    fn what_is_left_of_other_messages_begins_with_their_first_piece() {
        let mut outgoing = Outgoing::new(1, [0..100, 500..1500], Some(Loan::TakenBack));
        assert_eq!(outgoing.took(150, Some(Loan::TakenBack)), 150);
        assert_eq!(outgoing.rest(600), [550..1150, 1150..1150]);
    }
}
