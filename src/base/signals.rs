//! SIGINT, SIGTERM and SIGHUP, on a thread of their own for the rest of the process's life.

use crate::base::fatal::{Exit, Fatal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const HANG_UP: &str = "SIGHUP";
/// `timeout` sends its signal twice in a moment: one wish. Nobody's fingers are as fast.
const ONE_WISH: Duration = Duration::from_millis(50);

/// The first signal ends the process in order by `stop`, which hears its name; the second ends it at once.
///
/// # Errors
/// As [`watch`].
pub fn end_in_order(stop: impl Fn(&'static str) + Send + 'static) -> Result<(), Fatal> {
    let asked = Arc::new(AtomicBool::new(false));
    let second = asked.clone();
    watch(move |signal, before| {
        if before > 0 {
            // The next one may be meant: then the handlers end it.
            return;
        }
        if signal != HANG_UP {
            let heard = asked.clone();
            let wait = move || {
                std::thread::sleep(ONE_WISH);
                heard.store(true, Relaxed);
            };
            if std::thread::Builder::new().spawn(wait).is_err() {
                asked.store(true, Relaxed);
            }
        }
        stop(signal);
    })?;
    // In the handlers themselves, since the thread may still be busy with the first signal. After the thread's own, so
    // that no signal is lost between.
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, Exit::Failed as i32, second.clone()).map_err(unhandled)?;
    }
    Ok(())
}

/// The first signal ends the process as if nobody had handled it, so that a shell's loop ends, too; before that,
/// `last_words` hears its name. One that is ignored stays so, as SIGINT behind `&` in a script.
///
/// # Errors
/// As [`watch`].
pub fn end_at_once(last_words: impl FnOnce(&'static str) + Send + 'static) -> Result<(), Fatal> {
    let mut signals = handled([SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal)))?;
    on_a_thread(move || {
        if let Some(signal) = signals.forever().next() {
            last_words(name(signal));
            die_by(signal);
        }
    })
}

/// Ends the process as the signal does by default; a shell shows 128 and its number either way.
fn die_by(signal: i32) -> ! {
    // The kernel keeps from a container's first process what would end it.
    if !is_first_process() {
        let _ = low_level::emulate_default_handler(signal);
    }
    std::process::exit(128 + signal)
}

/// `act` hears the name of each signal, and how many of SIGINT and SIGTERM came before it. A SIGHUP is heard once, since
/// a terminal that goes away says so more than once, and then is no reason to take the SIGTERM that follows for a
/// second wish; and not at all where it is ignored (`nohup`), as it is in a container's first process.
///
/// # Errors
/// Signals cannot be handled, or the thread cannot be started.
pub fn watch(mut act: impl FnMut(&'static str, usize) + Send + 'static) -> Result<(), Fatal> {
    let hang_up = Some(SIGHUP).filter(|signal| !is_ignored(*signal));
    let mut signals = handled([SIGINT, SIGTERM].into_iter().chain(hang_up))?;
    let wait = move || {
        let (mut before, mut hung_up) = (0, false);
        for signal in signals.forever() {
            match signal {
                SIGHUP if hung_up || before > 0 => {}
                SIGHUP => {
                    hung_up = true;
                    act(HANG_UP, before);
                }
                asked => {
                    act(name(asked), before);
                    before += 1;
                }
            }
        }
    };
    on_a_thread(wait)
}

/// Handles these. Unhandled, SIGXFSZ would end the process; handled, the write that meets a file size limit fails with
/// EFBIG.
fn handled(wanted: impl IntoIterator<Item = i32>) -> Result<Signals, Fatal> {
    let signals = Signals::new(wanted).map_err(unhandled)?;
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(unhandled)?;
    Ok(signals)
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGHUP => HANG_UP,
        SIGINT => "SIGINT",
        _ => "SIGTERM",
    }
}

fn on_a_thread(wait: impl FnOnce() + Send + 'static) -> Result<(), Fatal> {
    let thread = std::thread::Builder::new().name("signals".into()).spawn(wait);
    thread.map(drop).map_err(|error| Fatal::host(format!("cannot start a thread: {error}")))
}

fn unhandled(error: io::Error) -> Fatal {
    Fatal::host(format!("cannot handle signals: {error}"))
}

/// A SIGHUP also by a container's first process, from which the kernel keeps whatever it has no handler for.
fn is_ignored(signal: i32) -> bool {
    let is_kept_away = signal == SIGHUP && is_first_process();
    is_kept_away || ignores(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), signal)
}

fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Whether a process with this `/proc/<pid>/status` ignores the signal (proc(5), `SigIgn`).
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_its_mask() {
        let status = "Name:\tengine\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        assert!(ignores(status, SIGHUP) && ignores(status, 13));
        assert!(!ignores(status, SIGINT) && !ignores(status, SIGTERM));
        assert!(!ignores("", SIGHUP) && !ignores("SigIgn:\tnonsense\n", SIGHUP));
    }
}
