//! Where in a page a buffer's bytes lie. Some processors (AMD's Zen 3) copy with `rep movsb`, as the kernel does, more
//! than five times slower where the destination lies 1 to 31 bytes further into its page than the source; malloc puts
//! large buffers just there, 16 bytes behind a page's start, and files and most streams begin at one.

pub const PAGE_BYTES: usize = 4096;
/// What a buffer needs beyond what it is to hold.
pub const MARGIN_BYTES: usize = 2 * PAGE_BYTES;

/// The first index of `buffer` that lies in its page where `offset` lies in a page of the source; less than
/// [`MARGIN_BYTES`].
#[inline]
pub fn index(buffer: &[u8], offset: u64) -> usize {
    buffer.as_ptr().align_offset(PAGE_BYTES) + (offset % PAGE_BYTES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_lies_in_its_page_as_in_the_sources() {
        let memory = vec![0; 3 * PAGE_BYTES];
        for (skipped, offset) in [(0, 0), (1, 4095), (17, 5 << 40 | 31), (4095, 4096), (4096, u64::MAX)] {
            let buffer = &memory[skipped..];
            let at = index(buffer, offset);
            assert!(at < MARGIN_BYTES);
            assert_eq!((buffer[at..].as_ptr() as usize) % PAGE_BYTES, offset as usize % PAGE_BYTES);
        }
    }
}
