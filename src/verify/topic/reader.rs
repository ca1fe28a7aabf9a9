//! The threads that read a topic, each with connections of its own, ahead of the one that judges.
//!
//! Each partition belongs to one thread, which fetches, unpacks and checks its batches. What came of them waits until
//! the judge asks for that partition: so the judge hears of all partitions in the same order, however many threads
//! there are.

use super::super::findings::{Finding, Kind};
use super::super::guarded::Guarded;
use super::super::unproved::Cause;
use super::cleanup::Cleanup;
use super::cursor::{Cursor, Portion, Tools};
use super::{Access, label};
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::base::units::format_duration;
use crate::connect::kafka::{At, KafkaError, Stream, TopicReader};
use crate::sys::threads::{self, OnPanic};
use crate::wire::kafka::errors::OFFSET_OUT_OF_RANGE;
use crate::wire::kafka::inflate::Inflater;
use crossbeam_channel::Sender;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The broker holds a fetch back for so long if it has nothing; what is asked for is there already. Before Kafka 3.8 it
/// is also the time that a broker has to read a segment of tiered storage: after it, it answers with nothing.
const FETCH_WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// Portions of one partition that wait for the judge, and facts of all of them.
const PORTIONS_AHEAD: usize = 2;
const FACTS_AHEAD_MAX: usize = 1 << 20;

/// What a fetch came to.
enum Step {
    Advanced,
    Nothing,
    /// The broker gives nothing for now, and says for how long.
    Throttled,
    /// What was to be read is before the log's start or behind its end.
    OutOfRange,
}

/// The partitions of one thread, each with its place.
type Hand = Vec<(usize, Cursor)>;

/// The threads that read. They end when this is dropped, each after what it is at.
pub struct Readers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<bool>>,
}

impl Readers {
    /// Deals partitions to threads. The first thread goes on with the connections that there are.
    pub fn start<S: Stream + 'static>(
        access: &Access<'_, S>,
        leaders: TopicReader<S>,
        cleanup: &Arc<Cleanup>,
        cursors: Vec<Cursor>,
    ) -> Result<Self, Fatal> {
        let shared = Arc::new(Shared::new(cursors.len()));
        let count = access.threads.clamp(1, cursors.len().max(1));
        let others: Vec<_> = (1..count).map(|_| leaders.sibling((access.cluster)())).collect();
        let large = Arc::new(Mutex::new(Inflater::new(limits::KAFKA_BATCH_PLAIN_BYTES_MAX)));
        let started = threads::start_some(std::iter::once(leaders).chain(others), |leaders| {
            let (inflater, large) = (Inflater::new(limits::VERIFY_PLAIN_BYTES), large.clone());
            let tools = Tools { inflater, large, judge: (access.judge)(), gaps: cleanup.of_gap() };
            let (topic, patience) = (access.topic.to_owned(), access.patience);
            let silent_until = Instant::now();
            Reader { leaders, topic, patience, tools, cleanup: cleanup.clone(), silent_until }.start(shared.clone())
        })?;
        let (threads, hands): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        deal(cursors, &hands);
        Ok(Self { shared, threads })
    }

    /// What was read next of the partition at this place, once it is there.
    pub fn take(&self, place: usize) -> Result<Portion, Fatal> {
        self.shared.take(place)
    }

    /// Once all is taken: whether signatures were left unchecked.
    pub fn end(mut self) -> bool {
        self.threads.drain(..).fold(false, |unchecked, thread| unchecked | thread.join().unwrap_or(false))
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.state.change(|state| state.is_over = true);
    }
}

/// Deals the partitions to the threads that there are.
fn deal(cursors: Vec<Cursor>, hands: &[Sender<Hand>]) {
    let mut dealt: Vec<Hand> = hands.iter().map(|_| Vec::new()).collect();
    for (place, cursor) in cursors.into_iter().enumerate() {
        dealt[place % hands.len()].push((place, cursor));
    }
    for (hand, cursors) in hands.iter().zip(dealt) {
        // A thread that crashed has told of it.
        let _crashed = hand.send(cursors);
    }
}

struct Shared {
    state: Guarded<State>,
}

struct State {
    /// By the partition's place.
    read: Vec<VecDeque<Portion>>,
    /// Of all that was read.
    facts: usize,
    /// The place of the partition that the judge waits for.
    wanted: Option<usize>,
    failure: Option<Fatal>,
    is_over: bool,
    /// That a broker throttles.
    told_of_quota: bool,
}

impl State {
    fn may_read(&self, place: usize) -> bool {
        let has_room = self.read[place].len() < PORTIONS_AHEAD && self.facts < FACTS_AHEAD_MAX;
        self.wanted == Some(place) || has_room
    }
}

impl Shared {
    fn new(partitions: usize) -> Self {
        let read = (0..partitions).map(|_| VecDeque::new()).collect();
        let (wanted, failure) = (None, None);
        let state = State { read, facts: 0, wanted, failure, is_over: false, told_of_quota: false };
        Self { state: Guarded::new(state) }
    }

    /// Which of a thread's partitions is to be read next: the one that the judge waits for, else the one that is
    /// furthest behind. Waits while there is too much to judge. `None`: there is no more to do.
    fn next(&self, cursors: &[(usize, Cursor)]) -> Option<usize> {
        self.state.wait(|state| {
            let mut open = (0..cursors.len()).filter(|at| !cursors[*at].1.is_read()).peekable();
            if state.is_over || open.peek().is_none() {
                return Some(None);
            }
            let ready = open.filter(|at| state.may_read(cursors[*at].0));
            let urgency = |at: &usize| (state.wanted != Some(cursors[*at].0), cursors[*at].1.newest_ms());
            ready.min_by_key(urgency).map(Some)
        })
    }

    fn put(&self, place: usize, portion: Portion) {
        self.state.change(|state| {
            state.facts += portion.facts.len();
            state.read[place].push_back(portion);
            state.wanted = state.wanted.filter(|wanted| *wanted != place);
        });
    }

    fn fail(&self, fatal: Fatal) {
        self.state.change(|state| {
            state.failure.get_or_insert(fatal);
        });
    }

    fn take(&self, place: usize) -> Result<Portion, Fatal> {
        self.state.change(|state| state.wanted = state.read[place].is_empty().then_some(place));
        self.state.wait(|state| match state.read[place].pop_front() {
            Some(portion) => {
                state.facts -= portion.facts.len();
                Some(Ok(portion))
            }
            None => state.failure.take().map(Err),
        })
    }
}

/// It was reached at the start.
fn failed(fatal: Fatal) -> Fatal {
    Fatal { exit: Exit::Failed, ..fatal }
}

/// One of the threads.
struct Reader<S> {
    leaders: TopicReader<S>,
    topic: String,
    patience: Duration,
    tools: Tools,
    cleanup: Arc<Cleanup>,
    /// A broker that throttles reads nothing until then. It may be the leader of the next partition, too.
    silent_until: Instant,
}

impl<S: Stream + 'static> Reader<S> {
    /// A thread that waits for its partitions, and where it gets them.
    fn start(self, shared: Arc<Shared>) -> Result<(JoinHandle<bool>, Sender<Hand>), Fatal> {
        let (sender, hand) = crossbeam_channel::bounded(1);
        let thread = threads::start("verify-topic", &[], "a thread that reads the topic", move || {
            let crashed = || {
                let what = "a thread that reads the topic crashed; please report this";
                shared.fail(Fatal::new(Exit::Failed, what));
            };
            let _told = OnPanic(crashed);
            self.run(hand.recv().unwrap_or_default(), &shared)
        })?;
        Ok((thread, sender))
    }

    /// Reads until there is no more to do; whether signatures were left unchecked.
    fn run(mut self, mut cursors: Hand, shared: &Shared) -> bool {
        while let Some(at) = shared.next(&cursors) {
            let (place, cursor) = &mut cursors[at];
            match self.advance(cursor, shared) {
                Ok(()) => shared.put(*place, cursor.portion()),
                Err(fatal) => {
                    shared.fail(failed(fatal));
                    break;
                }
            }
        }
        self.tools.judge.has_unchecked_signatures()
    }

    /// Reads on in one partition.
    fn advance(&mut self, cursor: &mut Cursor, shared: &Shared) -> Result<(), Fatal> {
        let mut deadline = Instant::now() + self.patience;
        loop {
            let Some(rested) = self.rest(shared) else { return Ok(()) };
            deadline += rested;
            let step = self.fetch(cursor)?;
            let is_late = Instant::now() >= deadline;
            match step {
                Step::Advanced => return Ok(()),
                Step::Throttled => continue,
                Step::Nothing if !is_late => continue,
                Step::Nothing | Step::OutOfRange => {}
            }
            let Some(rested) = self.rest(shared) else { return Ok(()) };
            deadline += rested;
            if self.has_moved(cursor)? {
                return Ok(());
            }
            if is_late {
                return self.give_up(cursor);
            }
            // A leader that was just elected may not know its end yet.
            std::thread::sleep(PAUSE);
        }
    }

    /// Leaves a broker that throttles alone for as long as it said, and tells how long that was: none of its time.
    /// `None`: all is over.
    fn rest(&self, shared: &Shared) -> Option<Duration> {
        let began = Instant::now();
        let silence = self.silent_until.saturating_duration_since(began);
        if silence.is_zero() {
            return Some(silence);
        }
        if !shared.state.change(|state| std::mem::replace(&mut state.told_of_quota, true)) {
            tracing::warn!(
                event = "throttled",
                "{}: a broker holds this client back by a quota (throttle_time_ms), for {} now\n  mend: \
                 kafka-configs.sh --alter --add-config consumer_byte_rate=N, or request_percentage=N, for its user or \
                 client.id",
                self.topic,
                format_duration(silence.as_nanos() as u64)
            );
        }
        let is_over = shared.state.wait_until(self.silent_until, |state| state.is_over);
        (!is_over).then(|| began.elapsed())
    }

    fn fetch(&mut self, cursor: &mut Cursor) -> Result<Step, Fatal> {
        let Self { leaders, topic, tools, silent_until, .. } = self;
        let (id, next) = (cursor.id, cursor.next());
        leaders.ask(id, |session| {
            let fetched = session.fetch(topic, id, next, limits::KAFKA_FETCH_BYTES, FETCH_WAIT)?;
            *silent_until = Instant::now() + Duration::from_millis(u64::from(fetched.silence_ms));
            match fetched.error {
                0 if fetched.silence_ms > 0 && fetched.high_watermark < 0 => return Ok(Step::Throttled),
                0 => {}
                OFFSET_OUT_OF_RANGE => return Ok(Step::OutOfRange),
                code => return Err(KafkaError::broker("fetching", code)),
            }
            let has_advanced = cursor.take(&fetched, tools);
            let has_shrunk = (0..cursor.end()).contains(&fetched.high_watermark);
            session.give_back();
            Ok(match (has_advanced, has_shrunk) {
                (true, _) => Step::Advanced,
                (false, true) => Step::OutOfRange,
                (false, false) => Step::Nothing,
            })
        })
    }

    fn offset(&mut self, partition: i32, at: At) -> Result<i64, Fatal> {
        let Self { leaders, topic, .. } = self;
        leaders.ask(partition, |session| session.list_offset(topic, partition, at))
    }

    /// Asks again where the log begins and ends; whether either has passed what was to be read next.
    fn has_moved(&mut self, cursor: &mut Cursor) -> Result<bool, Fatal> {
        let (next, end) = (cursor.next(), cursor.end());
        let first = self.offset(cursor.id, At::Earliest)?;
        let ends_now = self.offset(cursor.id, At::Latest)?;
        if ends_now < end {
            let what = format!(
                "the log was cut back while it was read: it had ended before offset {end}, and ends before {ends_now} \
                 now"
            );
            let lost = end - ends_now.max(next);
            let finding = Finding::new(Kind::Truncated, what).records(lost.cast_unsigned());
            cursor.find(finding, ends_now);
            cursor.end_at(ends_now);
        }
        if first > next {
            let (cause, to) = (self.cleanup.of_start(), first.min(end));
            let (label, what) = (label(cursor.id, &self.topic), cause.what());
            cursor.explain(format!("{label}: offsets {next} to {} were {what} while it was read", to - 1));
            cursor.skip_to(first, cause);
        }
        Ok(ends_now < end || first > next)
    }

    /// The broker gives nothing of what is within its log.
    fn give_up(&self, cursor: &mut Cursor) -> Result<(), Fatal> {
        let (label, next) = (label(cursor.id, &self.topic), cursor.next());
        // Compaction may leave nothing at the end.
        if self.tools.gaps == Some(Cause::Compaction) {
            cursor.explain(format!("{label}: from offset {next} on all is {}", Cause::Compaction.what()));
            cursor.skip_to(cursor.end(), Cause::Compaction);
            return Ok(());
        }
        let what = format!("{label}: the broker gives nothing from offset {next} on");
        let mend = "kafka-dump-log shows what is there; of a tiered topic (remote.storage.enable=true) the rest is in \
                    remote storage, and the broker's log says why it does not read it";
        Err(Fatal::new(Exit::Failed, what).mend(mend))
    }
}
