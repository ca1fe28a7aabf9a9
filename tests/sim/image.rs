//! Do the files hold what the books say: every produced record, whole, at its place, with its due time?

use crate::scenario::{LanePlan, Scenario, rate_of};
use crate::world::{EPOCH_UNIX_NS, Outcome, RUN_ID_HASH, file_plan};
use engine::manifest::{Layout, Manifest};
use engine::payload::Starts;
use engine::plan::{FileLayout, FilePlan, PhaseShare, Schedule, WireRate};
use engine::record::{Header, is_intact};
use engine::sink::file::names;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a sequence begins, if all were written one behind the other.
pub fn stream_offset(starts: &Starts, sequence: u64) -> u64 {
    let count = starts.count();
    sequence / count * starts.period_bytes() + starts.start(sequence % count)
}

fn length_of(starts: &Starts, sequence: u64) -> u64 {
    stream_offset(starts, sequence + 1) - stream_offset(starts, sequence)
}

/// When a byte position is due after its phase's zero.
pub fn exact_due_ns(rate: WireRate, position: u64) -> u64 {
    let due = u128::from(position) * 1_000_000_000 * u128::from(rate.weight);
    u64::try_from(due / u128::from(rate.logical_bytes_per_second.max(1))).unwrap_or(u64::MAX)
}

/// One lane's files at the end.
struct Image<'a> {
    lane: usize,
    plan: &'a LanePlan,
    outcome: &'a Outcome,
    starts: &'a Starts,
    /// Headers of the produced records that were found, by sequence.
    found: Vec<Header>,
}

pub fn check(scenario: &Scenario, outcome: &Outcome, folder: &Path) {
    for (lane, plan) in scenario.lanes.iter().enumerate() {
        let starts = &outcome.starts[lane];
        let file = file_plan(plan, lane, folder, starts.period_bytes());
        let mut image = Image { lane, plan, outcome, starts, found: vec![] };
        image.check_manifest(&file);
        match file.layout {
            FileLayout::Rotating { retain, .. } => image.check_rotated(&file, retain),
            _ => image.check_ring(&file),
        }
        image.check_times();
        assert!(!names::next_path(&file.data).exists(), "lane {lane}: a prepared file was left behind");
    }
}

impl Image<'_> {
    fn next_sequence(&self) -> u64 {
        self.outcome.next_sequences[self.lane]
    }

    fn retained_first(&self) -> u64 {
        self.outcome.end.lanes[self.lane].retained_first_sequence.expect("files always know")
    }

    fn is_missing(&self, sequence: u64) -> bool {
        self.outcome.end.lanes[self.lane].missing.iter().any(|range| (range.0..=range.1).contains(&sequence))
    }

    /// A produced record is there, or the run ends here.
    fn check_record(&mut self, sequence: u64, bytes: &[u8], file: &Path, offset: u64) {
        if self.is_missing(sequence) {
            return;
        }
        let place = format!("lane {}, sequence {sequence}, {} at {offset}", self.lane, file.display());
        let Some(header) = Header::decode(bytes) else { panic!("{place}: no record begins here") };
        assert_eq!(
            (header.run_id, header.producer_id, header.sequence, u64::from(header.record_length)),
            (RUN_ID_HASH, self.lane as u32, sequence, length_of(self.starts, sequence)),
            "{place}"
        );
        assert!(is_intact(bytes), "{place}: damaged");
        self.found.push(header);
    }

    fn check_ring(&mut self, file: &FilePlan) {
        let bytes = fs::read(&file.data).expect("the data file is there");
        let FileLayout::Ring { capacity_bytes } = file.layout else { panic!("no ring: {:?}", file.layout) };
        assert_eq!(bytes.len() as u64, capacity_bytes);
        let lap_records = capacity_bytes / self.starts.period_bytes() * self.starts.count();
        let oldest = self.next_sequence().saturating_sub(lap_records);
        let first = self.retained_first();
        // The padding of one sector may cover records of the older lap, no more.
        let padding = stream_offset(self.starts, first) - stream_offset(self.starts, oldest);
        assert!(
            first == oldest || padding < self.plan.align + self.plan.bytes_max,
            "lane {}: {first} instead of {oldest}, next {}",
            self.lane,
            self.next_sequence()
        );
        for sequence in first..self.next_sequence() {
            let offset = stream_offset(self.starts, sequence % lap_records);
            let range = offset as usize..(offset + length_of(self.starts, sequence)) as usize;
            self.check_record(sequence, &bytes[range], &file.data, offset);
        }
    }

    fn check_rotated(&mut self, plan: &FilePlan, retain: Option<u64>) {
        let mut files = rotated(&plan.data);
        assert!(retain.is_none_or(|keep| files.len() as u64 <= keep), "{} rotated files are too many", files.len());
        files.push(plan.data.clone());
        let (mut sequence, limit) = (self.retained_first(), plan.layout);
        let FileLayout::Rotating { limit_bytes, .. } = limit else { panic!("not rotating: {limit:?}") };
        for file in &files {
            let bytes = fs::read(file).expect("the file is there");
            let (mut offset, mut records) = (0, 0);
            while offset < bytes.len() as u64 {
                let length = length_of(self.starts, sequence);
                let record = bytes.get(offset as usize..(offset + length) as usize);
                let record = record.unwrap_or_else(|| panic!("{}: ends within {sequence}", file.display()));
                self.check_record(sequence, record, file, offset);
                (offset, records, sequence) = (offset + length, records + 1, sequence + 1);
            }
            assert!(offset <= limit_bytes || records == 1, "{}: {offset} bytes, limit {limit_bytes}", file.display());
        }
        assert_eq!(sequence, self.next_sequence(), "lane {}: the files end too early or too late", self.lane);
    }

    fn check_manifest(&self, plan: &FilePlan) {
        let manifest = Manifest::read(&plan.manifest).expect("it is ours").expect("it was written");
        let end = &self.outcome.end.lanes[self.lane];
        assert!(manifest.complete && manifest.producer_id == self.lane as u32);
        assert_eq!(manifest.next_sequence, self.next_sequence());
        assert_eq!((manifest.first_sequence, &manifest.missing), (self.retained_first(), &end.missing));
        let went_round = match manifest.layout {
            Layout::Append => {
                let length = fs::metadata(&plan.data).expect("it is there").len();
                assert_eq!(manifest.length_bytes, length, "lane {}", self.lane);
                return;
            }
            Layout::Ring { lap_bytes, lap_records, .. } if self.next_sequence() >= lap_records => lap_bytes,
            Layout::Ring { .. } => stream_offset(self.starts, self.next_sequence()),
        };
        assert_eq!(manifest.length_bytes, went_round, "lane {}", self.lane);
    }

    /// Time stamps are due times of the schedule, in order.
    fn check_times(&self) {
        let mut at_least = 0;
        for header in &self.found {
            let at_ns = header.timestamp_ns.checked_sub(EPOCH_UNIX_NS).expect("after the barrier");
            assert!(at_least <= at_ns, "lane {}: time went back at {}", self.lane, header.sequence);
            assert!(at_ns <= self.outcome.ran_ns, "lane {}: {} is from the future", self.lane, header.sequence);
            at_least = at_ns;
        }
        let Starts::Fixed { length, .. } = *self.starts else { return };
        let mut due = Due { plan: self.plan, length, phase: 0, zero_ns: 0, record: 0 };
        for header in self.found.iter().filter(|_| self.plan.all_paced()) {
            due.advance_to(header, header.timestamp_ns - EPOCH_UNIX_NS);
        }
    }
}

/// Walks the due times of a schedule's records, all of one length.
struct Due<'a> {
    plan: &'a LanePlan,
    length: u64,
    phase: usize,
    /// The phase's start.
    zero_ns: u64,
    record: u64,
}

impl Due<'_> {
    /// The due time of the current record, and by how much a stamp may be earlier.
    fn current(&self, share: &PhaseShare) -> (u64, u64) {
        let steady_ns = exact_due_ns(rate_of(share).expect("paced"), self.record * self.length);
        match share.schedule {
            Schedule::Burst { on_ns, off_ns, .. } => (self.zero_ns + steady_ns - steady_ns % (on_ns + off_ns), 0),
            _ => (self.zero_ns + self.plan.stagger_ns + steady_ns, 2),
        }
    }

    /// Skips records that were not sent, up to the one that was due at `at_ns`.
    fn advance_to(&mut self, header: &Header, at_ns: u64) {
        while let Some(share) = self.plan.schedule.get(self.phase) {
            let (due_ns, early_ns) = self.current(share);
            if due_ns >= self.zero_ns + share.duration_ns {
                self.zero_ns += share.duration_ns;
                (self.phase, self.record) = (self.phase + 1, 0);
                continue;
            }
            self.record += 1;
            if (due_ns - early_ns.min(due_ns)..=due_ns).contains(&at_ns) {
                assert_eq!(header.weight, share.weight);
                return;
            }
            assert!(due_ns < at_ns, "no record was due at {at_ns}: {header:?}");
        }
        panic!("no record was due at {at_ns}: {header:?}");
    }
}

/// Rotated files of `data`, oldest first.
fn rotated(data: &Path) -> Vec<PathBuf> {
    let folder = data.parent().expect("it has a folder");
    let entries = fs::read_dir(folder).expect("it can be read");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut found: Vec<_> = paths.filter(|path| names::is_rotation_suffix(&names::suffix_of(data, path))).collect();
    found.sort();
    found
}
