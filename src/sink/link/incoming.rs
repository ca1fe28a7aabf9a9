//! What comes in over a link: the receive that is armed, and over TLS what is opened of it.

use super::{Breakage, Event, Link, State, is_transient};
use crate::connect::tls::TlsError;
use crate::sys::ring::NetRing;
use std::ops::Range;

impl Link {
    /// Arms the receive, if none is armed and something may come: from the link's opening on, before anything is sent as
    /// well.
    pub fn listen<R: NetRing>(&mut self, ring: &mut R) {
        if self.listening || !self.hears() {
            return;
        }
        if let Some(why) = self.farewell.take() {
            // All that was said before it has been read. The peer may keep its connection open behind it.
            self.end(ring, why);
            return;
        }
        let free = self.area.inbox.len() - self.received;
        let range = match &self.tls {
            None => self.area.inbox.end - free..self.area.inbox.end,
            Some(_) => {
                // Whatever is opened has room in the inbox.
                let Range { start, end } = self.room_to_open();
                start..end.min(start + free.saturating_sub(self.unopened))
            }
        };
        if !range.is_empty() {
            self.arm(ring, range);
        }
    }

    /// What a peer said before a send met the end of the connection counts too.
    fn hears(&self) -> bool {
        matches!(self.state, State::Up | State::Ending(Breakage::Error(_)))
    }

    /// Over TLS: where what comes next lies until it is opened.
    fn room_to_open(&self) -> Range<usize> {
        self.area.opening.start + self.unopened..self.area.opening.end
    }

    fn arm<R: NetRing>(&mut self, ring: &mut R, range: Range<usize>) {
        self.listening = ring.receive(self.file, range, self.token(0, false));
        assert!(self.listening, "the ring has a place for each link's receive");
    }

    /// Breaks a connection with TLS off where nobody waits for the event: the receive, which comes back at once, brings
    /// it.
    pub(super) fn end<R: NetRing>(&mut self, ring: &mut R, why: Breakage) {
        if !self.listening {
            self.arm(ring, self.room_to_open());
        }
        let _not_yet = self.break_off(ring, why);
    }

    /// What came and was not consumed.
    pub fn inbox<'a, R: NetRing>(&self, ring: &'a mut R) -> &'a [u8] {
        &ring.memory()[self.area.inbox.start..self.area.inbox.start + self.received]
    }

    /// The inbox is full and nothing of it makes sense yet.
    pub fn inbox_is_full(&self) -> bool {
        self.received + self.unopened >= self.area.inbox.len()
    }

    /// Drops the first `bytes` of the inbox.
    pub fn consume<R: NetRing>(&mut self, ring: &mut R, bytes: usize) {
        let start = self.area.inbox.start;
        ring.memory().copy_within(start + bytes..start + self.received, start);
        self.received -= bytes;
    }

    /// The peer's side is known to have been cut off nowhere, once it has ended: over TLS it said so.
    pub fn has_said_all(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_closed())
    }

    pub(super) fn on_received<R: NetRing>(&mut self, ring: &mut R, result: i32) -> Event {
        self.listening = false;
        if !self.hears() {
            return self.settle_ending();
        }
        match result {
            1.. if self.tls.is_some() => self.open_received(ring, result as usize),
            1.. => {
                self.received += result as usize;
                Event::Received
            }
            _ if !self.is_up() => self.settle_ending(),
            0 => self.break_off(ring, Breakage::Closed),
            _ if is_transient(result) => {
                self.listen(ring);
                Event::Nothing
            }
            _ => self.break_off(ring, Breakage::Error(-result)),
        }
    }

    /// Opens what came sealed.
    fn open_received<R: NetRing>(&mut self, ring: &mut R, bytes: usize) -> Event {
        let Some(tls) = &mut self.tls else { return Event::Nothing };
        let (inbox, opening) = (self.area.inbox.clone(), self.area.opening.clone());
        let (left, right) = ring.memory().split_at_mut(opening.start);
        let (plain, incoming) = (&mut left[inbox], &mut right[..opening.len()]);
        let (mut received, used) = (self.received, self.unopened + bytes);
        let opened = tls.decrypt(incoming, used, |part| {
            plain[received..received + part.len()].copy_from_slice(part);
            received += part.len();
        });
        let is_news = received > self.received;
        self.received = received;
        let farewell = match opened {
            Ok(consumed) => {
                incoming.copy_within(consumed..used, 0);
                self.unopened = used - consumed;
                tls.is_closed().then_some(Breakage::Closed)
            }
            Err(why) => Some(Breakage::Tls(why)),
        };
        if let (State::Ending(_), Some(alert @ Breakage::Tls(TlsError::Alert(_)))) = (self.state, farewell) {
            // It says why the connection came to that end.
            self.state = State::Ending(alert);
        }
        match farewell {
            Some(why) if !is_news => self.break_off(ring, why),
            // What was said before it is heard first.
            _ => {
                self.farewell = farewell;
                Event::Received
            }
        }
    }
}
