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
    ring_by(Io::Uring, wanted, facts, available_kb, lanes)
}

fn ring_by(io: Io, wanted: &Wanted, facts: &Facts, available_kb: u64, lanes: &[usize]) -> (u64, Vec<Fatal>) {
    let tree = Tree::new(&[("/proc/meminfo", &format!("MemAvailable: {available_kb} kB\n"))]);
    let (blocks, mut errors) = chosen(wanted, facts);
    (ring_bytes(wanted, facts, (&blocks, io), lanes, (&tree.sysfs(), 0), &mut errors), errors)
}

#[test]
fn rings_fit_their_purpose_and_the_memory() {
    let sizes = Sizes::fixed_at(4096);
    let facts = file_facts(&sizes, true);
    assert_eq!(ring(&wanted(), &facts, 16 << 20, &[1]).0, 40 << 20);
    let null = Facts { kind: SinkKind::Null, probes: Vec::new(), ..file_facts(&sizes, true) };
    assert_eq!(ring(&wanted(), &null, 16 << 20, &[1]).0, 64 << 20);
    assert_eq!(ring(&wanted(), &null, 128 << 10, &[1]).0, 32 << 20);
    assert_eq!(ring(&wanted(), &null, 1 << 30, &[8, 8]).0, 64 << 20);
    let (many, errors) = ring(&wanted(), &null, 1 << 30, &[1000]);
    assert!(errors.is_empty() && many * 1000 <= 600 << 20, "they are prepared before anything is sent: {many}");
    let cached = file_facts(&sizes, false);
    assert_eq!(ring(&wanted(), &cached, 16 << 20, &[1]).0, 1 << 20);
    let one_block_at_a_time = ring_by(Io::Syscall, &wanted(), &cached, 16 << 20, &[1]).0;
    assert_eq!(one_block_at_a_time, 512 << 10, "what is copied again and again stays in the cache");
    let small = Facts { capacity_bytes: 1 << 20, ..file_facts(&sizes, true) };
    assert_eq!(ring(&wanted(), &small, 16 << 20, &[1]).0, 1 << 20);
    let big = Wanted { ring_bytes: Some(1 << 30), ..wanted() };
    assert_eq!(ring(&big, &null, 16 << 20, &[1, 1]), (1 << 30, Vec::new()));
    let (_, errors) = ring(&big, &null, 4 << 20, &[1, 1]);
    assert_eq!(errors[0].exit, crate::base::fatal::Exit::Host);
    assert!(errors[0].what.starts_with("--ring-size 1 GiB: 2 rings of 1 GiB are 2 GiB and do not fit"), "{errors:?}");
    let huge = Wanted { ring_bytes: Some(1_000_000_000_000), ..wanted() };
    for (available_kb, room) in [(16 << 20, "a quarter of the available memory, which is 4 GiB"), (1 << 40, "64 GiB")] {
        let (_, errors) = ring(&huge, &null, available_kb, &[1]);
        let what = &errors[0].what;
        assert!(what.starts_with("--ring-size 1 TB: a ring of 1 TB does not fit") && what.contains(room), "{what}");
    }
    let (_, errors) = ring(&Wanted { ring_bytes: Some(1), ..wanted() }, &null, 16 << 20, &[1]);
    assert!(errors[0].what.contains("--ring-size 1"));
}

#[test]
fn a_depth_that_was_asked_for_has_room_in_the_ring() {
    let sizes = Sizes::fixed_at(4096);
    let cached = file_facts(&sizes, false);
    let deep = Wanted { queue_depth: Some(32), ..wanted() };
    assert_eq!(ring(&deep, &cached, 16 << 20, &[1]), (33 * (256 << 10), Vec::new()));
    let by_calls = ring_by(Io::Syscall, &deep, &cached, 16 << 20, &[1]).0;
    assert_eq!(by_calls, 512 << 10, "one is written after the other, out of the cache");
    let shallow = Wanted { queue_depth: Some(2), ..wanted() };
    assert_eq!(ring(&shallow, &cached, 16 << 20, &[1]).0, 1 << 20, "no less than by default");
    assert_eq!(ring(&deep, &cached, 16 << 10, &[1]).0, 4 << 20, "no more than the memory allows");
}

#[test]
fn a_depth_that_has_no_room_is_told() {
    let sizes = Sizes::fixed_at(4096);
    let told = |io, more: Wanted, capacity_bytes, available_kb| {
        let facts = Facts { capacity_bytes, ..file_facts(&sizes, false) };
        let wanted = Wanted { block_bytes: Some(256 << 10), ..more };
        let (bytes, _) = ring_by(io, &wanted, &facts, available_kb, &[1]);
        depth_note(&wanted, (facts.kind, capacity_bytes), (&chosen(&wanted, &facts).0, io), bytes)
    };
    let deep = || Wanted { queue_depth: Some(32), ..wanted() };
    let (whole, roomy) = (u64::MAX, 16 << 20);
    assert_eq!(told(Io::Uring, deep(), whole, roomy), None);
    assert_eq!(told(Io::Uring, wanted(), whole, roomy), None, "nobody asked");
    let small = Wanted { ring_bytes: Some(2 << 20), ..deep() };
    for (io, wanted, capacity_bytes, available_kb, had, more) in [
        (Io::Uring, small, whole, roomy, 8, "--ring-size=8650752 has room for all"),
        (Io::Uring, deep(), 4 << 20, roomy, 16, "smaller blocks leave"),
        (Io::Uring, deep(), whole, 16 << 10, 16, "fewer producers or smaller blocks"),
        (Io::Syscall, deep(), whole, roomy, 2, "it stays in the cache"),
    ] {
        let note = told(io, wanted, capacity_bytes, available_kb).unwrap_or_default();
        let cut = format!("--queue-depth 32 is cut to {had}: a payload ring of ");
        assert!(note.starts_with(&cut) && note.contains(" blocks of 256 KiB; ") && note.contains(more), "{note}");
    }
    let (blocks, _) = chosen(&deep(), &file_facts(&sizes, false));
    let network = depth_note(&deep(), (SinkKind::Tcp, whole), (&blocks, Io::Uring), 1);
    assert_eq!(network, None, "connections have room of their own");
}

/// The table cannot name a number of the code.
#[test]
fn help_says_how_much_of_neighbouring_blocks_one_call_carries() {
    let most = units::format_size(crate::sys::syscalls::MERGED_BYTES_MAX as u64);
    let help = crate::config::keys::find("block-size").unwrap().help;
    assert!(help.contains(&format!("in one call of up to {most}")), "{help}");
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
    // A ring of 33 MiB leaves least of the file, and has no place for 40 blocks.
    for (queue_depth, expected) in [(None, 33 << 20), (Some(30), 33 << 20), (Some(40), 48 << 20)] {
        let asked = Wanted { queue_depth, ..wanted() };
        let facts = Facts { capacity_bytes: 100 << 20, ..file_facts(&fixed, true) };
        assert_eq!(ring(&asked, &facts, 16 << 20, &[1]), (expected, Vec::new()), "{queue_depth:?}");
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
        let shape = Some(Shape { block_bytes: 1 << 20, depth: 8, held, connections: 2 });
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
