//! Where a core's time goes, turn by turn.

use crate::counters::LoopTime;
use crate::sys::ring::Wait;

/// A turn's own work, waits and kernel calls aside, that takes longer than this, and than its records and bytes can
/// take at the dearest (small templates, signed), was not let run.
const GAP_NS: u64 = 1_000_000;
const RECORD_NS_MAX: u64 = 300;

/// What feeding the lanes came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fed {
    /// What was offered.
    pub records: u64,
    pub bytes: u64,
    /// Something was due, but its sink had no room.
    pub full: bool,
    /// The room was that of a file that is full, and the one to follow it is not there yet.
    pub awaits_file: bool,
    /// When the next thing is to be offered.
    pub wake_ns: u64,
    /// When a block goes that waited so long for more that being woken late does it no harm.
    pub hold_until_ns: u64,
}

impl Fed {
    pub fn offered(&self) -> bool {
        self.records > 0
    }

    /// Something is due that has no room.
    pub fn held_up(&mut self, awaits_file: bool) {
        self.full = true;
        self.awaits_file |= awaits_file;
    }

    /// What this, and a megabyte of what was fed before, can have taken at most on a processor of its own.
    fn longest_ns(&self, byte_ns_max: u64) -> u64 {
        (GAP_NS + self.bytes) * byte_ns_max + self.records * RECORD_NS_MAX
    }
}

/// One turn of the loop: when it began, when all lanes were fed, and when it was back from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub from_ns: u64,
    pub fed_ns: u64,
    pub to_ns: u64,
    pub wait: Wait,
    pub fed: Fed,
    /// See [`Sink::byte_ns_max`](crate::sink::Sink::byte_ns_max).
    pub byte_ns_max: u64,
    /// The call to the kernel carried out an operation itself: however long it took, that was the target's.
    pub blocks: bool,
    /// Blocks came back.
    pub reaped: bool,
}

impl Turn {
    /// The call to the kernel had something to do, and no time to wait.
    fn is_submission(&self) -> bool {
        self.blocks || self.wait == Wait::No && (self.fed.offered() || self.reaped)
    }

    /// `oversleep_ns`: how late the kernel wakes this thread, smoothed.
    pub fn book(&self, time: &mut LoopTime, oversleep_ns: &mut u64) {
        let feeding = self.fed_ns.saturating_sub(self.from_ns);
        let kernel = self.to_ns.saturating_sub(self.fed_ns);
        // Part of the work, and no wait. Long kernel calls are the target's.
        let mut stolen_ns = if feeding > self.fed.longest_ns(self.byte_ns_max) { feeding } else { 0 };
        let full_before_ns = time.target_full_ns;
        let waited = if self.fed.full { &mut time.target_full_ns } else { &mut time.idle_ns };
        let mut gap_ns = feeding + kernel;
        match self.wait {
            _ if self.is_submission() => {
                time.work_ns += feeding;
                time.kernel_ns += kernel;
            }
            Wait::ForNs(asked) => {
                if !self.reaped && kernel > asked {
                    *oversleep_ns = (7 * *oversleep_ns + (kernel - asked)) / 8;
                }
                let overslept_ns = kernel.saturating_sub(asked);
                gap_ns = feeding + overslept_ns;
                // A call that brought nothing and sent nothing had nothing to do but wake this thread in time.
                if overslept_ns > GAP_NS && !self.reaped && !self.fed.offered() {
                    stolen_ns += overslept_ns;
                }
                *waited += feeding + kernel - stolen_ns;
                time.work_ns += stolen_ns;
            }
            Wait::No => {
                *waited += feeding + kernel - stolen_ns;
                time.spun_ns += feeding + kernel - stolen_ns;
                time.work_ns += stolen_ns;
            }
        }
        if self.fed.awaits_file {
            time.file_wait_ns += time.target_full_ns - full_before_ns;
        }
        time.turns += 1;
        time.gap_max_ns = time.gap_max_ns.max(gap_ns);
        time.stolen_ns += stolen_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn booked(feeding: u64, kernel: u64, wait: Wait, fed: Fed) -> LoopTime {
        let (mut time, mut oversleep_ns) = (LoopTime::default(), 0);
        let (fed_ns, to_ns) = (MS + feeding, MS + feeding + kernel);
        let turn = Turn { from_ns: MS, fed_ns, to_ns, wait, fed, byte_ns_max: 1, blocks: false, reaped: false };
        turn.book(&mut time, &mut oversleep_ns);
        time
    }

    #[test]
    fn a_turn_is_work_a_wait_or_a_spin() {
        let (some, full) = (Fed { records: 1, bytes: 64, ..Fed::default() }, Fed { full: true, ..Fed::default() });
        let work = booked(30, 20, Wait::No, some);
        assert_eq!((work.work_ns, work.kernel_ns, work.spun_ns), (30, 20, 0));
        let spun = booked(30, 20, Wait::No, full);
        assert_eq!((spun.target_full_ns, spun.idle_ns, spun.spun_ns), (50, 0, 50));
        let slept = booked(30, 20, Wait::ForNs(100), Fed::default());
        assert_eq!((slept.target_full_ns, slept.idle_ns, slept.spun_ns), (0, 50, 0));
    }

    #[test]
    fn a_wait_for_the_next_file_is_part_of_that_for_the_target() {
        let mut full = Fed::default();
        full.held_up(false);
        assert_eq!(booked(30, 20, Wait::No, full).file_wait_ns, 0);
        full.held_up(true);
        for wait in [Wait::No, Wait::ForNs(100)] {
            let time = booked(30, 20, wait, full);
            assert_eq!((time.target_full_ns, time.file_wait_ns), (50, 50), "{wait:?}");
        }
        let others_go_on = booked(30, 20, Wait::No, Fed { records: 1, bytes: 64, ..full });
        assert_eq!((others_go_on.work_ns, others_go_on.file_wait_ns), (30, 0));
    }

    #[test]
    fn a_clock_that_goes_back_takes_no_time() {
        let (mut time, mut oversleep_ns) = (LoopTime::default(), 0);
        let (wait, fed) = (Wait::No, Fed { records: 1, bytes: 64, ..Fed::default() });
        for (fed_ns, to_ns) in [(0, 0), (MS, 0)] {
            let turn = Turn { from_ns: MS, fed_ns, to_ns, wait, fed, byte_ns_max: 1, blocks: false, reaped: false };
            turn.book(&mut time, &mut oversleep_ns);
        }
        assert_eq!(time, LoopTime { turns: 2, ..LoopTime::default() });
    }

    #[test]
    fn much_work_is_not_called_stolen_time() {
        // Eight lanes of small records.
        let much = Fed { records: 8 << 14, bytes: 8 << 20, ..Fed::default() };
        assert_eq!(booked(4 * MS, 0, Wait::No, much).stolen_ns, 0);
        assert_eq!(booked(4 * MS, 0, Wait::No, Fed { records: 1, bytes: 64, ..much }).stolen_ns, 4 * MS);
        assert_eq!(booked(100 * MS, 0, Wait::No, much).stolen_ns, 100 * MS);
    }

    #[test]
    fn what_is_stolen_is_part_of_the_work_and_of_nothing_else() {
        for (wait, full) in
            [(Wait::No, false), (Wait::No, true), (Wait::ForNs(MS), true), (Wait::ForNs(40 * MS), false)]
        {
            let time = booked(30 * MS, 2 * MS, wait, Fed { full, ..Fed::default() });
            assert_eq!(time.target_full_ns + time.idle_ns + time.work_ns, 32 * MS, "{wait:?} {full}");
            assert!(time.stolen_ns >= 30 * MS && time.work_ns == time.stolen_ns, "{wait:?} {full}");
            assert!(time.spun_ns <= time.target_full_ns + time.idle_ns, "{wait:?} {full}");
        }
    }

    #[test]
    fn a_wait_that_ends_far_too_late_is_stolen_time() {
        let nothing_due = Fed::default();
        let late = booked(0, 30 * MS, Wait::ForNs(10 * MS), nothing_due);
        assert_eq!((late.idle_ns, late.work_ns, late.stolen_ns), (10 * MS, 20 * MS, 20 * MS));
        let late = booked(0, 30 * MS, Wait::ForNs(10 * MS), Fed { full: true, ..nothing_due });
        assert_eq!((late.target_full_ns, late.stolen_ns), (10 * MS, 20 * MS));
        let punctual = booked(0, 10 * MS + GAP_NS, Wait::ForNs(10 * MS), nothing_due);
        assert_eq!((punctual.idle_ns, punctual.stolen_ns), (10 * MS + GAP_NS, 0));
        let sent = booked(0, 30 * MS, Wait::ForNs(10 * MS), Fed { records: 1, bytes: 64, full: true, ..nothing_due });
        assert_eq!((sent.target_full_ns, sent.stolen_ns), (30 * MS, 0), "long kernel calls are the target's");
    }

    /// A write behind which a sync is to come brings nothing back, and may come in a turn that offers nothing.
    #[test]
    fn a_call_that_blocks_is_neither_a_spin_nor_stolen() {
        let (from_ns, fed_ns, to_ns, fed) = (0, 30, 30 + 500 * MS, Fed { full: true, ..Fed::default() });
        for wait in [Wait::No, Wait::ForNs(MS)] {
            let (mut time, mut oversleep_ns) = (LoopTime::default(), 0);
            let turn = Turn { from_ns, fed_ns, to_ns, wait, fed, byte_ns_max: 1, blocks: true, reaped: false };
            turn.book(&mut time, &mut oversleep_ns);
            assert_eq!((time.work_ns, time.kernel_ns, time.turns), (30, 500 * MS, 1), "{wait:?}");
            assert_eq!((time.spun_ns, time.stolen_ns, oversleep_ns), (0, 0, 0), "{wait:?}");
        }
    }

    #[test]
    fn dear_bytes_may_take_their_time() {
        let fed = Fed { records: 16, bytes: 1 << 20, ..Fed::default() };
        assert!(fed.longest_ns(1) < 3 * MS);
        assert!((8 * MS..12 * MS).contains(&fed.longest_ns(5)), "with what is sealed of earlier blocks");
        assert!(fed.longest_ns(200) > 200 * MS);
    }
}
