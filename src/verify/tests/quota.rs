//! Topics behind a quota: a broker that throttles answers without records, and then reads nothing for as long as it says.

use super::topics::{FETCH, dealt};
use super::*;
use crate::connect::kafka::testing::{Asked, Fake, body, client};
use crate::connect::kafka::{Cluster, Dial};
use kafka_protocol::messages::FetchResponse;
use std::time::Duration;

/// What the broker does with its fetches.
#[derive(Clone, Copy)]
enum Turn {
    Answer,
    /// There is nothing, as before an election is known.
    Nothing,
    Throttle(i32),
}

/// Reads 30 records with that patience; `turn`: by the number of a fetch on its connection.
fn read_held_back(patience: Duration, turn: fn(usize) -> Turn) -> Findings {
    let cluster = || {
        let dial: Dial<Fake> = Box::new(move |_, _, _| {
            let log = dealt(30, 2);
            let mut empty = log.clone();
            empty.partitions.iter_mut().flatten().for_each(|(.., batch)| batch.clear());
            let (mut fetches, mut silent_until) = (0, Instant::now());
            Ok(Fake::new(move |asked: &Asked| {
                assert!(Instant::now() >= silent_until, "a request to a broker that reads nothing yet");
                if asked.key != FETCH {
                    return Some(log.answer("t", asked));
                }
                fetches += 1;
                Some(match turn(fetches) {
                    Turn::Answer => log.answer("t", asked),
                    Turn::Nothing => empty.answer("t", asked),
                    Turn::Throttle(ms) => {
                        silent_until = Instant::now() + Duration::from_millis(ms as u64);
                        body(&FetchResponse::default().with_throttle_time_ms(ms), asked.version)
                    }
                })
            }))
        });
        Cluster::new(vec![("boot".to_owned(), 1)], client(), dial)
    };
    let (args, progress) = (VerifyArgs::default(), ReadProgress::default());
    let mut session = Session::new(&args, &progress).unwrap();
    session.read_topic(&cluster, "t", patience).unwrap();
    session.finish("kafka://boot:1/t", Instant::now())
}

#[test]
fn a_quota_makes_it_slower_and_finds_nothing() {
    let turn = |fetch| if fetch % 2 == 1 { Turn::Throttle(20) } else { Turn::Answer };
    assert_clean(&read_held_back(Duration::from_secs(5), turn), 30);
}

/// Else it would be said that the broker gives nothing, or that all of a compacted topic is gone.
#[test]
fn silence_that_a_broker_announced_is_none_of_its_time() {
    let turn = |fetch| match fetch {
        1 => Turn::Throttle(1600),
        2 => Turn::Nothing,
        _ => Turn::Answer,
    };
    assert_clean(&read_held_back(Duration::from_millis(1500), turn), 30);
}
