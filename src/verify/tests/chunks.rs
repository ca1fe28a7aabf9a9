//! Several threads see what one reader sees.

use super::parallel::{Delivery, FileScan};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_flipped_bit_is_found_and_costs_one_record(
        bit in any::<prop::sample::Index>(), chunk_bytes in 64u64..3000, even in prop::option::of(6u32..9), zeros in 0usize..3000,
    ) {
        // Records of one round length: a flipped length may point at another record's start.
        let length = |at| even.map_or(length_of(at), |power| 1 << power);
        let sound: Vec<u8> = (0..30).flat_map(|at| record_of("run", 0, at, length(at))).collect();
        let mut data = sound.clone();
        let bit = bit.index(data.len() * 8);
        let starts = (0..30).scan(0, |at, sequence| {
            *at += length(sequence) as u64;
            Some(*at - length(sequence) as u64)
        });
        let hit = starts.take_while(|start| *start <= bit as u64 / 8).last();
        data[bit / 8] ^= 1 << (bit % 8);
        data.resize(data.len() + zeros, 0);
        for findings in [append(&data, &sound, 30), pipe(&data), file(&data)] {
            prop_assert!(!findings.clean, "bit {bit}");
            prop_assert_eq!(findings.records, 29, "bit {}\n{}", bit, findings.summary());
            let named = findings.damage.iter().any(|finding| {
                matches!(finding.kind, Kind::Corrupt | Kind::Unrecognised | Kind::Truncated) && finding.byte == hit
            });
            prop_assert!(named, "bit {}\n{}", bit, findings.summary());
        }
        let chunked = scanned(&data, chunk_bytes, 3);
        let whole = scanned(&data, u64::MAX / 2, 1);
        prop_assert_eq!(chunked, whole);
    }

    #[test]
    fn chunks_see_what_one_reader_sees(
        parts in proptest::collection::vec(prop_oneof![
            (0u64..20, 1u64..6).prop_map(|(first, count)| records(first..first + count).concat()),
            proptest::collection::vec(any::<u8>(), 0..300),
            (1usize..300).prop_map(|length| vec![0; length]),
            (0u64..20, 1usize..60).prop_map(|(at, cut)| records([at]).concat()[..cut].to_vec()),
            Just(b"ENGR".to_vec()),
            // A record inside of a record.
            (0u64..20).prop_map(nested),
        ], 0..12),
        chunk_bytes in 1u64..1500,
    ) {
        let data = parts.concat();
        prop_assert_eq!(scanned(&data, chunk_bytes, 3), scanned(&data, u64::MAX / 2, 1));
        let _ = pipe(&data);
    }
}

fn nested(sequence: u64) -> Vec<u8> {
    let inner = record_of("inner", 9, sequence, 100);
    let mut outer = record_of("run", 0, sequence, 300);
    outer[100..200].copy_from_slice(&inner);
    let mut header = Header::decode(&outer).unwrap();
    (header.body_crc32c, header.crc32c) = (crc32c::checksum(&outer[HEADER_BYTES..]), 0);
    header.crc32c = crc32c::append(crc32c::checksum(&header.encode()), &outer[HEADER_BYTES..]);
    outer[..HEADER_BYTES].copy_from_slice(&header.encode());
    outer
}

/// All events of the bytes, with spans and junk that chunks have cut joined again.
fn scanned(bytes: &[u8], chunk_bytes: u64, threads: usize) -> Vec<scan::Event> {
    let store = Store::new(bytes, None);
    let shape = HeaderShape::new(None);
    let progress = ReadProgress::default();
    let (path, end) = (store.path("payloads.0.bin"), bytes.len() as u64);
    let files = [FileScan { path, end, device: 0, shape: &shape, progress: &progress }];
    let mut events: Vec<scan::Event> = Vec::new();
    let mut ends = 0;
    let mut deliver = |_: usize, what: Delivery<'_>| match what {
        Delivery::Event(event) => match (events.last_mut(), event) {
            (Some(scan::Event::Junk(open)), scan::Event::Junk(more)) if open.end == more.start => {
                open.end = more.end;
                open.zeros &= more.zeros;
            }
            (Some(scan::Event::Span(open)), scan::Event::Span(more))
                if open.key == more.key && open.end == more.start && open.last + 1 == more.first =>
            {
                open.extend(more);
            }
            _ => events.push(*event),
        },
        Delivery::FileEnd => ends += 1,
    };
    parallel::scan_files(&files, threads, chunk_bytes, |scans| scans.take(1, &mut deliver)).unwrap();
    assert_eq!((ends, progress.bytes_read()), (1, bytes.len() as u64));
    events
}

#[test]
fn files_on_several_devices_are_told_of_in_order() {
    let store = Store::new(&records(0..50).concat(), None);
    store.add("b.bin", &records(50..80).concat());
    store.add("c.bin", &records(80..120).concat());
    let (shape, progress) = (HeaderShape::new(None), ReadProgress::default());
    let told = |devices: [u64; 3], threads: usize| {
        let names = ["payloads.0.bin", "b.bin", "c.bin"].iter().zip(devices);
        let files = names.map(|(name, device)| {
            let path = store.path(name);
            let end = std::fs::metadata(&path).unwrap().len();
            FileScan { path, end, device, shape: &shape, progress: &progress }
        });
        let files: Vec<FileScan<'_>> = files.collect();
        let mut told = Vec::new();
        parallel::scan_files(&files, threads, 500, |scans| {
            for count in [2, 1] {
                scans.take(count, &mut |file, what| match what {
                    Delivery::Event(event) => told.push((count, file, Some(*event))),
                    Delivery::FileEnd => told.push((count, file, None)),
                })?;
            }
            Ok(())
        })
        .unwrap();
        told
    };
    let in_order = told([0; 3], 1);
    let ends = in_order.iter().filter(|(.., event)| event.is_none());
    assert_eq!(ends.map(|(count, file, _)| (*count, *file)).collect::<Vec<_>>(), [(2, 0), (2, 1), (1, 0)]);
    for threads in [1, 2, 5] {
        assert_eq!(told([7, 8, 7], threads), in_order, "{threads} threads");
    }
}

#[test]
fn a_file_of_several_chunks_is_one_stream() {
    let length = (parallel::CHUNK_BYTES / 10 + 12_345) as usize;
    let sound: Vec<Vec<u8>> = (0..25).map(|at| record_of("run", 0, at, length)).collect();
    let data = sound.concat();
    assert!(data.len() as u64 > 2 * parallel::CHUNK_BYTES);
    assert_clean(&append(&data, &data, 25), 25);
    let mut damaged = data;
    let at = 14 * length;
    damaged[at + length / 2] ^= 1;
    let findings = append(&damaged, &damaged, 25);
    assert_eq!(only(&findings, Kind::Corrupt).byte, Some(at as u64));
    assert_eq!((kinds(&findings), findings.records), (vec![Kind::Corrupt], 24));
}

#[test]
fn more_damage_than_one_scan_may_tell_is_told_by_the_next() {
    let count = scan::EVENTS_MAX as u64 / 2 + 5_000;
    let data: Vec<u8> = (0..count).flat_map(|at| [record_of("run", 0, at, 64), vec![b'x'; 3]].concat()).collect();
    for findings in [append(&data, &data, count), pipe(&data)] {
        assert_eq!((findings.records, findings.count(Kind::Unrecognised).findings), (count, count));
        assert_eq!(kinds(&findings), [Kind::Unrecognised]);
    }
}
