//! How far a reading is. No counter of a run: many threads add to it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How far a reading is: told by the threads that read, once a window; seen by the one that draws the live line.
#[derive(Debug, Default)]
pub struct ReadProgress {
    bytes_read: AtomicU64,
    /// 0: nobody knows, as of a pipe or a topic.
    bytes_all: AtomicU64,
    /// Of a topic, whose end is known in offsets alone.
    offsets_read: AtomicU64,
    offsets_all: AtomicU64,
}

impl ReadProgress {
    pub fn add(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Relaxed);
    }

    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Relaxed)
    }

    /// So much is to be read, all sources together.
    pub fn set_bytes_all(&self, bytes: u64) {
        self.bytes_all.store(bytes, Relaxed);
    }

    pub fn add_offsets(&self, offsets: u64) {
        self.offsets_read.fetch_add(offsets, Relaxed);
    }

    /// So many offsets are to be read, and then all is read.
    pub fn set_offsets_all(&self, offsets: u64) {
        self.offsets_read.store(0, Relaxed);
        self.offsets_all.store(offsets, Relaxed);
    }

    /// How many were read, and how many there are; `None`: what is read has none.
    pub fn offsets(&self) -> Option<(u64, u64)> {
        let all = Some(self.offsets_all.load(Relaxed)).filter(|offsets| *offsets > 0)?;
        Some((self.offsets_read.load(Relaxed).min(all), all))
    }

    /// `None`: nobody knows.
    pub fn bytes_all(&self) -> Option<u64> {
        Some(self.bytes_all.load(Relaxed)).filter(|bytes| *bytes > 0)
    }
}
