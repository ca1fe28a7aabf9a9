use super::barrier::await_go;
use super::setup::Go;
use super::*;

const START: Go = Go { epoch_ns: 7, epoch_unix_ns: 8 };

/// Cores with nothing but their threads and gates.
fn cores(threads: Vec<JoinHandle<Result<CoreEnd, Fatal>>>, gates: Vec<crossbeam_channel::Sender<Call>>) -> Cores {
    let live = threads.iter().map(|_| LiveCore::new(vec![])).collect();
    let (stop, lined_up, outages) = (Arc::default(), Arc::default(), Arc::default());
    let (ready, snapshots, recycled) = (vec![], bounded(1).1, vec![]);
    Cores { stop, threads, gates, lined_up, live, ready, snapshots, recycled, outages }
}

#[test]
fn cores_of_a_run_that_does_not_start_are_waited_for() {
    let (gate, start) = bounded::<Call>(CALLS);
    let is_home = Arc::new(AtomicBool::new(false));
    let seen = is_home.clone();
    let thread = std::thread::spawn(move || {
        assert!(start.recv().is_err(), "nobody lets it go");
        (0..1000).for_each(|_| std::thread::yield_now());
        seen.store(true, Relaxed);
        Err(Fatal::host(super::finish::SENT_HOME))
    });
    drop(cores(vec![thread], vec![gate]));
    assert!(is_home.load(Relaxed));
}

#[test]
fn all_cores_are_on_their_processors_before_they_go() {
    let mut all = cores(vec![], vec![]);
    for held_up in [false, true] {
        let (gate, start) = bounded(CALLS);
        let lined_up = all.lined_up.clone();
        all.threads.push(std::thread::spawn(move || {
            while held_up && lined_up.load(Relaxed) == 0 {
                std::thread::yield_now();
            }
            (0..1000).for_each(|_| std::thread::yield_now());
            let go = await_go(&start, &lined_up).map_err(|_| Fatal::host(super::finish::SENT_HOME))?;
            Ok(CoreEnd { ended_ns: go.epoch_ns, ..CoreEnd::default() })
        }));
        all.gates.push(gate);
        all.live.push(LiveCore::new(vec![]));
    }
    all.line_up(Duration::from_secs(60));
    assert_eq!(all.lined_up.load(Relaxed), 2);
    all.call(Call::Go(START));
    assert!(all.join().iter().all(|end| end.ended_ns == START.epoch_ns && end.ended_by.is_none()));
}

#[test]
fn a_core_that_does_not_come_holds_nobody_up_for_ever() {
    let (gate, start) = bounded(CALLS);
    let all = cores(vec![], vec![gate]);
    all.line_up(Duration::from_millis(1));
    all.call(Call::Go(START));
    let go = await_go(&start, &all.lined_up).unwrap();
    assert_eq!((go.epoch_ns, go.epoch_unix_ns), (START.epoch_ns, START.epoch_unix_ns));
}

#[test]
fn a_core_that_lined_up_goes_home_where_the_run_does_not_begin() {
    let (gate, start) = bounded(CALLS);
    gate.send(Call::LineUp).unwrap();
    drop(gate);
    let lined_up = AtomicUsize::new(0);
    assert!(await_go(&start, &lined_up).is_err() && lined_up.load(Relaxed) == 1);
}

#[test]
fn what_kept_another_core_from_starting_goes_before_a_stop() {
    let stop = Stop::default();
    assert_eq!(stop.may_start(), Ok(()));
    stop.by_user("SIGTERM");
    assert_eq!((stop.may_start(), stop.may_prepare()), (Err(dial::stopped()), Err(super::core::stopped())));
    stop.start_failed.store(true, Relaxed);
    let sent_home = Err(Fatal::host(super::finish::SENT_HOME));
    assert_eq!((stop.may_start(), stop.may_prepare()), (sent_home.clone(), sent_home));
}

#[test]
fn what_ends_a_run_before_its_start_is_told() {
    let stop = Stop::default();
    stop.because("no space is left");
    for told in [stop.may_start(), stop.may_prepare()] {
        let fatal = told.unwrap_err();
        assert!(fatal.exit == Exit::Host && fatal.what.contains("no space is left"), "{fatal}");
        assert_eq!(fatal.mend, None, "what there is, the reason says");
    }
}

#[test]
fn a_signal_stops_the_run_before_anybody_has_to_hear_of_it() {
    let stop = Arc::new(Stop::default());
    let (told, heard) = bounded(1);
    let seen = stop.clone();
    let writer = move || {
        let _only_the_first = told.try_send(seen.flag.load(Relaxed));
        std::io::sink()
    };
    let logs = tracing_subscriber::fmt().with_writer(writer).finish();
    tracing::subscriber::with_default(logs, || stop.by_user("SIGINT"));
    assert_eq!(heard.try_recv(), Ok(true));
    assert_eq!(stop.signal.get().map(String::as_str), Some("SIGINT"));
}

#[test]
fn a_signal_after_the_run_ends_the_waiting_and_no_run() {
    let stop = Stop::default();
    let (told, heard) = bounded(2);
    assert_eq!(stop.over(move || told.send(()).unwrap()), None);
    assert!(!stop.hurried.load(Relaxed));
    stop.by_user("SIGINT");
    assert!(stop.hurried.load(Relaxed) && heard.try_recv().is_ok());
    let stop = Stop::default();
    stop.by_user("SIGTERM");
    let by = stop.over(|| panic!("that signal was for the run"));
    assert!(by.as_deref() == Some("SIGTERM") && !stop.hurried.load(Relaxed));
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
