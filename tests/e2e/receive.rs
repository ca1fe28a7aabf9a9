//! The other end: what it takes, what it answers, what it finds, and how it ends.

use crate::harness::{Ended, Live, Scratch, finish};
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Receiver {
    pub live: Live,
    pub address: String,
    out: BufReader<ChildStdout>,
}

impl Receiver {
    pub fn start(scratch: &Scratch, words: &str) -> Self {
        let mut live = Live::start(scratch.engine(&format!("receive {words}")).stdout(Stdio::piped()));
        let mut out = BufReader::new(live.child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("'{line}': {}", live.seen()));
        let address = url.split_once("://").unwrap().1.to_owned();
        Self { live, address, out }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits for an end that comes by itself; the last line of standard output is the report.
    pub fn ended(mut self) -> (Ended, Value) {
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        let ended = self.live.ended();
        let report = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let report = report.unwrap_or_else(|| panic!("no report in '{text}': {ended}"));
        (ended, report)
    }

    pub fn stopped(self) -> (Ended, Value) {
        self.live.signal("INT");
        self.ended()
    }
}

/// What a run puts on standard output.
fn records(scratch: &Scratch, words: &str) -> Vec<u8> {
    let ended = scratch.run(&format!("--target stdout --report run.json --seed 3 {words}"));
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(!ended.stdout.is_empty());
    ended.stdout
}

/// One answer: its head, and its status. Bodies are empty here.
fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            other => panic!("{other:?} after '{}'", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
    (status.unwrap_or_else(|| panic!("{head}")), head)
}

/// The peer ends the connection, in order or by a reset, without another byte.
#[track_caller]
fn gone(stream: &mut TcpStream) {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => {}
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        other => panic!("{other:?}"),
    }
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!("POST /events HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key}: {report:#}"))
}

#[test]
fn a_stream_is_counted_asleep_and_polling() {
    let scratch = Scratch::new();
    for (words, end) in [("", 0), ("--cores 0", 0), ("--framing length", 3)] {
        let receiver = Receiver::start(&scratch, &format!("--listen tcp://:0 --once --report - {words}"));
        let mut streams = [receiver.connect(), receiver.connect()];
        for stream in &mut streams {
            stream.write_all(&vec![5; 3_000_000 + end]).unwrap();
        }
        drop(streams);
        let (ended, report) = receiver.ended();
        assert_eq!(ended.code(), 0, "{ended}");
        assert_eq!(number(&report, "bytes_received"), 2 * (3_000_000 + end as u64));
        assert_eq!((number(&report, "connections"), &report["ended_by"]), (2, &"once".into()));
        assert!(report["bytes_per_second"].as_f64().unwrap() > 0.0 && report["findings"].is_null(), "{report:#}");
    }
}

#[test]
fn a_signal_ends_it_with_a_summary() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen tcp://127.0.0.1:0 --report - --log-format text");
    let mut stream = receiver.connect();
    stream.write_all(&[1; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // The receiver has read everything once it closes its side.
    gone(&mut stream);
    let open = receiver.connect();
    let (ended, report) = receiver.stopped();
    assert_eq!(ended.code(), 0, "{ended}");
    ended.says(&["received    100 kB", "rate ", "connections 2"]);
    assert_eq!((number(&report, "bytes_received"), &report["ended_by"]), (100_000, &"signal".into()));
    drop(open);
    let (ended, report) = Receiver::start(&scratch, "--listen http://:0 --duration 50ms --report -").ended();
    assert_eq!((ended.code(), &report["ended_by"]), (0, &"duration".into()));
    ended.says(&["\"event\":\"summary\""]);
}

#[test]
fn a_sound_stream_is_intact() {
    let scratch = Scratch::new();
    for (words, framed, more) in [
        ("--payload-size 4096 --records 5000", false, ""),
        ("--payload-size 100-9000 --records 2000 --sign-key key", true, "--framing length --sign-key key --cores 0"),
        ("--payload-size 3000000 --records 5", false, "--run-id nightly"),
    ] {
        scratch.write("key", "secret");
        let data = records(&scratch, &format!("{words} --run-id nightly"));
        let count = total_records(&scratch);
        let receiver = Receiver::start(&scratch, &format!("--listen tcp://:0 --verify --once --report - {more}"));
        let mut stream = receiver.connect();
        let sent = if framed { with_lengths(&data) } else { data };
        sent.chunks(123_457).for_each(|part| stream.write_all(part).unwrap());
        drop(stream);
        let (ended, report) = receiver.ended();
        assert_eq!(ended.code(), 0, "{ended}");
        assert_eq!((number(&report, "records_received"), &report["findings"]["clean"]), (count, &true.into()));
    }
}

fn total_records(scratch: &Scratch) -> u64 {
    let report: Value = serde_json::from_slice(&scratch.read("run.json")).unwrap();
    report["totals"]["records_produced"].as_u64().unwrap()
}

/// The lengths of records are in their headers.
fn with_lengths(mut data: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    while !data.is_empty() {
        let length = engine::record::Header::decode(data).unwrap().record_length;
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&data[..length as usize]);
        data = &data[length as usize..];
    }
    framed
}

#[test]
fn damage_on_the_way_is_found() {
    let scratch = Scratch::new();
    let data = records(&scratch, "--payload-size 1000 --records 1000");
    let mut flipped = data.clone();
    flipped[500_500] ^= 1;
    let lost = [&data[..400_000], &data[401_000..]].concat();
    for (bytes, kind, sequence) in
        [(flipped, "corrupt", 500), (lost, "gap", 400), (data[..999_900].to_vec(), "truncated", 999)]
    {
        let receiver = Receiver::start(&scratch, "--listen tcp://:0 --verify --once --report -");
        let mut stream = receiver.connect();
        stream.write_all(&bytes).unwrap();
        drop(stream);
        let (ended, report) = receiver.ended();
        assert_eq!(ended.code(), 1, "{ended}");
        let found = &report["findings"]["damage"][0];
        assert_eq!((&found["kind"], &found["first_sequence"]), (&kind.into(), &sequence.into()), "{report:#}");
        assert_eq!(report["findings"]["damage"].as_array().unwrap().len(), 1);
    }
    let framed = with_lengths(&data);
    let odd = [&framed[..], &[255; 4]].concat();
    for (bytes, kind) in
        [(&framed[..framed.len() - 1002], "truncated"), (&framed[..6028], "truncated"), (&odd, "unrecognised")]
    {
        let receiver = Receiver::start(&scratch, "--listen tcp://:0 --verify --once --report - --framing length");
        receiver.connect().write_all(bytes).unwrap();
        let (ended, report) = receiver.ended();
        assert_eq!((ended.code(), &report["findings"]["damage"][0]["kind"]), (1, &kind.into()), "{report:#}");
    }
    let receiver = Receiver::start(&scratch, "--listen tcp://:0 --verify --report - --log-format text");
    let (ended, _) = receiver.stopped();
    assert_eq!(ended.code(), 1, "nothing is no proof: {ended}");
    ended.says(&["nothing to verify"]);
}

#[test]
fn records_of_a_producer_come_over_several_connections() {
    let scratch = Scratch::new();
    let data = records(&scratch, "--payload-size 1000 --records 900");
    for drop_one in [false, true] {
        let receiver = Receiver::start(&scratch, "--listen http://:0 --verify --once --report -");
        let mut streams: Vec<TcpStream> = (0..3).map(|_| receiver.connect()).collect();
        for (at, body) in data.chunks(5000).enumerate() {
            let stream = &mut streams[at % 3];
            if drop_one && at == 77 {
                continue;
            }
            stream.write_all(&post(body)).unwrap();
            assert_eq!(answer(stream).0, 204);
        }
        drop(streams);
        let (ended, report) = receiver.ended();
        assert_eq!(ended.code(), i32::from(drop_one), "{ended}\n{report:#}");
        assert_eq!(number(&report, "records_received"), 900 - 5 * u64::from(drop_one));
        if drop_one {
            let found = &report["findings"]["damage"][0];
            assert_eq!((&found["kind"], &found["first_sequence"]), (&"gap".into(), &385.into()), "{report:#}");
        }
    }
}

#[test]
fn requests_of_every_make_are_answered() {
    let scratch = Scratch::new();
    for words in ["", "--cores 0"] {
        let receiver = Receiver::start(&scratch, &format!("--listen http://:0 --report - {words}"));
        let mut stream = receiver.connect();
        // Small, long, without a body, in chunks; each in one piece and torn apart.
        let chunked =
            b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec();
        let get = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
        for request in [post(&[7; 4096]), post(&vec![8; 5 << 20]), get, chunked.clone(), post(b"")] {
            stream.write_all(&request).unwrap();
            assert_eq!(answer(&mut stream), (204, "HTTP/1.1 204 No Content\r\n\r\n".to_owned()));
        }
        for piece in [1, 7, 40] {
            for request in [post(&[7; 100]), chunked.clone()] {
                request.chunks(piece).for_each(|part| stream.write_all(part).unwrap());
                assert_eq!(answer(&mut stream).0, 204);
            }
        }
        let many: Vec<u8> = (0..300).flat_map(|at| post(&vec![1; at * 7])).collect();
        stream.write_all(&many).unwrap();
        (0..300).for_each(|_| assert_eq!(answer(&mut stream).0, 204));

        stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream).0, 100);
        stream.write_all(b"abc").unwrap();
        assert_eq!(answer(&mut stream).0, 204);

        stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc").unwrap();
        assert!(answer(&mut stream).1.contains("Connection: close"));
        gone(&mut stream);
        let mut old = receiver.connect();
        old.write_all(b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx").unwrap();
        assert!(answer(&mut old).1.contains("keep-alive"));
        old.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        answer(&mut old);
        gone(&mut old);
        let (ended, report) = receiver.stopped();
        assert_eq!(ended.code(), 0, "{ended}");
        assert_eq!(number(&report, "requests"), 5 + 6 + 300 + 2 + 2);
        let bodies = 4096 + (5 << 20) + 5 + 3 * 105 + 7 * 299 * 300 / 2 + 7;
        assert_eq!(number(&report, "bytes_received"), bodies, "{report:#}");
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen http://:0 --report -");
    let long = format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(20_000));
    let chunk = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n";
    for (text, status) in [("nonsense\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\r\n", 400), (&long, 431), (chunk, 400)] {
        let mut stream = receiver.connect();
        stream.write_all(text.as_bytes()).unwrap();
        let (found, head) = answer(&mut stream);
        assert!(found == status && head.contains("Connection: close"), "{text}: {head}");
        gone(&mut stream);
    }
    // Half a request is none.
    let mut half = receiver.connect();
    half.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    gone(&mut half);
    let (ended, report) = receiver.stopped();
    assert_eq!((ended.code(), number(&report, "malformed_requests"), number(&report, "requests")), (0, 4, 0));
    assert_eq!((number(&report, "aborted_requests"), number(&report, "bytes_received")), (1, 0));
}

/// What became of each of so many requests, sent one after the other.
fn outcomes(receiver: &Receiver, count: usize, body: &dyn Fn(usize) -> Vec<u8>) -> Vec<Result<u16, usize>> {
    let mut stream = receiver.connect();
    let mut all = Vec::new();
    for at in 0..count {
        stream.write_all(&post(&body(at))).unwrap();
        let mut got = Vec::new();
        let mut byte = [0];
        while !got.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => got.push(byte[0]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("request {at}: {error} after {got:?}"),
            }
        }
        if got.ends_with(b"\r\n\r\n") {
            all.push(Ok(String::from_utf8_lossy(&got[9..12]).parse().unwrap()));
        } else {
            all.push(Err(got.len()));
            stream = receiver.connect();
        }
    }
    all
}

#[test]
fn faults_strike_as_the_seed_says() {
    let scratch = Scratch::new();
    let words = "--listen http://:0 --report - --fault \
                 status=503:10%,status=429:5%,reset:5%,abort:5%,truncate:5%,delay=1ms:10%,slow=100us:5%,retry_after=2s";
    let struck: Vec<_> = [7, 7, 8]
        .iter()
        .map(|seed| {
            let receiver = Receiver::start(&scratch, &format!("{words} --seed {seed}"));
            let all = outcomes(&receiver, 400, &|_| vec![9; 100]);
            let (ended, report) = receiver.stopped();
            assert_eq!(ended.code(), 0, "{ended}");
            let count =
                |wanted: &dyn Fn(&Result<u16, usize>) -> bool| all.iter().filter(|one| wanted(one)).count() as u64;
            let faults = &report["faults"];
            assert_eq!(number(faults, "status=503"), count(&|one| *one == Ok(503)));
            assert_eq!(number(faults, "status=429"), count(&|one| *one == Ok(429)));
            assert_eq!(number(faults, "truncate"), count(&|one| matches!(one, Err(1..))));
            assert_eq!(number(faults, "reset") + number(faults, "abort"), count(&|one| *one == Err(0)));
            assert!(number(faults, "delay=1ms") > 10 && number(faults, "slow=100us") > 5, "{faults}");
            let uncertain = number(faults, "reset") + number(faults, "truncate");
            assert_eq!(number(&report, "uncertain_requests"), uncertain);
            let refused = number(faults, "status=503") + number(faults, "status=429");
            assert_eq!(number(&report, "refused_requests"), refused);
            let received = 400 - refused - uncertain - number(faults, "abort");
            assert_eq!((number(&report, "requests"), count(&|one| *one == Ok(204))), (received, received));
            assert_eq!(number(&report, "bytes_received"), 100 * received, "of what was refused nothing is received");
            all
        })
        .collect();
    assert_eq!(struck[0], struck[1]);
    assert_ne!(struck[0], struck[2]);
    let receiver = Receiver::start(&scratch, "--listen http://:0 --report - --fault status=503:100%,retry_after=2s");
    let mut stream = receiver.connect();
    stream.write_all(&post(b"x")).unwrap();
    assert!(answer(&mut stream).1.contains("Retry-After: 2\r\n"));
    drop(stream);
    receiver.stopped();
}

#[test]
fn a_sender_that_repeats_what_failed_loses_nothing() {
    let scratch = Scratch::new();
    let data = records(&scratch, "--payload-size 1000 --records 1000");
    let fault = "--fault status=503:10%,reset:5%,truncate:5%,abort:5% --seed 5";
    let receiver = Receiver::start(&scratch, &format!("--listen http://:0 --verify --report - {fault}"));
    for body in data.chunks(2000) {
        let again = (0..50).find(|_| outcomes(&receiver, 1, &|_| body.to_vec()) == [Ok(204)]);
        assert!(again.is_some(), "50 faults in a row");
    }
    let (ended, report) = receiver.stopped();
    assert_eq!(ended.code(), 0, "{ended}\n{report:#}");
    assert_eq!(number(&report, "records_received"), 1000);
    assert!(number(&report, "records_uncertain") > 0 && number(&report, "refused_requests") > 0, "{report:#}");
    // What was refused and never came again is missing; what was left open may be either.
    for (fault, code) in [("status=503:100%", 1), ("truncate:100%", 1), ("delay=1ms:100%", 0)] {
        let receiver = Receiver::start(&scratch, &format!("--listen http://:0 --verify --report - --fault {fault}"));
        outcomes(&receiver, 3, &|at| data[at * 1000..][..1000].to_vec());
        let (ended, report) = receiver.stopped();
        assert_eq!(
            (ended.code(), number(&report, "records_received")),
            (code, if code == 0 { 3 } else { 0 }),
            "{fault}"
        );
    }
}

#[test]
fn tcp_faults_reset_and_hold_back() {
    let scratch = Scratch::new();
    let reset = "--listen tcp://:0 --once --report - --fault reset:100%,delay=50ms:100%";
    let receiver = Receiver::start(&scratch, reset);
    let mut stream = receiver.connect();
    // The kernel takes some of it before the reset arrives.
    let failed = (0..1000).any(|_| stream.write_all(&vec![0; 1 << 20]).is_err());
    assert!(failed, "1 GB went to a receiver that resets after one MiB");
    let (ended, report) = receiver.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    assert_eq!((number(&report, "bytes_received"), number(&report["faults"], "reset")), (1 << 20, 1));
    assert_eq!((number(&report, "connections_reset"), number(&report["faults"], "delay=50ms")), (1, 0), "{report:#}");
    let receiver = Receiver::start(&scratch, "--listen tcp://:0 --once --report - --fault delay=20ms:100%");
    let mut stream = receiver.connect();
    stream.write_all(&vec![0; 5 << 20]).unwrap();
    drop(stream);
    let (_, report) = receiver.ended();
    assert_eq!((number(&report, "bytes_received"), number(&report["faults"], "delay=20ms")), (5 << 20, 5));
    assert!(report["seconds_active"].as_f64().unwrap() >= 0.08, "{report:#}");
}

#[test]
fn a_port_in_use_and_a_bad_url_say_what_to_do() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = scratch.run(&format!("receive --listen tcp://{address}"));
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&[&address.to_string(), "mend:", "ss -ltnp"]);
    let ended = scratch.run("receive --listen gopher://:1 --fault nonsense");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["gopher", "mend:", "--fault"]);
    let help = finish(&mut scratch.engine("receive --help"));
    assert!(help.code() == 0 && String::from_utf8_lossy(&help.stdout).contains("retry_after=1s"), "{help}");
}
