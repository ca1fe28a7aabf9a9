//! Facts and settings of this process and its threads.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Lets this thread's timers fire on time instead of up to 50 µs late.
pub fn set_precise_timers() {
    // SAFETY: integers only; affects the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Asks a child that has not been waited for to end in order.
pub fn terminate(child: &std::process::Child) {
    // SAFETY: numbers only. The process number is still the child's, since nobody has waited for it: that the caller
    // has to know, for a borrowed `Child` may have been waited for and keeps its number.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
}

/// Has the command's process asked to end in order once the calling thread, which is to spawn it, has ended in whatever
/// way (prctl(2), `PR_SET_PDEATHSIG`). A program with file capabilities loses the wish when it begins.
pub fn end_with_this_thread(command: &mut Command) {
    let parent = std::process::id() as libc::pid_t;
    let tie = move || {
        // The parent's handler, which stays until the program starts, would swallow the signal.
        // SAFETY: integers only; they affect the process that makes the calls, which is the child alone.
        unsafe {
            libc::signal(libc::SIGTERM, libc::SIG_DFL);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong);
        }
        // SAFETY: no arguments, and it cannot fail.
        let parent_lives = unsafe { libc::getppid() } == parent;
        // One that ended before the calls sends no signal.
        if parent_lives { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    };
    // SAFETY: between fork and exec `tie` makes three system calls and wraps a number: it neither allocates nor takes
    // a lock that a thread of the parent may have held.
    unsafe { command.pre_exec(tie) };
}

/// User and system time that the whole process has used.
pub fn cpu_times() -> (Duration, Duration) {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the struct, for which all zeros is a valid value as well.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    (time(usage.ru_utime), time(usage.ru_stime))
}

/// User and system time of the calling thread.
pub fn thread_cpu_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one struct on this stack.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Raises the soft limit of open files to the hard one; the new soft limit.
pub fn raise_open_files() -> u64 {
    let limit = open_files();
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: one struct on this stack, read by the call.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0;
    if raised { wanted.rlim_cur } else { limit.rlim_cur }
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    // SAFETY: no arguments, and it cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The soft limit of open files.
pub fn open_files_max() -> u64 {
    open_files().rlim_cur
}

fn open_files() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: one struct on this stack, written by the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit
}

/// Lets the calling thread run on this processor only; false: the kernel refused.
pub fn pin(cpu: usize) -> bool {
    // Beyond what the C library's set has room for, `core_affinity` panics.
    let room = 8 * size_of::<libc::cpu_set_t>();
    if cpu < room { core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) } else { set_affinity(&[cpu]) }
}

/// Lets the calling thread run on these processors only, whatever their numbers; false: the kernel refused.
pub fn set_affinity(cpus: &[usize]) -> bool {
    const BITS: usize = libc::c_ulong::BITS as usize;
    let highest = cpus.iter().copied().max().unwrap_or(0);
    let mut set: Vec<libc::c_ulong> = vec![0; highest / BITS + 1];
    for cpu in cpus {
        set[cpu / BITS] |= 1 << (cpu % BITS);
    }
    // SAFETY: the kernel reads as many bytes as it is told, all of them in `set`, and during the call only.
    unsafe { libc::sched_setaffinity(0, size_of_val(set.as_slice()), set.as_ptr().cast()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_of_any_number_can_be_asked_for() {
        let usable = core_affinity::get_core_ids().unwrap()[0].id;
        // On a thread that nobody needs afterwards.
        let pinned = move || {
            let refused = [set_affinity(&[]), set_affinity(&[5000]), pin(5000)];
            (refused, [set_affinity(&[5000, usable]), pin(usable)])
        };
        assert_eq!(std::thread::spawn(pinned).join().unwrap(), ([false; 3], [true; 2]));
    }
}
