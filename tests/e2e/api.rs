//! A small HTTP server for tests: keeps connections, remembers what it took, answers as it is told.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Request {
    /// Of all requests, in the order in which they came.
    pub number: usize,
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Value,
    /// It was answered with 2xx.
    taken: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What to answer.
pub struct Reply {
    /// `None`: nothing. 0: the connection is closed without a word.
    status: Option<u16>,
    headers: &'static str,
    body: &'static str,
}

impl Reply {
    pub fn taken() -> Self {
        Self { status: Some(202), headers: "", body: "{\"accepted\":1}" }
    }

    pub fn status(status: u16, headers: &'static str) -> Self {
        Self { status: Some(status), headers, body: "{}" }
    }

    pub fn hang_up() -> Self {
        Self::status(0, "")
    }

    /// Not before the server is dropped.
    pub fn never() -> Self {
        Self { status: None, headers: "", body: "" }
    }

    pub fn with(self, body: &'static str) -> Self {
        Self { body, ..self }
    }
}

type Answers = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    answers: Box<Answers>,
    requests: Mutex<Vec<Request>>,
    over: AtomicBool,
    told: Condvar,
}

/// The server; it ends when it is dropped.
pub struct Api {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
}

impl Api {
    pub fn start(answers: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answers: Box::new(answers),
            requests: Mutex::default(),
            over: AtomicBool::new(false),
            told: Condvar::new(),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.over.load(SeqCst) {
                    return;
                }
                let (serving, stream) = (serving.clone(), stream.unwrap());
                std::thread::spawn(move || serving.converse(stream));
            }
        });
        Self { shared, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The events that were taken, in order, whichever way they came.
    pub fn events(&self) -> Vec<Value> {
        let taken = self.requests().into_iter().filter(|request| request.taken);
        let events = taken.flat_map(|request| match request.path.as_str() {
            "/v1/events" => vec![request.body],
            "/v1/events/batch" => request.body["events"].as_array().unwrap().clone(),
            _ => vec![],
        });
        events.collect()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        drop(self.shared.requests.lock());
        self.shared.told.notify_all();
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn converse(&self, mut stream: TcpStream) {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut bytes = Vec::new();
        while let Some((mut request, length)) = next(&mut stream, &mut bytes) {
            bytes.drain(..length);
            let mut requests = self.requests.lock().unwrap();
            request.number = requests.len();
            let reply = (self.answers)(&request);
            request.taken = reply.status.is_some_and(|status| (200..300).contains(&status));
            requests.push(request);
            let Some(status) = reply.status else {
                while !self.over.load(SeqCst) {
                    requests = self.told.wait(requests).unwrap();
                }
                return;
            };
            drop(requests);
            if status == 0 {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            let (headers, body) = (reply.headers, reply.body);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} Said\r\n{headers}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The next whole request and its length; `None`: the peer is gone.
fn next(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(Request, usize)> {
    loop {
        if let Some(whole) = parse(bytes) {
            return Some(whole);
        }
        let mut more = [0; 16 << 10];
        let count = stream.read(&mut more).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&more[..count]);
    }
}

fn parse(bytes: &[u8]) -> Option<(Request, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Request::new(&mut headers);
    let head_bytes = match head.parse(bytes).expect("the engine speaks HTTP") {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return None,
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers: Vec<_> = head.headers.iter().map(|one| (one.name.to_owned(), text(one.value))).collect();
    let (method, path) = (head.method.unwrap().to_owned(), head.path.unwrap().to_owned());
    let request = Request { number: 0, method, path, headers, body: Value::Null, taken: false };
    let body_bytes: usize = request.header("content-length").expect("bodies have a length").parse().unwrap();
    let body = bytes.get(head_bytes..head_bytes + body_bytes)?;
    let body = serde_json::from_slice(body).expect("bodies are JSON");
    Some((Request { body, ..request }, head_bytes + body_bytes))
}
