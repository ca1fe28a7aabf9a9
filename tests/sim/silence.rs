//! Peers that stop, and a core that is away while its peers go on.

use crate::net::plan::NetPlan;
use crate::net::{truth, world as net_world};
use crate::scenario::{MILLISECOND, SECOND, Scenario};
use crate::{Telling, folder, over_http, over_kafka, over_tcp, seeds, world};

#[test]
fn peers_that_stop_leave_nothing_unsaid() {
    for seed in seeds(60) {
        over_tcp(&NetPlan::tcp(seed).stuck());
        over_http(&NetPlan::http(seed).stuck());
        over_kafka(&NetPlan::kafka(seed, -1, true).stuck());
        over_kafka(&NetPlan::kafka(seed, 1, false).stuck());
    }
}

/// What a peer had acknowledged of a block shows when the drain is given up: it took until then.
#[test]
fn records_that_are_found_at_the_end_of_a_drain_have_its_time() {
    let seeds = seeds(120);
    let mut found = 0;
    for seed in &seeds {
        let mut plan = NetPlan::tcp(*seed).stuck();
        plan.base.drain_timeout_ns = 8 * MILLISECOND;
        let _telling = Telling(*seed, &plan);
        let run = net_world::tcp(&plan);
        truth::check_tcp(&plan, &run);
        if run.found == 0 {
            continue;
        }
        found += 1;
        let end = &run.outcome.end;
        let drained_ns = end.ended_ns - end.fsync_ns - end.paced_ns;
        assert!(drained_ns >= plan.base.drain_timeout_ns, "SEED={seed}: {} records in {drained_ns} ns", run.found);
    }
    assert!(found > 0 || seeds.len() == 1, "nothing was found at the end of a drain");
}

/// Longer than any limit of time, and what came meanwhile is there to be heard. Nothing is lost, and nobody is blamed.
#[test]
fn an_absence_is_nobody_elses() {
    let seeds = seeds(80);
    let mut held_up = 0;
    for seed in &seeds {
        let plan = NetPlan::tcp(*seed).away();
        let _telling = Telling(*seed, &plan);
        let run = net_world::tcp(&plan);
        truth::check_tcp(&plan, &run);
        assert_eq!(run.net.sockets.len(), run.said.len() * plan.connections, "a connection was broken off");
        // Latencies are measured by the clock.
        let slowest_ns = run.outcome.snapshots.iter().map(|seen| seen.service_ns).max();
        held_up += u32::from(slowest_ns >= Some(30 * SECOND));
        assert_eq!(over_http(&NetPlan::http(*seed).away()), 0);
        for (acks, idempotent) in [(-1, true), (1, false)] {
            assert_eq!(over_kafka(&NetPlan::kafka(*seed, acks, idempotent).away()), (0, None));
        }
    }
    assert!(held_up > 0 || seeds.len() == 1, "nothing was on its way in any absence");
}

/// A call that takes long is work: so much of the drain is over.
#[test]
fn a_drain_of_long_calls_takes_no_longer_than_it_may() {
    for seed in seeds(20) {
        let scenario = Scenario::blocking(seed);
        let _telling = Telling(seed, &scenario);
        let folder = folder();
        let run = world::live(&scenario, folder.path(), |_| {});
        let drained_ns = run.end.ended_ns - run.end.fsync_ns - run.end.paced_ns;
        assert!((9 * SECOND..16 * SECOND).contains(&drained_ns), "{drained_ns} ns");
    }
}

/// Its records would wait for good, and its place in the ring with them.
#[test]
fn a_kernel_that_gives_nothing_back_ends_the_run() {
    for seed in seeds(2) {
        let tcp = NetPlan::tcp(seed).withholding();
        let http = NetPlan::http(seed).withholding();
        let kafka = NetPlan::kafka(seed, -1, true).withholding();
        let _telling = [Telling(seed, &tcp), Telling(seed, &http), Telling(seed, &kafka)];
        let (of_tcp, of_http, of_kafka) = (net_world::tcp(&tcp), net_world::http(&http), net_world::kafka(&kafka));
        truth::check_tcp(&tcp, &of_tcp);
        truth::check_http(&http, &of_http);
        truth::check_kafka(&kafka, &of_kafka);
        for run in [of_tcp.outcome, of_http.outcome, of_kafka.outcome] {
            let why = run.end.ended_by.unwrap_or_default();
            assert!(why.contains("a connection ended 30") && why.contains("the kernel still has"), "{why:?}");
            assert!((30 * SECOND..40 * SECOND).contains(&run.ran_ns), "{} ns", run.ran_ns);
        }
    }
}
