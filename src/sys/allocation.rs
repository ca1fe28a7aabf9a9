//! An allocator that counts what each thread asks of it. The engine runs on the system's own; the simulation
//! installs this one to prove that a core allocates nothing between the barrier and its end, the fuzz targets to
//! see that no input is believed when it claims a huge length.
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: engine::sys::allocation::Counting = engine::sys::allocation::Counting;
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Neither lazily made nor dropped, so that the allocator may use it at any time of a thread's life.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Bytes taken less those given back, and the most that was.
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator with a count for each thread; see the module.
pub struct Counting;

// SAFETY: every call goes to `System` as it came, so the system's allocator upholds the contract.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one(layout.size() as i64);
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller upholds the contract of `GlobalAlloc::dealloc`.
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: `start` came from `System` through us.
        unsafe { System.dealloc(start, layout) }
    }

    // SAFETY: the caller upholds the contract of `GlobalAlloc::realloc`.
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count_one(bytes as i64 - layout.size() as i64);
        // SAFETY: `start` came from `System` through us.
        unsafe { System.realloc(start, layout, bytes) }
    }
}

fn count_one(more_bytes: i64) {
    COUNT.set(COUNT.get() + 1);
    hold(more_bytes);
}

fn hold(more_bytes: i64) {
    let held = HELD.get() + more_bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

/// Runs `work` and tells how often this thread allocated meanwhile; always 0 unless [`Counting`] is installed.
pub fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.get();
    let value = work();
    (value, COUNT.get() - before)
}

/// Runs `work` outside every count: what a simulation does in place of the kernel and of other threads.
pub fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let before = COUNT.get();
    let value = work();
    COUNT.set(before);
    value
}

/// Runs `work` and tells how many bytes more than before this thread held at once meanwhile; always 0 unless
/// [`Counting`] is installed. What one thread takes and another gives back counts for the first.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = HELD.get();
    PEAK.set(before);
    let value = work();
    (value, PEAK.get() - before)
}
