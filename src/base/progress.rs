//! How far a reading is. No counter of a run: many threads add to it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How far a reading is: told by the threads that read, once a window; seen by the one that draws the live line.
#[derive(Debug, Default)]
pub struct ReadProgress {
    bytes_read: AtomicU64,
    /// 0: nobody knows, as of a pipe or a topic.
    bytes_all: AtomicU64,
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

    /// `None`: nobody knows.
    pub fn bytes_all(&self) -> Option<u64> {
        Some(self.bytes_all.load(Relaxed)).filter(|bytes| *bytes > 0)
    }
}
