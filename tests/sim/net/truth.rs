//! What was said of each record against what the peer knows of it.

use super::peer::Accepted;
use super::plan::{NetPlan, NetTarget};
use super::socket::Socket;
use super::world::NetOutcome;
use super::{broker::Broker, peer::Collector, server::Server};
use crate::books;
use crate::scenario::LanePlan;
use engine::base::limits;
use engine::counters::Field;
use engine::sink::Fate;
use std::collections::BTreeMap;

/// A drain of this length waits until all is said.
const PATIENT_NS: u64 = 10_000_000_000;
/// More than one turn of the loop takes, whatever holds it up.
const TURN_NS_MAX: u64 = 1_000_000_000;

/// What is promised of a kind of target.
#[derive(Clone, Copy)]
struct Promise {
    /// Produced means that the peer has it, not only that the kernel took it.
    confirmed: bool,
    /// No record is accepted twice.
    once: bool,
}

fn check<P>(plan: &NetPlan, run: &NetOutcome<P>, accepted: &Accepted, promise: Promise) {
    books::check(&plan.base, &run.outcome);
    if run.outcome.end.ended_by.is_none() {
        assert_eq!(run.outcome.allocations, 0, "the core allocated between the barrier and its last completion");
    }
    for (lane, said) in run.said.iter().enumerate() {
        let submitted = run.outcome.next_sequences[lane];
        assert_eq!(said.fates.len() as u64, submitted, "lane {lane}");
        assert!(accepted.end(lane) <= submitted, "lane {lane}: the peer has records that nobody sent");
        for (sequence, fate) in said.fates.iter().enumerate() {
            let times = accepted.times(lane, sequence as u64);
            let place = format!("lane {lane}, record {sequence}: {fate:?}, accepted {times} times");
            assert!(times <= 1 || !promise.once, "{place}");
            match fate {
                Some(Fate::Produced) => {
                    let is_promised = accepted.is_promised(lane, sequence as u64);
                    assert!(times > 0 || is_promised || !promise.confirmed, "{place}");
                }
                Some(Fate::Failed(_) | Fate::NotSent) => assert_eq!(times, 0, "{place}"),
                // What nothing was said of is uncertain in the books.
                Some(Fate::Uncertain(_)) | None => {}
            }
        }
        check_books(run, lane, &said.fates);
    }
    check_end(plan, run);
    let taken: u64 = run.net.sockets.iter().map(|socket| socket.taken).sum();
    let wire = (0..run.said.len()).map(|lane| books::total(&run.outcome, lane).get(Field::WireBytes));
    let wire = wire.sum::<u64>();
    // The process ended before it could look.
    let open = run.net.sockets.iter().filter_map(|socket| socket.sending.as_ref());
    let unseen = run.net.unread_bytes + open.map(|sending| sending.taken as u64).sum::<u64>();
    assert_eq!(wire + unseen, taken, "{wire} bytes on the wire and {unseen} unseen, the kernel took {taken}");
    // Of each connection once, however it ended and whatever took its place.
    let again: u64 = run.net.sockets.iter().filter(|socket| socket.placed).map(Socket::retransmits).sum();
    assert_eq!(counted(run, Field::TcpRetransmits), again, "what TCP sent again");
}

/// Whatever the peer does, the run ends in its time.
fn check_end<P>(plan: &NetPlan, run: &NetOutcome<P>) {
    let duration_ns = |lane: &LanePlan| lane.schedule.iter().map(|share| share.duration_ns).sum::<u64>();
    let planned_ns = plan.base.lanes.iter().map(duration_ns).max().unwrap_or(0);
    let away_ns = plan.base.rhythm.away.map_or(0, |(_, for_ns)| for_ns);
    let latest_ns = planned_ns + limits::FINISH_GRACE_NS + plan.base.drain_timeout_ns + TURN_NS_MAX + away_ns;
    assert!(run.outcome.ran_ns <= latest_ns, "{} ns instead of {latest_ns} at most", run.outcome.ran_ns);
}

/// The books say the same as the sink did.
fn check_books<P>(run: &NetOutcome<P>, lane: usize, fates: &[Option<Fate>]) {
    let counts = books::total(&run.outcome, lane);
    let count = |is: fn(&Fate) -> bool| fates.iter().flatten().filter(|fate| is(fate)).count() as u64;
    assert_eq!(counts.get(Field::RecordsProduced), count(|fate| *fate == Fate::Produced));
    assert_eq!(counts.get(Field::RecordsFailed), count(|fate| matches!(fate, Fate::Failed(_))));
    let silent = fates.iter().filter(|fate| fate.is_none()).count() as u64;
    let uncertain = count(|fate| matches!(fate, Fate::Uncertain(_)));
    assert_eq!(counts.get(Field::RecordsUncertain), uncertain + silent, "{silent} that nothing was said of");
}

/// What all lanes counted of something.
pub fn counted<P>(run: &NetOutcome<P>, field: Field) -> u64 {
    (0..run.said.len()).map(|lane| books::total(&run.outcome, lane).get(field)).sum()
}

/// Everything that was submitted was produced.
fn assert_all_produced<P>(run: &NetOutcome<P>) {
    for (lane, said) in run.said.iter().enumerate() {
        let other = said.fates.iter().position(|fate| *fate != Some(Fate::Produced));
        assert_eq!(other, None, "lane {lane}: {:?}", other.map(|at| said.fates[at]));
    }
}

/// Nobody broke a connection off or gave up waiting: every answer is heard.
fn all_is_heard(plan: &NetPlan) -> bool {
    let errs = match plan.target {
        NetTarget::Tcp { .. } => false,
        NetTarget::Http { manners, .. } => manners.odd_one_in + manners.hangs_one_in > 0 || manners.refuses,
        NetTarget::Kafka { mood, .. } => {
            mood.odd_one_in + mood.hangs_one_in + mood.refuse_one_in + mood.garbage_one_in > 0 || mood.lacks.is_some()
        }
    };
    let patient = plan.request_timeout_ns >= PATIENT_NS;
    plan.faults.breaks_left == 0 && plan.faults.stuck_at_ns == u64::MAX && patient && !errs
}

/// The same, and everything is taken.
fn is_peaceful(plan: &NetPlan) -> bool {
    let partly = matches!(plan.target, NetTarget::Http { manners, .. } if manners.partly_one_in > 0);
    all_is_heard(plan) && !partly
}

pub fn check_tcp(plan: &NetPlan, run: &NetOutcome<Collector>) {
    check(plan, run, &run.net.peer.accepted, Promise { confirmed: true, once: true });
    let (again, redialed) = (counted(run, Field::Retries), run.net.sockets.len() - run.said.len() * plan.connections);
    assert!(again <= redialed as u64, "{again} blocks went on, over {redialed} new connections");
    if is_peaceful(plan) {
        assert_all_produced(run);
    }
}

pub fn check_http(plan: &NetPlan, run: &NetOutcome<Server>) {
    check(plan, run, &run.net.peer.accepted, Promise { confirmed: true, once: all_is_heard(plan) });
    for (request, acceptances) in &run.net.peer.acceptances {
        for earlier in &acceptances[..acceptances.len() - 1] {
            let socket = &run.net.sockets[earlier.connection];
            let unheard = socket.received < earlier.answer_ends_at || socket.shut;
            assert!(unheard, "{request:?} was sent again though its answer had come");
        }
    }
    (0..run.said.len()).for_each(|lane| check_answers(plan, run, lane));
    if is_peaceful(plan) {
        assert_all_produced(run);
    }
}

/// No answer is counted that the server did not give, and each that took a request is.
fn check_answers(plan: &NetPlan, run: &NetOutcome<Server>, lane: usize) {
    let NetTarget::Http { records_per_request, manners, .. } = plan.target else { unreachable!() };
    let heard = run.outcome.end.lanes[lane].answers.as_ref().expect("HTTP answers with a status");
    let mut all = heard.measured.clone();
    heard.warm.iter().for_each(|(status, count)| *all.entry(*status).or_default() += count);
    let given = run.net.peer.answers.get(&(lane as u32)).cloned().unwrap_or_default();
    let within = all.iter().all(|(status, count)| given.get(status).is_some_and(|given| count <= given));
    assert!(within, "lane {lane}: {all:?} of {given:?} answers");
    let by_body = run.outcome.end.lanes[lane].refused_by_body;
    assert_eq!(by_body.is_some(), manners.partly_one_in > 0, "lane {lane}: bodies are read where that was asked for");
    let by_body = by_body.unwrap_or_default();
    let partly = run.net.peer.partly.get(&(lane as u32)).copied().unwrap_or_default();
    let read = by_body.iter().sum::<u64>();
    assert!(read <= partly, "lane {lane}: {by_body:?} of {partly} answers for a part");
    if all_is_heard(plan) {
        assert_eq!(all, given, "lane {lane}: all answers are heard");
        assert_eq!(read, partly, "lane {lane}: every answer for a part is known by its body");
    }
    if records_per_request == 1 {
        let last = run.outcome.snapshots.last().expect("a core always sends a last snapshot");
        let produced = [&last.warm, &last.measured].map(|part| part[lane].get(Field::RecordsProduced));
        let taken = |counts: &BTreeMap<u16, u64>| counts.range(200..300).map(|(_, count)| count).sum::<u64>();
        let [measured, warm] = by_body;
        let taken = [taken(&heard.warm) - warm, taken(&heard.measured) - measured];
        assert_eq!(taken, produced, "lane {lane}: one answer for each record");
        let in_doubt = [&last.warm, &last.measured].map(|part| part[lane].get(Field::ErrorBody));
        assert_eq!(in_doubt, [warm, measured], "lane {lane}: what is taken in part is no more than that");
    }
}

/// No refusal is counted that the broker did not answer, and where no answer is lost all of them are.
fn check_broker_errors(plan: &NetPlan, run: &NetOutcome<Broker>, lane: usize) {
    let NetTarget::Kafka { acks, mood, .. } = plan.target else { unreachable!() };
    let heard = run.outcome.end.lanes[lane].broker_errors.as_ref();
    assert_eq!(heard.is_some(), acks != 0, "without acknowledgements nothing is answered");
    let Some(heard) = heard else { return };
    let mut all = heard.measured.clone();
    heard.warm.iter().for_each(|(code, count)| *all.entry(*code).or_default() += count);
    let given = run.net.peer.errors.get(&(lane as u32)).cloned().unwrap_or_default();
    let within = all.iter().all(|(code, count)| given.get(code).is_some_and(|given| count <= given));
    assert!(within, "lane {lane}: {all:?} of {given:?} refusals");
    let patient = plan.request_timeout_ns >= PATIENT_NS && plan.base.drain_timeout_ns >= PATIENT_NS;
    let breaks = plan.faults.breaks_left > 0 || plan.faults.stuck_at_ns < u64::MAX;
    let silent = mood.hangs_one_in + mood.garbage_one_in > 0 || mood.lacks.is_some();
    if patient && !breaks && !silent && run.outcome.end.ended_by.is_none() {
        assert_eq!(all, given, "lane {lane}: all answers are heard");
    }
}

pub fn check_kafka(plan: &NetPlan, run: &NetOutcome<Broker>) {
    let NetTarget::Kafka { acks, idempotent, in_flight, mood, .. } = plan.target else { unreachable!() };
    let peer = &run.net.peer;
    check(plan, run, &peer.accepted, Promise { confirmed: acks != 0, once: true });
    // What is on its way when an answer makes no sense may arrive behind what the next connection brings.
    let in_turn = idempotent || in_flight == 1 && mood.garbage_one_in == 0;
    assert!(peer.keeps_order() || !in_turn, "records changed places");
    let protocol = counted(run, Field::ErrorProtocol);
    assert!(protocol == 0 || peer.nonsense > 0, "{protocol} records are in doubt for answers that had their sense");
    let throttled = (counted(run, Field::ThrottledAnswers), counted(run, Field::ThrottledMs));
    let asked = (peer.throttled_answers, peer.throttled_ms);
    assert!(throttled.0 <= asked.0 && throttled.1 <= asked.1, "{throttled:?} of {asked:?} answers and ms");
    if is_peaceful(plan) {
        assert_eq!(throttled, asked, "answers that asked for a pause, and ms: all of them are heard");
    }
    (0..run.said.len()).for_each(|lane| check_broker_errors(plan, run, lane));
    // What was on its way, and whose answer says first that somebody else leads; then that one is found, whatever
    // became of the batch.
    assert!(peer.misled_max <= in_flight as u64, "{} requests to a leader that was none", peer.misled_max);
    // With a producer id every doubt is resolved, unless nobody answers any more or the drain does not wait for it.
    let answered = plan.faults.stuck_at_ns == u64::MAX && plan.base.drain_timeout_ns >= PATIENT_NS;
    let resolves = idempotent && answered && run.outcome.end.ended_by.is_none();
    if resolves || is_peaceful(plan) {
        assert_all_produced(run);
    }
}
