//! A timer for a tokio runtime that goes off on time: tokio's own counts in milliseconds.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;

/// See the module. It belongs to the runtime that it was made in.
#[derive(Debug)]
pub struct Timer(AsyncFd<File>);

impl Timer {
    /// # Panics
    /// Outside of a runtime.
    pub fn new() -> io::Result<Self> {
        // SAFETY: integers in, a descriptor or an error out.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and belongs to nobody else.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: the file is moved in, always tells the same descriptor, and is never lent out for changing, so the
        // descriptor stays open until the `AsyncFd` is dropped.
        Ok(Self(unsafe { AsyncFd::register(file) }.map_err(io::Error::from)?))
    }

    /// Goes off once, so many nanoseconds from now; what was set before is forgotten.
    pub fn set(&self, after_ns: u64) -> io::Result<()> {
        // All zeros would mean never.
        let after_ns = after_ns.max(1);
        let value = libc::timespec {
            tv_sec: (after_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (after_ns % 1_000_000_000) as libc::c_long,
        };
        let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the kernel reads one struct on this stack during the call and writes nothing.
        let set = unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const once, std::ptr::null_mut()) };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Ready once it has gone off.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // Readiness may be left over from a time that nobody waited for: only reading tells.
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            if let Ok(read) = guard.try_io(|timer| timer.get_ref().read(&mut [0; 8])) {
                return Poll::Ready(read.map(drop));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::{Duration, Instant};

    #[test]
    fn goes_off_once_and_not_early() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let after = Duration::from_micros(300);
        runtime.block_on(async {
            let timer = Timer::new().unwrap();
            for _ in 0..20 {
                let from = Instant::now();
                timer.set(after.as_nanos() as u64).unwrap();
                poll_fn(|cx| timer.poll(cx)).await.unwrap();
                assert!(from.elapsed() >= after);
                // One that has gone off while nobody waited is forgotten when it is set anew.
                timer.set(0).unwrap();
                tokio::task::yield_now().await;
            }
            timer.set(u64::MAX / 4).unwrap();
            let pending = tokio::time::timeout(Duration::from_millis(5), poll_fn(|cx| timer.poll(cx)));
            assert!(pending.await.is_err());
        });
    }
}
