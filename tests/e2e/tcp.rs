//! `tcp://`: what arrives, what the books say when the peer misbehaves, and how a run ends early.

use crate::endings::{SIGINT, handles};
use crate::harness::{Live, Scratch, poll, quiet};
use crate::pinning::threads;
use crate::receive::{Receiver, number};
use crate::report::{count, total};
use crate::server::{reserved, silent};
use serde_json::Value;
use std::io::Read;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

pub const BACK_ENDS: [&str; 2] = ["uring", "syscall"];

/// A run that does not end well leaves a report too, and its books balance.
pub fn run(scratch: &Scratch, words: &str, code: i32) -> Value {
    let ended = scratch.run(&format!("{words} --report report.json"));
    assert_eq!(ended.code(), code, "engine {words}: {ended}");
    scratch.report_of(&ended, "report.json")
}

#[test]
fn every_record_arrives_intact() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for (words, framing) in [
            ("--records 20000", ""),
            ("--records 20000 --connections 3 --parallel 5 --payload-size 100-9000", ""),
            ("--records 5000 --tcp-framing length --payload-size 64-20000 --connections 2", "--framing length"),
            ("--records 3000 --rate 20MB/s --poll adaptive", ""),
            ("--records 3 --payload-size 5000000", ""),
        ] {
            let receiver =
                Receiver::start(&scratch, &format!("--listen tcp://:0 --verify --once --report - {framing}"));
            let report = scratch.report(&format!("--target tcp://{} --io {io} {words}", receiver.address));
            let (ended, received) = receiver.ended();
            assert_eq!(ended.code(), 0, "{io} {words}: {ended}");
            assert_eq!(report["confirmation"], "kernel");
            assert_eq!(total(&report, "records_produced"), total(&report, "records_offered"));
            assert_eq!(number(&received, "records_received"), total(&report, "records_produced"), "{io} {words}");
            assert_eq!(number(&received, "wire_bytes"), total(&report, "wire_bytes"), "{io} {words}");
            assert_eq!(received["findings"]["clean"], true);
        }
    }
}

#[test]
fn a_discarding_receiver_counts_the_same_bytes() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for (words, connections, framing) in
            [("", 1, 0), ("--connections 4 --parallel 2", 8, 0), ("--tcp-framing length", 1, 4)]
        {
            let receiver = Receiver::start(&scratch, "--listen tcp://:0 --once --report -");
            let words = format!("--target tcp://{} --io {io} --bytes 50MB {words}", receiver.address);
            let report = scratch.report(&words);
            let (ended, received) = receiver.ended();
            assert_eq!(ended.code(), 0, "{ended}");
            // --bytes counts whole records, and not the lengths between them.
            assert_eq!(total(&report, "bytes_produced"), 50_000_000_u64.div_ceil(4096) * 4096, "{words}");
            let bytes = total(&report, "bytes_produced") + framing * total(&report, "records_produced");
            assert_eq!((number(&received, "bytes_received"), number(&received, "connections")), (bytes, connections));
            let target = &report["producers"][0]["target"];
            assert_eq!(target.as_str(), words.split_whitespace().nth(1), "{report:#}");
        }
    }
}

#[test]
fn reports_of_connections_tell_what_tcp_sent_again() {
    let scratch = Scratch::new();
    for (scheme, path) in [("tcp", ""), ("http", "/in"), ("kafka", "/topic")] {
        let receiver = Receiver::start(&scratch, &format!("--listen {scheme}://:0 --report -"));
        let report = scratch.report(&format!("--target {scheme}://{}{path} --records 100", receiver.address));
        assert!(report["totals"]["tcp_retransmits"].is_u64(), "{scheme}: {:#}", report["totals"]);
        receiver.stopped();
    }
    let report = scratch.report("--target null --records 100");
    assert!(report["totals"]["tcp_retransmits"].is_null(), "{:#}", report["totals"]);
}

#[test]
fn several_receivers_get_their_producers() {
    let scratch = Scratch::new();
    let receivers = [(); 2].map(|()| Receiver::start(&scratch, "--listen tcp://:0 --verify --once --report -"));
    let [one, other] = receivers.each_ref().map(|receiver| receiver.address.clone());
    let words = format!("--target tcp://{one} --target tcp://{other} --parallel 3 --records 3000");
    let report = scratch.report(&words);
    let received: Vec<u64> = receivers.into_iter().map(|one| number(&one.ended().1, "records_received")).collect();
    let to = |address: &str| {
        let producers = report["producers"].as_array().unwrap().iter();
        let here = producers.filter(|one| one["target"].as_str().unwrap().ends_with(address));
        here.map(|one| count(one, "records_produced")).sum::<u64>()
    };
    assert_eq!(received, [to(&one), to(&other)], "{report:#}");
    assert!(received.iter().all(|records| *records > 0));
}

#[test]
fn a_receiver_that_resets_is_found_again() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let receiver = Receiver::start(&scratch, "--listen tcp://:0 --verify --report - --fault reset:10% --seed 4");
        let words = format!("--target tcp://{} --io {io} --records 40000 --connections 2", receiver.address);
        let ended = scratch.run(&format!("{words} --report report.json"));
        let report = scratch.report_of(&ended, "report.json");
        let (_, received) = receiver.stopped();
        // What its kernel had acknowledged was produced, read or not.
        let (produced, uncertain) = (total(&report, "records_produced"), total(&report, "records_uncertain"));
        assert_eq!((produced + uncertain, total(&report, "records_failed")), (40000, 0), "{report:#}");
        assert_eq!(ended.code(), i32::from(uncertain > 0), "{ended}");
        assert_eq!(count(&report["errors"], "closed"), uncertain, "only resets: {report:#}");
        assert!(number(&received, "connections_reset") > 2, "{received:#}");
        // It read nothing twice and nothing in half.
        assert!(number(&received, "records_received") <= 40000, "{received:#}");
        let damage = received["findings"]["damage"].as_array().unwrap();
        assert!(damage.iter().all(|one| one["kind"] == "gap"), "{received:#}");
    }
}

/// Whether the other end of a connection from `local` has sent what nobody has acknowledged.
fn waits_for_acknowledgement(local: SocketAddr) -> bool {
    let port = format!(":{:04X}", local.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1].ends_with(&port) && !words[4].starts_with("00000000:")
    })
}

/// Resets so many connections while something is on its way, and reads all of the next one.
fn resets(times: usize) -> (SocketAddr, std::thread::JoinHandle<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..times {
            let (stream, from) = listener.accept().unwrap();
            poll("a full window", || waits_for_acknowledgement(from).then_some(()));
            // What is unread makes it a reset.
            drop(stream);
        }
        let (mut stream, _) = listener.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    (address, server)
}

#[test]
fn what_was_on_its_way_at_a_reset_is_uncertain() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let (address, server) = resets(1);
        let report = run(&scratch, &format!("--target tcp://{address} --io {io} --records 5000"), 1);
        let rest = server.join().unwrap();
        let (produced, uncertain) = (total(&report, "records_produced"), total(&report, "records_uncertain"));
        assert!(uncertain > 0 && produced + uncertain == 5000, "{:#}", report["totals"]);
        assert_eq!(count(&report["errors"], "closed"), uncertain);
        // Nothing is sent twice: all but what the first connection took went over the second.
        assert!(rest % 4096 == 0 && rest <= produced * 4096, "{rest} bytes, {:#}", report["totals"]);
        // Of the record that was cut in two the second half is not sent.
        let wire = total(&report, "wire_bytes");
        assert!((4999 * 4096 + 1..=5000 * 4096).contains(&wire), "{wire} bytes");
    }
}

#[test]
fn a_peer_that_is_killed_and_comes_back_is_found_again() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let (address, _kept) = reserved();
        let first = Receiver::start(&scratch, &format!("--listen tcp://{address}"));
        let words = format!("--target tcp://{address} --io {io} --rate 20MB/s --records 20000 --catch-up 60s");
        let words = format!("{words} --stats-interval 100ms --report report.json --log-format json");
        let mut engine = Live::start(&mut scratch.engine(&words));
        engine.event("interval");
        first.live.signal("KILL");
        assert_eq!(first.live.ended().code(), 128 + 9);
        engine.event("interval");
        let second = Receiver::start(&scratch, &format!("--listen tcp://{address} --verify --report -"));
        let ended = engine.ended();
        let report = scratch.report_of(&ended, "report.json");
        let lost = total(&report, "records_uncertain");
        assert_eq!(ended.code(), i32::from(lost > 0), "{ended}");
        assert_eq!(total(&report, "records_produced") + lost, 20000, "the run goes on: {:#}", report["totals"]);
        let (_, received) = second.stopped();
        let arrived = number(&received, "records_received");
        assert!(arrived > 5000, "{arrived} came after the restart: {ended}");
        let last = &report["producers"][0]["last_sequence"];
        assert_eq!(last.as_u64(), Some(19999));
    }
}

#[test]
fn a_peer_that_closes_its_sending_side_is_dialed_again_and_that_is_said() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (first, _) = listener.accept().unwrap();
            first.shutdown(Shutdown::Write).unwrap();
            // The first one is never read, so the run cannot end on it.
            let (mut second, _) = listener.accept().unwrap();
            std::io::copy(&mut second, &mut std::io::sink()).unwrap()
        });
        let ended = scratch.run(&format!("--target tcp://{address} --io {io} --records 40000 --report report.json"));
        assert!(server.join().unwrap() > 0);
        ended.says(&[&format!("{address} closed its sending side")]);
        let report = scratch.report_of(&ended, "report.json");
        let (produced, uncertain) = (total(&report, "records_produced"), total(&report, "records_uncertain"));
        assert_eq!((produced + uncertain, ended.code()), (40000, i32::from(uncertain > 0)), "{:#}", report["totals"]);
        assert_eq!(count(&report["errors"], "closed"), uncertain);
    }
}

#[test]
fn a_connection_that_closes_before_its_first_record_gets_none() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Until the tests end: how many connections come is not known.
        std::thread::spawn(move || {
            (0..4).for_each(|_| drop(listener.accept().unwrap()));
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
            }
        });
        let words = format!("--target tcp://{address} --io {io} --connections 4 --records 5 --rate 16384");
        let ended = scratch.run(&format!("{words} --report report.json"));
        let report = scratch.report_of(&ended, "report.json");
        // The first record may be on its way when its connection closes; the others come long after that.
        let lost = total(&report, "records_uncertain");
        assert!(lost <= 1 && total(&report, "records_produced") == 5 - lost, "{:#}", report["totals"]);
    }
}

#[test]
fn connections_take_turns() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let streams: Vec<TcpStream> = (0..4).map(|_| listener.accept().unwrap().0).collect();
            let read = |mut stream: TcpStream| move || std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
            let readers: Vec<_> = streams.into_iter().map(|stream| std::thread::spawn(read(stream))).collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<u64>>()
        });
        scratch.report(&format!("--target tcp://{address} --io {io} --connections 4 --records 80 --rate 1MB/s"));
        let bytes = server.join().unwrap();
        assert_eq!(bytes.iter().sum::<u64>(), 80 * 4096);
        // One that is still busy is passed over.
        assert!(bytes.iter().all(|bytes| *bytes >= 5 * 4096), "{bytes:?}");
    }
}

/// Takes connections and never reads from them.
fn deaf() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_peer_that_never_reads_leaves_it_uncertain() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let (_listener, address) = deaf();
        let words = format!("--target tcp://{address} --io {io} --duration 500ms --drain-timeout 200ms");
        let report = run(&scratch, &words, 1);
        assert!(total(&report, "records_uncertain") > 0, "{:#}", report["totals"]);
        assert!(total(&report, "records_produced") > 0, "its kernel takes what fits: {:#}", report["totals"]);
        let errors = &report["errors"];
        let lost = total(&report, "records_uncertain") + total(&report, "records_failed");
        assert_eq!(count(errors, "timeout"), lost, "{errors}");
        assert!(report["elapsed_seconds"].as_f64().unwrap() < 10.0);
    }
}

#[test]
fn an_acknowledgement_that_does_not_come_in_time_breaks_the_connection() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let (listener, address) = deaf();
        let words = format!("--target tcp://{address} --io {io} --rate 200MB/s --request-timeout 200ms");
        let report = run(&scratch, &format!("{words} --duration 1500ms --drain-timeout 100ms"), 1);
        assert!(count(&report["errors"], "timeout") > 0, "{:#}", report["errors"]);
        listener.set_nonblocking(true).unwrap();
        let connections = listener.incoming().take_while(Result::is_ok).count();
        assert!(connections > 1, "{connections} connections");
    }
}

#[test]
fn a_target_that_is_not_there_is_exit_5() {
    let scratch = Scratch::new();
    let (address, _nobody) = reserved();
    for io in BACK_ENDS {
        for scheme in ["tcp", "http"] {
            let ended = scratch.run(&format!("--target {scheme}://{address} --io {io} --records 1"));
            assert_eq!(ended.code(), 5, "{ended}");
            ended.says(&[&address.to_string(), "refused the connection", "ss -ltn"]);
            let ended = scratch.run(&format!("--target {scheme}://no-such-host.invalid:9 --rate 1MB/s --io {io}"));
            assert_eq!(ended.code(), 5, "{ended}");
            ended.says(&["no-such-host.invalid", "cannot be resolved", "getent ahosts"]);
        }
    }
}

#[test]
fn another_host_needs_a_rate() {
    let scratch = Scratch::new();
    for target in ["tcp://192.0.2.1:9", "http://192.0.2.1/", "https://[2001:db8::1]/"] {
        let ended = scratch.run(&format!("--target {target}"));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&[target.trim_end_matches('/'), "needs --rate", "--rate=unlimited"]);
        let plan = scratch.run(&format!("--target {target} --rate unlimited --dry-run"));
        assert_eq!(plan.code(), 0, "{plan}");
    }
}

#[test]
fn ipv6_works_as_well() {
    let scratch = Scratch::new();
    for (scheme, io) in [("tcp", "uring"), ("http", "syscall"), ("tcp", "syscall"), ("http", "uring")] {
        let receiver = Receiver::start(&scratch, &format!("--listen {scheme}://[::1]:0 --verify --once --report -"));
        assert!(receiver.address.starts_with("[::1]:"), "{}", receiver.address);
        scratch.report(&format!("--target {scheme}://{} --io {io} --records 500", receiver.address));
        let (ended, received) = receiver.ended();
        assert_eq!((ended.code(), number(&received, "records_received")), (0, 500), "{ended}");
    }
}

/// A link-local address of this host in a URL, if it has one.
fn link_local() -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let all = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Permanent ones that nobody else has.
    let usable = |words: &Vec<&str>| words[0].starts_with("fe80") && words[4] == "80";
    let words = all.filter(|words| words.len() == 6).find(usable)?;
    let bits = u128::from_str_radix(words[0], 16).ok()?;
    Some(format!("[{}%25{}]", Ipv6Addr::from(bits), words[5]))
}

#[test]
fn a_zone_is_understood_at_both_ends() {
    let scratch = Scratch::new();
    let loopback = ["[::1%251]", "[::1%1]"].map(str::to_owned);
    for host in loopback.into_iter().chain(link_local()) {
        for scheme in ["tcp", "http"] {
            let receiver =
                Receiver::start(&scratch, &format!("--listen {scheme}://{host}:0 --verify --once --report -"));
            let port = receiver.address.rsplit(':').next().unwrap();
            // As the receiver says it, and as the user did.
            let to = if scheme == "tcp" { receiver.address.clone() } else { format!("{host}:{port}") };
            scratch.report(&format!("--target {scheme}://{to} --records 100 --rate unlimited"));
            let (ended, received) = receiver.ended();
            assert_eq!((ended.code(), number(&received, "records_received")), (0, 100), "{host}: {ended}");
        }
    }
    let ended = scratch.run("--target tcp://[fe80::1%25no.such.link]:9 --records 1 --rate unlimited");
    assert_eq!(ended.code(), 5, "{ended}");
    ended.says(&["[fe80::1%no.such.link]:9", "cannot be resolved"]);
}

#[test]
fn ctrl_c_while_it_connects() {
    let scratch = Scratch::new();
    let (address, _kept) = silent();
    let (_listener, deaf) = deaf();
    for (target, note) in [
        (format!("tcp://{address}"), "1 connection"),
        (format!("http://{address}"), "1 connection"),
        (format!("kafka://{deaf}/topic"), "a connection for each"),
        (format!("kafka://{address},{deaf}/topic"), "a connection for each"),
    ] {
        let words = format!("--target {target} --duration 60s --log-format json");
        let mut engine = Live::start(&mut scratch.engine(&words));
        engine.line(note);
        poll("the signal handler", || handles(engine.pid(), SIGINT).then_some(()));
        // The payload is made first, and a signal there is another matter.
        let dials = |(name, _): &(String, String)| name.starts_with("dial-") || name == "kafka";
        poll("a connect", || threads(engine.pid()).iter().any(dials).then_some(()));
        let asked = Instant::now();
        engine.signal("INT");
        let ended = engine.ended();
        // A connect may take ten seconds, an answer thirty.
        assert!(asked.elapsed() < Duration::from_secs(8), "{target}: {ended}");
        assert_eq!(ended.code(), 5, "{target}: {ended}");
        ended.says(&["stopping in order", "stopped before the target had answered"]);
    }
}

#[test]
fn ctrl_c_in_the_warm_up_and_in_the_middle() {
    let scratch = Scratch::new();
    for scheme in ["tcp", "http"] {
        for (io, more) in [("uring", "--warmup 60s"), ("syscall", ""), ("uring", "--poll adaptive --connections 3")] {
            let receiver = Receiver::start(&scratch, &format!("--listen {scheme}://:0 --verify --once --report -"));
            let words = format!("--target {scheme}://{} --io {io} --rate 10MB/s {more}", receiver.address);
            let words = format!("{words} --duration 60s --stats-interval 100ms --report report.json --log-format json");
            let mut engine = Live::start(&mut scratch.engine(&words));
            engine.event("interval");
            engine.event("interval");
            engine.signal("INT");
            let ended = engine.ended();
            assert_eq!(ended.code(), 0, "{ended}");
            let report = scratch.report_of(&ended, "report.json");
            let produced = total(&report, "records_produced") + count(&report["warmup"]["totals"], "records_produced");
            let (ended, received) = receiver.ended();
            assert_eq!((ended.code(), number(&received, "records_received")), (0, produced), "{ended}\n{received:#}");
        }
    }
}

#[test]
fn ctrl_c_twice_ends_a_drain_that_would_last() {
    let scratch = Scratch::new();
    for scheme in ["tcp", "http"] {
        let (listener, address) = deaf();
        let words = format!("--target {scheme}://{address} --duration 60s --drain-timeout 60s --stats-interval 100ms");
        let mut engine = Live::start(&mut scratch.engine(&format!("{words} --log-format json")));
        engine.event("interval");
        engine.signal("INT");
        engine.line("stopping in order");
        engine.insist("INT");
        assert_eq!(engine.ended().code(), 1);
        // What it sent before that is on its way to whoever reads it.
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
    }
}

#[test]
fn a_restart_is_told_to_people() {
    let scratch = Scratch::new();
    // Blocks longer than what waits in sockets, and resets enough for one amid them.
    let (address, server) = resets(8);
    let blocks = "--records 20000 --block-size 4Mi --ring-size 20Mi";
    let ended = scratch.run(&format!("--target tcp://{address} {blocks} --log-format text"));
    assert_eq!(ended.code(), 1, "{ended}");
    ended.says(&[&address.to_string(), "uncertain (closed ", "blocks sent again"]);
    assert!(server.join().unwrap() > 0);
}
