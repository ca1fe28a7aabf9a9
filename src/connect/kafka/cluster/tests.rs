use super::super::reader::TopicReader;
use super::super::testing::{self, Asked, Fake, Log, Message, client};
use super::*;
use crate::connect::kafka::At;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

fn refused(host: &str) -> Fatal {
    Fatal::new(Exit::Unreachable, format!("{host} is down")).mend("start it")
}

fn values(count: usize) -> Vec<Message> {
    vec![(b"x".to_vec(), Vec::new()); count]
}

#[test]
fn any_bootstrap_address_will_do() {
    let dial: Dial<Fake> = Box::new(|host, _, _| match host {
        "two" => Ok(Fake::new(testing::versions)),
        other => Err(refused(other)),
    });
    let hosts = |names: &[&str]| names.iter().map(|name| (name.to_string(), 9)).collect::<Vec<_>>();
    let mut cluster = Cluster::new(hosts(&["one", "two"]), client(), dial);
    assert_eq!(cluster.entry().unwrap().0, "two:9");
    let dial: Dial<Fake> = Box::new(|host, _, _| Err(refused(host)));
    let mut cluster = Cluster::new(hosts(&["one", "three"]), client(), dial);
    let fatal = cluster.entry().map(drop).unwrap_err();
    assert!(fatal.what.contains("one is down; three is down") && fatal.mend.is_some(), "{fatal}");
    assert_eq!(fatal.exit, Exit::Unreachable);
}

#[test]
fn learned_brokers_answer_for_dead_bootstrap_addresses() {
    let dial: Dial<Fake> = Box::new(|host, port, _| match (host, port) {
        ("learned", 7) => Ok(Fake::new(testing::versions)),
        (other, _) => Err(refused(other)),
    });
    let mut cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
    assert!(cluster.entry().is_err());
    let broker = |id, host: &str, port| Broker { id, host: host.to_owned(), port };
    cluster.learn(&[broker(1, "boot", 1), broker(2, "learned", 7)]);
    cluster.learn(&[broker(2, "learned", 7)]);
    assert_eq!(cluster.entry().unwrap().0, "learned:7");
    assert_eq!(cluster.bootstrap.len(), 2);
}

#[test]
fn a_leader_that_is_silent_for_all_of_the_patience_is_looked_up_again() {
    let patience = Duration::from_millis(300);
    let mut log = Log { fetch_bytes: 1000, ..Log::default() };
    log.put(0, &values(3), 1);
    let dialled = AtomicUsize::new(0);
    let dial: Dial<Fake> = Box::new(move |host, _, _| {
        if host == "one" && dialled.fetch_add(1, Ordering::Relaxed) == 0 {
            assert!(crossbeam_channel::never::<()>().recv_timeout(patience).is_err());
            return Err(refused(host));
        }
        Ok(Fake::new(log.clone().serve("t")))
    });
    let cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
    let mut leaders = TopicReader::find(cluster, "t", patience).unwrap();
    assert_eq!(leaders.ask(0, |session| session.list_offset("t", 0, At::Latest)).ok(), Some(3));
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let mut log = Log { fetch_bytes: 1000, ..Log::default() };
    log.put(0, &values(3), 1);
    log.put(1, &values(2), 1);
    let count = Arc::clone(&dialled);
    let dial: Dial<Fake> = Box::new(move |_, _, _| {
        let attempt = count.fetch_add(1, Ordering::Relaxed);
        let mut serve = log.clone().serve("t");
        let mut answers = 0;
        Ok(Fake::new(move |asked| {
            answers += 1;
            // The second connection, to the leader, breaks at its second request.
            if attempt == 1 && answers == 3 { None } else { serve(asked) }
        }))
    });
    let cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
    let mut leaders = TopicReader::find(cluster, "t", Duration::from_secs(5)).unwrap();
    let ends: Vec<i64> =
        (0..2).map(|id| leaders.ask(id, |session| session.list_offset("t", id, At::Latest)).unwrap()).collect();
    assert_eq!(ends, [3, 2]);
    assert_eq!(dialled.load(Ordering::Relaxed), 3);
}

#[test]
fn an_unknown_topic_is_final() {
    let dial: Dial<Fake> = Box::new(|_, _, _| {
        Ok(Fake::new(|asked| testing::versions(asked).or_else(|| Some(testing::metadata("other", 1, asked.version)))))
    });
    let cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
    let fatal = TopicReader::find(cluster, "t", Duration::from_millis(50)).map(drop).unwrap_err();
    assert!(fatal.what.contains("UNKNOWN_TOPIC"), "{fatal}");
    assert_eq!(fatal.exit, Exit::Unreachable);
}

#[test]
fn a_silent_address_holds_up_the_others_for_a_moment_and_the_last_good_one_goes_first() {
    let (dialled, patiences) = channel();
    let dial: Dial<Fake> = Box::new(move |host, _, patience| {
        dialled.send((host.to_owned(), patience)).unwrap();
        if patience < Duration::MAX {
            // Nothing comes from these two for as long.
            let (_sender, nothing) = channel::<()>();
            let _timeout = nothing.recv_timeout(patience * 6 / 10);
            return Err(refused(host));
        }
        if host == "slow" { Ok(Fake::new(testing::versions)) } else { Err(refused(host)) }
    });
    let hosts = ["silent", "slow"].map(|name| (name.to_owned(), 9));
    let mut cluster = Cluster::new(hosts.to_vec(), client(), dial);
    assert_eq!(cluster.answered_last(), None);
    assert_eq!(cluster.entry().unwrap().0, "slow:9");
    assert_eq!(cluster.answered_last(), Some(&hosts[1]));
    let tries = |told: Vec<(&str, Duration)>| -> Vec<(String, Duration)> {
        told.into_iter().map(|(host, patience)| (host.to_owned(), patience)).collect()
    };
    let both = |patience| [("silent", patience), ("slow", patience)];
    let expected = tries([both(FIRST_PATIENCE), both(Duration::MAX)].concat());
    assert_eq!(patiences.try_iter().collect::<Vec<_>>(), expected);
    let dial: Dial<Fake> = Box::new(|host, _, _| match host {
        "slow" => Ok(Fake::new(testing::versions)),
        other => panic!("{other} was not to be asked"),
    });
    let mut cluster = Cluster::new(hosts.to_vec(), client(), dial);
    cluster.prefer(&hosts[1]);
    assert_eq!(cluster.entry().unwrap().0, "slow:9");
    assert_eq!(cluster.bootstrap.len(), 2);
}

#[test]
fn what_the_flags_are_to_blame_for_is_no_unreachable_broker() {
    let at_fault = || Fatal::usage("--tls-ca 'x': no certificate").mend("--tls-ca=FILE");
    let dial: Dial<Fake> = Box::new(move |_, _, _| Err(at_fault()));
    let mut cluster = Cluster::new(["one", "two"].map(|name| (name.to_owned(), 9)).to_vec(), client(), dial);
    assert_eq!(cluster.entry().map(drop).unwrap_err(), at_fault());
}

#[test]
fn an_address_that_nobody_named_is_told_with_who_advertises_it() {
    let dial: Dial<Fake> = Box::new(|host, _, _| match host {
        "boot" => Ok(Fake::new(testing::versions)),
        other => Err(refused(other)),
    });
    let mut cluster = Cluster::new(["boot", "down"].map(|name| (name.to_owned(), 1)).to_vec(), client(), dial);
    let broker = |id, host: &str| Broker { id, host: host.to_owned(), port: 1 };
    // What is learned is still nothing that the user named.
    cluster.learn(&[broker(2, "elsewhere")]);
    let fatal = cluster.broker(&broker(2, "elsewhere")).map(drop).unwrap_err();
    assert!(fatal.what.starts_with("elsewhere is down (where Kafka at boot:1, down:1 says"), "{fatal}");
    assert!(fatal.mend.as_ref().is_some_and(|mend| mend.contains("advertised.listeners")), "{fatal}");
    assert_eq!(cluster.broker(&broker(3, "down")).map(drop).unwrap_err(), refused("down"));
}

/// A broker that begins sessions, and does the rest as it is told.
fn beginning(rest: impl Fn(&Asked) -> Option<Vec<u8>> + Send + 'static) -> Result<Fake, Fatal> {
    Ok(Fake::new(move |asked| testing::versions(asked).or_else(|| rest(asked))))
}

#[test]
fn a_broker_that_does_not_answer_what_it_is_asked_makes_room_for_the_next() {
    for is_silent in [false, true] {
        let (dialled, hosts) = channel();
        let dial: Dial<Fake> = Box::new(move |host, _, _| {
            dialled.send(host.to_owned()).unwrap();
            let is_well = host == "two";
            beginning(move |asked| {
                if !is_well && is_silent {
                    let (_sender, nothing) = channel::<()>();
                    let _timeout = nothing.recv_timeout(FIRST_PATIENCE);
                }
                (is_well || is_silent).then(|| testing::metadata("t", 1, asked.version))
            })
        });
        let names = ["one", "two"].map(|name| (name.to_owned(), 9));
        let mut cluster = Cluster::new(names.to_vec(), client(), dial);
        assert_eq!(cluster.ask(|session| session.metadata("t")).map(|view| view.partitions.len()).ok(), Some(1));
        assert_eq!(cluster.answered_last(), Some(&names[1]));
        assert_eq!(hosts.try_iter().collect::<Vec<_>>(), ["one", "two"]);
        // Over the connection that there is, and over the next.
        cluster.ask(|session| session.metadata("t")).unwrap();
        cluster.entry = None;
        cluster.ask(|session| session.metadata("t")).unwrap();
        assert_eq!(hosts.try_iter().collect::<Vec<_>>(), ["two"]);
    }
}

#[test]
fn brokers_that_all_refuse_to_answer_are_all_named() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let count = dialled.clone();
    let dial: Dial<Fake> = Box::new(move |host, _, _| {
        count.fetch_add(1, Ordering::Relaxed);
        if host == "down" { Err(refused(host)) } else { beginning(|_| None) }
    });
    let names = ["one", "down", "two"].map(|name| (name.to_owned(), 9));
    let mut cluster = Cluster::new(names.to_vec(), client(), dial);
    let fatal = cluster.ask(|session| session.metadata("t")).unwrap_err();
    for name in ["one:9", "two:9"] {
        assert_eq!(fatal.what.matches(name).count(), 1, "{fatal}");
    }
    assert!(dialled.load(Ordering::Relaxed) < 6, "nobody is asked twice");
}

/// As where it was only slow, when there are others.
#[test]
fn a_slow_broker_has_all_of_its_time_after_the_others() {
    let dial: Dial<Fake> = Box::new(|host, _, _| match host {
        "slow" => beginning(|asked| {
            let (_sender, nothing) = channel::<()>();
            let _timeout = nothing.recv_timeout(FIRST_PATIENCE);
            Some(testing::metadata("t", 1, asked.version))
        }),
        _ => beginning(|_| None),
    });
    let names = ["slow", "closes"].map(|name| (name.to_owned(), 9));
    let mut cluster = Cluster::new(names.to_vec(), client(), dial);
    assert!(cluster.ask(|session| session.metadata("t")).is_ok());
    assert_eq!(cluster.answered_last(), Some(&names[0]));
}

#[test]
fn a_broker_that_never_hears_of_the_new_leader_is_not_the_only_one_asked() {
    let mut log = Log { fetch_bytes: 1000, ..Log::default() };
    log.put(0, &values(3), 1);
    let dial: Dial<Fake> = Box::new(move |host, _, _| match host {
        "frozen" => beginning(|asked| Some(testing::metadata_at("gone", "t", 1, asked.version))),
        "gone" => Err(refused(host)),
        _ => Ok(Fake::new(log.clone().serve("t"))),
    });
    let names = ["frozen", "well"].map(|name| (name.to_owned(), 9092));
    let cluster = Cluster::new(names.to_vec(), client(), dial);
    let mut leaders = TopicReader::find(cluster, "t", Duration::from_secs(20)).unwrap();
    assert_eq!(leaders.ask(0, |session| session.list_offset("t", 0, At::Latest)).ok(), Some(3));
}
