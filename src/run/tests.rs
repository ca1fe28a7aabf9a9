use super::stop::SENT_HOME;
use super::*;
use crate::base::paths::Durability;
use crate::sink::file::keeper::KeeperEnd;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::thread;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_run_that_does_not_begin_is_taken_back_in_order() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("made");
    let mut made = Made::default();
    made.folder(&folder, Durability::Cached).unwrap();
    let (gate, start) = bounded::<Call>(1);
    let (lane, of_keeper) = bounded::<()>(1);
    let (told, heard) = bounded(2);
    let (of_core, seen) = (told.clone(), folder.clone());
    let core = thread::spawn(move || {
        assert!(start.recv().is_err(), "nobody lets it go");
        (0..1000).for_each(|_| thread::yield_now());
        of_core.send(("core", seen.exists())).unwrap();
        drop(lane);
        Err(Fatal::host(SENT_HOME))
    });
    let seen = folder.clone();
    let keeper = thread::spawn(move || {
        let is_free = of_keeper.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected);
        (0..1000).for_each(|_| thread::yield_now());
        told.send(("keeper", is_free && seen.exists())).unwrap();
        KeeperEnd::default()
    });
    drop(Launched { cores: Cores::of(vec![core], vec![gate]), keeping: Keeping(vec![keeper]), made });
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [("core", true), ("keeper", true)]);
    assert!(!folder.exists());
}

#[test]
fn the_first_reason_to_end_a_run_is_told() {
    let stop = Stop::default();
    assert_eq!(why_early(&stop, &[]), None);
    stop.because("the floor of another drive");
    stop.because("the manifest");
    assert_eq!(why_early(&stop, &[]).as_deref(), Some("the floor of another drive"));
    let ends = [CoreEnd { ended_by: Some("a core".into()), ..CoreEnd::default() }];
    assert_eq!(why_early(&stop, &ends).as_deref(), Some("a core"));
}

#[test]
fn no_run_is_over_before_its_cores_whatever_the_clock_says() {
    let ends = [7, 9, 8].map(|ended_ns| CoreEnd { ended_ns, ..CoreEnd::default() });
    assert_eq!((over_ns(0, &ends), over_ns(10, &ends), over_ns(5, &[])), (9, 10, 5));
}
