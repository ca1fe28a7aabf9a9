//! Loops that tell how fast this machine is right now, at what the planned way of the bytes is made of.

mod heads;

use crate::base::fatal::Fatal;
use crate::base::{limits, program, within_host};
use crate::host::capacity::costs::{self, Cost, Probe, Probes};
use crate::host::{Sysfs, memory};
use crate::sys;
use crate::sys::socket::{Interest, Waiter};
use socket2::{Domain, Socket, Type};
use std::fs::File;
use std::hint::{black_box, spin_loop};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

pub use heads::Layout;

/// Long in all beside what a neighbour on the same hardware disturbs; the stretches tell how much it does.
const STRETCHES: usize = 5;
const STRETCH_TIME: Duration = Duration::from_millis(160);
/// Of all stretches together, where next to nothing moves.
const STRETCHES_TIME_MAX: Duration = Duration::from_secs(5);
/// Of the arithmetic, which is shown and of which the fastest turn counts.
const CORE_TIME: Duration = Duration::from_millis(200);
const TMPFS: &str = "/dev/shm";
/// As much as averages over fast and slow pages (a hypervisor backs them differently), or this part of what is free.
pub(super) const TMPFS_BYTES_MAX: u64 = 1 << 30;
/// What a probe takes of the memory that is free, at most.
const FREE_SHARE: u64 = 8;
const BLOCK_BYTES: usize = limits::BLOCK_BUFFERED_BYTES as usize;
/// As the payload ring of a lane that writes one block at a time.
const TMPFS_RING_BYTES: usize = 2 * BLOCK_BYTES;
/// Blocks and rings over loopback, as those of `tcp://` and `kafka://`.
const SEND_BYTES: usize = 1 << 20;
const SEND_RING_BYTES: usize = 5 << 20;
/// Of connections: what more of them on a core do to its caches has shown by then.
const LANES_MAX: u32 = 4;
/// Of the exchanges: as many connections as a producer over HTTP has, a request and an answer of common sizes.
const EXCHANGE_CONNECTIONS: usize = costs::HTTP_CONNECTIONS as usize;
const REQUEST_BYTES: usize = 4 << 10;
const ANSWER_BYTES: usize = 32;

/// What `cost` scales as, with as many rings and connections as the core of `layout` has producers: together they may
/// need more cache than there is. Keeps up to two of `cpus` busy for two seconds.
pub fn calibrate(cpus: &[usize], layout: &Layout, cost: &Cost) -> Result<Probes, Fatal> {
    let (lanes, layout) = (layout.lanes.clamp(1, LANES_MAX), layout.within(available_bytes() / FREE_SHARE));
    let failed = |what: &str, why: io::Error| {
        Fatal::host(format!("calibrating {what}: {why}")).mend(program::command("plan --calibrate off"))
    };
    let wants = |probe| cost.record_probe == probe || cost.byte_probe == probe;
    let heads = || on(cpus.first(), || heads::heads(layout)).map_err(|why| failed("memory", why));
    let tmpfs = || on(cpus.first(), || tmpfs(Path::new(TMPFS), lanes as usize)).map_err(|why| failed(TMPFS, why));
    let loopback = || loopback(cpus, lanes as usize).map_err(|why| failed("loopback", why));
    let exchange = || exchange(cpus).map_err(|why| failed("exchanges over loopback", why));
    let core_ns = Some(on(cpus.first(), core));
    let found = [
        wants(Probe::Head).then(heads).transpose()?,
        wants(Probe::Tmpfs).then(tmpfs).transpose()?,
        wants(Probe::Loopback).then(loopback).transpose()?,
        wants(Probe::Exchange).then(exchange).transpose()?,
    ];
    let reach = found.iter().flatten().map(|timed| timed.reach).reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
    let [head_ns, tmpfs_byte_ns, loopback_byte_ns, exchange_ns] = found.map(|timed| timed.map(|timed| timed.ns));
    Ok(Probes {
        core_ns,
        head_ns,
        head_record_bytes: head_ns.and(Some(layout.record_bytes)),
        head_ring_bytes: head_ns.and(Some(layout.ring_bytes)),
        head_rings: head_ns.and(Some(layout.lanes)),
        tmpfs_byte_ns,
        loopback_byte_ns,
        loopback_connections: loopback_byte_ns.and(Some(lanes)),
        exchange_ns,
        reach,
    })
}

/// What a unit of a probe's work takes: the median of all stretches, and the rates of the slowest and the fastest as
/// parts of the median's.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Timed {
    ns: f64,
    reach: (f64, f64),
}

/// Cuts a probe's time.
struct Stretches {
    /// It ends then, whatever was done.
    until: Instant,
    began: Instant,
    /// Units that were done by then.
    before: u64,
    ns: Vec<f64>,
}

impl Stretches {
    fn start() -> Self {
        let now = Instant::now();
        Self { until: now + STRETCHES_TIME_MAX, began: now, before: 0, ns: Vec::with_capacity(STRETCHES) }
    }

    /// `done`: units since the start; false: the time is over.
    fn go_on(&mut self, done: u64) -> bool {
        let now = Instant::now();
        let elapsed = now - self.began;
        if elapsed >= STRETCH_TIME && done > self.before {
            self.ns.push(elapsed.as_nanos() as f64 / (done - self.before) as f64);
            (self.began, self.before) = (now, done);
        }
        self.ns.len() < STRETCHES && now < self.until
    }

    fn timed(mut self) -> io::Result<Timed> {
        self.ns.sort_by(f64::total_cmp);
        let (Some(fastest), Some(slowest)) = (self.ns.first(), self.ns.last()) else {
            let what = format!("nothing moved in {} s", STRETCHES_TIME_MAX.as_secs());
            return Err(io::Error::new(ErrorKind::TimedOut, what));
        };
        let ns = self.ns[self.ns.len() / 2];
        Ok(Timed { ns, reach: (ns / slowest, ns / fastest) })
    }
}

/// On a thread of its own, so that the caller's affinity stays as it is.
fn on<T: Send>(cpu: Option<&usize>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            // Where it may not be pinned the figures are noisier, no more.
            let _pinned = cpu.is_some_and(|cpu| sys::process::pin(*cpu));
            work()
        });
        pinned.join().expect("a probe does not panic")
    })
}

/// The fastest of several turns: what disturbs only ever makes it slower.
fn core() -> f64 {
    const STEPS: u32 = 1 << 21;
    let until = Instant::now() + CORE_TIME;
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

/// `u64::MAX`: nobody knows.
fn available_bytes() -> u64 {
    memory::available_bytes(&Sysfs::default()).unwrap_or(u64::MAX)
}

/// Overwrites one file whose pages are there already.
fn tmpfs(folder: &Path, lanes: usize) -> io::Result<Timed> {
    let file = File::options().read(true).write(true).custom_flags(libc::O_TMPFILE).open(folder)?;
    let rings = vec![0x5a_u8; lanes * TMPFS_RING_BYTES];
    // A container's limit counts these pages as well.
    let free = sys::fs::space(folder)?.available_bytes.min(available_bytes()) / FREE_SHARE;
    let blocks = (TMPFS_BYTES_MAX.min(free) / BLOCK_BYTES as u64).max(1);
    let write = |at: u64| {
        let from = at as usize * BLOCK_BYTES % rings.len();
        file.write_all_at(&rings[from..from + BLOCK_BYTES], at % blocks * BLOCK_BYTES as u64)
    };
    (0..blocks).try_for_each(write)?;
    let (mut stretches, mut written) = (Stretches::start(), 0);
    while stretches.go_on(written * BLOCK_BYTES as u64) {
        write(written)?;
        written += 1;
    }
    stretches.timed()
}

/// As the engine's own connections within a host: whoever is accepted has from the listener that TCP does not pace it.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    within_host::never_pace(&listener);
    within_host::never_pace(&sender);
    sender.connect(&listener.local_addr()?.into())?;
    Ok((sender.into(), listener.accept()?.0))
}

/// Sends as the engine does: each connection in its turn, once the kernel has room for much.
fn loopback(cpus: &[usize], lanes: usize) -> io::Result<Timed> {
    let pairs = (0..lanes).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;
    let (senders, receivers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    for stream in senders.iter().chain(&receivers) {
        stream.set_nonblocking(true)?;
    }
    thread::scope(|scope| {
        let drain = scope.spawn(|| on(cpus.get(1), move || discard_all(&receivers)));
        let sent = on(cpus.first(), move || -> io::Result<Timed> {
            let mut lanes: Vec<_> =
                senders.into_iter().map(|stream| (stream, vec![0x5a_u8; SEND_RING_BYTES], 0)).collect();
            let mut waiter = Waiter::new(lanes.len());
            let (mut stretches, mut sent) = (Stretches::start(), 0_usize);
            while stretches.go_on(sent as u64) {
                waiter.clear();
                lanes.iter().for_each(|(stream, ..)| waiter.add(stream.as_fd(), Interest::Writable));
                waiter.wait(0);
                for (_, (stream, ring, at)) in lanes.iter_mut().enumerate().filter(|(lane, _)| waiter.is_ready(*lane)) {
                    let block = &ring[*at..*at + SEND_BYTES - *at % SEND_BYTES];
                    match stream.write(block) {
                        Ok(bytes) => (*at, sent) = ((*at + bytes) % SEND_RING_BYTES, sent + bytes),
                        Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                        Err(why) => return Err(why),
                    }
                }
            }
            stretches.timed()
        });
        drain.join().expect("the drain does not panic")?;
        sent
    })
}

/// Requests and answers over several connections, both ends polling: how fast two processors talk to each other, which
/// moves when a hypervisor moves them.
fn exchange(cpus: &[usize]) -> io::Result<Timed> {
    let pairs = (0..EXCHANGE_CONNECTIONS).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;
    let (asking, answering): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    for stream in asking.iter().chain(&answering) {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
    }
    thread::scope(|scope| {
        let answers = scope.spawn(|| on(cpus.get(1), move || answer_all(answering)));
        let asked = on(cpus.first(), move || ask_all(asking));
        answers.join().expect("the answering end does not panic")?;
        asked
    })
}

fn ask_all(mut streams: Vec<TcpStream>) -> io::Result<Timed> {
    let (request, mut inbox) = ([0x5a_u8; REQUEST_BYTES], [0; ANSWER_BYTES]);
    let mut missing = [0_usize; EXCHANGE_CONNECTIONS];
    let (mut stretches, mut asked) = (Stretches::start(), 0_u64);
    while stretches.go_on(asked) {
        for (stream, missing) in streams.iter_mut().zip(&mut missing) {
            match arrived(stream, &mut inbox[..*missing])? {
                Some(0) => return Err(ErrorKind::ConnectionAborted.into()),
                came => *missing -= came.unwrap_or(0),
            }
            if *missing == 0 {
                // The socket's buffer has room for one request: the one before was answered.
                stream.write_all(&request)?;
                (*missing, asked) = (ANSWER_BYTES, asked + 1);
            }
        }
    }
    stretches.timed()
}

fn answer_all(mut streams: Vec<TcpStream>) -> io::Result<()> {
    let (mut inbox, mut pending) = ([0; REQUEST_BYTES], [0; EXCHANGE_CONNECTIONS]);
    loop {
        for (stream, pending) in streams.iter_mut().zip(&mut pending) {
            match arrived(stream, &mut inbox)? {
                Some(0) => return Ok(()),
                came => *pending += came.unwrap_or(0),
            }
            if *pending >= REQUEST_BYTES {
                *pending -= REQUEST_BYTES;
                match stream.write_all(&[0x5a; ANSWER_BYTES]) {
                    // The asking end has closed.
                    Err(why) if matches!(why.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                        return Ok(());
                    }
                    done => done?,
                }
            }
        }
    }
}

/// What has come; `None`: nothing yet.
fn arrived(stream: &mut TcpStream, inbox: &mut [u8]) -> io::Result<Option<usize>> {
    if inbox.is_empty() {
        return Ok(None);
    }
    match stream.read(inbox) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        // Closed with an answer unread, at the end.
        Err(why) if why.kind() == ErrorKind::ConnectionReset => Ok(Some(0)),
        Err(why) => Err(why),
    }
}

/// Until all of them are closed.
fn discard_all(streams: &[TcpStream]) -> io::Result<()> {
    let mut open: Vec<&TcpStream> = streams.iter().collect();
    while !open.is_empty() {
        for at in (0..open.len()).rev() {
            match sys::receive::discard(open[at], u64::MAX) {
                Ok(0) => {
                    open.swap_remove(at);
                }
                Ok(_) => {}
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => spin_loop(),
                Err(why) => return Err(why),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::capacity::costs::Route;
    use socket2::SockRef;

    #[test]
    fn what_a_way_scales_as_is_measured_and_nothing_else() {
        for (route, lanes) in [(Route::Null, 2), (Route::Tmpfs, 1), (Route::Http, 3)] {
            let layout = Layout { lanes, record_bytes: 1000, block_bytes: 1 << 18, ring_bytes: 1 << 20 };
            let probes = calibrate(&[0], &layout, costs::table(None).cost(route)).unwrap();
            let (network, null) = (route == Route::Http, route == Route::Null);
            assert_eq!(probes.loopback_connections, network.then_some(lanes));
            let heads = (probes.head_record_bytes, probes.head_ring_bytes, probes.head_rings);
            assert_eq!(heads, (null.then_some(1000), null.then_some(1 << 20), null.then_some(lanes)));
            for (ns, wanted) in [
                (probes.core_ns, true),
                (probes.head_ns, null),
                (probes.tmpfs_byte_ns, route == Route::Tmpfs),
                (probes.loopback_byte_ns, network),
                (probes.exchange_ns, network),
            ] {
                assert_eq!(ns.is_some(), wanted, "{route:?} {probes:?}");
                assert!(ns.is_none_or(|ns| ns.is_finite() && ns > 0.0), "{route:?} {probes:?}");
            }
        }
        assert!(tmpfs(Path::new("/no/such/folder"), 1).is_err());
    }

    #[test]
    fn the_median_counts_and_the_outliers_are_the_reach() {
        let stretches = Stretches { ns: vec![2.0, 4.0, 1.0, 2.0, 2.5], ..Stretches::start() };
        assert_eq!(stretches.timed().unwrap(), Timed { ns: 2.0, reach: (0.5, 2.0) });
    }

    #[test]
    fn a_probe_ends_though_nothing_moves() {
        let mut stretches = Stretches { until: Instant::now(), ..Stretches::start() };
        assert!(!stretches.go_on(0));
        assert_eq!(stretches.timed().unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// A host whose default is `reno` has no other to tell it by.
    #[test]
    fn both_ends_of_a_probe_are_unpaced_as_the_engines_are() {
        let engines = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        within_host::never_pace(&engines);
        let (sender, receiver) = pair().unwrap();
        for end in [sender, receiver] {
            let own = SockRef::from(&end).tcp_congestion().unwrap();
            assert_eq!(own, engines.tcp_congestion().unwrap(), "{:?}", String::from_utf8_lossy(&own));
        }
    }

    #[test]
    fn an_answering_end_that_closes_is_an_error() {
        let (asking, answering) = pair().unwrap();
        asking.set_nonblocking(true).unwrap();
        drop(answering);
        assert_eq!(ask_all(vec![asking]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
}
