//! The flags of `engine receive` that are for Kafka.

use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::config::url::ipv6;
use crate::plan::receive::{BrokerPlan, Protocol};
use clap::ArgMatches;

const TOPIC_PARTITIONS: u32 = 16;

/// Which batches are checked without `--verify`, and what the broker says of itself.
pub fn broker(
    matches: &ArgMatches,
    protocol: Option<Protocol>,
    verify: bool,
    errors: &mut Vec<Fatal>,
) -> (Option<u64>, BrokerPlan) {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    for name in ["verify-every", "advertise", "topic-partitions"] {
        if text(name).is_some() && protocol.is_some_and(|protocol| protocol != Protocol::Kafka) {
            errors.push(Fatal::usage(format!("--{name} is for kafka://")).mend("--listen=kafka://:9092"));
        }
    }
    let every = text("verify-every").and_then(|text| {
        let every = text.parse().ok().filter(|every| *every > 0);
        if every.is_none() {
            let what = format!("--verify-every '{text}' is no whole number from 1 on");
            errors.push(Fatal::usage(what).mend("--verify-every=1000"));
        }
        every
    });
    if verify && text("verify-every").is_some() {
        let what = "--verify checks every batch, --verify-every some of them";
        errors.push(Fatal::usage(what).mend("leave one of them out"));
    }
    let topic_partitions = text("topic-partitions").map_or(TOPIC_PARTITIONS, |text| {
        let most = limits::RECEIVE_TOPIC_PARTITIONS_MAX;
        text.parse().ok().filter(|count| (1..=most).contains(count)).unwrap_or_else(|| {
            let what = format!("--topic-partitions '{text}' is no whole number from 1 to {most}");
            errors.push(Fatal::usage(what).mend("--topic-partitions=16"));
            TOPIC_PARTITIONS
        })
    });
    let advertise = text("advertise").and_then(|text| address(text).map_err(|fatal| errors.push(fatal)).ok());
    (every, BrokerPlan { advertise, topic_partitions })
}

/// A name is not looked up here: clients do, perhaps on another host.
fn address(text: &str) -> Result<(String, u16), Fatal> {
    let refuse =
        |what: &str| Fatal::usage(format!("--advertise '{text}': {what}")).mend("--advertise=broker.local:9092");
    let (host, port) = text.rsplit_once(':').ok_or_else(|| refuse("there is no port"))?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(|| refuse("its port is none from 1 to 65535"))?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => ipv6(address).map_err(|why| refuse(&why))?,
        None if host.contains(':') => return Err(refuse("an IPv6 address stands in brackets: [::1]:9092")),
        None => host.to_owned(),
    };
    if host.is_empty() || host.len() > limits::KAFKA_CLIENT_ID_BYTES_MAX || host.contains(['/', '@', ' ']) {
        return Err(refuse("it has no host, or more than one"));
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_clients_are_sent() {
        assert_eq!(address("broker:9092").unwrap(), ("broker".to_owned(), 9092));
        assert_eq!(address("[::1]:1").unwrap(), ("::1".to_owned(), 1));
        assert_eq!(address("[fe80::1%25eth0]:1").unwrap(), ("fe80::1%eth0".to_owned(), 1));
        for text in ["broker", ":1", "a:0", "a:99999", "::1:9", "kafka://a:1", "a b:1", ""] {
            assert!(address(text).unwrap_err().what.contains("--advertise"), "{text}");
        }
    }
}
