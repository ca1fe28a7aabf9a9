//! Runs with files: who has them before the start, the ring's back end, and a lane for each file.

use super::enter::enter_loop;
use super::setup::{Prepared, Setup};
use super::stop::Stop;
use super::{barrier, region};
use crate::base::fatal::Fatal;
use crate::base::paths;
use crate::counters::CoreEnd;
use crate::host::rlimit;
use crate::plan::{FilePlan, Io, ProducerPlan, RunPlan};
use crate::sink::file::keeper::{Keeper, KeeperEnd, KeeperLane};
use crate::sink::file::made::Made;
use crate::sink::file::open;
use crate::sink::file::{Contents, FileLane, FileSink, LaneSetup};
use crate::sys::aio::Aio;
use crate::sys::region::Region;
use crate::sys::ring::Ring;
use crate::sys::syscalls::Syscalls;
use crate::sys::uring::Uring;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The file keepers and each producer's handle, where the target is files. What syncs slowly holds up no other file
/// system; those who share one share its free space, which is better given away by one. The folders are there.
///
/// Subvolumes of btrfs and datasets of ZFS have numbers of their own (`f_fsid`, too) and share one free space: their
/// keepers may see the same room at once, and pass the floor by a file each.
pub fn keepers_for(plan: &RunPlan) -> (Vec<Keeper>, Vec<Option<KeeperLane>>) {
    let mut keepers = BTreeMap::<Option<u64>, Keeper>::new();
    let device = |file: &FilePlan| paths::folder(&file.data).metadata().ok().map(|facts| facts.dev());
    let mut lane = |file: &FilePlan| keepers.entry(device(file)).or_default().lane(file);
    let lanes = plan.producers.iter().map(ProducerPlan::file).map(|file| file.map(&mut lane)).collect();
    (keepers.into_values().collect(), lanes)
}

/// Each producer's data file, locked, where the target is files: all before anything in their folders is changed.
pub fn claims(plan: &RunPlan, made: &mut Made) -> Result<Vec<Option<File>>, Fatal> {
    let claim = |producer: &ProducerPlan| producer.file().map(|file| open::claim(file, &plan.run_id, made)).transpose();
    plan.producers.iter().map(claim).collect()
}

/// The keepers' threads. Dropped, they are waited for: where a run does not start, its files are taken back next, and
/// the keepers must be done with them by then.
#[derive(Default)]
pub struct Keeping(pub Vec<JoinHandle<KeeperEnd>>);

impl Keeping {
    pub fn start(&mut self, keepers: Vec<Keeper>, cpus: &[usize], stop: &Arc<Stop>) -> Result<(), Fatal> {
        for keeper in keepers {
            let stop = stop.clone();
            self.0.push(keeper.start(cpus, move |why| stop.because(why))?);
        }
        Ok(())
    }

    /// Waits for their ends, which come once no core has a lane of theirs any more. A crash has ended the run, and said
    /// why.
    pub fn join(&mut self) -> KeeperEnd {
        let ends = self.0.drain(..).map(|thread| thread.join().unwrap_or_default());
        ends.fold(KeeperEnd::default(), KeeperEnd::and)
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let _told_elsewhere = self.join();
    }
}

/// The one match that picks the back end of files.
pub fn with_ring(setup: Setup, io: Io, region: Region, depth: usize, mut prepared: Prepared) -> Result<CoreEnd, Fatal> {
    if io == Io::Uring {
        let ring = Uring::new(region, depth, 2 * prepared.payloads.len()).map_err(|error| {
            Fatal::host(format!("io_uring: {error}"))
                .mend(format!("use --io syscall, or {}", rlimit::raise(rlimit::MEMLOCK)))
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
        Err(region) => run_on(setup, Syscalls::new(region, depth), prepared),
    }
}

fn run_on<R: Ring>(mut setup: Setup, mut ring: R, prepared: Prepared) -> Result<CoreEnd, Fatal> {
    let sink = open_files(&mut ring, &mut setup, &prepared)?;
    enter_loop(setup, ring, prepared, sink)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{producer_plan, run_plan};
    use crate::plan::{Existing, FileLayout, Fsync, TargetPlan};
    use std::path::Path;

    fn producer(id: u32, folder: &Path) -> ProducerPlan {
        let file = FilePlan {
            data: folder.join(format!("{id}.bin")),
            manifest: folder.join(format!("{id}.json")),
            log: Some(folder.join(format!("{id}.log"))),
            log_place: folder.join(format!("{id}.log")),
            layout: FileLayout::Rotating { limit_bytes: 4096, retain: None },
            direct: false,
            align: 1,
            fsync: Fsync::Never,
            min_free_bytes: 0,
            run_bytes_max: u64::MAX,
            existing: Existing::Replaced,
        };
        ProducerPlan { to: TargetPlan::File(file), ..producer_plan(id) }
    }

    #[test]
    fn each_file_system_has_a_keeper() {
        let scratch = tempfile::tempdir().unwrap();
        let other = scratch.path().join("other");
        std::fs::create_dir(&other).unwrap();
        // Nothing is written there.
        let folders = [scratch.path(), Path::new("/proc"), other.as_path()];
        let producers: Vec<_> = (0..).zip(folders).map(|(id, folder)| producer(id, folder)).collect();
        let (keepers, lanes) = keepers_for(&RunPlan { producers, ..run_plan() });
        assert_eq!(keepers.len(), 2);
        let numbers: Vec<_> = lanes.iter().map(|lane| lane.as_ref().map(|lane| lane.lane)).collect();
        assert_eq!(numbers, [Some(0), Some(0), Some(1)]);
        let (keepers, lanes) = keepers_for(&run_plan());
        assert!(keepers.is_empty() && lanes.len() == 1 && lanes[0].is_none(), "there are no files");
    }

    #[test]
    fn what_goes_wrong_with_one_file_system_ends_the_run() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut keeping, stop) = (Keeping::default(), Arc::<Stop>::default());
        let gone = scratch.path().join("gone");
        let files = [producer(0, scratch.path()), producer(1, &gone), producer(2, scratch.path())];
        let mut keepers: Vec<_> = files.iter().map(|_| Keeper::new()).collect();
        let keep = |(keeper, producer): (&mut Keeper, &ProducerPlan)| keeper.lane(producer.file().unwrap());
        let lanes: Vec<_> = keepers.iter_mut().zip(&files).map(keep).collect();
        keeping.start(keepers, &[], &stop).unwrap();
        drop(lanes);
        keeping.join();
        let why = stop.reason().unwrap();
        assert!(why.contains(&gone.display().to_string()), "{why}");
    }
}
