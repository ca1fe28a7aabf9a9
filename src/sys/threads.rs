//! How threads of this process start, where they run, and who hears of it when one crashes.

use super::process::{pin, set_affinity};
use crate::base::fatal::Fatal;
use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Starts a thread that runs on these processors (none: anywhere), if the kernel lets it: elsewhere it still works.
/// `what` it is, for the user.
///
/// # Errors
/// Exit 3 where no thread can be had.
pub fn start<T: Send + 'static>(
    name: impl Into<String>,
    cpus: &[usize],
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Fatal> {
    let cpus = cpus.to_vec();
    let spawned = Builder::new().name(name.into()).spawn(move || {
        if !cpus.is_empty() {
            set_affinity(&cpus);
        }
        work()
    });
    spawned.map_err(|error| refused(what, &error))
}

/// Starts a thread that ends with a scope.
///
/// # Errors
/// Exit 3 where no thread can be had.
pub fn start_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: impl Into<String>,
    what: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Fatal> {
    Builder::new().name(name.into()).spawn_scoped(scope, work).map_err(|error| refused(what, &error))
}

fn refused(what: &str, error: &io::Error) -> Fatal {
    Fatal::host(format!("cannot start {what}: {error}")).mend("raise ulimit -u")
}

/// Starts a thread for each of `works`, or as many as can be had: with fewer it takes longer.
///
/// # Errors
/// Where not even the first one can be had.
pub fn start_some<W, T>(
    works: impl IntoIterator<Item = W>,
    start: impl FnMut(W) -> Result<T, Fatal>,
) -> Result<Vec<T>, Fatal> {
    let mut started = works.into_iter().map(start);
    let first = started.next().transpose()?;
    Ok(first.into_iter().chain(started.map_while(Result::ok)).collect())
}

/// Lets the calling thread run on this processor only.
///
/// # Errors
/// Exit 3 where the kernel refuses.
pub fn pin_or_refuse(cpu: usize) -> Result<(), Fatal> {
    if pin(cpu) {
        return Ok(());
    }
    Err(Fatal::host(format!("cannot pin a thread to processor {cpu}"))
        .mend("name processors that this process may use: --cores, see `taskset -p $$`"))
}

/// Acts when a panic drops it: that of the thread which keeps it to its end.
pub struct OnPanic<F: Fn()>(pub F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_on_with_the_threads_that_can_be_had() {
        let start = |at: u32, most: u32| (at < most).then_some(at).ok_or_else(|| Fatal::host(at.to_string()));
        let of = |most| start_some(0..5, |at| start(at, most));
        assert_eq!(of(9), Ok(vec![0, 1, 2, 3, 4]));
        assert_eq!(of(2), Ok(vec![0, 1]));
        assert_eq!(of(0), Err(Fatal::host("0")), "and nothing is tried after it");
        assert_eq!(start_some(0..0_u32, Ok), Ok(Vec::new()));
    }
}
