use super::*;
use crate::connect::tls::testing;
use std::net::TcpListener;

const SOON: Duration = Duration::from_secs(20);

fn peer(port: u16) -> Arc<PeerPlan> {
    Arc::new(crate::plan::testing::peer("127.0.0.1", port))
}

fn order(connection: u32, port: u16) -> DialOrder {
    DialOrder { lane: 3, connection, peer: peer(port), last_use: LastUse::Unknown }
}

fn plain() -> DialFn {
    super::plain(Arc::default())
}

fn failing() -> Fatal {
    Fatal::new(crate::base::fatal::Exit::Unreachable, "nobody there")
}

#[test]
fn a_listener_gets_its_connections_and_a_dead_host_holds_up_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (hold, held) = bounded::<()>(0);
    let plain = plain();
    let dial: DialFn = Box::new(move |order| {
        if order.connection == 0 {
            // Until the test ends: no host is deader.
            let _dropped = held.recv();
            return Err(failing());
        }
        plain(order)
    });
    let (dialer, handle) = Dialer::start(dial, 1, 3, vec![], Arc::default()).unwrap();
    for connection in 0..3 {
        handle.order(order(connection, port)).unwrap();
    }
    let mut got: Vec<u32> = Vec::new();
    for _ in 0..2 {
        let answer = handle.wait(SOON).expect("an answer");
        assert!(answer.lane == 3 && answer.dialed.is_ok());
        got.push(answer.connection);
    }
    got.sort_unstable();
    assert_eq!(got, [1, 2]);
    assert!(handle.answer().is_none());
    drop(dialer);
    assert!(handle.order(order(1, port)).is_err(), "it has stopped");
    drop(hold);
}

#[test]
fn failures_are_answered_and_the_pause_between_them_grows() {
    let (told, times) = unbounded();
    let dial: DialFn = Box::new(move |_| {
        told.send(Instant::now()).unwrap();
        Err(failing())
    });
    let (_dialer, handle) = Dialer::start(dial, 7, 1, vec![], Arc::default()).unwrap();
    for _ in 0..4 {
        handle.order(order(0, 1)).unwrap();
        let answer = handle.wait(SOON).expect("an answer");
        assert_eq!(answer.dialed.err().map(|fatal| fatal.what), Some("nobody there".to_owned()));
    }
    let times: Vec<Instant> = times.try_iter().collect();
    let pauses: Vec<_> = times.windows(2).map(|two| two[1] - two[0]).collect();
    for (pause, least) in pauses.iter().zip([25, 50, 100]) {
        assert!(*pause >= Duration::from_millis(least), "{pauses:?}");
    }
}

#[test]
fn a_dial_that_panics_is_answered_each_time() {
    let dial: DialFn = Box::new(|_| panic!("a defect"));
    let (_dialer, handle) = Dialer::start(dial, 7, 1, vec![], Arc::default()).unwrap();
    for _ in 0..2 {
        handle.order(order(0, 1)).unwrap();
        let fatal = handle.wait(SOON).expect("an answer").dialed.err().expect("nobody dialed");
        assert!(fatal.what.contains("127.0.0.1:1 crashed"), "{fatal}");
    }
}

#[test]
fn a_young_death_counts_as_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_dialer, handle) = Dialer::start(plain(), 3, 1, vec![], Arc::default()).unwrap();
    handle.order(order(0, port)).unwrap();
    assert!(handle.wait(SOON).expect("an answer").dialed.is_ok());
    let again = Instant::now();
    handle.order(order(0, port)).unwrap();
    assert!(handle.wait(SOON).expect("an answer").dialed.is_ok() && again.elapsed() >= Duration::from_millis(25));
}

/// A server that closes idle connections soon, at a rate at which most are.
#[test]
fn a_connection_that_was_idle_is_replaced_at_once_and_never_down() {
    let outages = Arc::new(Outages::default());
    let mut desk = Desk { under_way: [limits::DIALS_AT_ONCE_MAX, 0, 0], outages: outages.clone(), ..desk(plain()) };
    let mut failures = |lived: Duration| {
        desk.note(&Ended { key: (3, 0), class: 0, dialed: Ok(([127, 0, 0, 1], 9).into()) });
        let record = desk.records.get_mut(&(3, 0)).unwrap();
        record.dialed_at = Instant::now().checked_sub(lived);
        desk.take(DialOrder { last_use: LastUse::Unasked, ..order(0, 9) });
        (desk.records[&(3, 0)].failures, outages.down())
    };
    let (idle, at_once) = (Duration::from_millis(300), Duration::ZERO);
    assert_eq!([idle, idle].map(&mut failures), [(1, 1), (2, 1)], "nobody knows whether it is a server");
    outages.answered("127.0.0.1:9").store(true, Relaxed);
    assert_eq!([idle; 5].map(&mut failures), [(0, 0); 5]);
    assert_eq!([at_once, at_once].map(&mut failures), [(1, 1), (2, 1)], "it has no use for it");
    assert_eq!(failures(idle), (0, 0));
}

#[test]
fn a_connection_that_an_alert_ended_waits_like_one_that_broke() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_dialer, handle) = Dialer::start(plain(), 3, 1, vec![], Arc::default()).unwrap();
    handle.order(order(0, port)).unwrap();
    assert!(handle.wait(SOON).expect("an answer").dialed.is_ok());
    for (used, least_ms) in [(false, 25), (false, 50), (true, 25)] {
        let last_use = LastUse::Alert { description: 116, used };
        let again = Instant::now();
        handle.order(DialOrder { last_use, ..order(0, port) }).unwrap();
        assert!(handle.wait(SOON).expect("an answer").dialed.is_ok());
        assert!(again.elapsed() >= Duration::from_millis(least_ms), "{last_use:?}: {:?}", again.elapsed());
    }
}

#[test]
fn an_alert_is_the_handshakes_or_comes_from_who_was_dialed() {
    let ordered = testing::peer(9093, testing::plan());
    let words = |used| words_of_alert(&ordered, (116, used), Some(([192, 0, 2, 7], 9094).into()));
    let handshake = "127.0.0.1:9093: TLS handshake: the peer refused it: CertificateRequired";
    assert!(words(false).contains(handshake), "{}", words(false));
    let later = "192.0.2.7:9094 ended a connection: the peer's TLS alert 116";
    assert!(words(true).starts_with(later), "{}", words(true));
}

#[test]
fn a_peer_that_speaks_no_http_is_told_of_once() {
    let outages = Arc::new(Outages::default());
    let desk = || Desk { outages: outages.clone(), ..desk(plain()) };
    let [mut one, mut other] = [desk(), desk()];
    let news = |desk: &mut Desk, last_use: LastUse| desk.news_of_no_http(&DialOrder { last_use, ..order(0, 443) });
    for last_use in [LastUse::Mute, LastUse::Mute, LastUse::Used, LastUse::Mute, LastUse::Mute] {
        assert_eq!(news(&mut one, last_use), None, "not three times in a row");
    }
    let words = "127.0.0.1:443 closed without an answer 3 times in a row; \
                 does this port speak TLS (https://127.0.0.1:443), or something else?";
    assert_eq!(news(&mut one, LastUse::Mute).as_deref(), Some(words));
    let alert = LastUse::NoHttp { start: [21, 3, 3, 0] };
    assert_eq!([news(&mut one, LastUse::Mute), news(&mut one, alert), news(&mut other, alert)], [None, None, None]);
    // One that has answered, over whichever connection, is none of them.
    outages.answered("127.0.0.1:80").store(true, Relaxed);
    for _ in 0..no_http::MUTE_TOLD_AT {
        let order = DialOrder { last_use: LastUse::Mute, ..order(1, 80) };
        assert_eq!(other.news_of_no_http(&order), None);
    }
    let said = |start| no_http::words_of_answer(&peer(443), start);
    let speaks_tls = "127.0.0.1:443 answers with a TLS alert: this port speaks TLS, https://127.0.0.1:443";
    assert_eq!(said([21, 3, 3, 0]), speaks_tls);
    assert!(said(*b"SSH-").contains("no HTTP/1, beginning with 'SSH-';"), "{}", said(*b"SSH-"));
    let over_tls = no_http::words_of_silence(&testing::peer(443, testing::plan()));
    assert!(over_tls.ends_with("does this port speak HTTP?"), "{over_tls}");
}

#[test]
fn a_pair_passes_orders_and_answers() {
    let (handle, clerk) = pair(1);
    assert!(clerk.order().is_none() && handle.answer().is_none());
    handle.order(order(4, 1)).unwrap();
    let (lane, connection) = clerk.order().map(|order| (order.lane, order.connection)).expect("it was placed");
    let answer = || Answer { lane, connection, dialed: Err(Box::new(failing())) };
    assert!(clerk.answer(answer()).is_ok() && clerk.answer(answer()).is_err(), "one connection, one answer");
    assert_eq!(handle.answer().map(|answer| (answer.lane, answer.connection)), Some((3, 4)));
}

#[test]
fn more_orders_than_places_are_served_in_turn() {
    let many = limits::DIALS_AT_ONCE_MAX as u32 * 3;
    let dial: DialFn = Box::new(|_| Err(failing()));
    let (_dialer, handle) = Dialer::start(dial, 5, many as usize, vec![], Arc::default()).unwrap();
    (0..many).for_each(|connection| handle.order(order(connection, 1)).unwrap());
    let mut seen: Vec<u32> = (0..many).map(|_| handle.wait(SOON).expect("an answer").connection).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..many).collect::<Vec<_>>());
}

/// Nobody hears it.
fn desk(dial: DialFn) -> Desk {
    Desk {
        dial: Arc::new(dial),
        random: SplitMix64::seed_from_u64(1),
        answers: bounded(1).0,
        waiting: Default::default(),
        placed_count: 0,
        under_way: [0; CLASSES],
        records: BTreeMap::new(),
        outages: Arc::default(),
        told_of_closing: false,
        told_of_alerts: BTreeSet::new(),
        done: unbounded().0,
    }
}

#[test]
fn dials_that_fail_again_and_again_leave_places_to_others() {
    let (hold, held) = bounded::<()>(0);
    let dial: DialFn = Box::new(move |_| {
        // Until the test ends, as if to a dead host.
        let _dropped = held.recv();
        Err(failing())
    });
    let (mut desk, all) = (desk(dial), limits::DIALS_AT_ONCE_MAX);
    let mut started = |failures: u32, last_use: LastUse, first: u32| {
        let wanted = first..first + all as u32;
        for order in wanted.clone().map(|connection| DialOrder { last_use, ..order(connection, 1) }) {
            desk.records.insert(key(&order), Record { failures, ..Record::default() });
            desk.take(order);
        }
        // However long their pauses are.
        let now = Instant::now();
        for waiting in &mut desk.waiting {
            *waiting = std::mem::take(waiting).into_iter().map(|((_, n), order)| ((now, n), order)).collect();
        }
        desk.start_due();
        let waiting = desk.waiting.iter().flat_map(BTreeMap::values);
        let left = waiting.filter(|order| wanted.contains(&order.connection)).count();
        (desk.under_way.iter().sum::<usize>(), all - left)
    };
    assert_eq!(started(7, LastUse::Unknown, 0), (all / 2, all / 2), "of those whose last dial failed");
    assert_eq!(started(0, LastUse::Used, 1000), (all / 4 * 3, all / 4), "of those that broke");
    assert_eq!(started(0, LastUse::Served, 2000), (all, all / 4), "of those that are closed in order");
    drop(hold);
}

#[test]
fn dials_that_failed_are_not_kept_waiting_by_those_of_sound_hosts() {
    let (sound, all) = (limits::DIALS_AT_ONCE_MAX - 1, limits::DIALS_AT_ONCE_MAX);
    let busy = |under_way| Desk { under_way, ..desk(plain()) };
    assert!((0..CLASSES).all(|class| busy([sound, 0, 0]).has_place(class)));
    assert!((0..CLASSES).all(|class| !busy([all, 0, 0]).has_place(class)));
    let crowded = |class| busy([0, all / 4, all / 2]).has_place(class);
    assert!(crowded(0) && !crowded(1) && !crowded(2));
}

#[test]
fn an_outage_is_told_once_until_its_last_connection_is_back() {
    let outages = Arc::new(Outages::default());
    let desk = || Desk { under_way: [100, 0, 0], outages: outages.clone(), ..desk(plain()) };
    let back = |connection| Ended { key: (0, connection), class: 0, dialed: Ok(([127, 0, 0, 1], 9).into()) };
    let away = |connection, why: &str| Ended { key: (0, connection), class: 0, dialed: Err(why.to_owned()) };
    let open = || outages.sufferers();
    let [mut one, mut other] = [desk(), desk()];
    one.note(&away(0, "gone"));
    assert!(open().is_empty(), "before it has worked the run says itself why it cannot start");
    for desk in [&mut one, &mut other] {
        for end in [back(0), back(1), away(0, "gone"), away(0, "mute"), away(0, "gone"), away(1, "gone")] {
            desk.note(&end);
        }
    }
    assert_eq!(open(), BTreeMap::from([("gone".to_owned(), 4), ("mute".to_owned(), 2)]));
    assert!(!outages.begin("gone"), "it is told already");
    outages.end("gone");
    for desk in [&mut one, &mut other] {
        for connection in [0, 1, 1] {
            desk.note(&back(connection));
        }
    }
    assert!(open().is_empty() && outages.begin("gone"), "the next time it is told again");
}

#[test]
fn an_outage_that_lasts_is_told_again_now_and_then() {
    let outages = Outages::default();
    let pause = Duration::from_nanos(limits::OUTAGE_TOLD_EVERY_NS);
    let begun = Instant::now();
    assert!(outages.begin("gone") && !outages.begin("gone"));
    assert_eq!(outages.lasts("gone", begun + pause / 2), None);
    let later = Instant::now() + pause;
    assert!(outages.lasts("gone", later).is_some_and(|lasted| lasted >= pause));
    assert_eq!(outages.lasts("gone", later), None, "not at each attempt");
    assert!(outages.lasts("gone", later + pause).is_some_and(|lasted| lasted >= 2 * pause));
    assert_eq!(outages.lasts("mute", later + pause), None, "nobody suffers from it");
}

/// The core orders again as soon as it is answered: the desk finds both.
#[test]
fn the_end_of_a_dial_is_noted_before_the_order_that_follows_it() {
    for _ in 0..100 {
        let outages = Arc::new(Outages::default());
        let dial: DialFn = Box::new(|_| Err(failing()));
        let mut desk = Desk { under_way: [1, 0, 0], outages: outages.clone(), ..desk(dial) };
        let ((place, placed), (end, ended), (_running, stopped)) = (unbounded(), unbounded(), bounded(0));
        end.send(Ended { key: (3, 0), class: 0, dialed: Ok(([127, 0, 0, 1], 9).into()) }).unwrap();
        place.send(order(0, 9)).unwrap();
        // The desk ends with its orders.
        drop(place);
        desk.run(&placed, &ended, &stopped);
        assert_eq!((desk.records[&(3, 0)].failures, outages.down()), (1, 1), "it died young, and it is lost");
    }
}

#[test]
fn connections_are_down_from_their_loss_until_they_are_back() {
    let outages = Arc::new(Outages::default());
    // All places are taken: nothing is dialed.
    let mut desk = Desk { under_way: [limits::DIALS_AT_ONCE_MAX, 0, 0], outages: outages.clone(), ..desk(plain()) };
    let back = || Ended { key: (3, 0), class: 0, dialed: Ok(([127, 0, 0, 1], 9).into()) };
    desk.take(order(0, 9));
    assert_eq!(outages.down(), 0, "it was never there");
    desk.note(&back());
    desk.take(DialOrder { last_use: LastUse::Served, ..order(0, 9) });
    assert_eq!(outages.down(), 0, "servers close after so many requests");
    desk.note(&back());
    desk.take(DialOrder { last_use: LastUse::Used, ..order(0, 9) });
    desk.note(&Ended { key: (3, 0), class: 0, dialed: Err("gone".into()) });
    desk.take(order(0, 9));
    assert_eq!(outages.down(), 1, "once, however often it is tried");
    desk.note(&back());
    assert_eq!(outages.down(), 0);
}
