//! How threads of this process start, where they run, and who hears of it when one crashes.

use super::process::{pin, set_affinity};
use crate::base::fatal::Fatal;
use std::thread::{Builder, JoinHandle};

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
    spawned.map_err(|error| Fatal::host(format!("cannot start {what}: {error}")).mend("raise ulimit -u"))
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
