//! The file keeper: one thread beside the cores that opens the next file before it is needed, renames and
//! retires rotated ones and writes audit lines, so that no core ever waits for a directory. Another one watches the
//! free space meanwhile. A run has a keeper for each file system that it writes to.

mod floor;
mod last;

pub use last::Last;

use super::{names, open};
use crate::base::fatal::Fatal;
use crate::plan::{FileLayout, FilePlan, Fsync};
use crate::sys::threads::{self, OnPanic};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use floor::Floors;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Orders that may wait; audit lines beyond are counted as dropped.
const ORDERS_MAX: usize = 16_384;
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// What a core asks of the keeper. `lane` is the number that `Keeper::lane` gave.
pub enum Order {
    /// The active file becomes a rotated one and the prepared file the active one.
    Switch {
        lane: usize,
        unix_ns: u64,
    },
    /// The last write to a rotated file is done; it holds `length` bytes.
    Retire {
        lane: usize,
        file: File,
        length: u64,
    },
    Audit(AuditLine),
}

/// One record, for a human reader of the `.log`.
#[derive(Clone, Copy, Debug)]
pub struct AuditLine {
    pub lane: usize,
    pub producer_id: u32,
    pub sequence: u64,
    pub timestamp_unix_ns: u64,
    /// Of the record in its file.
    pub offset: u64,
    pub length: u64,
    pub weight: u64,
    /// How often the file had been filled before, where it is overwritten in place; else 0.
    pub lap: u64,
}

/// A lane's side of the keeper.
#[derive(Clone)]
pub struct KeeperLane {
    pub lane: usize,
    orders: Sender<Order>,
    next: Receiver<io::Result<File>>,
    last: Sender<Last>,
    dropped: Arc<AtomicU64>,
}

impl KeeperLane {
    /// The file that is ready to follow the active one, once.
    pub fn take_next(&self) -> Option<io::Result<File>> {
        self.next.try_recv().ok()
    }

    /// False: the keeper cannot take it now; the core comes back in its next turn.
    pub fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.try_send(order).map_err(|refused| refused.into_inner())
    }

    /// As `order`, but waits until the keeper can; for a core at its end.
    pub fn order_last(&self, order: Order) {
        // A keeper that is gone crashed, and its crash has ended the run.
        let _gone = self.orders.send(order);
    }

    /// Hands over what the lane leaves when it is closed.
    pub fn hold(&self, last: Last) {
        // A keeper that is gone crashed, and its crash has ended the run.
        let _gone = self.last.try_send(last);
    }

    pub fn audit(&self, line: AuditLine) {
        if self.orders.try_send(Order::Audit(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// What a keeper says at the end, or several.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeeperEnd {
    pub audit_lines_dropped: u64,
    /// When the last rotated file had come to rest; `None`: none was synced.
    pub synced: Option<Instant>,
}

impl KeeperEnd {
    pub fn and(self, other: Self) -> Self {
        Self {
            audit_lines_dropped: self.audit_lines_dropped + other.audit_lines_dropped,
            synced: self.synced.max(other.synced),
        }
    }
}

/// The keeper before and while it runs.
pub struct Keeper {
    lanes: Vec<LaneFiles>,
    orders: (Sender<Order>, Receiver<Order>),
    dropped: Arc<AtomicU64>,
}

struct LaneFiles {
    plan: FilePlan,
    next: Sender<io::Result<File>>,
    /// Once the lane is closed.
    last: Receiver<Last>,
    log: Option<BufWriter<File>>,
    /// The lap that the lines of the log are of.
    lap: u64,
    /// Those that are kept; where all are, the last one alone.
    rotated: VecDeque<PathBuf>,
    /// Files that were opened, the first one included.
    opened: u64,
    /// The suffix of a switch that failed: records go to what is still called the next file.
    switching: Option<String>,
    /// When the last sync of a rotated file ended.
    synced: Option<Instant>,
}

impl Keeper {
    pub fn new() -> Self {
        Self { lanes: Vec::new(), orders: bounded(ORDERS_MAX), dropped: Arc::default() }
    }

    /// Announces a lane whose files the keeper looks after.
    pub fn lane(&mut self, plan: &FilePlan) -> KeeperLane {
        let (sender, next) = bounded(1);
        let (last, closed) = bounded(1);
        self.lanes.push(LaneFiles {
            plan: plan.clone(),
            next: sender,
            last: closed,
            log: None,
            lap: 0,
            rotated: VecDeque::new(),
            opened: 1,
            switching: None,
            synced: None,
        });
        let lane = self.lanes.len() - 1;
        KeeperLane { lane, orders: self.orders.0.clone(), next, last, dropped: self.dropped.clone() }
    }

    /// Starts the thread. `stop` ends the run in order, with a reason.
    ///
    /// # Errors
    /// Exit 3 where no thread can be had.
    pub fn start(
        mut self,
        cpus: &[usize],
        stop: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<JoinHandle<KeeperEnd>, Fatal> {
        // The cores' handles alone keep the queue open, so that the thread ends when the last one is gone.
        self.orders.0 = bounded(0).0;
        let stop = Arc::new(stop);
        let floors = Floors::of(self.lanes.iter().map(|lane| &lane.plan));
        let (keeping, ended) = bounded(0);
        // The keeper may be busy for seconds, with a file that it brings to the drive.
        let watch = spawn("free-space", cpus, stop.clone(), move |stop| floors.watch(&ended, stop))?;
        spawn("file-keeper", cpus, stop, move |stop| {
            let end = self.keep(stop);
            drop(keeping);
            let _crash_is_told = watch.join();
            end
        })
    }

    fn keep(mut self, stop: impl Fn(&str)) -> KeeperEnd {
        if let Err(error) = self.begin() {
            stop(&error.to_string());
        }
        let mut flushed = Instant::now();
        loop {
            let order = self.orders.1.recv_timeout(LOG_FLUSH);
            if flushed.elapsed() >= LOG_FLUSH {
                flushed = Instant::now();
                if let Err(error) = self.flush_logs() {
                    stop(&format!("the audit log: {error}"));
                }
            }
            let carried = match order {
                Ok(order) => self.carry_out(order),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = carried {
                stop(&format!("the file keeper: {error}"));
            }
        }
        let (dropped, synced) = (self.dropped.clone(), self.synced());
        if let Err(error) = self.conclude() {
            stop(&error.to_string());
        }
        KeeperEnd { audit_lines_dropped: dropped.load(Relaxed), synced }
    }

    /// What the thread does first: logs and following files of all lanes. The first error, after trying all.
    pub fn begin(&mut self) -> io::Result<()> {
        let begun = self.lanes.iter_mut().map(|lane| lane.begin().map_err(|error| lane.blame(error)));
        begun.fold(Ok(()), Result::and)
    }

    /// Carries out the oldest order that waits; `None`: there is none. For simulations, where no thread does.
    pub fn carry_out_next(&mut self) -> Option<io::Result<()>> {
        let order = self.orders.1.try_recv().ok()?;
        Some(self.carry_out(order))
    }

    /// See [`KeeperEnd::synced`].
    pub fn synced(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.synced).max()
    }

    /// What the thread does last, when no core will order anything any more.
    pub fn conclude(mut self) -> io::Result<()> {
        let flushed = self.flush_logs();
        let ended = self.lanes.iter_mut().map(|lane| lane.end().map_err(|error| lane.blame(error)));
        ended.fold(flushed, Result::and)
    }

    fn carry_out(&mut self, order: Order) -> io::Result<()> {
        let (lane, carried) = match order {
            Order::Switch { lane, unix_ns } => (lane, self.lanes[lane].switch(unix_ns)),
            Order::Retire { lane, file, length } => (lane, self.lanes[lane].retire(&file, length)),
            Order::Audit(line) => (line.lane, self.lanes[line.lane].audit(&line)),
        };
        carried.map_err(|error| self.lanes[lane].blame(error))
    }

    fn flush_logs(&mut self) -> io::Result<()> {
        let logs = self.lanes.iter_mut().filter_map(|lane| lane.log.as_mut());
        logs.map(Write::flush).fold(Ok(()), Result::and)
    }
}

/// A thread of the keeper's; `stop` ends the run. Without it the run could neither rotate nor watch the free space.
fn spawn<T: Send + 'static>(
    name: &str,
    cpus: &[usize],
    stop: Arc<impl Fn(&str) + Send + Sync + 'static>,
    work: impl FnOnce(&dyn Fn(&str)) -> T + Send + 'static,
) -> Result<JoinHandle<T>, Fatal> {
    threads::start(name, cpus, "the file keeper", move || {
        let _alarm = OnPanic(|| stop("the file keeper crashed; please report this"));
        work(&|why: &str| stop(why))
    })
}

impl Default for Keeper {
    fn default() -> Self {
        Self::new()
    }
}

fn refuse_contents(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(facts) if facts.len() > 0 => Err(io::ErrorKind::AlreadyExists.into()),
        _ => Ok(()),
    }
}

/// Who has linked a rotated file elsewhere, or put a link in its place, keeps what it holds: it is written no more.
fn is_ours_alone(rotated: &Path) -> bool {
    rotated.symlink_metadata().is_ok_and(|facts| facts.is_file() && facts.nlink() <= 1)
}

impl LaneFiles {
    fn blame(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.plan.data.display()))
    }

    fn begin(&mut self) -> io::Result<()> {
        // One of an earlier run would be taken for this one's. Who rotates writes none, and has none to remove.
        if let (FileLayout::Ring { .. } | FileLayout::Device { .. }, Some(log)) = (self.plan.layout, &self.plan.log) {
            open::remove_if_there(&names::lap_log(log))?;
        }
        self.open_log()?;
        if matches!(self.plan.layout, FileLayout::Rotating { .. }) {
            self.prepare(None)?;
        }
        Ok(())
    }

    fn open_log(&mut self) -> io::Result<()> {
        if let Some(path) = &self.plan.log {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
            self.log = Some(BufWriter::with_capacity(1 << 16, file));
        }
        Ok(())
    }

    /// Opens the file that follows the active one, out of a recycled one if there is any, and nobody took it away.
    fn prepare(&mut self, recycled: Option<PathBuf>) -> io::Result<()> {
        let path = names::next_path(&self.plan.data);
        if let Some(old) = recycled {
            open::rename_if_there(&old, &path)?;
        }
        let nth = self.opened;
        self.opened += 1;
        let file = floor::check_room(&self.plan, &path, nth).and_then(|()| open::create(&self.plan, &path, nth));
        // The core is gone when nobody listens; the file is then removed at the end.
        let _gone = self.next.try_send(file);
        Ok(())
    }

    fn switch(&mut self, unix_ns: u64) -> io::Result<()> {
        let suffix = names::rotation_suffix(unix_ns);
        self.switch_data(suffix.clone())?;
        if let Some(mut log) = self.log.take() {
            log.flush()?;
            let path = self.plan.log.as_ref().expect("an open log has a path");
            // Logs that others move away, or remove, do not end the run.
            open::rename_if_there(path, &names::with_suffix(path, &suffix))?;
            self.open_log()?;
        }
        Ok(())
    }

    /// The core has gone over to the next file already: whatever fails here, that one holds records.
    fn switch_data(&mut self, suffix: String) -> io::Result<()> {
        let (data, next) = (&self.plan.data, names::next_path(&self.plan.data));
        let rotated = names::with_suffix(data, &suffix);
        let renamed = if self.rotated.back() == Some(&rotated) {
            // The first half was done before: somebody may have put a file there meanwhile.
            refuse_contents(data)
        } else {
            fs::rename(data, &rotated).map(|()| self.rotated.push_back(rotated))
        };
        // An empty file goes: processes that look for a place make one, and leave again.
        if let Err(error) = renamed.and_then(|()| fs::rename(&next, data)) {
            self.switching = Some(suffix);
            let what = format!("{} holds the last records and cannot be renamed: {error}", next.display());
            return Err(io::Error::new(error.kind(), what));
        }
        Ok(())
    }

    fn retire(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)?;
        if self.plan.fsync != Fsync::Never {
            file.sync_all()?;
            self.synced = Some(Instant::now());
        }
        // Another descriptor may take it up again, under another name.
        open::unlock(file);
        if self.switching.is_some() {
            // No other file may have the name of the one that holds records.
            return Ok(());
        }
        let spare = self.let_go()?;
        self.prepare(spare)
    }

    /// Removes rotated files that are not kept, but for one that can be recycled.
    fn let_go(&mut self) -> io::Result<Option<PathBuf>> {
        let FileLayout::Rotating { retain, .. } = self.plan.layout else { return Ok(None) };
        let Some(keep) = retain else {
            self.rotated.drain(..self.rotated.len().saturating_sub(1));
            return Ok(None);
        };
        let mut spare = None;
        while self.rotated.len() as u64 > keep {
            let oldest = self.rotated.pop_front().expect("it holds more than are kept");
            if let Some(log) = &self.plan.log {
                let suffix = names::suffix_of(&self.plan.data, &oldest);
                open::remove_if_there(&names::with_suffix(log, &suffix))?;
            }
            if let Some(extra) = spare.replace(oldest) {
                open::remove_if_there(&extra)?;
            }
        }
        match spare {
            Some(shared) if !is_ours_alone(&shared) => open::remove_if_there(&shared).map(|()| None),
            spare => Ok(spare),
        }
    }

    /// The log begins anew with each lap. That of the lap before stays: the file still holds what is left of it.
    fn begin_lap(&mut self, lap: u64) -> io::Result<()> {
        let (Some(path), Some(mut log)) = (&self.plan.log, self.log.take()) else { return Ok(()) };
        log.flush()?;
        let before = names::lap_log(path);
        if lap == self.lap + 1 {
            open::rename_if_there(path, &before)?;
        } else {
            // Laps without a line lie between: all that was logged is overwritten.
            open::remove_if_there(&before)?;
        }
        self.lap = lap;
        self.open_log()
    }

    fn audit(&mut self, line: &AuditLine) -> io::Result<()> {
        if line.lap != self.lap {
            self.begin_lap(line.lap)?;
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        let name = self.plan.data.file_name().unwrap_or_default().to_string_lossy();
        writeln!(
            log,
            "{} producer={} sequence={} file={name} offset={} length={} weight={}",
            names::rfc3339(line.timestamp_unix_ns),
            line.producer_id,
            line.sequence,
            line.offset,
            line.length,
            line.weight
        )
    }
}

#[cfg(test)]
mod tests;
