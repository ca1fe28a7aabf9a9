//! Files read by several threads: each is cut into chunks, every chunk is scanned as if its start were unknown, and
//! the results are taken in order. A chunk whose guess about its first record was wrong is scanned again, so that
//! the outcome is that of one thread reading from start to end.

use super::scan::{Event, Scan, scan};
use super::shape::Shape;
use super::window::Window;
use crate::base::fatal::{Exit, Fatal};
use crate::base::progress::ReadProgress;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// Large enough that a chunk's overhead vanishes, small enough that the results of one fit memory.
pub const CHUNK_BYTES: u64 = 16 << 20;
/// Chunks scanned ahead of the one that is taken, for each thread.
const AHEAD_PER_THREAD: usize = 2;

/// One file to scan from its start to `end`.
pub struct FileScan<'a> {
    pub path: PathBuf,
    pub end: u64,
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
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    next: usize,
    taken: usize,
    done: HashMap<usize, io::Result<Scan>>,
    stop: bool,
}

/// Scans all `files`; `deliver` gets (index of the file, what) in file order.
pub fn scan_files(
    files: &[FileScan<'_>],
    threads: usize,
    chunk_bytes: u64,
    deliver: &mut dyn FnMut(usize, Delivery<'_>),
) -> Result<(), Fatal> {
    let chunks: Vec<Chunk> = files
        .iter()
        .enumerate()
        .flat_map(|(file, scan)| {
            let starts = (0..scan.end.max(1)).step_by(usize::try_from(chunk_bytes).unwrap_or(usize::MAX));
            starts.map(move |from| Chunk { file, from, to: (from + chunk_bytes).min(scan.end) })
        })
        .collect();
    let state = State { next: 0, taken: 0, done: HashMap::new(), stop: false };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, chunks.len().max(1)) {
            scope.spawn(|| scan_chunks(files, &chunks, threads, &shared));
        }
        let outcome = take_chunks(files, &chunks, &shared, deliver);
        lock(&shared).stop = true;
        shared.changed.notify_all();
        outcome
    })
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, State> {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A scanning thread: takes the next chunk that is not too far ahead.
fn scan_chunks(files: &[FileScan<'_>], chunks: &[Chunk], threads: usize, shared: &Shared) {
    let mut buffer = Vec::new();
    let mut open: Option<(usize, File)> = None;
    loop {
        let mut state = lock(shared);
        while !state.stop && state.next < chunks.len() && state.next >= state.taken + AHEAD_PER_THREAD * threads {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stop || state.next >= chunks.len() {
            return;
        }
        let index = state.next;
        state.next += 1;
        drop(state);
        let chunk = chunks[index];
        let outcome = scan_chunk(&files[chunk.file], chunk, &mut open, &mut buffer);
        lock(shared).done.insert(index, outcome);
        shared.changed.notify_all();
    }
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
    let outcome = scan(&mut window, file.shape, chunk.to, chunk.from == 0);
    *buffer = window.into_buffer();
    outcome
}

/// Where the reading of a file stands.
struct Cursor {
    at: u64,
    synced: bool,
}

fn take_chunks(
    files: &[FileScan<'_>],
    chunks: &[Chunk],
    shared: &Shared,
    deliver: &mut dyn FnMut(usize, Delivery<'_>),
) -> Result<(), Fatal> {
    let mut cursor = Cursor { at: 0, synced: true };
    for (index, chunk) in chunks.iter().enumerate() {
        let mut state = lock(shared);
        let outcome = loop {
            match state.done.remove(&index) {
                Some(outcome) => break outcome,
                None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        state.taken = index + 1;
        drop(state);
        shared.changed.notify_all();
        let file = &files[chunk.file];
        if chunk.from == 0 {
            cursor = Cursor { at: 0, synced: true };
        }
        let result = outcome.and_then(|scan| {
            take_chunk(file, *chunk, scan, &mut cursor, &mut |event| {
                deliver(chunk.file, Delivery::Event(event));
            })
        });
        result.map_err(|error| unreadable(&file.path, cursor.at, &error))?;
        if chunk.to == file.end {
            deliver(chunk.file, Delivery::FileEnd);
        }
    }
    Ok(())
}

/// Takes a chunk's result if it started where the one before ended, else scans the chunk again from there.
fn take_chunk(
    file: &FileScan<'_>,
    chunk: Chunk,
    guess: Scan,
    cursor: &mut Cursor,
    take: &mut dyn FnMut(&Event),
) -> io::Result<()> {
    if cursor.at >= chunk.to {
        return Ok(());
    }
    let lost_alike = !cursor.synced && cursor.at == chunk.from;
    let first_alike = cursor.synced && guess.first_record == Some(cursor.at);
    if chunk.from == 0 || lost_alike || first_alike {
        // Before the first record there is at most the end of one that the chunk before has told of.
        let from = if first_alike { cursor.at } else { chunk.from };
        guess.events.iter().filter(|event| event.start() >= from).for_each(&mut *take);
        *cursor = Cursor { at: guess.end, synced: guess.synced };
    }
    if cursor.at >= chunk.to {
        return Ok(());
    }
    let handle = File::open(&file.path)?;
    let mut window = Window::file(&handle, Vec::new(), cursor.at, chunk.to, file.end);
    while cursor.at < chunk.to {
        let more = scan(&mut window, file.shape, chunk.to, cursor.synced)?;
        more.events.iter().for_each(&mut *take);
        *cursor = Cursor { at: more.end, synced: more.synced };
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
