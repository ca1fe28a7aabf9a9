//! Clocks of the system that std lacks.

/// `CLOCK_MONOTONIC_RAW`, which goes by the machine's own counter, as the kernel measured it at boot: NTP leaves its
/// pace as it is. `None`: the kernel has none.
pub fn monotonic_raw_ns() -> Option<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one struct on this stack.
    let is_read = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut now) } == 0;
    is_read.then_some(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn it_goes_on_as_the_monotonic_clock_does() {
        let (from, raw_ns) = (Instant::now(), monotonic_raw_ns().unwrap());
        while from.elapsed() < Duration::from_millis(10) {
            std::hint::spin_loop();
        }
        let passed_ns = monotonic_raw_ns().unwrap() - raw_ns;
        // Slewing takes a tenth at most.
        assert!(passed_ns >= 8_000_000, "{passed_ns} ns in 10 ms");
    }
}
