//! Cores with files: the ring's back end, and a lane for each file.

use super::core::{Setup, finish};
use crate::base::fatal::Fatal;
use crate::counters::CoreEnd;
use crate::manifest::RecordFormat;
use crate::payload::Payload;
use crate::plan::Io;
use crate::sink::file::{Contents, FileLane, FileSink, LaneSetup};
use crate::sys::aio::Aio;
use crate::sys::blocking::Blocking;
use crate::sys::region::Region;
use crate::sys::ring::Ring;
use crate::sys::uring::Uring;
use std::ops::Range;

/// What a core with files has baked by the time it picks its ring.
pub struct FileCore {
    pub payloads: Vec<Payload>,
    pub memory: String,
    /// Of each lane.
    pub staging: Vec<Range<usize>>,
    pub formats: Vec<RecordFormat>,
}

impl FileCore {
    fn finish<R: Ring>(self, setup: Setup, ring: R, about: &str) -> Result<CoreEnd, Fatal> {
        let Self { payloads, memory, staging, formats } = self;
        let open = |ring: &mut R, setup: &mut Setup, p: &[Payload]| open_files(ring, setup, p, &staging, formats);
        finish(setup, ring, payloads, format!("{memory}{about}"), open)
    }
}

/// The one match that picks the back end of files.
pub fn with_ring(setup: Setup, io: Io, region: Region, depth: usize, core: FileCore) -> Result<CoreEnd, Fatal> {
    if io == Io::Uring {
        let ring = Uring::new(region, depth, 2 * core.payloads.len()).map_err(|error| {
            Fatal::host(format!("io_uring: {error}")).mend("use --io syscall, or raise `ulimit -l`")
        })?;
        let about = if ring.registered() { ", registered" } else { ", not registered" };
        return core.finish(setup, ring, about);
    }
    // Native AIO is asynchronous for direct writes alone, and some hosts forbid it as well.
    let direct = setup.plan.producers.iter().filter_map(|producer| producer.file()).all(|file| file.direct);
    match if direct { Aio::new(region, depth).map_err(|(region, _)| region) } else { Err(region) } {
        Ok(ring) => core.finish(setup, ring, ""),
        Err(region) => core.finish(setup, Blocking::new(region, depth), ""),
    }
}

fn open_files<R: Ring>(
    ring: &mut R,
    setup: &mut Setup,
    payloads: &[Payload],
    staging: &[Range<usize>],
    formats: Vec<RecordFormat>,
) -> Result<FileSink, Fatal> {
    let plan = setup.plan.clone();
    let mut lanes = Vec::new();
    for (lane, records) in formats.into_iter().enumerate() {
        let producer = &plan.producers[plan.cores[setup.index].producers[lane]];
        let (keeper, claimed) = (setup.keeper_lanes[lane].take(), setup.claims[lane].take());
        let (Some(file), Some(keeper), Some(claimed)) = (producer.file(), keeper, claimed) else {
            return Err(Fatal::usage(format!("producer {} has no file", producer.id)));
        };
        let depth = plan.sink.queue_depth;
        let contents = Contents {
            run_id: plan.run_id.clone(),
            producer_id: producer.id,
            records,
            in_flight_bytes_max: (depth as u64 + 1) * plan.sink.block_bytes.max(payloads[lane].starts().longest()),
        };
        lanes.push(FileLane::open(
            ring,
            LaneSetup {
                plan: file,
                claimed,
                contents,
                starts: payloads[lane].starts(),
                queue_depth: depth,
                staging: staging[lane].clone(),
                keeper,
                audit_every: plan.observe.audit_every,
                may_start: &|| setup.stop.may_prepare(),
            },
        )?);
    }
    Ok(FileSink::new(lanes))
}
