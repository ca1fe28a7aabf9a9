//! Telling the processor which cache line will be written soon.

/// How many records ahead the next heads are fetched.
pub const RECORDS_AHEAD: u64 = 12;

/// Asks for the line at `at` of `memory`, to be written; past the end it does nothing.
#[inline]
pub fn for_write(memory: &[u8], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(byte) = memory.get(at) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch reads and writes nothing, and the address is that of a live byte.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(std::ptr::from_ref(byte).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _unused = (memory, at);
}
