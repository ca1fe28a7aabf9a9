//! The command line of `engine receive`.

pub mod faults;
mod kafka;

use crate::base::fatal::Fatal;
use crate::base::{program, units};
use crate::config::resolve::observe::{checked_report_target, reject_overwriting};
use crate::config::resolve::payload;
use crate::config::url::ipv6;
use crate::config::{Deps, flags};
use crate::host::{Sysfs, cpu};
use crate::plan::LogFormat;
use crate::plan::receive::{FaultPlan, Framing, Protocol, ReceivePlan, Threads};
use clap::ArgMatches;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Name, value, help.
pub const RECEIVE_FLAGS: &[(&str, &str, &str)] = &[
    (
        "listen",
        "URL",
        "tcp://HOST:PORT, http://HOST:PORT or kafka://HOST:PORT. Without a host 127.0.0.1; port 0 takes a free one. The address is \
         printed on standard output as soon as it can be reached: 'listening on tcp://127.0.0.1:43251'.",
    ),
    (
        "verify",
        "",
        "Checks every record: checksums, gaps, duplicates and order, over all connections. Without it, bytes are \
         thrown away as fast as they come.",
    ),
    (
        "verify-every",
        "N",
        "kafka: checks each Nth batch whole, its checksum and those of its records, and throws the others away; gaps \
         and duplicates are not judged.",
    ),
    ("advertise", "HOST:PORT", "kafka: where clients are told to connect; else the address that they came to."),
    (
        "topic-partitions",
        "N",
        "kafka: how many partitions a topic has that nobody created; every topic is there. Default 16.",
    ),
    ("once", "", "Ends when connections were there (with kafka: one that brought records) and the last one is closed."),
    ("duration", "D", "Ends after this time; without it a signal does."),
    ("cores", "LIST", "One thread pinned to each of these processors, polling; else threads sleep until bytes come."),
    ("report", "FILE|-", "The result as JSON; - is the last line of standard output."),
    (
        "framing",
        "HOW",
        "tcp: none (records follow each other) or length (each behind its length, 4 bytes, big-endian).",
    ),
    (
        "fault",
        "SPEC",
        "Things that go wrong on request, so that a sender can rehearse: status=503:1% (any status from 400 to 599), \
         reset:0.1% (after the body was read), abort:0.1% (as soon as the head is there), truncate:0.1% (half an \
         answer, then the end), close:1% (a whole answer that says so, then the end), delay=50ms:1%, slow=10ms:1% \
         (the answer byte by byte), joined by commas. retry_after=1s adds the header to 429 and 503. With tcp only \
         reset and delay, once for each MiB received. With kafka: error=6:1% (any code of Kafka's), lose_answer:1% \
         (records are kept, the connection is closed), reset (before they are), delay, for each Produce request.",
    ),
    ("seed", "N", "The same seed strikes the same requests, counted in the order of their heads. Default 0."),
    (
        "sign-key",
        "FILE",
        "With --verify: checks signatures with the key that run was given; a record without one is a finding.",
    ),
    ("run-id", "ID", "With --verify: records of other runs are findings."),
    ("log-format", "text|json", "Form of the logs, which go to standard error."),
];

/// Reads the flags and looks at this host.
pub fn parse(args: &[String], deps: &Deps) -> Result<ReceivePlan, Vec<Fatal>> {
    let mut errors = Vec::new();
    let read = flags::own_flags(flags::bare("engine receive"), RECEIVE_FLAGS, &[], args, &mut errors);
    let Some(matches) = read else { return Err(errors) };
    let plan = resolve(&matches, deps, &mut errors);
    match plan {
        Some(plan) if errors.is_empty() => Ok(plan),
        _ => Err(errors),
    }
}

fn resolve(matches: &ArgMatches, deps: &Deps, errors: &mut Vec<Fatal>) -> Option<ReceivePlan> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let listen = match text("listen") {
        Some(url) => listen_address(url).map_err(|fatal| errors.push(fatal)).ok(),
        None => {
            let how = program::command("receive --listen tcp://:9000");
            errors.push(Fatal::usage("receive has nowhere to listen").mend(how));
            None
        }
    };
    let protocol = listen.map(|(protocol, _)| protocol);
    let verify = matches.get_flag("verify");
    let (verify_every, broker) = kafka::broker(matches, protocol, verify, errors);
    for name in ["sign-key", "run-id"].iter().filter(|name| text(name).is_some() && !verify) {
        if *name == "sign-key" && verify_every.is_some() {
            continue;
        }
        errors.push(Fatal::usage(format!("--{name} means nothing without --verify")).mend("add --verify"));
    }
    let framing = framing(text("framing"), protocol, errors);
    let seed = text("seed").map_or(Ok(0), str::parse).unwrap_or_else(|_| {
        let given = text("seed").unwrap_or_default();
        errors.push(Fatal::usage(format!("--seed '{given}' is no whole number")).mend("--seed=42"));
        0
    });
    let faults = fault_plan(text("fault"), seed, protocol, errors);
    if text("seed").is_some() && text("fault").is_none() {
        let example = faults::example(protocol.unwrap_or(Protocol::Http));
        errors.push(Fatal::usage("--seed means nothing without --fault").mend(example));
    }
    let duration_ns = text("duration").filter(|text| *text != "inf").map_or(Ok(u64::MAX), units::parse_duration_ns);
    let duration_ns = duration_ns.unwrap_or_else(|why| {
        errors.push(Fatal::usage(format!("--duration: {why}")).mend("--duration=30s"));
        u64::MAX
    });
    let default_format = if deps.terminal { LogFormat::Text } else { LogFormat::Json };
    let log_format = match text("log-format") {
        None => default_format,
        Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            errors
                .push(Fatal::usage(format!("--log-format '{other}' is none of text, json")).mend("--log-format=text"));
            default_format
        }
    };
    let report = text("report").map(|text| checked_report_target(text, errors));
    if let Some(key) = text("sign-key") {
        reject_overwriting("report", report.as_ref(), &[key.into()], errors);
    }
    let (protocol, address) = listen?;
    Some(ReceivePlan {
        protocol,
        address,
        verify,
        sign_key: text("sign-key").and_then(|path| payload::sign_key(path.as_ref(), errors)),
        run_id: text("run-id").map(str::to_owned),
        framing,
        verify_every,
        broker,
        once: matches.get_flag("once"),
        threads: threads(text("cores"), &deps.sysfs, errors),
        duration_ns,
        report,
        faults,
        log_format,
    })
}

/// `tcp://:9000` is this host only.
fn listen_address(url: &str) -> Result<(Protocol, SocketAddr), Fatal> {
    let example = "--listen=tcp://:9000, --listen=http://127.0.0.1:8080 or --listen=kafka://:9092";
    let refuse = |what: String| Fatal::usage(format!("--listen '{url}': {what}")).mend(example);
    let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("it is no URL".to_owned()))?;
    let protocol = match scheme {
        "tcp" => Protocol::Tcp,
        "http" => Protocol::Http,
        "kafka" => Protocol::Kafka,
        other => return Err(refuse(format!("'{other}' is none of tcp, http, kafka"))),
    };
    let authority = rest.strip_suffix('/').filter(|_| protocol != Protocol::Tcp).unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        return Err(refuse("only a host and a port belong there: every path and every topic is answered".to_owned()));
    }
    let (host, port) = authority.rsplit_once(':').ok_or_else(|| refuse("there is no port".to_owned()))?;
    let port: u16 = port.parse().map_err(|_| refuse(format!("'{port}' is no port from 0 to 65535")))?;
    if host.is_empty() {
        return Ok((protocol, SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    }
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => ipv6(address).map_err(refuse)?,
        None if host.contains(':') => return Err(refuse("an IPv6 address stands in brackets: [::1]".to_owned())),
        None => host.to_owned(),
    };
    let mut found = (host.as_str(), port).to_socket_addrs().map_err(|why| refuse(why.to_string()))?;
    let address = found.next().ok_or_else(|| refuse(format!("'{host}' has no address")))?;
    Ok((protocol, address))
}

fn framing(text: Option<&str>, protocol: Option<Protocol>, errors: &mut Vec<Fatal>) -> Framing {
    if text.is_some() && matches!(protocol, Some(Protocol::Http | Protocol::Kafka)) {
        let what = "--framing is for tcp://; http:// and kafka:// have frames of their own";
        errors.push(Fatal::usage(what).mend("leave it out"));
    }
    match text {
        None | Some("none") => Framing::None,
        Some("length") => Framing::Length,
        Some(other) => {
            errors.push(Fatal::usage(format!("--framing '{other}' is none of none, length")).mend("--framing=length"));
            Framing::None
        }
    }
}

fn fault_plan(text: Option<&str>, seed: u64, protocol: Option<Protocol>, errors: &mut Vec<Fatal>) -> FaultPlan {
    let protocol = protocol.unwrap_or(Protocol::Http);
    let read = text.map(|text| faults::parse(text, protocol));
    match read {
        None => FaultPlan::default(),
        Some(Ok(plan)) => FaultPlan { seed, ..plan },
        Some(Err(why)) => {
            let given = text.unwrap_or_default();
            errors.push(Fatal::usage(format!("--fault '{given}': {why}")).mend(faults::example(protocol)));
            FaultPlan::default()
        }
    }
}

fn threads(cores: Option<&str>, sysfs: &Sysfs, errors: &mut Vec<Fatal>) -> Threads {
    let Some(text) = cores else { return Threads::Sleeping(cpu::allowed_cpus(sysfs).len().max(1)) };
    let usable = cpu::usable_cpus(sysfs);
    match cpu::parse_list(text) {
        Err(why) => errors.push(Fatal::usage(format!("--cores: {why}")).mend("--cores=0")),
        Ok(list) => {
            let foreign: Vec<_> = list.iter().copied().filter(|cpu| !usable.contains(cpu)).collect();
            if foreign.is_empty() || usable.is_empty() {
                return Threads::Polling(list);
            }
            let (missing, have) = (cpu::format_list(&foreign), cpu::format_list(&usable));
            let what = format!("--cores {text}: this process may not use {missing} (it may use {have})");
            errors.push(Fatal::host(what).mend(format!("--cores {have}, or taskset / the container's cpuset")));
        }
    }
    Threads::Sleeping(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;
    use crate::plan::ReportTarget;
    use proptest::prelude::*;

    fn read(words: &str) -> Result<ReceivePlan, Vec<Fatal>> {
        let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        parse(&args, &Deps::new(|| Ok(())))
    }

    #[test]
    fn urls_say_where_to_listen() {
        for (url, protocol, address) in [
            ("tcp://:9000", Protocol::Tcp, "127.0.0.1:9000"),
            ("tcp://127.0.0.1:0", Protocol::Tcp, "127.0.0.1:0"),
            ("http://0.0.0.0:80", Protocol::Http, "0.0.0.0:80"),
            ("http://[::1]:8080/", Protocol::Http, "[::1]:8080"),
            ("kafka://:9092", Protocol::Kafka, "127.0.0.1:9092"),
            ("tcp://[::1%251]:9000", Protocol::Tcp, "[::1%1]:9000"),
            ("tcp://[::1%1]:9000", Protocol::Tcp, "[::1%1]:9000"),
        ] {
            let plan = read(&format!("--listen {url}")).unwrap();
            assert_eq!((plan.protocol, plan.address.to_string().as_str()), (protocol, address), "{url}");
        }
        for url in
            ["9000", "tcp://", "tcp://host", "tcp://:x", "udp://:1", "http://:80/path", "tcp://::1:9", "tcp://:1/"]
        {
            let errors = read(&format!("--listen {url}")).unwrap_err();
            assert!(errors[0].exit == Exit::Usage && errors[0].what.contains(url), "{url}: {errors:?}");
            assert!(errors[0].mend.as_ref().unwrap().contains("tcp://:9000"));
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let words = "--framing odd --seed x --fault nonsense --duration 10 --run-id r --log-format loud --sign-key /no";
        let errors = read(words).unwrap_err();
        for word in
            ["nowhere", "--framing", "--seed", "--fault", "--duration", "--run-id", "--log-format", "--sign-key"]
        {
            assert!(errors.iter().any(|error| error.what.contains(word)), "{word}: {errors:?}");
        }
        let errors = read("--listen http://:1 --framing length --cores 99999999 --report /no/such/r.json").unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
        let errors = read("--listen tcp://:1 --cores 60000").unwrap_err();
        assert_eq!(errors[0].exit, Exit::Host, "{errors:?}");
        for (words, example) in [
            ("--listen tcp://:1 --fault status=503:1%", "reset:0.1%"),
            ("--listen kafka://:1 --fault error=foo:1%", "error=6:1%"),
            ("--listen kafka://:1 --seed 3", "lose_answer:1%"),
        ] {
            let errors = read(words).unwrap_err();
            assert!(errors[0].mend.as_ref().unwrap().contains(example), "{words}: {errors:?}");
        }
        assert!(read("--listen tcp://:1 --fault status=503:1%").unwrap_err()[0].what.contains("tcp"));
    }

    #[test]
    fn all_flags_together() {
        let plan = read(
            "--listen=tcp://:0 --verify --once --duration 5s --framing=length --report - --log-format json \
             --fault reset:0.1%,delay=50ms:1% --seed 7 --run-id nightly",
        )
        .unwrap();
        assert!(plan.verify && plan.once && matches!(plan.threads, Threads::Sleeping(1..)));
        assert_eq!((plan.duration_ns, plan.framing, plan.faults.seed), (5_000_000_000, Framing::Length, 7));
        assert_eq!((plan.report, plan.faults.items.len()), (Some(ReportTarget::Stdout), 2));
        let plan = read("--listen tcp://:0 --report /dev/stdout").unwrap();
        assert_eq!(plan.report, Some(ReportTarget::Stdout), "by its other name");
    }

    proptest! {
        #[test]
        fn no_url_panics(url in "(tcp|http|x)?(://)?[0-9.:\\[\\]]{0,12}(:[0-9]{0,6})?/?|\\PC{0,20}") {
            // Names would be looked up on the network.
            prop_assume!(!url.chars().any(|c| c.is_alphabetic()) || url.starts_with("tcp://"));
            let host = url.trim_start_matches("tcp://").to_owned();
            prop_assume!(!host.chars().any(char::is_alphabetic));
            let _ = listen_address(&url);
        }
    }
}
