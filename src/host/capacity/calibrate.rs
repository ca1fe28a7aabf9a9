//! Three loops of a fraction of a second that tell how fast this machine is right now.

use crate::base::fatal::Fatal;
use crate::host::capacity::costs::Probes;
use crate::sys;
use std::fs::File;
use std::hint::{black_box, spin_loop};
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const PROBE_TIME: Duration = Duration::from_millis(300);
const TMPFS: &str = "/dev/shm";
const TMPFS_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: usize = 256 << 10;
/// As a payload ring: not all of it stays in the cache.
const RING_BYTES: usize = 4 << 20;

/// Keeps up to two of `cpus` busy for a second.
pub fn calibrate(cpus: &[usize]) -> Result<Probes, Fatal> {
    let failed = |what: &str, why: io::Error| {
        Fatal::host(format!("calibrating {what}: {why}")).mend("engine plan --calibrate off")
    };
    Ok(Probes {
        core_ns: on(cpus.first(), core),
        tmpfs_byte_ns: on(cpus.first(), || tmpfs(Path::new(TMPFS))).map_err(|why| failed(TMPFS, why))?,
        loopback_byte_ns: loopback(cpus).map_err(|why| failed("loopback", why))?,
    })
}

/// On a thread of its own, so that the caller's affinity stays as it is.
fn on<T: Send>(cpu: Option<&usize>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            // Where it may not be pinned the figures are noisier, no more.
            let _pinned = cpu.is_some_and(|cpu| sys::process::set_affinity(&[*cpu]));
            work()
        });
        pinned.join().expect("a probe does not panic")
    })
}

/// The fastest of several turns: what disturbs only ever makes it slower.
fn core() -> f64 {
    const STEPS: u32 = 1 << 21;
    let until = Instant::now() + PROBE_TIME;
    let mut best = f64::INFINITY;
    while Instant::now() < until {
        let began = Instant::now();
        let mut value = black_box(0x9e37_79b9_7f4a_7c15_u64);
        for _ in 0..STEPS {
            value = value.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(23) ^ 1;
        }
        black_box(value);
        best = best.min(began.elapsed().as_nanos() as f64 / f64::from(STEPS));
    }
    best
}

/// Overwrites one file whose pages are there already.
fn tmpfs(folder: &Path) -> io::Result<f64> {
    let file = File::options().read(true).write(true).custom_flags(libc::O_TMPFILE).open(folder)?;
    let ring = vec![0x5a_u8; RING_BYTES];
    let blocks = TMPFS_BYTES / BLOCK_BYTES as u64;
    let write = |at: u64| {
        let from = (at as usize * BLOCK_BYTES) % RING_BYTES;
        file.write_all_at(&ring[from..from + BLOCK_BYTES], at % blocks * BLOCK_BYTES as u64)
    };
    (0..blocks).try_for_each(write)?;
    let (began, mut written) = (Instant::now(), 0);
    while began.elapsed() < PROBE_TIME {
        write(written)?;
        written += 1;
    }
    Ok(began.elapsed().as_nanos() as f64 / (written * BLOCK_BYTES as u64) as f64)
}

fn loopback(cpus: &[usize]) -> io::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (receiver, _) = listener.accept()?;
    thread::scope(|scope| {
        let drain = scope.spawn(|| on(cpus.get(1), move || discard_all(&receiver)));
        let sent = on(cpus.first(), move || -> io::Result<f64> {
            let ring = vec![0x5a_u8; RING_BYTES];
            let (began, mut sent) = (Instant::now(), 0);
            while began.elapsed() < PROBE_TIME {
                let from = sent % RING_BYTES;
                sender.write_all(&ring[from..from + BLOCK_BYTES])?;
                sent += BLOCK_BYTES;
            }
            Ok(began.elapsed().as_nanos() as f64 / sent as f64)
        });
        drain.join().expect("the drain does not panic")?;
        sent
    })
}

fn discard_all(stream: &TcpStream) -> io::Result<()> {
    loop {
        match sys::receive::discard(stream, u64::MAX) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => spin_loop(),
            Err(why) => return Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_takes_time() {
        let probes = calibrate(&[0]).unwrap();
        for ns in [probes.core_ns, probes.tmpfs_byte_ns, probes.loopback_byte_ns] {
            assert!(ns.is_finite() && ns > 0.0, "{probes:?}");
        }
        assert!(tmpfs(Path::new("/no/such/folder")).is_err());
    }
}
