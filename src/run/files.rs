//! Runs with files: who has them before the start, the ring's back end, and a lane for each file.

use super::core::{Prepared, Setup, finish};
use super::{barrier, region};
use crate::base::fatal::Fatal;
use crate::counters::CoreEnd;
use crate::plan::{Io, ProducerPlan, RunPlan, SinkKind};
use crate::sink::file::keeper::{Keeper, KeeperEnd, KeeperLane};
use crate::sink::file::made::Made;
use crate::sink::file::open;
use crate::sink::file::{Contents, FileLane, FileSink, LaneSetup};
use crate::sys::aio::Aio;
use crate::sys::blocking::Blocking;
use crate::sys::region::Region;
use crate::sys::ring::Ring;
use crate::sys::uring::Uring;
use std::fs::File;
use std::thread::JoinHandle;

/// The file keeper and each producer's handle, where the target is files.
pub fn keeper_for(plan: &RunPlan) -> (Option<Keeper>, Vec<Option<KeeperLane>>) {
    if plan.sink.kind != SinkKind::File {
        return (None, vec![None; plan.producers.len()]);
    }
    let mut keeper = Keeper::new();
    let lanes = plan.producers.iter().map(|producer| producer.file().map(|file| keeper.lane(file))).collect();
    (Some(keeper), lanes)
}

/// Each producer's data file, locked, where the target is files: all before anything in their folders is changed.
pub fn claims(plan: &RunPlan, made: &mut Made) -> Result<Vec<Option<File>>, Fatal> {
    let claim = |producer: &ProducerPlan| producer.file().map(|file| open::claim(file, made)).transpose();
    plan.producers.iter().map(claim).collect()
}

/// The keeper's thread, if there is one. Dropped, it is waited for: where a run does not start, its files are taken
/// back next, and the keeper must be done with them by then.
#[derive(Default)]
pub struct Keeping(pub Option<JoinHandle<KeeperEnd>>);

impl Keeping {
    /// Waits for its end, which comes once no core has a lane of it any more.
    pub fn join(&mut self) -> Option<KeeperEnd> {
        self.0.take().map(|thread| thread.join().unwrap_or_else(|_| crashed_keeper()))
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let _told_elsewhere = self.join();
    }
}

fn crashed_keeper() -> KeeperEnd {
    let error = Some("the file keeper crashed; please report this".to_owned());
    KeeperEnd { error, ..KeeperEnd::default() }
}

/// The one match that picks the back end of files.
pub fn with_ring(setup: Setup, io: Io, region: Region, depth: usize, mut prepared: Prepared) -> Result<CoreEnd, Fatal> {
    if io == Io::Uring {
        let ring = Uring::new(region, depth, 2 * prepared.payloads.len()).map_err(|error| {
            Fatal::host(format!("io_uring: {error}")).mend("use --io syscall, or raise `ulimit -l`")
        })?;
        // Before anything is opened: an earlier run's data are still there.
        region::check_registered(setup.plan.unregistered, ring.registered())?;
        prepared.registered = Some(ring.registered());
        return run_on(setup, ring, prepared);
    }
    // Native AIO is asynchronous for direct writes alone, and some hosts forbid it as well.
    let direct = setup.plan.producers.iter().filter_map(|producer| producer.file()).all(|file| file.direct);
    match if direct { Aio::new(region, depth).map_err(|(region, _)| region) } else { Err(region) } {
        Ok(ring) => run_on(setup, ring, prepared),
        Err(region) => run_on(setup, Blocking::new(region, depth), prepared),
    }
}

fn run_on<R: Ring>(mut setup: Setup, mut ring: R, prepared: Prepared) -> Result<CoreEnd, Fatal> {
    let sink = open_files(&mut ring, &mut setup, &prepared)?;
    finish(setup, ring, prepared, sink)
}

fn open_files<R: Ring>(ring: &mut R, setup: &mut Setup, prepared: &Prepared) -> Result<FileSink, Fatal> {
    let plan = setup.plan.clone();
    // From here on an earlier run's data are lost.
    barrier::await_opening(&plan, &setup.stop)?;
    let mut lanes = Vec::new();
    for (lane, (payload, producer)) in prepared.payloads.iter().zip(plan.producers_of(setup.index)).enumerate() {
        let (keeper, claimed) = (setup.keeper_lanes[lane].take(), setup.claims[lane].take());
        let (Some(file), Some(keeper), Some(claimed)) = (producer.file(), keeper, claimed) else {
            return Err(Fatal::usage(format!("producer {} has no file", producer.id)));
        };
        let depth = plan.sink.queue_depth;
        let contents = Contents {
            run_id: plan.run_id.clone(),
            producer_id: producer.id,
            records: prepared.formats[lane].clone(),
            in_flight_bytes_max: (depth as u64 + 1) * plan.sink.block_bytes.max(payload.starts().longest()),
        };
        lanes.push(FileLane::open(
            ring,
            LaneSetup {
                plan: file,
                claimed,
                contents,
                starts: payload.starts(),
                queue_depth: depth,
                staging: prepared.staging[lane].clone(),
                keeper,
                audit_every: plan.observe.audit_every,
                may_prepare: &|| setup.stop.may_prepare(),
            },
        )?);
    }
    Ok(FileSink::new(lanes))
}
