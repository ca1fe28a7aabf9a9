//! What ends a run, or keeps it from beginning.

use crate::base::fatal::{Exit, Fatal};
use crate::connect::dial;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

/// What a core says that was ready when another one failed.
pub const SENT_HOME: &str = "another core could not start";

/// The one flag that ends a run in order, and the first reason that somebody gave.
#[derive(Default)]
pub struct Stop {
    pub flag: AtomicBool,
    /// A core could not get ready: the run will not begin.
    start_failed: AtomicBool,
    reason: Mutex<Option<String>>,
    /// The user's.
    signal: OnceLock<String>,
    /// What a signal does once the run itself is over.
    afterwards: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// One came then: nobody is waited for any longer.
    hurried: AtomicBool,
}

impl Stop {
    /// The user ended the run with a signal: no fault, but worth a line.
    pub fn by_user(&self, signal: &str) {
        let _only_the_first = self.signal.set(signal.to_owned());
        let afterwards = self.afterwards.lock().expect("nobody panics holding it");
        // Under the lock: what ends the run does not end what comes after it, too.
        self.flag.store(true, Relaxed);
        if let Some(act) = &*afterwards {
            self.hurried.store(true, Relaxed);
            act();
        }
        drop(afterwards);
        // Last: whoever reads the log may take his time.
        tracing::info!(event = "stopping", signal, "{signal}: stopping in order; a second signal ends at once");
    }

    /// Ends the run in order, for this reason if it is the first one.
    pub fn because(&self, why: &str) {
        self.reason.lock().expect("nobody panics holding it").get_or_insert_with(|| why.to_owned());
        self.flag.store(true, Relaxed);
    }

    /// A core cannot get ready: the run will not begin.
    pub fn fail_start(&self) {
        self.start_failed.store(true, Relaxed);
    }

    /// The others would go on without it.
    pub fn core_crashed(&self) {
        // To those that are not under way yet it is no wish of the user's.
        self.fail_start();
        self.because("a core crashed; please report this");
    }

    /// For a core that waits for its target: why the run will not begin, if it will not.
    pub fn may_start(&self) -> Result<(), Fatal> {
        self.unless_over(dial::stopped)
    }

    /// The same for a core that makes its payload or its files.
    pub fn may_prepare(&self) -> Result<(), Fatal> {
        self.unless_over(stopped)
    }

    /// The same for others; `stopped` is what a signal comes to.
    pub fn unless_over(&self, stopped: fn() -> Fatal) -> Result<(), Fatal> {
        // That core has the reason to tell.
        if self.start_failed.load(Relaxed) {
            return Err(Fatal::host(SENT_HOME));
        }
        if !self.flag.load(Relaxed) {
            return Ok(());
        }
        // Only a signal comes without a reason.
        Err(self.reason().map_or_else(stopped, |why| ended_before_start(&why)))
    }

    /// The user has said so, whatever else has come to pass.
    pub fn is_by_user(&self) -> bool {
        self.signal.get().is_some()
    }

    /// The run itself is over, by this signal if one came before; from now on one calls `act`.
    pub fn over(&self, act: impl Fn() + Send + 'static) -> Option<String> {
        let mut afterwards = self.afterwards.lock().expect("nobody panics holding it");
        *afterwards = Some(Box::new(act));
        self.signal.get().cloned()
    }

    /// A signal came after that: nobody is waited for any longer.
    pub fn is_hurried(&self) -> bool {
        self.hurried.load(Relaxed)
    }

    /// The first one that was given, but for the user's.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().expect("nobody panics holding it").clone()
    }
}

fn ended_before_start(why: &str) -> Fatal {
    Fatal::host(format!("{why}: nothing was sent"))
}

/// A signal came while a core prepared itself.
fn stopped() -> Fatal {
    Fatal::new(Exit::Unreachable, "stopped while the run was being prepared: nothing was sent")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;
    use std::sync::Arc;

    #[test]
    fn what_kept_another_core_from_starting_goes_before_a_stop() {
        let stop = Stop::default();
        assert_eq!(stop.may_start(), Ok(()));
        stop.by_user("SIGTERM");
        assert_eq!((stop.may_start(), stop.may_prepare()), (Err(dial::stopped()), Err(stopped())));
        stop.fail_start();
        let sent_home = Err(Fatal::host(SENT_HOME));
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
        assert!(stop.is_by_user());
        assert_eq!(stop.signal.get().map(String::as_str), Some("SIGINT"));
    }

    #[test]
    fn a_signal_after_the_run_ends_the_waiting_and_no_run() {
        let stop = Stop::default();
        let (told, heard) = bounded(2);
        assert_eq!(stop.over(move || told.send(()).unwrap()), None);
        assert!(!stop.is_hurried());
        stop.by_user("SIGINT");
        assert!(stop.is_hurried() && heard.try_recv().is_ok());
        let stop = Stop::default();
        stop.by_user("SIGTERM");
        let by = stop.over(|| panic!("that signal was for the run"));
        assert!(by.as_deref() == Some("SIGTERM") && !stop.is_hurried());
    }
}
