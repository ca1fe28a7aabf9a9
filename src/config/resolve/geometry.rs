//! Blocks, queues and rings: how many bytes go to the kernel at once and how many are prepared.

use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::config::load::Settings;
use crate::config::resolve::network::Shape;
use crate::config::resolve::payload::Sizes;
use crate::config::values::Wanted;
use crate::host::fs::Direct;
use crate::host::{Sysfs, cpu, memory};
use crate::plan::SinkKind;

/// Bytes in flight that the default queue depth leads to at the most.
const DEPTH_BYTES_MAX: u64 = 512 << 20;
const BLOCK_DIRECT_BYTES: u64 = 1 << 20;
const BLOCK_BUFFERED_BYTES: u64 = 256 << 10;
const QUEUE_DEPTH_DIRECT: usize = 32;
const QUEUE_DEPTH_BUFFERED: usize = 8;
const RING_DIRECT_BYTES_MIN: u64 = 32 << 20;
const RING_NULL_BYTES: u64 = 64 << 20;
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

pub fn blocks(settings: &Settings, wanted: &Wanted, facts: &Facts, errors: &mut Vec<Fatal>) -> Blocks {
    check_explicit_block(wanted, errors);
    let align = direct_alignment(settings, wanted, facts, errors);
    let limit = |default: u64| block_limit(wanted, facts, default);
    let block_bytes = match align {
        Some(align) => aligned_block(facts.sizes, limit(BLOCK_DIRECT_BYTES), align)
            .unwrap_or_else(|| plain_block(facts.sizes, limit(BLOCK_DIRECT_BYTES)).next_multiple_of(align)),
        None => plain_block(facts.sizes, limit(facts.shape.map_or(BLOCK_BUFFERED_BYTES, |shape| shape.block_bytes))),
    };
    let depth = if align.is_some() { QUEUE_DEPTH_DIRECT } else { QUEUE_DEPTH_BUFFERED };
    let depth = facts.shape.map_or(depth, |shape| shape.depth.min(limits::QUEUE_DEPTH_MAX));
    // Large records make large blocks: fewer of them in flight keep the default ring within reason.
    let within = usize::try_from(DEPTH_BYTES_MAX / block_bytes.max(1)).unwrap_or(usize::MAX).max(2);
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
    blocks: &Blocks,
    lanes: &[usize],
    (sysfs, first_cpu): (&Sysfs, usize),
    errors: &mut Vec<Fatal>,
) -> u64 {
    let total_lanes = lanes.iter().sum::<usize>().max(1) as u64;
    let most_lanes = lanes.iter().copied().max().unwrap_or(1).max(1) as u64;
    let budget = memory::available_bytes(sysfs).unwrap_or(u64::MAX) / MEMORY_PART / total_lanes;
    let budget = budget.min(limits::RING_BYTES_MAX / most_lanes);
    let least = (2 * blocks.block_bytes).max(facts.sizes.cycle_bytes).min(facts.capacity_bytes);
    let bytes = match wanted.ring_bytes {
        Some(bytes) if bytes < least => {
            let what = format!("--ring-size {bytes}: two blocks or all templates need {least} B");
            errors.push(Fatal::usage(what).mend(format!("--ring-size={least}")));
            least
        }
        Some(bytes) => bytes.min(limits::RING_BYTES_MAX + 1),
        None => {
            let default = default_ring_bytes(facts, blocks, cpu::l2_bytes(sysfs, first_cpu), most_lanes);
            default.max(least).min(budget.max(least))
        }
    };
    let bytes = bytes.next_multiple_of(4096).min(facts.capacity_bytes);
    let bytes = match wanted.ring_bytes {
        None if facts.capacity_bytes < u64::MAX => {
            whole_rounds(facts.capacity_bytes, (least, bytes), round_unit(facts.sizes, blocks))
        }
        _ => bytes,
    };
    if bytes > budget.next_multiple_of(4096) {
        let (each, all) = (units::format_size(bytes), units::format_size(bytes.saturating_mul(total_lanes)));
        let have = units::format_size(budget.saturating_mul(total_lanes));
        let what = format!("{total_lanes} rings of {each} are {all}; a quarter of the available memory is {have}");
        let smaller = format!("--ring-size={}", (budget / 4096 * 4096).max(4096));
        let mend = if budget >= least { smaller } else { "fewer producers, or smaller blocks and records".to_owned() };
        errors.push(Fatal::host(what).mend(mend));
    }
    bytes
}

/// Direct I/O needs room for all that is in flight; what the kernel copies should stay in the cache.
fn default_ring_bytes(facts: &Facts, blocks: &Blocks, l2_bytes: Option<u64>, lanes: u64) -> u64 {
    let cached = l2_bytes.unwrap_or(1 << 20) / 2 / lanes;
    match facts.kind {
        SinkKind::Null => RING_NULL_BYTES,
        SinkKind::File if blocks.direct => {
            let in_flight = (blocks.queue_depth + blocks.queue_depth.min(8)) as u64;
            let in_flight = in_flight.saturating_mul(blocks.block_bytes);
            in_flight.next_multiple_of(1 << 20).max(RING_DIRECT_BYTES_MIN)
        }
        SinkKind::Stdout => cached.min(1 << 20).max(4 * blocks.block_bytes),
        SinkKind::File => cached.max(4 * blocks.block_bytes),
        // All that is needed while it is unanswered, and one block to prepare.
        SinkKind::Tcp | SinkKind::Http | SinkKind::Kafka => {
            let held =
                facts.shape.and_then(|shape| shape.held).map_or(blocks.queue_depth, |n| n.min(blocks.queue_depth));
            cached.max((held as u64 + 1).saturating_mul(blocks.block_bytes))
        }
    }
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

/// Whether the rings can be registered with the kernel; a note or, with `--io uring`, an error where not.
pub fn check_memlock(
    wanted: &Wanted,
    total_bytes: u64,
    sysfs: &Sysfs,
    notes: &mut Vec<String>,
    errors: &mut Vec<Fatal>,
) {
    let limit = crate::sys::fs::memlock().map_or(u64::MAX, |limit| limit.hard_bytes);
    if total_bytes <= limit || memory::may_lock_any(sysfs) {
        return;
    }
    let (need, have) = (units::format_size(total_bytes), units::format_size(limit));
    let mend = format!("ulimit -l {}", total_bytes.div_ceil(1024));
    let what = format!("locked memory is limited to {have}, the rings need {need}");
    if wanted.uring == Some(true) {
        errors.push(Fatal::host(what).mend(mend));
    } else {
        notes.push(format!("{what}: buffers stay unregistered (mend: {mend})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values;
    use crate::host::fake::Tree;
    use proptest::prelude::*;

    fn wanted() -> Wanted {
        values::read(&Settings::default(), &mut Vec::new())
    }

    fn file_facts(sizes: &Sizes, useful: bool) -> Facts<'_> {
        let probes = vec![Ok(Direct { align: 512, useful })];
        Facts {
            kind: SinkKind::File,
            sizes,
            probes,
            slowest_wire_rate: None,
            capacity_bytes: u64::MAX,
            linger_ns: limits::LINGER_DEFAULT_NS,
            shape: None,
        }
    }

    fn chosen(wanted: &Wanted, facts: &Facts) -> (Blocks, Vec<Fatal>) {
        let mut errors = Vec::new();
        (blocks(&Settings::default(), wanted, facts, &mut errors), errors)
    }

    #[test]
    fn auto_is_direct_only_where_blocks_are_full_and_aligned() {
        let sizes = Sizes::fixed_at(4096);
        let (blocks, _) = chosen(&wanted(), &file_facts(&sizes, true));
        assert_eq!((blocks.direct, blocks.block_bytes, blocks.queue_depth), (true, 1 << 20, 32));
        let (blocks, _) = chosen(&wanted(), &file_facts(&sizes, false));
        assert_eq!((blocks.direct, blocks.align, blocks.block_bytes, blocks.queue_depth), (false, 1, 256 << 10, 8));
        let slow = Facts { slowest_wire_rate: Some(1_000_000), ..file_facts(&sizes, true) };
        assert!(chosen(&wanted(), &slow).0.direct, "whole sectors");
        let odd = Sizes::fixed_at(1000);
        let slow = Facts { slowest_wire_rate: Some(1_000_000), ..file_facts(&odd, true) };
        assert!(!chosen(&wanted(), &slow).0.direct);
        let (blocks, _) = chosen(&wanted(), &file_facts(&odd, true));
        assert!(blocks.direct && blocks.block_bytes.is_multiple_of(512) && blocks.block_bytes.is_multiple_of(1000));
        let ranged = Sizes { min_bytes: 512, max_bytes: 8192, mean_bytes: 4352, cycle_bytes: 0, count: 0 };
        assert!(!chosen(&wanted(), &file_facts(&ranged, true)).0.direct);
        let (blocks, errors) = chosen(&Wanted { direct: Some(true), ..wanted() }, &file_facts(&ranged, true));
        assert!(errors.is_empty() && blocks.direct && blocks.block_bytes == 1 << 20);
    }

    #[test]
    fn an_unaligned_block_names_the_binary_spelling() {
        assert_eq!(binary_spelling("1M", 1_000_000, 4096), "1Mi");
        assert_eq!(binary_spelling("256kB", 256_000, 4096), "256Ki");
        assert_eq!(binary_spelling("1000", 1000, 512), "1024");
        assert_eq!(binary_spelling("1k", 1000, 4096), "4096");
        let sizes = Sizes::fixed_at(4096);
        let wanted = Wanted { direct: Some(true), block_bytes: Some(1_000_000), ..wanted() };
        let (_, errors) = chosen(&wanted, &file_facts(&sizes, true));
        assert!(errors[0].what.contains("1000000"), "{}", errors[0]);
        for (direct, refused) in [(None, 1), (Some(false), 0)] {
            let (_, errors) = chosen(&Wanted { direct, ..wanted.clone() }, &file_facts(&sizes, true));
            assert_eq!(errors.len(), refused, "{direct:?}: {errors:?}");
        }
        let (blocks, errors) = chosen(&Wanted { direct: None, ..wanted }, &file_facts(&sizes, false));
        assert!(errors.is_empty() && !blocks.direct, "where it would be of no use, nobody asks for it");
    }

    #[test]
    fn direct_that_cannot_be_is_the_host_s_fault() {
        let sizes = Sizes::fixed_at(4096);
        let facts = Facts { probes: vec![Err("no".into())], ..file_facts(&sizes, true) };
        let (_, errors) = chosen(&Wanted { direct: Some(true), ..wanted() }, &facts);
        assert_eq!(errors[0].exit, crate::base::fatal::Exit::Host);
        assert!(!chosen(&wanted(), &facts).0.direct);
    }

    fn ring(wanted: &Wanted, facts: &Facts, available_kb: u64, lanes: &[usize]) -> (u64, Vec<Fatal>) {
        let tree = Tree::new(&[("/proc/meminfo", &format!("MemAvailable: {available_kb} kB\n"))]);
        let (blocks, mut errors) = chosen(wanted, facts);
        (ring_bytes(wanted, facts, &blocks, lanes, (&tree.sysfs(), 0), &mut errors), errors)
    }

    #[test]
    fn rings_fit_their_purpose_and_the_memory() {
        let sizes = Sizes::fixed_at(4096);
        let facts = file_facts(&sizes, true);
        assert_eq!(ring(&wanted(), &facts, 16 << 20, &[1]).0, 40 << 20);
        let null = Facts { kind: SinkKind::Null, probes: Vec::new(), ..file_facts(&sizes, true) };
        assert_eq!(ring(&wanted(), &null, 16 << 20, &[1]).0, 64 << 20);
        assert_eq!(ring(&wanted(), &null, 128 << 10, &[1]).0, 32 << 20);
        let small = Facts { capacity_bytes: 1 << 20, ..file_facts(&sizes, true) };
        assert_eq!(ring(&wanted(), &small, 16 << 20, &[1]).0, 1 << 20);
        let big = Wanted { ring_bytes: Some(1 << 30), ..wanted() };
        assert_eq!(ring(&big, &null, 16 << 20, &[1, 1]), (1 << 30, Vec::new()));
        let (_, errors) = ring(&big, &null, 4 << 20, &[1, 1]);
        assert_eq!(errors[0].exit, crate::base::fatal::Exit::Host);
        let (_, errors) = ring(&Wanted { ring_bytes: Some(1), ..wanted() }, &null, 16 << 20, &[1]);
        assert!(errors[0].what.contains("--ring-size 1"));
    }

    #[test]
    fn a_preallocated_file_is_made_of_whole_rings() {
        let (fixed, odd) = (Sizes::fixed_at(4096), Sizes::fixed_at(1000));
        let templates = Sizes { min_bytes: 700, max_bytes: 900, mean_bytes: 800, cycle_bytes: 2400, count: 3 };
        for (sizes, capacity_bytes, useful, expected) in [
            (&fixed, 64 << 20, true, Some(32 << 20)),
            (&fixed, 79 << 20, true, Some(39 << 20)),
            (&fixed, 47 << 20, true, Some(23 << 20)),
            (&fixed, 100 << 20, true, Some(33 << 20)),
            (&fixed, 16 << 30, true, Some(40 << 20)),
            (&fixed, 24 << 20, true, Some(24 << 20)),
            (&odd, 64 << 20, true, None),
            (&odd, 64_000_000, false, None),
            (&templates, 64_000_000, false, None),
        ] {
            let facts = Facts { capacity_bytes, ..file_facts(sizes, useful) };
            let (blocks, _) = chosen(&wanted(), &facts);
            let (bytes, errors) = ring(&wanted(), &facts, 16 << 20, &[1]);
            assert!(errors.is_empty() && expected.is_none_or(|wanted| bytes == wanted), "{capacity_bytes}: {bytes}");
            let left = capacity_bytes - lap_bytes(sizes, &blocks, bytes, capacity_bytes);
            assert!(left <= (2 * blocks.block_bytes).max(capacity_bytes / 99), "{capacity_bytes}: {left} with {bytes}");
            let default = ring(&wanted(), &Facts { capacity_bytes: u64::MAX, ..facts }, 16 << 20, &[1]).0;
            assert!(bytes <= default, "{bytes} > {default}");
        }
        let asked = Wanted { ring_bytes: Some(40 << 20), ..wanted() };
        let facts = Facts { capacity_bytes: 64 << 20, ..file_facts(&fixed, true) };
        let (bytes, _) = ring(&asked, &facts, 16 << 20, &[1]);
        assert_eq!((bytes, lap_bytes(&fixed, &chosen(&asked, &facts).0, bytes, 64 << 20)), (40 << 20, 40 << 20));
    }

    #[test]
    fn only_what_is_needed_on_has_a_place_in_the_ring() {
        let sizes = Sizes::fixed_at(1 << 20);
        let facts = |held| {
            let shape = Some(Shape { block_bytes: 1 << 20, depth: 8, held });
            Facts { kind: SinkKind::Tcp, shape, probes: Vec::new(), ..file_facts(&sizes, true) }
        };
        assert_eq!(ring(&wanted(), &facts(None), 16 << 20, &[1]).0, 9 << 20);
        assert_eq!(ring(&wanted(), &facts(Some(2)), 16 << 20, &[1]).0, 3 << 20);
        let shallow = Wanted { queue_depth: Some(2), ..wanted() };
        assert_eq!(ring(&shallow, &facts(Some(8)), 16 << 20, &[1]).0, 3 << 20, "no more than is in flight");
        let deep = Wanted { queue_depth: Some(20), ..wanted() };
        assert_eq!(ring(&deep, &facts(None), 16 << 20, &[1]).0, 21 << 20, "all that is in flight");
        let http = Facts { kind: SinkKind::Http, ..facts(None) };
        assert_eq!(ring(&deep, &http, 16 << 20, &[1]).0, 9 << 20, "HTTP has another flag for it");
        let kafka = Facts { kind: SinkKind::Kafka, ..facts(None) };
        assert_eq!(ring(&deep, &kafka, 16 << 20, &[1]).0, 9 << 20, "what is cut needs no room");
    }

    proptest! {
        #[test]
        fn a_block_holds_whole_records(size in 16u64..300_000_000, explicit in proptest::option::of(1u64..1 << 30), useful: bool) {
            let sizes = Sizes::fixed_at(size);
            let wanted = Wanted { block_bytes: explicit, ..wanted() };
            let (blocks, _) = chosen(&wanted, &file_facts(&sizes, useful));
            prop_assert!(blocks.block_bytes >= size && blocks.block_bytes.is_multiple_of(size));
            prop_assert!(blocks.block_bytes.is_multiple_of(blocks.align));
        }
    }
}
