//! Blocks, queues and rings: how many bytes go to the kernel at once and how many are prepared.

use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::config::Deps;
use crate::config::load::Settings;
use crate::config::resolve::network::Shape;
use crate::config::resolve::payload::Sizes;
use crate::config::resolve::target::Targets;
use crate::config::values::Wanted;
use crate::host::fs::Direct;
use crate::host::{Sysfs, cpu, memory, rlimit};
use crate::plan::{self, Io, SinkKind, Unregistered};

/// Bytes in flight that the default queue depth leads to at the most.
const DEPTH_BYTES_MAX: u64 = 512 << 20;
const BLOCK_DIRECT_BYTES: u64 = 1 << 20;
const QUEUE_DEPTH_DIRECT: usize = 32;
const QUEUE_DEPTH_BUFFERED: usize = 8;
const RING_DIRECT_BYTES_MIN: u64 = 32 << 20;
/// What a lane has by default where nothing is read of it, and all lanes of a core: it is prepared in about a second.
const RING_NULL_BYTES: u64 = 64 << 20;
const CORE_RINGS_NULL_BYTES: u64 = 512 << 20;
/// All rings together take at most this part of the available memory.
const MEMORY_PART: u64 = 4;

/// What is known before blocks can be chosen.
pub struct Facts<'a> {
    pub kind: SinkKind,
    pub sizes: &'a Sizes,
    /// What O_DIRECT said for each file target; empty for other targets.
    pub probes: Vec<Result<Direct, String>>,
    /// The least wire bytes a second of any producer; `None`: unlimited.
    pub slowest_wire_rate: Option<u64>,
    /// Of the smallest preallocated file; `u64::MAX` where there is none.
    pub capacity_bytes: u64,
    pub linger_ns: u64,
    /// Of blocks on connections; `None` for other targets.
    pub shape: Option<Shape>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    pub direct: bool,
    /// 1 when not direct.
    pub align: u64,
    pub block_bytes: u64,
    pub queue_depth: usize,
}

/// What O_DIRECT says where each file target lies.
pub fn probes(targets: &Targets, deps: &Deps) -> Vec<Result<Direct, String>> {
    targets.places.iter().map(|place| (deps.direct_probe)(&deps.sysfs, place.path())).collect()
}

pub fn blocks(settings: &Settings, wanted: &Wanted, facts: &Facts, errors: &mut Vec<Fatal>) -> Blocks {
    check_explicit_block(wanted, errors);
    let align = direct_alignment(settings, wanted, facts, errors);
    let limit = |default: u64| block_limit(wanted, facts, default);
    let block_bytes = match align {
        Some(align) => aligned_block(facts.sizes, limit(BLOCK_DIRECT_BYTES), align)
            .unwrap_or_else(|| plain_block(facts.sizes, limit(BLOCK_DIRECT_BYTES)).next_multiple_of(align)),
        None => {
            plain_block(facts.sizes, limit(facts.shape.map_or(limits::BLOCK_BUFFERED_BYTES, |shape| shape.block_bytes)))
        }
    };
    let depth = if align.is_some() { QUEUE_DEPTH_DIRECT } else { QUEUE_DEPTH_BUFFERED };
    let depth = facts.shape.map_or(depth, |shape| shape.depth.min(limits::QUEUE_DEPTH_MAX));
    // Large records make large blocks: fewer of them in flight keep the default ring within reason. But no connection
    // is there to be idle.
    let least = facts.shape.map_or(2, |shape| shape.connections.max(2));
    let within = usize::try_from(DEPTH_BYTES_MAX / block_bytes.max(1)).unwrap_or(usize::MAX).max(least);
    let asked = wanted.queue_depth.and_then(|asked| match facts.kind {
        // `--connections` and `--http-pipeline` say it all.
        SinkKind::Http => None,
        // What came of it.
        SinkKind::Kafka => facts.shape.map(|shape| shape.depth),
        _ => Some(asked),
    });
    let queue_depth = asked.unwrap_or(depth.min(within));
    Blocks { direct: align.is_some(), align: align.unwrap_or(1), block_bytes, queue_depth }
}

fn check_explicit_block(wanted: &Wanted, errors: &mut Vec<Fatal>) {
    if let Some(bytes) = wanted.block_bytes.filter(|bytes| *bytes > limits::BLOCK_BYTES_MAX) {
        let most = units::format_size(limits::BLOCK_BYTES_MAX);
        errors.push(Fatal::usage(format!("--block-size {bytes} is more than {most}")).mend("--block-size=1Mi"));
    }
}

/// What was asked, or the default; two blocks must fit into a preallocated file.
fn block_limit(wanted: &Wanted, facts: &Facts, default: u64) -> u64 {
    wanted.block_bytes.unwrap_or(default).min(limits::BLOCK_BYTES_MAX).min((facts.capacity_bytes / 2).max(1))
}

/// The alignment if O_DIRECT is to be used.
fn direct_alignment(settings: &Settings, wanted: &Wanted, facts: &Facts, errors: &mut Vec<Fatal>) -> Option<u64> {
    if facts.kind != SinkKind::File {
        if wanted.direct == Some(true) {
            errors.push(Fatal::usage("--direct on needs a file target").mend("--target=file:PATH"));
        }
        return None;
    }
    let align = facts.probes.iter().flatten().map(|direct| direct.align).max().unwrap_or(4096);
    let unaligned = wanted.block_bytes.filter(|bytes| !bytes.is_multiple_of(align));
    let mut refuse_unaligned = |or: &str| {
        if let Some(bytes) = unaligned {
            let text = settings.one("block-size").map_or_else(|| bytes.to_string(), |given| given.text.clone());
            let better = binary_spelling(&text, bytes, align);
            let what = format!("--block-size {text}: O_DIRECT needs a multiple of {align} here; {bytes} B is none");
            errors.push(Fatal::usage(what).mend(format!("--block-size={better}{or}")));
        }
    };
    match wanted.direct {
        Some(false) => None,
        Some(true) => {
            refuse_unaligned("");
            for why in facts.probes.iter().filter_map(|probe| probe.as_ref().err()) {
                errors.push(Fatal::host(format!("--direct on: {why}")).mend("--direct=auto"));
            }
            Some(align)
        }
        None => {
            let useful = facts.probes.iter().all(|probe| probe.as_ref().is_ok_and(|direct| direct.useful));
            let limit = block_limit(wanted, facts, BLOCK_DIRECT_BYTES);
            let block = aligned_block(facts.sizes, limit, align).filter(|_| useful)?;
            // Records that are whole sectors go direct however short a block is cut; others only in whole blocks.
            let sectors = facts.sizes.fixed().is_some_and(|record| record.is_multiple_of(align));
            let fills = facts.slowest_wire_rate.is_none_or(|rate| {
                sectors || u128::from(rate) * u128::from(facts.linger_ns) / 1_000_000_000 >= u128::from(block)
            });
            if fills {
                refuse_unaligned(" or --direct=off");
            }
            fills.then_some(align)
        }
    }
}

/// The same size in the units that are multiples of 1024, or the next multiple where there is none.
fn binary_spelling(text: &str, bytes: u64, align: u64) -> String {
    let number = text.trim().trim_end_matches(['b', 'B']);
    let decimal = number.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']);
    let respelled = decimal.map(|digits| format!("{digits}{}i", number[digits.len()..].to_uppercase()));
    let fits = |text: &String| units::parse_size(text).is_ok_and(|bytes| bytes.is_multiple_of(align));
    respelled.filter(fits).unwrap_or_else(|| bytes.checked_next_multiple_of(align).unwrap_or(align).to_string())
}

/// The most whole records within `limit` that make a multiple of `align`; `None` where none do.
fn aligned_block(sizes: &Sizes, limit: u64, align: u64) -> Option<u64> {
    let record = sizes.fixed()?;
    let step = u128::from(record) / u128::from(greatest_common_divisor(record, align)) * u128::from(align);
    let step = u64::try_from(step).ok()?;
    if step <= limit {
        return Some(limit / step * step);
    }
    (step == record).then_some(record)
}

/// Whole records within `limit`, at least one.
fn plain_block(sizes: &Sizes, limit: u64) -> u64 {
    match sizes.fixed() {
        Some(record) => (limit / record * record).max(record),
        None => limit.max(sizes.max_bytes),
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Every block in flight on a core has its place in the core's one ring.
pub fn check_depth(blocks: &Blocks, lanes: &[usize], errors: &mut Vec<Fatal>) {
    let lanes = lanes.iter().copied().max().unwrap_or(1);
    let depth = (blocks.queue_depth + 1) * lanes;
    if depth > limits::CORE_DEPTH_MAX {
        let (each, most) = (blocks.queue_depth, limits::CORE_DEPTH_MAX);
        let what =
            format!("{lanes} producers on one core with --queue-depth {each} are {depth} operations; {most} fit");
        errors
            .push(Fatal::usage(what).mend(format!("--queue-depth={}", (most / lanes.max(1)).saturating_sub(1).max(1))));
    }
}

/// Bytes of ring for each producer; `lanes` is how many producers each core hosts.
pub fn ring_bytes(
    wanted: &Wanted,
    facts: &Facts,
    (blocks, io): (&Blocks, Io),
    lanes: &[usize],
    (sysfs, first_cpu): (&Sysfs, usize),
    errors: &mut Vec<Fatal>,
) -> u64 {
    let total_lanes = lanes.iter().sum::<usize>().max(1) as u64;
    let most_lanes = lanes.iter().copied().max().unwrap_or(1).max(1) as u64;
    let of_memory = memory::available_bytes(sysfs).unwrap_or(u64::MAX) / MEMORY_PART / total_lanes;
    let budget = of_memory.min(limits::CORE_RINGS_BYTES_MAX / most_lanes);
    let least = (2 * blocks.block_bytes).max(facts.sizes.cycle_bytes).min(facts.capacity_bytes);
    let bytes = match wanted.ring_bytes {
        Some(bytes) if bytes < least => {
            let what = format!("--ring-size {bytes}: two blocks or all templates need {least} B");
            errors.push(Fatal::usage(what).mend(format!("--ring-size={least}")));
            least
        }
        Some(bytes) => bytes.min(limits::CORE_RINGS_BYTES_MAX + 1),
        None => {
            let l2_bytes = cpu::l2_bytes(sysfs, first_cpu);
            let default = default_ring_bytes(wanted, facts, (blocks, io), l2_bytes, most_lanes);
            default.max(least).min(budget.max(least))
        }
    };
    let bytes = bytes.next_multiple_of(4096).min(facts.capacity_bytes);
    let bytes = match wanted.ring_bytes {
        None if facts.capacity_bytes < u64::MAX => {
            let unit = round_unit(facts.sizes, blocks);
            // A depth that was asked for is not undercut for the sake of the file's last bytes.
            let asked = wanted.queue_depth.map_or(0, |depth| (depth as u64).saturating_mul(blocks.block_bytes));
            whole_rounds(facts.capacity_bytes, (least.max(asked.min(bytes / unit * unit)), bytes), unit)
        }
        _ => bytes,
    };
    if bytes > budget.next_multiple_of(4096) {
        let room = match budget < of_memory {
            true => {
                format!("the {} that the rings of a core may have", units::format_size(limits::CORE_RINGS_BYTES_MAX))
            }
            false => {
                let have = units::format_size(of_memory.saturating_mul(total_lanes));
                format!("a quarter of the available memory, which is {have}")
            }
        };
        let what = too_large(wanted.ring_bytes, bytes, total_lanes, &room);
        let smaller = format!("--ring-size={}", (budget / 4096 * 4096).max(4096));
        let mend = if budget >= least { smaller } else { "fewer producers, or smaller blocks and records".to_owned() };
        errors.push(Fatal::host(what).mend(mend));
    }
    bytes
}

/// Rings that do not fit into `room`. A size that was asked for is named as it was, not as it was cut.
fn too_large(asked: Option<u64>, bytes: u64, lanes: u64, room: &str) -> String {
    let bytes = asked.unwrap_or(bytes);
    let (each, all) = (units::format_size(bytes), units::format_size(bytes.saturating_mul(lanes)));
    let flag = asked.map(|_| format!("--ring-size {each}: ")).unwrap_or_default();
    match lanes {
        1 => format!("{flag}a ring of {each} does not fit into {room}"),
        _ => format!("{flag}{lanes} rings of {each} are {all} and do not fit into {room}"),
    }
}

/// Direct I/O needs room for all that is in flight; what the kernel copies should stay in the cache.
fn default_ring_bytes(
    wanted: &Wanted,
    facts: &Facts,
    (blocks, io): (&Blocks, Io),
    l2_bytes: Option<u64>,
    lanes: u64,
) -> u64 {
    let cached = l2_bytes.unwrap_or(1 << 20) / 2 / lanes;
    match facts.kind {
        SinkKind::Null => RING_NULL_BYTES.min(CORE_RINGS_NULL_BYTES / lanes),
        SinkKind::File if blocks.direct => {
            let in_flight = (blocks.queue_depth + blocks.queue_depth.min(8)) as u64;
            let in_flight = in_flight.saturating_mul(blocks.block_bytes);
            in_flight.next_multiple_of(1 << 20).max(RING_DIRECT_BYTES_MIN)
        }
        SinkKind::Stdout => cached.min(1 << 20).max(4 * blocks.block_bytes),
        // One block is copied at a time and one prepared: more would leave the cache before its turn.
        SinkKind::File if io == Io::Syscall => (cached / 2).max(2 * blocks.block_bytes),
        // A depth that was asked for is had, be it beyond the cache: all that is in flight, and one block to prepare.
        SinkKind::File => {
            let asked = wanted.queue_depth.map_or(0, |depth| depth as u64 + 1);
            cached.max(asked.max(4).saturating_mul(blocks.block_bytes))
        }
        // All that is needed while it is unanswered, and one block to prepare.
        SinkKind::Tcp | SinkKind::Http | SinkKind::Kafka => {
            let held =
                facts.shape.and_then(|shape| shape.held).map_or(blocks.queue_depth, |n| n.min(blocks.queue_depth));
            let is_behind_head =
                facts.kind == SinkKind::Http && blocks.block_bytes < limits::HTTP_BODY_BEHIND_HEAD_BYTES_MAX;
            let head_bytes = if is_behind_head { limits::HTTP_HEAD_IN_RING_BYTES_MAX } else { 0 };
            cached.max((held as u64 + 1).saturating_mul(blocks.block_bytes + head_bytes))
        }
    }
}

/// Where fewer blocks than were asked for have room in the ring of a producer that writes files.
pub fn depth_note(
    wanted: &Wanted,
    (kind, capacity_bytes): (SinkKind, u64),
    (blocks, io): (&Blocks, Io),
    ring_bytes: u64,
) -> Option<String> {
    let asked = wanted.queue_depth.filter(|_| kind == SinkKind::File)?;
    let had = plan::blocks_in_flight(asked, blocks.block_bytes, ring_bytes);
    if had >= asked {
        return None;
    }
    let need = (asked as u64 + 1).saturating_mul(blocks.block_bytes);
    let more = match wanted.ring_bytes {
        _ if need > capacity_bytes => "smaller blocks leave room for more".to_owned(),
        Some(_) => format!("--ring-size={need} has room for all"),
        None if io == Io::Syscall && !blocks.direct => "it stays in the cache, which system calls need more".to_owned(),
        None => "fewer producers or smaller blocks leave room for more".to_owned(),
    };
    let [ring, block] = units::format_sizes_alike([ring_bytes, blocks.block_bytes]);
    let cut = format!("--queue-depth {asked} is cut to {had}");
    Some(format!("{cut}: a payload ring of {ring} has no more blocks of {block}; {more}"))
}

/// What a ring of payload is a whole number of: all templates once, or the records of a block.
fn round_unit(sizes: &Sizes, blocks: &Blocks) -> u64 {
    match sizes.fixed() {
        _ if sizes.cycle_bytes > 0 => sizes.cycle_bytes,
        Some(record) => (blocks.block_bytes / record).max(1) * record,
        None => blocks.block_bytes,
    }
}

/// The longest ring from `least` to `most`, of at least half of `most`, whose whole rounds leave next to nothing of a
/// preallocated file: a unit, or a hundredth of it. Where there is none, the one that leaves the least.
fn whole_rounds(capacity_bytes: u64, (least, most): (u64, u64), unit: u64) -> u64 {
    let capacity = capacity_bytes / unit;
    let sizes = (least.div_ceil(unit).max(most / unit / 2).max(1)..=most / unit).rev();
    let left = |size: &u64| capacity % size;
    let longest = sizes.clone().find(|size| left(size) <= (capacity / 100).max(1));
    longest.or_else(|| sizes.min_by_key(left)).map_or(most, |size| size * unit)
}

/// What each lap of a preallocated file overwrites: whole rounds of the ring. About, where lengths are drawn.
pub fn lap_bytes(sizes: &Sizes, blocks: &Blocks, ring_bytes: u64, capacity_bytes: u64) -> u64 {
    let whole = |unit: u64| (ring_bytes / unit).max(1) * unit;
    let round = match sizes.fixed() {
        Some(record) if sizes.cycle_bytes == 0 && ring_bytes < blocks.block_bytes => whole(record),
        None if sizes.cycle_bytes == 0 => ring_bytes.max(1),
        _ => whole(round_unit(sizes, blocks)),
    };
    capacity_bytes / round * round
}

/// Whether the rings can be registered with the kernel; a note or, with `--io uring`, an error where it is known that
/// they cannot.
pub fn check_memlock(
    wanted: &Wanted,
    (io, total_bytes): (Io, u64),
    sysfs: &Sysfs,
    notes: &mut Vec<String>,
    errors: &mut Vec<Fatal>,
) -> Unregistered {
    let is_asked_for = wanted.io == Some(Io::Uring);
    let limit = crate::sys::fs::memlock().map_or(u64::MAX, |limit| limit.hard_bytes);
    if io != Io::Uring || total_bytes <= limit || memory::may_lock_any(sysfs) {
        return if is_asked_for { Unregistered::Refused } else { Unregistered::Told };
    }
    let (need, have) = (units::format_size(total_bytes), units::format_size(limit));
    let mend = rlimit::raise(rlimit::MEMLOCK);
    let what = format!("locked memory is limited to {have}, the rings need {need}");
    if is_asked_for {
        errors.push(Fatal::host(what).mend(mend));
        return Unregistered::Refused;
    }
    notes.push(format!("{what}: buffers stay unregistered (mend: {mend})"));
    Unregistered::Known
}

#[cfg(test)]
mod tests;
