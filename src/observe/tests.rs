//! The whole observer, as `run` uses it.

use super::testing::{MS, Run, SECOND, counts, payload};
use super::*;
use crate::counters::{CoreEnd, CoreState, Field, LaneEnd};
use crossbeam_channel::unbounded;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;

struct Bench {
    run: Run,
    observer: Observer,
    snapshots: Sender<Box<Snapshot>>,
    recycled: Receiver<Box<Snapshot>>,
    stopped: Arc<Mutex<Vec<String>>>,
}

fn bench(change: impl FnOnce(&mut RunPlan)) -> Bench {
    bench_of(Run::new(1, 1, Some(1_000_000)), change)
}

fn bench_of(mut run: Run, change: impl FnOnce(&mut RunPlan)) -> Bench {
    run.replan(|plan| {
        plan.observe.metrics_addr = Some("127.0.0.1:0".parse().unwrap());
        change(plan);
    });
    let (snapshots, receiver) = unbounded();
    let (back, recycled) = unbounded();
    let stopped = Arc::new(Mutex::new(Vec::new()));
    let reasons = stopped.clone();
    let mut observer = start(Wiring {
        metrics: run.shared.plan.observe.metrics_addr.map(|addr| Bound::new(addr).unwrap()),
        events: None,
        outages: Arc::default(),
        plan: run.shared.plan.clone(),
        live: run.shared.live.clone(),
        snapshots: receiver,
        recycled: vec![back],
        clock: run.shared.clock.clone(),
        stop: Arc::new(move |why| reasons.lock().unwrap().push(why.to_owned())),
        host: serde_json::json!({}),
        payload: payload(),
        console: Console::new(crate::plan::LogFormat::Json),
    })
    .unwrap();
    run.shared = observer.shared.clone();
    observer.host = serde_json::json!({"cpus": 2});
    Bench { run, observer, snapshots, recycled, stopped }
}

fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn snapshot(at_ns: u64, records: u64, last: bool) -> Box<Snapshot> {
    let mut snapshot = Snapshot::preallocated(0, 1, false);
    snapshot.at_ns = at_ns;
    let fields = [Field::RecordsOffered, Field::RecordsProduced, Field::BytesProduced];
    snapshot.measured[0] = counts(&fields.map(|field| (field, records)));
    snapshot.measured_latencies.response.record_n(3 * MS, 1);
    snapshot.last = last;
    snapshot
}

fn end() -> Outcome {
    let lanes = vec![LaneEnd { producer_id: 0, sequences: Some((0, 19)), ..LaneEnd::default() }];
    let end = CoreEnd { lanes, ended_ns: 2 * SECOND, ..CoreEnd::default() };
    Outcome { ends: vec![end], ..Outcome::default() }
}

#[test]
fn a_run_from_barrier_to_report() {
    let mut bench = bench(|_| {});
    let addr = bench.observer.metrics_addr().unwrap();
    assert_eq!(get(addr, "/ready").0, 503);
    bench.observer.started(bench.run.now_ns(), 1_700_000_000_000_000_000);
    assert_eq!(get(addr, "/ready").0, 200);
    bench.snapshots.send(snapshot(SECOND, 10, false)).unwrap();
    let back = bench.recycled.recv().unwrap();
    assert!(back.measured_latencies.response.is_empty(), "snapshots come back emptied");
    bench.observer.joined();
    assert_eq!(get(addr, "/ready").0, 503);
    bench.snapshots.send(snapshot(2 * SECOND, 20, true)).unwrap();
    let report = bench.observer.conclude(end());
    assert_eq!((report.totals.records_produced, report.intervals.len(), report.exit_code), (20, 2, 0));
    assert_eq!(report.started_at, "2023-11-14T22:13:20Z");
    assert!((report.throughput.records_per_second - 10.0).abs() < 1e-9);
    let (status, text) = get(addr, "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("generator_produce_latency_seconds_count{target=\"null\"} 2\n"), "{text}");
    assert_eq!(bench.stopped.lock().unwrap().len(), 0);
}

/// The cores ended at 2 s, the last of it 100 ms of fsync.
#[test]
fn a_rotated_file_that_is_synced_after_the_cores_is_part_of_the_run() {
    for (synced_ns, vain_ns, elapsed, fsync) in [
        (0, 0, 2.0, 0.1),
        (SECOND, 0, 2.0, 0.1),
        (4 * SECOND, 0, 4.0, 2.1),
        // In, and behind, a drain that was given up.
        (5 * SECOND, 10 * SECOND, 2.0, 0.1),
        (14 * SECOND, 10 * SECOND, 4.0, 2.1),
    ] {
        let mut bench = bench(|_| {});
        bench.snapshots.send(snapshot(2 * SECOND, 20, true)).unwrap();
        let mut outcome = Outcome { synced_ns, ..end() };
        (outcome.ends[0].fsync_ns, outcome.ends[0].vain_ns) = (100 * MS, vain_ns);
        let report = bench.observer.conclude(outcome);
        let seconds = (report.elapsed_seconds, (report.final_fsync_seconds * 10.0).round() / 10.0);
        assert_eq!(seconds, (elapsed, fsync), "synced at {synced_ns}");
        assert!((report.throughput.records_per_second - 20.0 / elapsed).abs() < 1e-9);
    }
}

/// What one core drained in vain does not shorten the sync of another.
#[test]
fn a_sync_that_a_drain_in_vain_did_not_wait_for_counts() {
    let of_core = |ended_ns, vain_ns| CoreEnd { ended_ns, vain_ns, ..CoreEnd::default() };
    let ends = vec![of_core(2 * SECOND, 10 * SECOND), of_core(3 * SECOND, 0)];
    let outcome = Outcome { ends, synced_ns: 11 * SECOND, ..Outcome::default() };
    assert_eq!(outcome.ended_ns(), Some(11 * SECOND));
    // One that crashed says nothing of it.
    let ends = vec![CoreEnd::default(), of_core(2 * SECOND, 10 * SECOND)];
    assert_eq!(Outcome { ends, ..outcome }.ended_ns(), Some(2 * SECOND));
}

#[test]
fn a_run_is_ready_until_its_last_core_has_sent_all() {
    let bench = bench_of(Run::new(2, 1, Some(1_000_000)), |_| {});
    let addr = bench.observer.metrics_addr().unwrap();
    bench.observer.started(bench.run.now_ns(), 0);
    let cores = &bench.run.shared.live;
    for (states, status) in [
        ([CoreState::Running, CoreState::Running], 200),
        ([CoreState::Draining, CoreState::Running], 200),
        ([CoreState::Done, CoreState::Running], 200),
        ([CoreState::Done, CoreState::Draining], 503),
    ] {
        cores.iter().zip(states).for_each(|(core, state)| core.enter(state));
        assert_eq!(get(addr, "/ready").0, status, "{states:?}");
    }
}

#[test]
fn health_is_well_while_cores_turn() {
    let bench = bench(|_| {});
    let addr = bench.observer.metrics_addr().unwrap();
    bench.observer.started(bench.run.now_ns(), 0);
    let core = &bench.run.shared.live[0];
    core.beat(bench.run.now_ns());
    core.enter(CoreState::Running);
    assert_eq!(get(addr, "/health"), (200, "{\"status\":\"ok\"}\n".to_owned()));
}

#[test]
fn health_names_the_core_that_makes_no_turns() {
    let mut run = Run::new(2, 1, Some(1_000_000));
    run.age(60 * SECOND);
    let bench = bench_of(run, |_| {});
    let addr = bench.observer.metrics_addr().unwrap();
    let cores = &bench.run.shared.live;
    bench.observer.started(bench.run.now_ns() - 30 * SECOND, 0);
    for (state, status) in
        [(CoreState::Running, 503), (CoreState::Draining, 503), (CoreState::Syncing, 200), (CoreState::Done, 200)]
    {
        cores.iter().for_each(|core| core.enter(state));
        cores[0].beat(bench.run.now_ns());
        cores[1].beat(bench.run.now_ns() - 6 * SECOND);
        let (found, body) = get(addr, "/health");
        assert_eq!(found, status, "{state:?}: {body}");
        let said: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(said["status"], if status == 200 { "ok" } else { "stalled" }, "{state:?}");
        if status == 200 {
            continue;
        }
        // The first core is on processor 4.
        assert_eq!(said["core"], 5, "{state:?}: {body}");
        assert!(said["silent_seconds"].as_f64().unwrap() >= 6.0, "{state:?}: {body}");
        cores[1].beat(bench.run.now_ns());
        assert_eq!(get(addr, "/health").0, 200, "{state:?}: it turns again");
    }
}

#[test]
fn the_hold_ends_with_one_more_scrape() {
    let bench = bench(|plan| plan.observe.metrics_hold_ns = 3600 * SECOND);
    let addr = bench.observer.metrics_addr().unwrap();
    bench.observer.started(bench.run.now_ns(), 0);
    get(addr, "/metrics");
    bench.snapshots.send(snapshot(SECOND, 20, true)).unwrap();
    let (done, finished) = bounded(1);
    let thread = std::thread::spawn(move || {
        let mut observer = bench.observer;
        let report = observer.conclude(end());
        observer.hold();
        done.send(report).unwrap();
    });
    // The scrape before the end does not count; one with final numbers does, however often others came before.
    let report = loop {
        if let Ok(report) = finished.recv_timeout(Duration::from_millis(20)) {
            break report;
        }
        if let Ok(mut stream) = TcpStream::connect(addr) {
            let _ = write!(stream, "GET /metrics HTTP/1.1\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }
    };
    thread.join().unwrap();
    assert_eq!(report.totals.records_produced, 20);
    assert!(TcpStream::connect(addr).is_err(), "the endpoint is closed");
}

#[test]
fn a_release_ends_the_hold() {
    let mut bench = bench(|plan| plan.observe.metrics_hold_ns = u64::MAX);
    bench.snapshots.send(snapshot(SECOND, 20, true)).unwrap();
    let release = bench.observer.release();
    bench.observer.conclude(end());
    release();
    bench.observer.hold();
}

#[test]
fn a_taken_address_is_exit_3_with_its_mend() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let fatal = Bound::new(addr).expect_err("the address is taken");
    assert_eq!(fatal.exit, crate::base::fatal::Exit::Host);
    assert!(fatal.what.contains(&addr.to_string()), "{fatal}");
    assert!(fatal.mend.unwrap().contains(&addr.port().to_string()));
}

#[test]
fn a_failing_metrics_thread_stops_the_run_and_still_reports() {
    let mut bench = bench(|_| {});
    bench.snapshots.send(snapshot(SECOND, 10, false)).unwrap();
    bench.recycled.recv().unwrap();
    // No core 7: folding this is a bug of the sender, which must not go unnoticed.
    let mut bad = snapshot(SECOND, 10, false);
    bad.core = 7;
    bench.snapshots.send(bad).unwrap();
    let report = bench.observer.conclude(end());
    assert_eq!(report.totals.records_produced, 10);
    assert!(bench.stopped.lock().unwrap()[0].contains("internal error"));
}
