//! How busy others keep the cores of the load, just now.

use super::{Finding, Look, few};
use crate::base::program;
use crate::host::cpu::{format_list, usable_cpus};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

const ITEM: &str = "cpu.load";
const WATCHED: Duration = Duration::from_millis(200);
const BUSY_PERCENT_MAX: u64 = 20;
/// Behind `user` in a line of `/proc/stat`.
const IDLE: usize = 3;
const IOWAIT: usize = 4;
/// `guest` and `guest_nice` are in `user` and `nice` already.
const COUNTED: usize = 8;

/// `None` on a host that was recorded: nothing moves there.
pub fn examine(look: &Look) -> Option<Finding> {
    if !look.sysfs.is_live() {
        return None;
    }
    let before = look.sysfs.text("/proc/stat").unwrap_or_default();
    thread::sleep(WATCHED);
    let after = look.sysfs.text("/proc/stat").unwrap_or_default();
    Some(judge(look, &busy_percent(&before, &after)))
}

/// Ticks of each processor since boot: busy, and all of them.
fn ticks(stat: &str) -> BTreeMap<usize, (u64, u64)> {
    let of_line = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let counts: Vec<u64> = rest.split_whitespace().take(COUNTED).map_while(|count| count.parse().ok()).collect();
        let all = counts.iter().sum::<u64>();
        let idle = counts.get(IDLE)? + counts.get(IOWAIT)?;
        Some((name.strip_prefix("cpu")?.parse::<usize>().ok()?, (all - idle, all)))
    };
    stat.lines().filter_map(of_line).collect()
}

/// Of the processors whose clock ticked between the two readings.
fn busy_percent(before: &str, after: &str) -> BTreeMap<usize, u64> {
    let before = ticks(before);
    let since = |(cpu, (busy, all)): (usize, (u64, u64))| {
        let (busy_then, all_then) = before.get(&cpu)?;
        let passed = all.checked_sub(*all_then).filter(|passed| *passed > 0)?;
        Some((cpu, (busy.saturating_sub(*busy_then) * 100 / passed).min(100)))
    };
    ticks(after).into_iter().filter_map(since).collect()
}

/// What a run saw of its own cores while they got ready, in percent of the time that they did not get; `None`: nothing.
pub fn seen(percent: &BTreeMap<usize, u64>) -> Option<Finding> {
    let shares = busiest_first(percent.iter().map(|(cpu, share)| (*share, *cpu)));
    let busiest = shares.first()?.1;
    let calm = format!("{} shows which cores are calm", program::command("doctor"));
    Some(taken(&shares).fix(calm).fix(who_runs_on(busiest)))
}

fn busiest_first(shares: impl Iterator<Item = (u64, usize)>) -> Vec<(u64, usize)> {
    let mut shares: Vec<_> = shares.collect();
    shares.sort_unstable_by_key(|(share, cpu)| (Reverse(*share), *cpu));
    shares
}

fn taken(shares: &[(u64, usize)]) -> Finding {
    let busy: Vec<_> = shares.iter().filter(|(share, _)| *share > BUSY_PERCENT_MAX).collect();
    if busy.is_empty() {
        let most = shares.first().map_or(0, |(share, _)| *share);
        return Finding::fine(ITEM, format!("others take at most {most} % of a core just now"));
    }
    let taken = few(busy.iter().map(|(share, cpu)| format!("{share} % of core {cpu}")), ", ", "and some of");
    Finding::hint_unless(false, ITEM, format!("others take {taken} just now"))
}

fn who_runs_on(cpu: usize) -> String {
    format!("ps -eLo psr,pcpu,pid,comm --sort=-pcpu | awk '$1 == {cpu}' | head shows who it is")
}

fn judge(look: &Look, percent: &BTreeMap<usize, u64>) -> Finding {
    let cores = &look.scope.cores;
    let shares = busiest_first(cores.iter().filter_map(|cpu| Some((*percent.get(cpu)?, *cpu))));
    let Some((_, busiest)) = shares.first().copied() else {
        return Finding::unknown(ITEM, "/proc/stat does not say how busy the cores are");
    };
    let finding = taken(&shares);
    let calm = |cpu: &usize| percent.get(cpu).is_some_and(|share| *share <= BUSY_PERCENT_MAX);
    let usable = usable_cpus(look.sysfs);
    let other = usable.iter().filter(|cpu| !cores.contains(cpu));
    let mut instead: Vec<usize> = cores.iter().chain(other).copied().filter(calm).take(cores.len()).collect();
    instead.sort_unstable();
    let finding = if instead.is_empty() { finding } else { finding.fix(format!("--cores {}", format_list(&instead))) };
    finding.fix(who_runs_on(busiest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::{Scope, Verdict};
    use crate::host::fake::Tree;

    const BEFORE: &str = "cpu  9 9 9 9 9 9 9 9 0 0\n\
                          cpu0 100 0 50 800 50 0 0 0 0 0\n\
                          cpu1 100 0 50 800 50 0 0 0 90 0\n\
                          cpu2 100 0 50 800 50 0 0 0 0 0\n\
                          cpu3 7 0 0 7 0 0 0 0 0 0\n\
                          intr 1 2 3\n";
    const AFTER: &str = "cpu  9 9 9 9 9 9 9 9 0 0\n\
                         cpu0 101 0 50 819 50 0 0 0 0 0\n\
                         cpu1 110 1 53 803 52 0 0 1 99 0\n\
                         cpu2 100 0 50 815 55 0 0 0 0 0\n\
                         cpu3 7 0 0 7 0 0 0 0 0 0\n";

    fn judged(cores: &[usize]) -> Finding {
        let tree = Tree::new(&[("/proc/self/status", "Cpus_allowed_list:\t0-3")]);
        let (sysfs, scope) = (tree.sysfs(), Scope { cores: cores.to_vec(), ..Scope::default() });
        judge(&Look { sysfs: &sysfs, scope: &scope }, &busy_percent(BEFORE, AFTER))
    }

    #[test]
    fn shares_are_of_what_passed_between_two_readings() {
        let all: Vec<_> = busy_percent(BEFORE, AFTER).into_iter().collect();
        assert_eq!(all, [(0, 5), (1, 75), (2, 0)], "iowait is idle, steal is not, guests count once");
    }

    #[test]
    fn a_core_that_others_keep_busy_is_left_for_a_calm_one() {
        let calm = judged(&[0, 2]);
        assert_eq!((calm.verdict, calm.value.as_str()), (Verdict::Fine, "others take at most 5 % of a core just now"));
        let busy = judged(&[1, 2]);
        assert_eq!((busy.verdict, busy.value.as_str()), (Verdict::Hint, "others take 75 % of core 1 just now"));
        assert_eq!(busy.fix[0], "--cores 0,2");
        assert!(busy.fix[1].contains("'$1 == 1'"), "{busy:?}");
        assert_eq!(judged(&[3]).verdict, Verdict::Unknown, "it did not tick");
    }

    #[test]
    fn what_a_run_saw_of_its_cores_is_judged_alike() {
        let seen = |all: &[(usize, u64)]| seen(&all.iter().copied().collect());
        assert_eq!(seen(&[]), None);
        let calm = seen(&[(0, 3), (1, 20)]).unwrap();
        assert_eq!((calm.verdict, calm.value.as_str()), (Verdict::Fine, "others take at most 20 % of a core just now"));
        let busy = seen(&[(0, 21), (1, 48)]).unwrap();
        let value = "others take 48 % of core 1, 21 % of core 0 just now";
        assert_eq!((busy.verdict, busy.value.as_str()), (Verdict::Hint, value));
        assert!(busy.fix[0].contains("doctor") && busy.fix[1].contains("'$1 == 1'"), "{busy:?}");
    }

    #[test]
    fn what_was_recorded_does_not_move() {
        let tree = Tree::new(&[("/proc/stat", BEFORE)]);
        let (sysfs, scope) = (tree.sysfs(), Scope { cores: vec![0], ..Scope::default() });
        assert_eq!(examine(&Look { sysfs: &sysfs, scope: &scope }), None);
    }
}
