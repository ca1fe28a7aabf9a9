//! What one producer may still offer.

use crate::pace::Pacer;
use crate::payload::Payload;

/// One producer on this core.
pub struct Lane {
    pub pacer: Pacer,
    /// Records and bytes it may still offer.
    pub records_left: u64,
    /// `u64::MAX`: no limit.
    pub bytes_left: u64,
    pub finished: bool,
}

impl Lane {
    /// Records that may still start before a limit is reached. The warm-up comes on top of the limits.
    /// `within`: how many records start within so many bytes, counted from those that are asked about.
    pub fn may_offer(&self, warmup: bool, within: impl Fn(u64) -> (u64, u64)) -> u64 {
        match self.bytes_left {
            _ if warmup => u64::MAX,
            u64::MAX => self.records_left,
            bytes => self.records_left.min(within(bytes).0),
        }
    }

    /// Records due and not submitted, of the warm-up and behind it.
    pub fn backlog_records(&self, payload: &Payload, now_ns: u64) -> (u64, u64) {
        let (mut warm, mut measured) = (0, 0);
        for (is_warmup, bytes) in self.pacer.backlog_by_phase(now_ns) {
            let records = payload.due_within(bytes).0;
            *(if is_warmup { &mut warm } else { &mut measured }) += records;
        }
        (warm, measured.min(self.may_offer(false, |bytes| payload.due_within(bytes))))
    }

    /// A limit is reached, and the warm-up, which does not count towards it, is over.
    pub fn is_spent(&mut self, now_ns: u64) -> bool {
        (self.records_left == 0 || self.bytes_left == 0) && !self.pacer.due(now_ns).warmup
    }

    pub fn spend(&mut self, warmup: bool, records: u64, bytes: u64) {
        if warmup {
            return;
        }
        self.records_left -= records;
        if self.bytes_left < u64::MAX {
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
        }
    }
}
