//! A small HTTP server that does what a test tells it to, one thread for each connection.

use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";
/// Longer than anything takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        self.header(name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name}: {:?}", self.headers))
    }
}

/// What all connections have in common.
#[derive(Default)]
pub struct Seen {
    requests: Mutex<Vec<Request>>,
}

impl Seen {
    /// Notes a request; how many came before it.
    fn note(&self, request: Request) -> usize {
        let mut all = self.requests.lock().unwrap();
        all.push(request);
        all.len() - 1
    }

    pub fn all(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// One connection as the server sees it.
pub struct Peer {
    pub stream: TcpStream,
    /// How many came before it.
    pub nth: usize,
    kept: Vec<u8>,
    seen: Arc<Seen>,
}

impl Peer {
    fn more(&mut self) -> bool {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.kept.extend_from_slice(&bytes[..count]);
                true
            }
        }
    }

    /// The head of the next request; `None`: the connection has ended.
    pub fn head(&mut self) -> Option<Request> {
        loop {
            let mut slots = [httparse::EMPTY_HEADER; 32];
            let mut parsed = httparse::Request::new(&mut slots);
            if let httparse::Status::Complete(length) = parsed.parse(&self.kept).unwrap() {
                let line = format!("{} {}", parsed.method.unwrap(), parsed.path.unwrap());
                let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
                let headers = parsed.headers.iter().map(|one| (one.name.to_owned(), text(one.value))).collect();
                self.kept.drain(..length);
                return Some(Request { line, headers, body: Vec::new() });
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// The next request, whole and noted, and how many came before it on all connections.
    pub fn request(&mut self) -> Option<(usize, Request)> {
        let head = self.head()?;
        self.body(head)
    }

    /// The rest of a request whose head was read.
    pub fn body(&mut self, mut request: Request) -> Option<(usize, Request)> {
        let length = request.number("Content-Length") as usize;
        while self.kept.len() < length {
            if !self.more() {
                return None;
            }
        }
        request.body = self.kept.drain(..length).collect();
        Some((self.seen.note(request.clone()), request))
    }

    /// The other end may be gone.
    pub fn say(&mut self, text: &str) {
        let _gone = self.stream.write_all(text.as_bytes());
    }

    /// Answers everything that comes with 204.
    pub fn obey(&mut self) {
        while self.request().is_some() {
            self.say(NO_CONTENT);
        }
    }

    /// Throws away what comes until the other side ends.
    pub fn discard(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Write);
        self.kept.clear();
        while self.more() {
            self.kept.clear();
        }
    }
}

pub struct Server {
    pub address: String,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Each connection is served by `serve`, and ends when that returns.
    pub fn start(serve: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let (all, stopped, serve) = (seen.clone(), stop.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for (nth, stream) in listener.incoming().enumerate() {
                if stopped.load(SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut peer = Peer { stream, nth, kept: Vec::new(), seen: all.clone() };
                let serve = serve.clone();
                std::thread::spawn(move || serve(&mut peer));
            }
        });
        Self { address, seen, stop }
    }

    /// Whole requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.all()
    }

    pub fn url(&self) -> String {
        format!("http://{}/in?x=1", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _anyway = TcpStream::connect(&self.address);
    }
}

/// An address that is the test's for as long as the socket is kept: nobody is there, so that a connect is refused, until
/// somebody comes to listen on just this one. A port that was let go may be another test's in a moment.
pub fn reserved() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // As who listens has it, too.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// An address where nobody answers a connect, for as long as the rest is kept: a backlog of one that is full, so that
/// the kernel drops what knocks.
pub fn silent() -> (SocketAddr, (Socket, TcpStream)) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let waiting = TcpStream::connect(address).unwrap();
    (address, (socket, waiting))
}
