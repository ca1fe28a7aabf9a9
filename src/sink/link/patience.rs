//! How long a connection may stand still, and how long one that ended may take to come back from the kernel. All times
//! are [`Attention`]'s.

use super::{Link, State};
use crate::base::attention::Attention;
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::base::units::format_duration;
use crate::connect::tls::TlsSession;
use crate::sink::Ending;
use crate::sys::ring::{FileSlot, NetRing};

/// Of a limit, one part in so many passes between two looks at what was acknowledged, which cost a call each.
const LOOKS: u64 = 32;

/// What is known of how a connection gets on.
#[derive(Clone, Copy, Debug)]
pub struct Headway {
    /// What the kernel has taken on this connection, counted on from what was acknowledged at its start.
    taken: u64,
    acknowledged: u64,
    /// Since when what is judged waits, and where it ends at the latest: what is acknowledged beyond is of others. Of
    /// messages that wait since the same time the first one's end counts.
    waits: Option<(u64, u64)>,
    looked_ns: u64,
    /// The last look that found more.
    grew_ns: u64,
    /// It was seen to be ending, first at this time.
    ends_from_ns: Option<u64>,
}

impl Headway {
    /// Of a new connection.
    pub fn of<R: NetRing>(ring: &R, file: FileSlot) -> Self {
        let acknowledged = ring.acknowledged(file);
        Self { taken: acknowledged, acknowledged, waits: None, looked_ns: 0, grew_ns: 0, ends_from_ns: None }
    }

    /// The kernel took more.
    pub fn took(&mut self, bytes: usize) {
        self.taken += bytes as u64;
    }
}

impl Link {
    /// The oldest message, handed over at `since_ns`, has waited for longer than `most_ns`, and so long the peer's TCP
    /// has acknowledged nothing of it. To be asked again and again while something waits.
    pub fn is_late<R: NetRing>(&mut self, ring: &R, since_ns: u64, attention: Attention, most_ns: u64) -> bool {
        let (now_ns, headway) = (attention.attended_ns(), &mut self.headway);
        if self.state != State::Up {
            return false;
        }
        let end = match headway.waits {
            Some((since, end)) if since == since_ns => end,
            _ => {
                let unsent = self.outgoing.as_ref().map_or(0, |outgoing| outgoing.bytes() - outgoing.taken);
                let unsent = if self.tls.is_some() { TlsSession::sealed_bytes(unsent) } else { unsent };
                let end = headway.taken + unsent as u64;
                headway.waits = Some((since_ns, end));
                end
            }
        };
        if now_ns.saturating_sub(headway.looked_ns) >= most_ns / LOOKS {
            let acknowledged = ring.acknowledged(self.file);
            if acknowledged > headway.acknowledged && headway.acknowledged < end {
                headway.grew_ns = now_ns;
            }
            (headway.acknowledged, headway.looked_ns) = (acknowledged, now_ns);
        }
        attention.judges() && now_ns.saturating_sub(since_ns.max(headway.grew_ns)) > most_ns
    }

    /// Why the run ends where the kernel does not give back what a connection that ended had in flight: its places in
    /// the ring stay taken, and the records wait for good. To be asked again and again.
    pub fn stuck(&mut self, attention: Attention) -> Option<Ending> {
        let State::Ending(_) = self.state else {
            self.headway.ends_from_ns = None;
            return None;
        };
        let now_ns = attention.attended_ns();
        let waited_ns = now_ns - *self.headway.ends_from_ns.get_or_insert(now_ns);
        if waited_ns <= limits::LINK_ENDING_NS_MAX || !attention.judges() {
            return None;
        }
        let (holds, mend) = match (self.unreleased, self.listening) {
            (1.., _) => ("memory that it was to send without a copy", "--zero-copy=off"),
            (0, true) => ("a receive of it", "--io=syscall"),
            (0, false) => ("a send of it", "--io=syscall"),
        };
        let waited = format_duration(waited_ns);
        let what = format!("a connection ended {waited} ago, and the kernel still has {holds}");
        Some(Ending::Broken(Fatal::new(Exit::Failed, what).mend(mend).to_string()))
    }
}
