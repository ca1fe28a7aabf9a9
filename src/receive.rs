//! `engine receive`: the other end. Takes connections, throws away or checks what they bring, says how much it was.
//!
//! The main thread accepts and deals connections to `worker` threads, each with a protocol (`tcp`, `http`, `kafka`) and
//! books of its own. A further protocol is a type that implements `worker::Protocol`, and its arm in `receive`; where it
//! answers requests, `connection` has what its connections need.

pub mod books;
mod connection;
pub mod faults;
pub mod http;
mod judge;
pub mod kafka;
mod live_line;
mod rests;
mod tcp;
mod worker;

use crate::base::fatal::{Exit, Fatal};
use crate::base::{align, limits, signals, within_host};
use crate::host::rlimit;
use crate::observe;
use crate::observe::Console;
use crate::plan::LogFormat;
use crate::plan::receive::{Framing, Protocol as Scheme, ReceivePlan, Threads};
use crate::sys;
use crate::sys::receive::Epoll;
use crate::sys::socket::Interest;
use crate::sys::threads;
use crate::verify::live::Live;
use books::{Books, Course, EndedBy, Received};
use crossbeam_channel::{Sender, bounded};
use faults::Faults;
use judge::Judge;
use live_line::{LiveLine, Taken};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use worker::{Arrival, Bench, Protocol, Shared, Worker};

const LISTENER: u64 = 0;
const WAKER: u64 = 1;
/// Files that this process and each of its threads have open beside the connections, at most.
const OWN_FILES: u64 = 64;
const THREAD_FILES: u64 = 4;
/// After a connection that could not be taken, so that trying again does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens until a signal, `--once` or `--duration` ends it; prints the summary and writes the report.
///
/// # Errors
/// Where it cannot listen, or no longer can; where the report cannot be written.
pub fn receive(plan: &ReceivePlan, console: &Arc<Console>) -> Result<Received, Fatal> {
    let live = (plan.verify || plan.verify_every.is_some()).then(|| {
        let live = Live::new(plan.run_id.as_deref());
        Arc::new(Mutex::new(plan.verify_every.into_iter().fold(live, Live::sampling)))
    });
    let (received, failure) = match plan.protocol {
        Scheme::Tcp => serve(plan, tcp::Tcp { framing: plan.framing }, live, console),
        Scheme::Http => serve(plan, http::Http, live, console),
        Scheme::Kafka => serve(plan, kafka::Kafka::new(broker(plan, live.clone())), live, console),
    }?;
    console.clear();
    match plan.log_format {
        LogFormat::Text => console.write(received.summary().as_bytes()),
        LogFormat::Json => received.log(),
    }
    let written = plan.report.as_ref().map_or(Ok(()), |target| observe::write_report(&received, target));
    failure.map_or(written, Err)?;
    Ok(received)
}

fn broker(plan: &ReceivePlan, live: Option<Arc<Mutex<Live>>>) -> kafka::Broker {
    let checks = match (plan.verify, plan.verify_every) {
        (true, _) => kafka::Checks::All,
        (false, Some(every)) => kafka::Checks::Every(every),
        (false, None) => kafka::Checks::Nothing,
    };
    kafka::Broker::new(plan.broker.clone(), checks, live, plan.sign_key)
}

/// What was received, and what ended it before its time.
type Served = (Received, Option<Fatal>);

fn serve<P: Protocol>(
    plan: &ReceivePlan,
    protocol: P,
    live: Option<Arc<Mutex<Live>>>,
    console: &Arc<Console>,
) -> Result<Served, Fatal> {
    let listener = listen(plan)?;
    let address = listener.local_addr().map_err(|error| no_socket(&error))?;
    let listen = url(plan.protocol, address);
    let (waker, main) = pair()?;
    let shared = Arc::new(Shared::new(main));
    let stopped = shared.clone();
    signals::end_in_order(move |_| stopped.stop())?;
    let faults = Faults::new(&plan.faults).map(Arc::new);
    let origin = Instant::now();
    let bench = || Bench {
        buffer: vec![0; limits::RECEIVE_READ_BYTES + align::MARGIN_BYTES],
        books: Books::new(plan.faults.items.len()),
        faults: faults.clone(),
        checks_all: plan.verify,
        judge: live.clone().map(|live| Judge::new(live, plan.sign_key, plan.protocol == Scheme::Tcp)),
        origin,
        taken: Arc::default(),
    };
    let crew = Crew::start(&plan.threads, &protocol, &shared, bench)?;
    let live_line = LiveLine::new(console, live.clone(), crew.taken.clone());
    let accepting = Accepting::new(plan, listener, waker, &shared, &crew, live_line)?;
    announce(&listen, console);
    let mut course = Course::default();
    let accepted = accepting.run(&crew, &mut course, origin);
    // Whatever ended it ends the threads.
    shared.stop.store(true, SeqCst);
    let mut books = Books::new(plan.faults.items.len());
    let failure = accepted.and(crew.join(&mut books)).err();
    drop(protocol);
    if failure.is_some() {
        course.ended_by = EndedBy::Error;
    }
    let seconds = books.active_ns.map_or(0.0, |(first, last)| (last - first) as f64 / 1e9);
    let live = live.and_then(Arc::into_inner).and_then(|live| live.into_inner().ok());
    let judged = live.map(|live| {
        let (uncertain, lengths) = (live.records_uncertain, live.lengths);
        let mut findings = live.finish(&listen, seconds);
        if plan.protocol == Scheme::Tcp && plan.framing == Framing::None && lengths > 1 {
            let what = "stretches of 4 bytes are no record; where each record comes behind its length";
            findings.explain(format!("{lengths} {what} (--tcp-framing length), receive takes --framing length"));
        }
        (findings, uncertain)
    });
    let mut received = Received::new(plan, listen, &books, course, judged);
    if let Some(fatal) = &failure {
        received.exit_code = fatal.exit as u8;
    }
    Ok((received, failure))
}

fn listen(plan: &ReceivePlan) -> Result<TcpListener, Fatal> {
    let shown = url(plan.protocol, plan.address);
    let listener = TcpListener::bind(plan.address).map_err(|error| {
        let mend = match error.kind() {
            ErrorKind::AddrInUse => {
                let mut free = plan.address;
                free.set_port(0);
                let free = url(plan.protocol, free);
                format!("find who has it with `ss -ltnp`, or --listen {free} for a free port")
            }
            ErrorKind::PermissionDenied => "a port from 1024 on".to_owned(),
            _ => "an address of this host, see `ip addr`; tcp://:9000 is 127.0.0.1".to_owned(),
        };
        Fatal::host(format!("--listen {shown}: {error}")).mend(mend)
    })?;
    // Answers are few bytes. Whoever is accepted has it from the listener.
    within_host::never_pace(&listener);
    Ok(listener)
}

/// Senders can take it as it is: the `%` of a zone is `%25` in a URL (RFC 6874).
fn url(protocol: Scheme, address: SocketAddr) -> String {
    format!("{}://{}", protocol.scheme(), address.to_string().replace('%', "%25"))
}

/// Scripts wait for this line. A reader that is gone does not end the receiver.
fn announce(listen: &str, console: &Console) {
    let mut out = std::io::stdout().lock();
    let _reader_gone = writeln!(out, "listening on {listen}").and_then(|()| out.flush());
    // Who has both streams on a terminal has read it.
    if !(console.has_live_line() && out.is_terminal()) {
        tracing::info!(event = "listening", address = listen, "ready for connections at {listen}");
    }
}

fn no_socket(error: &std::io::Error) -> Fatal {
    Fatal::host(format!("the kernel gives no sockets: {error}")).mend(rlimit::raise(rlimit::NOFILE))
}

/// Two ends, neither of which ever blocks.
fn pair() -> Result<(UnixStream, UnixStream), Fatal> {
    let made = UnixStream::pair().and_then(|(one, other)| {
        one.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        Ok((one, other))
    });
    made.map_err(|error| no_socket(&error))
}

/// The threads and the ways to them.
struct Crew {
    threads: Vec<JoinHandle<Result<Books, Fatal>>>,
    inboxes: Vec<(Sender<Arrival>, UnixStream)>,
    taken: Vec<Arc<Taken>>,
}

/// Ends everything when its thread does.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Crew {
    fn start<P: Protocol>(
        threads: &Threads,
        protocol: &P,
        shared: &Arc<Shared>,
        bench: impl Fn() -> Bench,
    ) -> Result<Self, Fatal> {
        let places: Vec<Option<usize>> = match threads {
            Threads::Sleeping(count) => vec![None; *count],
            Threads::Polling(cpus) => cpus.iter().copied().map(Some).collect(),
        };
        let mut crew = Self { threads: Vec::new(), inboxes: Vec::new(), taken: Vec::new() };
        for (nth, cpu) in places.into_iter().enumerate() {
            let (sender, inbox) = bounded(limits::RECEIVE_ARRIVALS_MAX);
            let (waker, wakes) = pair()?;
            let bench = bench();
            crew.taken.push(bench.taken.clone());
            let worker = Worker::new(protocol.clone(), bench, shared.clone(), inbox, waker, cpu.is_some());
            let worker = worker.map_err(|error| no_socket(&error))?;
            let alarm = Alarm(shared.clone());
            let work = move || {
                let _alarm = alarm;
                if let Some(cpu) = cpu {
                    threads::pin_or_refuse(cpu)?;
                }
                worker.run().map_err(|error| no_socket(&error))
            };
            crew.threads.push(threads::start(format!("receive-{nth}"), &[], "a thread", work)?);
            crew.inboxes.push((sender, wakes));
        }
        Ok(crew)
    }

    /// Hands a connection to a thread; false: that thread is gone.
    fn deal(&self, nth: u64, arrival: Arrival) -> bool {
        let (inbox, wakes) = &self.inboxes[(nth % self.inboxes.len() as u64) as usize];
        let taken = inbox.send(arrival).is_ok();
        worker::wake(wakes);
        taken
    }

    /// The books of all; the first of them that failed.
    fn join(self, books: &mut Books) -> Result<(), Fatal> {
        for (_, wakes) in &self.inboxes {
            worker::wake(wakes);
        }
        let crashed = || Fatal::new(Exit::Failed, "a thread of the receiver crashed; please report this");
        let mut all = Ok(());
        for thread in self.threads {
            let ended = thread.join().unwrap_or_else(|_| Err(crashed()));
            all = all.and(ended.map(|theirs| books.add(&theirs)));
        }
        all
    }
}

/// The main thread's part.
struct Accepting<'a> {
    plan: &'a ReceivePlan,
    listener: TcpListener,
    shared: &'a Shared,
    waker: UnixStream,
    epoll: Epoll,
    /// Connections that there are descriptors for.
    open_max: usize,
    live_line: Option<LiveLine>,
}

impl<'a> Accepting<'a> {
    fn new(
        plan: &'a ReceivePlan,
        listener: TcpListener,
        waker: UnixStream,
        shared: &'a Shared,
        crew: &Crew,
        live_line: Option<LiveLine>,
    ) -> Result<Self, Fatal> {
        let epoll = Epoll::new().map_err(|error| no_socket(&error))?;
        listener.set_nonblocking(true).map_err(|error| no_socket(&error))?;
        epoll.add(&listener, LISTENER, Interest::Readable).map_err(|error| no_socket(&error))?;
        epoll.add(&waker, WAKER, Interest::Readable).map_err(|error| no_socket(&error))?;
        let own = OWN_FILES + THREAD_FILES * crew.inboxes.len() as u64;
        let files = sys::process::raise_open_files().saturating_sub(own);
        let open_max = limits::RECEIVE_CONNECTIONS_MAX.min(usize::try_from(files).unwrap_or(usize::MAX)).max(1);
        Ok(Self { plan, listener, shared, waker, epoll, open_max, live_line })
    }

    fn run(mut self, crew: &Crew, course: &mut Course, origin: Instant) -> Result<(), Fatal> {
        loop {
            let accepted = self.accept(crew, course);
            let elapsed = origin.elapsed();
            course.elapsed_ns = elapsed.as_nanos() as u64;
            accepted?;
            if self.shared.stop.load(SeqCst) {
                return Ok(());
            }
            // A Kafka client comes once only to ask who leads, before it comes to bring something.
            let served =
                course.connections > 0 && (self.plan.protocol != Scheme::Kafka || self.shared.fed.load(SeqCst));
            if self.plan.once && served && self.shared.open.load(SeqCst) == 0 {
                course.ended_by = EndedBy::Once;
                return Ok(());
            }
            if course.elapsed_ns >= self.plan.duration_ns {
                course.ended_by = EndedBy::Duration;
                return Ok(());
            }
            let left = Duration::from_nanos(self.plan.duration_ns).saturating_sub(elapsed);
            let open = self.shared.open.load(SeqCst);
            let shown = self.live_line.as_mut().map_or(Duration::MAX, |line| line.tick(elapsed, open));
            let wait_ms = i32::try_from(left.min(shown).as_millis().saturating_add(1)).unwrap_or(i32::MAX);
            self.epoll.wait(wait_ms).map_err(|error| no_socket(&error))?;
            worker::drain(&self.waker);
        }
    }

    /// Takes everybody who waits.
    fn accept(&self, crew: &Crew, course: &mut Course) -> Result<(), Fatal> {
        loop {
            let (stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // It left before it was taken.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
                Err(error) if lasts(&error) => return Err(no_socket(&error)),
                Err(error) => {
                    pause(&error, course);
                    return Ok(());
                }
            };
            if self.shared.open.load(SeqCst) >= self.open_max || !is_ready(&stream) {
                course.connections_refused += 1;
                continue;
            }
            course.connections += 1;
            self.shared.open.fetch_add(1, SeqCst);
            if !crew.deal(course.connections - 1, Arrival { stream, peer }) {
                self.shared.open.fetch_sub(1, SeqCst);
                return Ok(());
            }
        }
    }
}

/// Answers go out at once, and nothing ever blocks.
fn is_ready(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_ok()
}

/// Whether it is the listener's own error: it will never take a connection again.
fn lasts(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK))
}

/// Whoever comes waits until there is a descriptor, memory or a network again.
fn pause(error: &io::Error, course: &mut Course) {
    if course.accept_errors == 0 {
        tracing::warn!(event = "accept", "a connection could not be taken: {error}; it is tried again");
    }
    course.accept_errors += 1;
    std::thread::sleep(ACCEPT_PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Deps};
    use std::net::Shutdown;
    use std::os::fd::OwnedFd;

    #[test]
    fn only_the_listeners_own_errors_last() {
        for (errno, lasting) in [
            (libc::EMFILE, false),
            (libc::ENFILE, false),
            (libc::ENOBUFS, false),
            (libc::EPROTO, false),
            (libc::ENETDOWN, false),
            (libc::EBADF, true),
            (libc::EINVAL, true),
            (libc::ENOTSOCK, true),
        ] {
            assert_eq!(lasts(&io::Error::from_raw_os_error(errno)), lasting, "{errno}");
        }
    }

    #[test]
    fn a_listener_that_is_shut_ends_it_and_keeps_what_was_counted() {
        let deps = Deps::new(|| Ok(()));
        let plan = config::receive::parse(&["--listen=tcp://127.0.0.1:0".to_owned()], &deps).unwrap();
        let listener = TcpListener::bind(plan.address).unwrap();
        let twin = TcpStream::from(OwnedFd::from(listener.try_clone().unwrap()));
        twin.shutdown(Shutdown::Both).unwrap();
        let (waker, main) = pair().unwrap();
        let shared = Shared::new(main);
        let crew = Crew { threads: Vec::new(), inboxes: Vec::new(), taken: Vec::new() };
        let mut course = Course { connections: 3, ..Course::default() };
        let accepting =
            Accepting::new(&plan, listener, waker, &shared, &crew, None).unwrap_or_else(|fatal| panic!("{fatal}"));
        let fatal = accepting.run(&crew, &mut course, Instant::now()).unwrap_err();
        assert_eq!((fatal.exit, course.connections, course.accept_errors), (Exit::Host, 3, 0));
        assert!(course.elapsed_ns > 0);
    }
}
