//! Files read by several threads: each is cut into chunks, every chunk is scanned as if its start were unknown, and
//! the results are taken in order. A chunk whose guess about its first record was wrong is scanned again, so that
//! the outcome is that of one thread reading from start to end.
//!
//! Files on several devices are scanned side by side, so that all of them are busy: what comes of a chunk is small,
//! and waits for its turn.

use super::guarded::Guarded;
use super::scan::{Event, Scan, scan};
use super::shape::Shape;
use super::window::Window;
use crate::base::fatal::{Exit, Fatal};
use crate::base::progress::ReadProgress;
use crate::sys::threads::{self, OnPanic};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;

/// Large enough that a chunk's overhead vanishes, small enough that the results of one fit memory.
pub const CHUNK_BYTES: u64 = 16 << 20;
/// Chunks scanned ahead of the one that is taken, for each thread, whatever they hold.
const AHEAD_PER_THREAD: usize = 2;
/// More may be scanned ahead while less than this waits: chunks (about 200 bytes each), and their events.
const CHUNKS_AHEAD_MAX: usize = 1 << 18;
const EVENTS_AHEAD_MAX: usize = 1 << 20;

const CRASHED: &str = "a thread that reads crashed; please report this";

/// One file to scan from its start to `end`.
pub struct FileScan<'a> {
    pub path: PathBuf,
    pub end: u64,
    /// Where it lies.
    pub device: u64,
    pub shape: &'a dyn Shape,
    pub progress: &'a ReadProgress,
}

/// What the reader of the results is told, in order.
pub enum Delivery<'a> {
    Event(&'a Event),
    FileEnd,
}

#[derive(Clone, Copy)]
struct Chunk {
    file: usize,
    from: u64,
    to: u64,
}

/// What the scanning threads share.
struct Shared<'a> {
    files: &'a [FileScan<'a>],
    chunks: Vec<Chunk>,
    /// Of each file the first chunk; one more behind the last.
    first_chunks: Vec<usize>,
    /// Chunks scanned ahead, whatever they hold.
    ahead: usize,
    state: Guarded<State>,
}

struct State {
    devices: Vec<Device>,
    taken: usize,
    done: HashMap<usize, io::Result<Scan>>,
    /// Of all that is done.
    events: usize,
    stop: bool,
}

struct Device {
    /// Chunks that nobody has begun, in the order in which they are taken.
    chunks: VecDeque<usize>,
    /// Threads that scan one.
    busy: usize,
}

/// The results, file by file.
pub struct Scans<'a> {
    shared: &'a Shared<'a>,
    next_file: usize,
}

/// Scans all `files` with so many threads, while `work` takes the results.
pub fn scan_files<T>(
    files: &[FileScan<'_>],
    threads: usize,
    chunk_bytes: u64,
    work: impl FnOnce(&mut Scans<'_>) -> Result<T, Fatal>,
) -> Result<T, Fatal> {
    let shared = &Shared::new(files, threads, chunk_bytes);
    std::thread::scope(|scope| {
        // Else they would wait for ever for what is to be taken.
        let _alarm = OnPanic(|| shared.stop());
        let scan = move || shared.scan_chunks();
        let start = |_| threads::start_scoped(scope, "verify-scan", "a thread that reads", scan);
        let started = threads::start_some(0..threads.max(1).min(shared.chunks.len()), start)?;
        let outcome = work(&mut Scans { shared, next_file: 0 });
        shared.stop();
        let joined: Vec<_> = started.into_iter().map(ScopedJoinHandle::join).collect();
        match joined.iter().any(Result::is_err) {
            true => Err(Fatal::new(Exit::Failed, CRASHED)),
            false => outcome,
        }
    })
}

impl<'a> Shared<'a> {
    fn new(files: &'a [FileScan<'a>], threads: usize, chunk_bytes: u64) -> Self {
        let (mut chunks, mut first_chunks) = (Vec::new(), vec![0]);
        let mut devices: BTreeMap<u64, VecDeque<usize>> = BTreeMap::new();
        for (file, scan) in files.iter().enumerate() {
            let on_device = devices.entry(scan.device).or_default();
            for from in (0..scan.end.max(1)).step_by(usize::try_from(chunk_bytes).unwrap_or(usize::MAX)) {
                on_device.push_back(chunks.len());
                chunks.push(Chunk { file, from, to: from.saturating_add(chunk_bytes).min(scan.end) });
            }
            first_chunks.push(chunks.len());
        }
        let devices = devices.into_values().map(|chunks| Device { chunks, busy: 0 }).collect();
        let state = Guarded::new(State { devices, taken: 0, done: HashMap::new(), events: 0, stop: false });
        let ahead = AHEAD_PER_THREAD * threads.max(1);
        Self { files, chunks, first_chunks, ahead, state }
    }

    fn stop(&self) {
        self.state.change(|state| state.stop = true);
    }

    /// A scanning thread.
    fn scan_chunks(&self) {
        let _alarm = OnPanic(|| self.stop());
        let mut buffer = Vec::new();
        let mut open: Option<(usize, File)> = None;
        while let Some((device, index)) = self.begin() {
            let chunk = self.chunks[index];
            let outcome = scan_chunk(&self.files[chunk.file], chunk, &mut open, &mut buffer);
            self.state.change(|state| state.end(device, index, outcome));
        }
    }

    /// The device and the index of the next chunk to scan. Waits where it is too far ahead.
    fn begin(&self) -> Option<(usize, usize)> {
        self.state.wait(|state| {
            if state.stop || state.devices.iter().all(|device| device.chunks.is_empty()) {
                return Some(None);
            }
            let at = state.least_busy(self.ahead)?;
            let device = &mut state.devices[at];
            device.busy += 1;
            Some(device.chunks.pop_front().map(|index| (at, index)))
        })
    }

    /// What came of a chunk, once it is scanned.
    fn await_chunk(&self, index: usize) -> io::Result<Scan> {
        self.state.wait(|state| match state.done.remove(&index) {
            Some(outcome) => {
                state.taken = index + 1;
                state.events -= events_of(&outcome);
                Some(outcome)
            }
            None => state.stop.then(|| Err(io::Error::other(CRASHED))),
        })
    }
}

impl State {
    /// This is what came of a chunk on this device.
    fn end(&mut self, device: usize, index: usize, outcome: io::Result<Scan>) {
        self.devices[device].busy -= 1;
        if outcome.is_err() {
            // What is behind it is never taken, and a drive that fails is slow to say so.
            self.devices[device].chunks.clear();
        }
        self.events += events_of(&outcome);
        self.done.insert(index, outcome);
    }

    /// The device with the fewest threads at it, of those whose next chunk may be scanned now. The chunk that is taken
    /// next always may.
    fn least_busy(&self, ahead: usize) -> Option<usize> {
        let has_room = self.done.len() < CHUNKS_AHEAD_MAX && self.events < EVENTS_AHEAD_MAX;
        let next = self.devices.iter().enumerate().filter_map(|(at, device)| {
            let index = *device.chunks.front()?;
            (has_room || index < self.taken + ahead).then_some((device.busy, index, at))
        });
        next.min().map(|(.., at)| at)
    }
}

fn events_of(outcome: &io::Result<Scan>) -> usize {
    outcome.as_ref().map_or(0, |scan| scan.events.len())
}

fn scan_chunk(
    file: &FileScan<'_>,
    chunk: Chunk,
    open: &mut Option<(usize, File)>,
    buffer: &mut Vec<u8>,
) -> io::Result<Scan> {
    if open.as_ref().is_none_or(|(index, _)| *index != chunk.file) {
        *open = Some((chunk.file, File::open(&file.path)?));
    }
    let Some((_, handle)) = open else { return Err(io::ErrorKind::NotFound.into()) };
    let window = Window::file(handle, std::mem::take(buffer), chunk.from, chunk.to, file.end);
    let mut window = window.watched(file.progress);
    let mut outcome = scan(&mut window, file.shape, chunk.to, chunk.from == 0);
    *buffer = window.into_buffer();
    if let Ok(scan) = &mut outcome {
        scan.events.shrink_to_fit();
    }
    outcome
}

/// Where the reading of a file stands.
struct Standing {
    at: u64,
    synced: bool,
}

impl Scans<'_> {
    /// Tells of the next `count` files; `deliver` gets (which of them, what), in order.
    pub fn take(&mut self, count: usize, deliver: &mut dyn FnMut(usize, Delivery<'_>)) -> Result<(), Fatal> {
        let Shared { files, chunks, first_chunks, .. } = self.shared;
        let first = self.next_file;
        self.next_file += count;
        let mut standing = Standing { at: 0, synced: true };
        let range = first_chunks[first]..first_chunks[self.next_file];
        for (index, &chunk) in range.clone().zip(&chunks[range]) {
            let outcome = self.shared.await_chunk(index);
            let file = &files[chunk.file];
            if chunk.from == 0 {
                standing = Standing { at: 0, synced: true };
            }
            let result = outcome.and_then(|scan| {
                take_chunk(file, chunk, scan, &mut standing, &mut |event| {
                    deliver(chunk.file - first, Delivery::Event(event));
                })
            });
            result.map_err(|error| unreadable(&file.path, standing.at, &error))?;
            if chunk.to == file.end {
                deliver(chunk.file - first, Delivery::FileEnd);
            }
        }
        Ok(())
    }
}

/// Takes a chunk's result if it started where the one before ended, else scans the chunk again from there.
fn take_chunk(
    file: &FileScan<'_>,
    chunk: Chunk,
    guess: Scan,
    standing: &mut Standing,
    take: &mut dyn FnMut(&Event),
) -> io::Result<()> {
    if standing.at >= chunk.to {
        return Ok(());
    }
    let lost_alike = !standing.synced && standing.at == chunk.from;
    let first_alike = standing.synced && guess.first_record == Some(standing.at);
    if chunk.from == 0 || lost_alike || first_alike {
        // Before the first record there is at most the end of one that the chunk before has told of.
        let from = if first_alike { standing.at } else { chunk.from };
        guess.events.iter().filter(|event| event.start() >= from).for_each(&mut *take);
        *standing = Standing { at: guess.end, synced: guess.synced };
    }
    if standing.at >= chunk.to {
        return Ok(());
    }
    let handle = File::open(&file.path)?;
    let mut window = Window::file(&handle, Vec::new(), standing.at, chunk.to, file.end);
    while standing.at < chunk.to {
        let more = scan(&mut window, file.shape, chunk.to, standing.synced)?;
        more.events.iter().for_each(&mut *take);
        *standing = Standing { at: more.end, synced: more.synced };
        if more.at_source_end {
            break;
        }
    }
    Ok(())
}

fn unreadable(path: &Path, at: u64, error: &io::Error) -> Fatal {
    Fatal::new(Exit::Failed, format!("{} cannot be read at about byte {at}: {error}", path.display()))
        .mend("check the drive (dmesg) and the permissions, then verify again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::shape::{Claim, Flaw, HeaderShape, Probe};

    #[test]
    fn all_devices_are_busy_and_nothing_is_scanned_too_far_ahead() {
        let (shape, progress) = (HeaderShape::new(None), ReadProgress::default());
        let of = |device| FileScan { path: PathBuf::new(), end: 30, device, shape: &shape, progress: &progress };
        // Chunks 0 to 2 and 3 to 5 lie on the first device, 6 to 8 on the second.
        let files = [of(1), of(1), of(2)];
        let shared = Shared::new(&files, 1, 10);
        assert_eq!(shared.first_chunks, [0, 3, 6, 9]);
        let begun: Vec<usize> = (0..4).filter_map(|_| shared.begin()).map(|(_, index)| index).collect();
        assert_eq!(begun, [0, 6, 1, 7], "threads are dealt to the devices");
        // The second one is slow.
        shared.state.lock().devices[0].busy = 0;
        assert_eq!(shared.begin(), Some((0, 2)));
        // More waits than is good: only what is taken soon may be scanned.
        let mut state = shared.state.lock();
        (state.events, state.taken) = (EVENTS_AHEAD_MAX, 1);
        assert_eq!(state.least_busy(shared.ahead), None);
        state.taken = 2;
        assert_eq!(state.least_busy(shared.ahead), Some(0), "chunk 3 is next but one");
        state.events = 0;
        state.devices[0].busy = 9;
        assert_eq!(state.least_busy(shared.ahead), Some(1));
    }

    #[test]
    fn a_device_that_fails_is_asked_once() {
        let (shape, progress) = (HeaderShape::new(None), ReadProgress::default());
        let of = |device| {
            let path = PathBuf::from("/nowhere/at/all");
            FileScan { path, end: 30, device, shape: &shape, progress: &progress }
        };
        let files = [of(1), of(1), of(2)];
        let shared = Shared::new(&files, 8, 10);
        shared.scan_chunks();
        let mut done: Vec<usize> = shared.state.lock().done.keys().copied().collect();
        done.sort_unstable();
        assert_eq!(done, [0, 6]);
    }

    struct Crash;

    impl Shape for Crash {
        fn probe(&self, _: &mut Window<'_>, _: Option<u64>) -> io::Result<Probe> {
            panic!("as asked");
        }

        fn extent_holds(&self, _: &mut Window<'_>, _: &Claim, _: Flaw) -> io::Result<bool> {
            Ok(true)
        }

        fn candidate(&self, _: &[u8]) -> Option<usize> {
            Some(0)
        }

        fn lead_bytes(&self) -> usize {
            1
        }

        fn has_unchecked_signatures(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_thread_that_crashes_keeps_nobody_waiting() {
        let mut data = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut data, &[1; 40]).unwrap();
        let progress = ReadProgress::default();
        let path = data.path().to_owned();
        let files = [FileScan { path, end: 40, device: 1, shape: &Crash, progress: &progress }];
        let outcome = scan_files(&files, 2, 10, |scans| scans.take(1, &mut |_, _| {}));
        assert_eq!(outcome.unwrap_err().what, "a thread that reads crashed; please report this");
    }
}
