//! Whole runs of one core in simulation: seeded plans, seeded faults, no time passing. The product's own loop,
//! books, payload, sinks and keeper run; clock and kernel are simulated, the files are real ones; connections and
//! what is at their other end are simulated too (`net`).
//!
//! A failing seed prints itself; `SEED=n cargo test --test sim` runs it alone, `SEEDS=n` runs so many of each kind.

#[path = "sim/books.rs"]
mod books;
#[path = "sim/chance.rs"]
mod chance;
#[path = "sim/clock.rs"]
mod clock;
#[path = "sim/image.rs"]
mod image;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/pacing.rs"]
mod pacing;
#[path = "sim/real.rs"]
mod real;
#[path = "sim/ring.rs"]
mod ring;
#[path = "sim/scenario.rs"]
mod scenario;
#[path = "sim/silence.rs"]
mod silence;
#[path = "sim/world.rs"]
mod world;

use engine::counters::Field;
use engine::host::Sysfs;
use engine::host::fs;
use engine::plan::{PhaseShare, Schedule};
use engine::sys::allocation::{self, Counting};
use net::plan::NetPlan;
use net::{truth, world as net_world};
use ring::Breakage;
use scenario::{LayoutPlan, MICROSECOND, SECOND, STALLING_NS_MAX, Scenario};
use std::fmt::Debug;
use std::path::Path;
use tempfile::TempDir;
use world::Outcome;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tells which seed a panic belongs to.
struct Telling<'a, T: Debug>(u64, &'a T);

impl<T: Debug> Drop for Telling<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={} fails: {:#?}", self.0, self.1);
        }
    }
}

/// Memory, where it takes O_DIRECT: a test has no use for a disk's patience.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let direct = fs::facts(&Sysfs::default(), memory).is_ok_and(|facts| fs::probe_direct(&facts, memory).is_ok());
    let base = if direct { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
    TempDir::new_in(base).expect("a scratch folder")
}

fn simulate(scenario: &Scenario) -> Outcome {
    let _telling = Telling(scenario.seed, scenario);
    let folder = folder();
    let outcome = world::live(scenario, folder.path(), |_| {});
    books::check(scenario, &outcome);
    if scenario.files {
        image::check(scenario, &outcome, folder.path());
    }
    if outcome.end.ended_by.is_none() {
        assert_eq!(outcome.allocations, 0, "the core allocated between the barrier and its last completion");
    }
    assert_eq!(outcome.keeper_errors, Vec::<String>::new());
    outcome
}

/// The seeds to run: so many of them or `SEEDS`, or the one that `SEED` asks for.
fn seeds(count: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    number("SEED").map_or_else(|| (0..number("SEEDS").unwrap_or(count)).collect(), |seed| vec![seed])
}

#[test]
fn a_null_target_takes_what_was_offered() {
    for seed in seeds(150) {
        let outcome = simulate(&Scenario::calm(seed, false));
        assert_eq!(outcome.end.ended_by, None);
    }
}

#[test]
fn files_hold_what_was_produced() {
    for seed in seeds(300) {
        let outcome = simulate(&Scenario::calm(seed, true));
        assert_eq!(outcome.end.ended_by, None);
    }
}

#[test]
fn snapshots_add_up_at_any_time() {
    let seeds = seeds(40);
    let snapshots = |seed: &u64| simulate(&Scenario::long(*seed)).snapshots.len();
    let most = seeds.iter().map(snapshots).max();
    assert!(most > Some(3) || seeds.len() == 1, "no run was long enough: {most:?} snapshots");
}

/// Where all records have one length, it is known how many begin within `--bytes`, whichever of them expire.
#[test]
fn what_expires_counts_towards_the_limits() {
    let seeds = seeds(150);
    let (mut expired, mut produced) = (0, 0);
    for seed in &seeds {
        let scenario = Scenario::stalling(*seed);
        let outcome = simulate(&scenario);
        assert!(outcome.end.ended_by.is_none() && outcome.ran_ns < STALLING_NS_MAX, "SEED={seed}");
        for (at, lane) in scenario.lanes.iter().enumerate() {
            let counts = books::total(&outcome, at);
            let (least, most) = match lane.bytes_limit {
                u64::MAX => (lane.records_max, lane.records_max),
                bytes => (bytes.div_ceil(lane.bytes_max), bytes.div_ceil(lane.bytes_min)),
            };
            let offered = counts.get(Field::RecordsOffered);
            assert!((least..=most).contains(&offered), "SEED={seed} lane {at}: {offered} of {least}..={most}");
            // What expired takes no sequence.
            let sent = counts.get(Field::RecordsProduced);
            assert_eq!(outcome.next_sequences[at], sent, "SEED={seed} lane {at}");
            (expired, produced) = (expired + counts.get(Field::RecordsNotSent), produced + sent);
        }
    }
    assert!(expired > 0 && produced > 0 || seeds.len() == 1, "{expired} expired, {produced} produced");
}

/// What each run says of it `books::check` judges; some must have come to it at all.
fn break_with(breakage: Breakage, count: u64) {
    let seeds = seeds(count);
    let comes_to_it = |seed: &&u64| {
        let outcome = simulate(&Scenario::broken(**seed, breakage));
        outcome.broke && (breakage == Breakage::Stuck || outcome.end.ended_by.is_some())
    };
    let came = seeds.iter().filter(comes_to_it).count();
    assert!(came > 0 || seeds.len() == 1, "no seed of {} came to see {breakage:?}", seeds.len());
}

#[test]
fn a_full_disk_ends_the_run_in_order() {
    break_with(Breakage::Full, 100);
}

#[test]
fn a_write_that_takes_nothing_is_a_full_disk() {
    break_with(Breakage::Nothing, 60);
}

#[test]
fn a_broken_disk_ends_the_run_in_order() {
    break_with(Breakage::Broken, 100);
}

#[test]
fn a_failed_sync_ends_the_run_in_order() {
    break_with(Breakage::SyncFails, 60);
}

#[test]
fn syncs_that_are_interrupted_without_end_end_the_run() {
    break_with(Breakage::SyncInterrupted, 20);
}

#[test]
fn what_never_completes_is_uncertain() {
    break_with(Breakage::Stuck, 100);
}

/// The drain waits for it to its end; what else was on its way has come long before.
#[test]
fn a_drain_that_is_given_up_is_no_part_of_the_run() {
    let seeds = seeds(40);
    let mut given_up = 0;
    for seed in &seeds {
        let mut scenario = Scenario::broken(*seed, Breakage::Stuck);
        scenario.drain_timeout_ns = SECOND;
        (scenario.rhythm.look_ns_max, scenario.rhythm.others_one_in) = (30 * MICROSECOND, 20);
        let outcome = simulate(&scenario);
        let is_late = |lane| books::total(&outcome, lane).get(Field::ErrorTimeout) > 0;
        if !(0..scenario.lanes.len()).any(is_late) {
            continue;
        }
        given_up += 1;
        let end = &outcome.end;
        let waited_ns = outcome.ran_ns - end.paced_ns;
        assert!(waited_ns >= scenario.drain_timeout_ns, "SEED={seed}: {waited_ns} ns");
        let drained_ns = end.ended_ns - end.fsync_ns - end.paced_ns;
        assert!(drained_ns < scenario.drain_timeout_ns / 2, "SEED={seed}: {drained_ns} ns");
        let after = outcome.snapshots.iter().find(|seen| seen.at_ns > end.ended_ns);
        assert!(after.is_none(), "SEED={seed}: {after:?} after {} ns", end.ended_ns);
    }
    assert!(given_up > 0 || seeds.len() == 1, "no drain was given up");
}

fn assert_nothing_allocated(ran: &real::Ran) {
    assert_eq!(ran.allocations, 0, "the core allocated between the barrier and its last completion");
    assert_eq!(ran.end.ended_by, None);
    let produced = ran.last.measured.iter().map(|counts| counts.get(Field::RecordsProduced));
    assert_eq!(produced.collect::<Vec<_>>(), vec![real::RECORDS; ran.end.lanes.len()]);
}

#[test]
fn nothing_is_allocated_after_the_barrier() {
    assert_nothing_allocated(&real::on_nothing(folder().path()));
    assert_nothing_allocated(&real::on_system_calls(folder().path()));
    for ran in [real::on_io_uring(folder().path()), real::on_aio(folder().path())].iter().flatten() {
        assert_nothing_allocated(ran);
    }
    for lent in [false, true] {
        assert_nothing_allocated(&real::on_a_pipe(folder().path(), lent));
    }
    let (_, count) = allocation::counted(|| std::hint::black_box(vec![1u8; 100]));
    assert_eq!(count, 1, "the counting allocator counts");
}

#[test]
fn a_next_file_that_cannot_be_opened_ends_the_run_that_needs_it() {
    for (limit_bytes, needs_it) in [(4096, true), (1 << 20, false)] {
        let mut scenario = Scenario::calm(0, true);
        scenario.stop_at_ns = None;
        scenario.lanes.truncate(1);
        let lane = &mut scenario.lanes[0];
        lane.layout = LayoutPlan::Rotating { limit_bytes, retain: None };
        (lane.records_max, lane.bytes_limit) = (100, u64::MAX);
        let schedule = Schedule::Unlimited;
        lane.schedule = vec![PhaseShare { duration_ns: SECOND, warmup: false, weight: 1, schedule }];
        let (_telling, folder) = (Telling(scenario.seed, &scenario), folder());
        let in_the_way = |folder: &Path| std::fs::create_dir(folder.join("payloads.0.bin.next")).expect("our folder");
        let outcome = world::live(&scenario, folder.path(), in_the_way);
        books::check(&scenario, &outcome);
        let (why, records) = (&outcome.end.ended_by, outcome.next_sequences[0]);
        let blamed = why.as_ref().is_some_and(|why| why.contains("payloads.0.bin.next"));
        assert!(blamed == needs_it && why.is_some() == needs_it, "{limit_bytes}: {why:?}");
        assert!(if needs_it { (1..100).contains(&records) } else { records == 100 }, "{limit_bytes}: {records}");
    }
}

#[test]
fn a_file_that_is_waited_for_is_told_from_a_slow_target() {
    let rotating = LayoutPlan::Rotating { limit_bytes: 8192, retain: None };
    for (layout, waits) in [(rotating, true), (LayoutPlan::Ring { periods: 3 }, false)] {
        let mut scenario = Scenario::calm(0, true);
        (scenario.stop_at_ns, scenario.keeper_one_in) = (None, 50);
        scenario.lanes.truncate(1);
        let lane = &mut scenario.lanes[0];
        (lane.layout, lane.records_max, lane.bytes_limit) = (layout, 1000, u64::MAX);
        let schedule = Schedule::Unlimited;
        lane.schedule = vec![PhaseShare { duration_ns: SECOND, warmup: false, weight: 1, schedule }];
        let outcome = simulate(&scenario);
        let waited_ns = outcome.snapshots.last().expect("there is a last one").file_wait_ns;
        assert_eq!(waited_ns > 0, waits, "{layout:?}: {waited_ns} ns");
    }
}

fn over_tcp(plan: &NetPlan) -> bool {
    let _telling = Telling(plan.base.seed, plan);
    let run = net_world::tcp(plan);
    truth::check_tcp(plan, &run);
    run.outcome.broke
}

fn over_http(plan: &NetPlan) -> u64 {
    let _telling = Telling(plan.base.seed, plan);
    let run = net_world::http(plan);
    truth::check_http(plan, &run);
    run.net.peer.repeated
}

fn over_kafka(plan: &NetPlan) -> (u64, Option<String>) {
    let _telling = Telling(plan.base.seed, plan);
    let run = net_world::kafka(plan);
    truth::check_kafka(plan, &run);
    (run.net.peer.duplicates, run.outcome.end.ended_by)
}

#[test]
fn tcp_counts_what_was_acknowledged() {
    let seeds = seeds(120);
    let broke = seeds.iter().filter(|seed| over_tcp(&NetPlan::tcp(**seed))).count();
    assert!(broke > 0 || seeds.len() == 1, "no connection of {} runs broke", seeds.len());
    seeds.iter().for_each(|seed| assert!(!over_tcp(&NetPlan::tcp(*seed).in_peace())));
}

#[test]
fn http_counts_what_was_accepted_and_repeats_itself_exactly() {
    let seeds = seeds(150);
    let repeated: u64 = seeds.iter().map(|seed| over_http(&NetPlan::http(*seed))).sum();
    assert!(repeated > 0 || seeds.len() == 1, "nothing was ever sent again");
    let in_peace = seeds.iter().take(50).map(|seed| NetPlan::http(*seed).in_peace());
    in_peace.for_each(|plan| assert_eq!((over_http(&plan), over_http(&plan.partly())), (0, 0)));
}

#[test]
fn an_idempotent_producer_loses_and_doubles_nothing() {
    let seeds = seeds(200);
    let duplicates = |seed: &u64| {
        let (duplicates, why) = over_kafka(&NetPlan::kafka(*seed, -1, true));
        assert_eq!(why, None, "SEED={seed}");
        duplicates
    };
    let duplicates: u64 = seeds.iter().map(duplicates).sum();
    assert!(duplicates > 0 || seeds.len() == 1, "no answer was ever lost");
    seeds
        .iter()
        .take(50)
        .for_each(|seed| assert_eq!(over_kafka(&NetPlan::kafka(*seed, -1, true).in_peace()), (0, None)));
}

#[test]
fn without_a_producer_id_doubt_is_told_and_nothing_doubled() {
    for seed in seeds(120) {
        for acks in [1, 0] {
            assert_eq!(over_kafka(&NetPlan::kafka(seed, acks, false)).1, None, "SEED={seed} acks {acks}");
        }
    }
}

#[test]
fn a_broker_that_refuses_or_takes_too_long_ends_the_run() {
    let seeds = seeds(80);
    let mut reasons = [0; 3];
    for seed in &seeds {
        for plan in [NetPlan::kafka(*seed, -1, true).refusing(), NetPlan::kafka(*seed, 1, false).refusing()] {
            let why = over_kafka(&plan).1.unwrap_or_default();
            reasons[0] += u32::from(why.contains("MESSAGE_TOO_LARGE"));
            reasons[1] += u32::from(why.contains("was not delivered within"));
            reasons[2] += u32::from(why.contains("the connection was lost with a batch on it"));
        }
    }
    assert!(reasons.iter().all(|count| *count > 0) || seeds.len() == 1, "{reasons:?}");
}

/// Batches whose answer made no sense, and records that an error of this kind hit.
fn kafka_errors(plan: &NetPlan, kind: Field) -> (u64, u64) {
    let _telling = Telling(plan.base.seed, plan);
    let run = net_world::kafka(plan);
    truth::check_kafka(plan, &run);
    (run.net.peer.unanswered, truth::counted(&run, kind))
}

#[test]
fn answers_without_sense_are_doubts_and_no_more() {
    let seeds = seeds(80);
    let mut in_doubt = 0;
    for seed in &seeds {
        let plan = |acks, idempotent| NetPlan::kafka(*seed, acks, idempotent).garbling();
        for plan in [plan(-1, true), plan(1, false), plan(0, false)] {
            over_kafka(&plan);
        }
        assert_eq!(over_kafka(&plan(-1, true).in_peace()).1, None, "SEED={seed}");
        let (unanswered, errors) = kafka_errors(&plan(1, false).in_peace(), Field::ErrorProtocol);
        assert!(unanswered == 0 || errors > 0, "SEED={seed}: {unanswered} batches, and no record is in doubt");
        in_doubt += errors;
    }
    assert!(in_doubt > 0 || seeds.len() == 1, "every answer made sense");
}

#[test]
fn a_partition_that_takes_nothing_does_not_hold_up_the_others() {
    for seed in seeds(40) {
        let plan = NetPlan::kafka(seed, -1, false).in_peace().lacking();
        let _telling = Telling(seed, &plan);
        let run = net_world::kafka(&plan);
        truth::check_kafka(&plan, &run);
        for (lane, starts) in run.outcome.starts.iter().enumerate() {
            let (appended, ring) = (run.net.peer.appended(lane, 1), starts.count());
            assert!(appended > 2 * ring, "lane {lane}: {appended} records, the ring holds {ring}");
            assert_eq!(run.net.peer.appended(lane, 0), 0);
        }
    }
}

#[test]
fn weeks_of_silence_do_not_hold_up_the_end() {
    let seeds = seeds(60);
    let late = |seed: &u64, acks, idempotent| {
        kafka_errors(&NetPlan::kafka(*seed, acks, idempotent).silenced(), Field::ErrorTimeout).1
    };
    let late: u64 = seeds.iter().map(|seed| late(seed, -1, true) + late(seed, 1, false)).sum();
    assert!(late > 0 || seeds.len() == 1, "no broker asked for silence");
}

#[test]
fn sends_that_lack_memory_for_zero_copy_are_copied() {
    for seed in seeds(60) {
        assert!(!over_tcp(&NetPlan::tcp(seed).in_peace().short_of_memory()));
        assert_eq!(over_http(&NetPlan::http(seed).in_peace().short_of_memory()), 0);
        assert_eq!(over_kafka(&NetPlan::kafka(seed, -1, true).in_peace().short_of_memory()), (0, None));
        over_tcp(&NetPlan::tcp(seed).short_of_memory());
        over_http(&NetPlan::http(seed).short_of_memory());
    }
}

/// No connection breaks here, so that a link copies what it sends for one reason only.
#[test]
fn zero_copy_is_asked_for_until_it_was_a_copy_too_often_in_a_row() {
    let seeds = seeds(60);
    for copied_one_in in [0, 2, 1] {
        let (mut asked, mut disappointed) = (0, 0);
        for seed in &seeds {
            let plan = NetPlan::tcp(*seed).in_peace().copying(copied_one_in);
            let _telling = Telling(*seed, &plan);
            let run = net_world::tcp(&plan);
            truth::check_tcp(&plan, &run);
            assert_eq!(run.net.sends.copied, run.net.sends.disappointed, "{:?}", run.net.sends);
            (asked, disappointed) = (asked + run.net.sends.zero_copy, disappointed + run.net.sends.disappointed);
        }
        let came = asked > 0 && (disappointed > 0 || copied_one_in != 1);
        assert!(came || seeds.len() == 1, "one in {copied_one_in}: asked {asked} times, {disappointed} behind that");
    }
}
