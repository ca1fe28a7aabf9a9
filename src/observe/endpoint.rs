//! The metrics endpoint: HTTP/1.1 over `std::net`, bounded in connections, bytes and time.

use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::observe::http::{Answer, Asked, Page, TEXT, head, parse};
use crate::sys::threads;
use crate::wire::http::status::status_line;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Makes the pages, and hears which answers went out whole.
pub trait Pages: Send + Sync {
    fn answer(&self, page: Page) -> Answer;
    fn delivered(&self, answer: &Answer);
}

/// The listeners of an address that this process has, and nobody is served yet.
#[derive(Debug)]
pub struct Bound {
    addr: SocketAddr,
    listeners: Vec<TcpListener>,
}

impl Bound {
    /// `[::]` is every interface, IPv4 included.
    ///
    /// # Errors
    /// Exit 3 where the address cannot be bound, e.g. because another process has it.
    pub fn new(addr: SocketAddr) -> Result<Self, Fatal> {
        bind(addr).map(|listeners| Self { addr, listeners }).map_err(|error| cannot(addr, &error))
    }
}

fn cannot(addr: SocketAddr, error: &std::io::Error) -> Fatal {
    Fatal::host(format!("the metrics address {addr} cannot be bound: {error}")).mend(match error.kind() {
        ErrorKind::AddrInUse => {
            format!("find its owner with `ss -ltnp 'sport = :{}'`, or pass another --metrics-addr", addr.port())
        }
        ErrorKind::PermissionDenied => "pass a --metrics-addr with a port from 1024 on".to_owned(),
        _ => "pass a --metrics-addr of this host, e.g. --metrics-addr :9090".to_owned(),
    })
}

/// The listeners; dropping it closes them.
pub struct Endpoint {
    pub local_addr: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<(SocketAddr, JoinHandle<()>)>,
}

impl Endpoint {
    /// Serves whoever asks at the address, on these processors (none: anywhere).
    ///
    /// # Errors
    /// Exit 3 where no thread can be had.
    pub fn start(bound: Bound, cpus: &[usize], pages: Arc<dyn Pages>) -> Result<Self, Fatal> {
        Self::with_timeout(bound, cpus, pages, Duration::from_nanos(limits::METRICS_REQUEST_NS_MAX))
    }

    fn with_timeout(bound: Bound, cpus: &[usize], pages: Arc<dyn Pages>, timeout: Duration) -> Result<Self, Fatal> {
        let Bound { addr, listeners } = bound;
        let cannot = |error: std::io::Error| cannot(addr, &error);
        let local_addr = listeners[0].local_addr().map_err(cannot)?;
        let stop = Arc::new(AtomicBool::new(false));
        let busy = Arc::new(AtomicUsize::new(0));
        let mut listening = Vec::new();
        for listener in listeners {
            let wake = wake_addr(listener.local_addr().map_err(cannot)?);
            let door = Door { stop: stop.clone(), busy: busy.clone(), pages: pages.clone(), timeout };
            let listen = move || door.listen(&listener);
            listening.push((wake, threads::start("metrics-http", cpus, "the metrics endpoint", listen)?));
        }
        Ok(Self { local_addr, stop, threads: listening })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for (wake, thread) in self.threads.drain(..) {
            // `accept` has no timeout; a connection of our own ends it. Where even that fails, the process's
            // end will close the listener.
            if TcpStream::connect_timeout(&wake, Duration::from_secs(1)).is_ok() {
                let _ = thread.join();
            }
        }
    }
}

fn bind(addr: SocketAddr) -> std::io::Result<Vec<TcpListener>> {
    if addr.ip() != Ipv6Addr::UNSPECIFIED {
        return Ok(vec![TcpListener::bind(addr)?]);
    }
    let every_v4 = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    match TcpListener::bind(addr) {
        Ok(v6) => {
            // Where the host keeps IPv6 sockets to IPv6, IPv4 wants its own; elsewhere this one is taken.
            let port = v6.local_addr()?.port();
            Ok(std::iter::once(v6).chain(every_v4(port)).collect())
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(error),
        // A host without IPv6.
        Err(_) => Ok(vec![every_v4(addr.port())?]),
    }
}

fn wake_addr(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    addr
}

#[derive(Clone)]
struct Door {
    stop: Arc<AtomicBool>,
    busy: Arc<AtomicUsize>,
    pages: Arc<dyn Pages>,
    timeout: Duration,
}

/// One of the connections that may be open at once.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(busy: &Arc<AtomicUsize>) -> Option<Self> {
        let free = |taken| (taken < limits::METRICS_CONNECTIONS_MAX).then_some(taken + 1);
        busy.fetch_update(Relaxed, Relaxed, free).ok().map(|_| Self(busy.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Door {
    fn listen(&self, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.stop.load(Relaxed) {
                return;
            }
            match accepted {
                Ok((stream, _)) => self.admit(stream),
                // Out of descriptors, most likely: do not spin until one is free.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn admit(&self, mut stream: TcpStream) {
        let Some(place) = Place::take(&self.busy) else {
            // A fresh socket's buffer takes these few bytes at once.
            let full = Answer { status: 503, content_type: TEXT, body: "too many connections\n".into(), last: false };
            let _ = stream.write(&head(&full).into_bytes()).and_then(|_| stream.write(full.body.as_bytes()));
            return;
        };
        let door = self.clone();
        // It runs where this one may.
        let thread = std::thread::Builder::new().name("metrics-conn".into());
        // Without a thread the closure, and with it the place and the connection, is dropped.
        let _ = thread.spawn(move || {
            let _place = place;
            let _ = door.serve(&mut stream);
        });
    }

    /// One request, one answer, all within the timeout.
    fn serve(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let deadline = Instant::now() + self.timeout;
        let (asked, with_body) = read_request(stream, deadline)?;
        let answer = match asked {
            Ok(page) => self.pages.answer(page),
            Err(status) => {
                let body = format!("{}\n", status_line(status));
                Answer { status, content_type: TEXT, body, last: false }
            }
        };
        let mut bytes = head(&answer).into_bytes();
        if with_body {
            bytes.extend_from_slice(answer.body.as_bytes());
        }
        write_within(stream, &bytes, deadline)?;
        if with_body {
            self.pages.delivered(&answer);
        }
        // Unread bytes at close would reset the connection and could take the answer with them.
        stream.shutdown(Shutdown::Write)?;
        let mut rest = [0; 4096];
        while read_within(stream, &mut rest, deadline)? > 0 {}
        Ok(())
    }
}

fn read_request(stream: &mut TcpStream, deadline: Instant) -> std::io::Result<Asked> {
    let mut buffer = vec![0; limits::METRICS_HEAD_BYTES_MAX];
    let mut filled = 0;
    loop {
        let read = read_within(stream, &mut buffer[filled..], deadline)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if let Some(asked) = parse(&buffer[..filled]) {
            return Ok(asked);
        }
        if filled == buffer.len() {
            return Ok((Err(431), true));
        }
    }
}

fn remaining(deadline: Instant) -> std::io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

fn read_within(stream: &mut TcpStream, buffer: &mut [u8], deadline: Instant) -> std::io::Result<usize> {
    stream.set_read_timeout(Some(remaining(deadline)?))?;
    stream.read(buffer)
}

fn write_within(stream: &mut TcpStream, mut bytes: &[u8], deadline: Instant) -> std::io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(remaining(deadline)?))?;
        match stream.write(bytes)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Pages for Echo {
        fn answer(&self, page: Page) -> Answer {
            Answer { status: 200, content_type: TEXT, body: format!("{page:?}"), last: false }
        }
        fn delivered(&self, _: &Answer) {}
    }

    fn endpoint(addr: &str, timeout_ms: u64) -> Endpoint {
        Endpoint::with_timeout(
            Bound::new(addr.parse().unwrap()).unwrap(),
            &[],
            Arc::new(Echo),
            Duration::from_millis(timeout_ms),
        )
        .unwrap()
    }

    fn ask(addr: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn each_request_gets_its_status() {
        let endpoint = endpoint("127.0.0.1:0", 60_000);
        for (request, status, part) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", 200, "Metrics { open_metrics: false }"),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", 200, "Metrics"),
            ("GET /health HTTP/1.1\r\n\r\n", 200, "Health"),
            ("GET /ready HTTP/1.1\r\n\r\n", 200, "Ready"),
            ("GET / HTTP/1.1\r\n\r\n", 404, "Not Found"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", 405, "Allow: GET, HEAD"),
            ("nonsense\r\n\r\n", 400, "Bad Request"),
            ("\x01\x02\x03\r\n\r\n", 400, "Bad Request"),
        ] {
            let answer = ask(endpoint.local_addr, request.as_bytes());
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
            assert!(answer.contains(part) && answer.contains("Connection: close\r\n"), "{request:?}: {answer}");
        }
        let head = ask(endpoint.local_addr, b"HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.contains("Content-Length: 31\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let endpoint = endpoint("127.0.0.1:0", 60_000);
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "a".repeat(limits::METRICS_HEAD_BYTES_MAX));
        assert!(ask(endpoint.local_addr, &long.as_bytes()[..limits::METRICS_HEAD_BYTES_MAX]).contains(" 431 "));
    }

    #[test]
    fn a_slow_client_is_cut_off_in_time_however_often_it_writes() {
        let endpoint = endpoint("127.0.0.1:0", 200);
        let mut stream = TcpStream::connect(endpoint.local_addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let begun = Instant::now();
        let closed = loop {
            let _ = stream.write(b"G");
            match stream.read(&mut [0; 16]) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Ok(_) | Err(_) => break begun.elapsed(),
            }
        };
        assert!(closed >= Duration::from_millis(150), "{closed:?}");
        assert!(closed < Duration::from_secs(20), "{closed:?}");
    }

    #[test]
    fn connections_are_bounded_and_places_come_back() {
        let endpoint = endpoint("127.0.0.1:0", 60_000);
        let idle: Vec<_> =
            (0..limits::METRICS_CONNECTIONS_MAX).map(|_| TcpStream::connect(endpoint.local_addr).unwrap()).collect();
        // Accepted in order: all places are taken when this one comes.
        let mut refused = TcpStream::connect(endpoint.local_addr).unwrap();
        let mut answer = String::new();
        refused.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("too many connections"), "{answer}");
        drop(idle);
        let begun = Instant::now();
        while !attempt(endpoint.local_addr) {
            assert!(begun.elapsed() < Duration::from_secs(20), "no place came back");
        }
    }

    fn attempt(addr: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut answer = String::new();
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\n\r\n");
        let _ = stream.read_to_string(&mut answer);
        answer.starts_with("HTTP/1.1 200 ")
    }

    #[test]
    fn every_interface_means_ipv4_too() {
        let endpoint = endpoint("[::]:0", 60_000);
        let port = endpoint.local_addr.port();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert!(ask(loopback, b"GET /health HTTP/1.1\r\n\r\n").contains("Health"));
    }

    #[test]
    fn a_dropped_endpoint_is_closed() {
        let endpoint = endpoint("127.0.0.1:0", 60_000);
        let addr = endpoint.local_addr;
        drop(endpoint);
        assert!(TcpStream::connect(addr).is_err());
    }
}
