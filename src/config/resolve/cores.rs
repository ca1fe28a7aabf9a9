//! Which processors the cores get, and whether one is left free.

use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::base::units::format_counted;
use crate::config::values::Wanted;
use crate::host::{Sysfs, cgroup, cpu};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    pub cpus: Vec<usize>,
    /// What this process may use besides, the best first ([`cpu::free`]).
    pub free: Vec<usize>,
    /// Whole processors that count and quota allow.
    pub whole: usize,
    pub notes: Vec<String>,
    usable: Vec<usize>,
}

/// Default: affinity ∩ cpuset ∩ quota, but one; the first processor, where interrupts tend to land, is left free. Where
/// processors are isolated for such a load ([`cpu::pool`]), all of them: others are left then. Where a quota alone is
/// the limit, every container of the host may use the same processors: each draws its own.
pub fn choose(wanted: &Wanted, sysfs: &Sysfs, errors: &mut Vec<Fatal>) -> Cores {
    let pool = cpu::pool(sysfs);
    let usable = match wanted.cores {
        Some(_) => cpu::usable_cpus(sysfs),
        None => [pool.cpus.as_slice(), pool.beside.as_slice()].concat(),
    };
    let whole = cpu::within_quota(sysfs, usable.len());
    let mut notes = Vec::new();
    if usable.is_empty() {
        errors.push(Fatal::host("/proc/self/status names no processor that this process may use").mend("mount /proc"));
    }
    let cpus = match &wanted.cores {
        Some(list) => {
            let foreign: Vec<_> = list.iter().copied().filter(|cpu| !usable.contains(cpu)).collect();
            if !foreign.is_empty() && !usable.is_empty() {
                let (asked, have) = (cpu::format_list(list), cpu::format_list(&usable));
                let missing = cpu::format_list(&foreign);
                let what = format!("--cores {asked}: this process may not use {missing} (it may use {have})");
                errors.push(Fatal::host(what).mend(format!("--cores {have}, or taskset / the container's cpuset")));
            }
            list.clone()
        }
        None => {
            let shared = whole < usable.len();
            let draw = if shared { cgroup::container_hash(sysfs) } else { 0 };
            let cpus = cpu::window(&pool.cpus, whole.saturating_sub(1).clamp(1, pool.cpus.len().max(1)), draw);
            if !pool.beside.is_empty() {
                notes.push(isolated_note(&cpus, &pool.beside));
            }
            if shared {
                notes.push(shared_note(&cpus));
            }
            cpus
        }
    };
    if let Some(quota) = cgroup::cpu_quota(sysfs).filter(|quota| *quota < cpus.len() as f64) {
        let cores = format_counted(cpus.len() as u64, "core");
        notes.push(format!("the cgroup allows {quota:.2} processors' time: {cores} will be throttled"));
    }
    let free = cpu::free(sysfs, &usable, &cpus);
    Cores { cpus, free, whole, notes, usable }
}

fn isolated_note(cpus: &[usize], beside: &[usize]) -> String {
    let (taken, rest) = (cpu::format_list(cpus), cpu::format_list(beside));
    format!("cores {taken}: isolated on this host (isolcpus); everything else runs on {rest}; --cores takes others")
}

fn shared_note(cpus: &[usize]) -> String {
    let drawn = cpu::format_list(cpus);
    format!(
        "a CPU quota below the processors it may use: cores {drawn} are drawn by this container, and other containers \
         may be on the same ones; the kubelet's static CPU manager policy gives each its own, --cores names them, for \
         comparisons too"
    )
}

impl Cores {
    /// A whole processor is left, by count and by quota.
    pub fn to_spare(&self) -> bool {
        self.cpus.len() < self.whole && !self.free.is_empty()
    }

    /// No core without a producer.
    pub fn keep(&mut self, producers: usize, explicit: bool, sysfs: &Sysfs) {
        if producers >= self.cpus.len() {
            return;
        }
        let unused = self.cpus.split_off(producers.max(1));
        if explicit {
            let (list, count) = (cpu::format_list(&unused), self.cpus.len());
            let (producers, cores) =
                (format_counted(producers as u64, "producer"), format_counted(count as u64, "core"));
            self.notes.push(format!("{producers} on {cores}; left idle: {list}"));
        }
        self.free = cpu::free(sysfs, &self.usable, &self.cpus);
    }
}

/// Producers dealt to cores round robin: core of each producer.
pub fn deal(producers: usize, cores: usize, errors: &mut Vec<Fatal>) -> Vec<usize> {
    let cores = cores.max(1);
    if producers > cores * limits::LANES_PER_CORE_MAX {
        let most = cores * limits::LANES_PER_CORE_MAX;
        let room = format_counted(cores as u64, "core");
        let what = format!("--parallel {producers}: on {room} there is room for {most} producers");
        errors.push(Fatal::usage(what).mend(format!("--parallel {most}")));
    }
    (0..producers).map(|producer| producer % cores).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Settings;
    use crate::config::values;
    use crate::host::fake::Tree;
    use std::collections::BTreeSet;

    fn host(allowed: &str, cpu_max: &str) -> Tree {
        Tree::new(&[
            ("/proc/self/status", &format!("Cpus_allowed_list:\t{allowed}\n")),
            ("/proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/cpu.max", cpu_max),
        ])
    }

    fn chosen(allowed: &str, cpu_max: &str, cores: Option<&str>) -> (Cores, Vec<Fatal>) {
        chosen_of(&host(allowed, cpu_max), cores)
    }

    fn chosen_of(tree: &Tree, cores: Option<&str>) -> (Cores, Vec<Fatal>) {
        let mut errors = Vec::new();
        let mut wanted = values::read(&Settings::default(), &mut errors);
        wanted.cores = cores.map(|text| cpu::parse_list(text).unwrap());
        (choose(&wanted, &tree.sysfs(), &mut errors), errors)
    }

    #[test]
    fn all_but_one_within_affinity_and_quota() {
        for (allowed, cpu_max, cpus, to_spare) in [
            ("0-7", "max 100000", vec![1, 2, 3, 4, 5, 6, 7], true),
            ("4-7", "max 100000", vec![5, 6, 7], true),
            ("4-7", "400000 100000", vec![5, 6, 7], true),
            ("3", "max 100000", vec![3], false),
            ("0-1", "max 100000", vec![1], true),
        ] {
            let (cores, errors) = chosen(allowed, cpu_max, None);
            assert!(errors.is_empty() && cores.notes.is_empty(), "{allowed} {cpu_max}: {:?}", cores.notes);
            assert_eq!((cores.cpus.clone(), cores.to_spare()), (cpus, to_spare), "{allowed} {cpu_max}");
        }
    }

    #[test]
    fn a_quota_alone_draws_neighbours_and_says_so() {
        for (cpu_max, count, to_spare) in [("400000 100000", 3, true), ("150000 100000", 1, false)] {
            let (cores, errors) = chosen("0-7", cpu_max, None);
            assert!(errors.is_empty());
            assert_eq!((cores.cpus.len(), cores.to_spare()), (count, to_spare), "{cpu_max}: {cores:?}");
            assert!(cores.cpus[0] > 0 && cores.cpus.windows(2).all(|pair| pair[1] == pair[0] + 1), "{cores:?}");
            assert!(cores.notes[0].contains("a CPU quota below the processors"), "{:?}", cores.notes);
        }
        let (throttled, _) = chosen("0-7", "50000 100000", None);
        assert!(throttled.cpus.len() == 1 && throttled.notes[1].contains("throttled"), "{throttled:?}");
        assert!(chosen("0-7", "400000 100000", Some("5-7")).0.notes.is_empty(), "who names cores knows");
    }

    #[test]
    fn containers_with_the_same_quota_draw_different_cores() {
        let drawn = |name: &str| {
            let tree = host("0-63", "400000 100000");
            tree.put("/proc/sys/kernel/hostname", name);
            let wanted = values::read(&Settings::default(), &mut Vec::new());
            choose(&wanted, &tree.sysfs(), &mut Vec::new()).cpus
        };
        assert_eq!(drawn("generator-0"), drawn("generator-0"));
        assert_ne!(drawn("generator-0"), drawn("generator-1"));
        let windows: BTreeSet<_> = (0..100).map(|pod| drawn(&format!("generator-{pod}"))).collect();
        assert!(windows.len() > 15, "of 21 windows a hundred pods are in {}", windows.len());
        let cpus: BTreeSet<_> = windows.iter().flatten().collect();
        assert_eq!(cpus.len(), 3 * windows.len(), "two windows have no core in common: {windows:?}");
    }

    /// 32 processors, of which the kernel keeps everybody off 1-30, as `tune-host.sh apply --boot --cores 1-30` has it.
    fn isolated(cpu_max: &str) -> Tree {
        let tree = host("0,31", cpu_max);
        tree.put("/sys/devices/system/cpu/online", "0-31\n");
        tree.put("/sys/devices/system/cpu/isolated", "1-30\n");
        tree
    }

    #[test]
    fn isolated_processors_can_be_named() {
        let (cores, errors) = chosen_of(&isolated("max 100000"), Some("1-30"));
        assert!(errors.is_empty() && cores.notes.is_empty(), "{errors:?} {:?}", cores.notes);
        assert_eq!((cpu::format_list(&cores.cpus).as_str(), cores.free.as_slice()), ("1-30", &[0, 31][..]));
        assert!(cores.to_spare());
        // Helpers stay off those that nobody asked for.
        assert_eq!(chosen_of(&isolated("max 100000"), Some("4-7")).0.free, [0, 31]);
        assert_eq!(cpu::format_list(&chosen_of(&isolated("max 100000"), Some("0,31")).0.free), "1-30");
        let (_, errors) = chosen_of(&isolated("max 100000"), Some("30-32"));
        assert!(errors[0].what.contains("may not use 32 (it may use 0-31)"), "{}", errors[0]);
    }

    #[test]
    fn isolated_processors_are_taken_first_and_all_of_them() {
        let tree = isolated("max 100000");
        let (mut cores, errors) = chosen_of(&tree, None);
        assert!(errors.is_empty() && cores.to_spare(), "{errors:?}");
        assert_eq!((cpu::format_list(&cores.cpus).as_str(), cores.free.as_slice()), ("1-30", &[0, 31][..]));
        assert!(cores.notes[0].contains("cores 1-30") && cores.notes[0].contains("runs on 0,31"), "{:?}", cores.notes);
        cores.keep(2, false, &tree.sysfs());
        assert_eq!((cores.cpus.as_slice(), cores.free.as_slice()), (&[1, 2][..], &[0, 31][..]));
        let (drawn, _) = chosen_of(&isolated("400000 100000"), None);
        assert!(drawn.cpus.len() == 3 && drawn.cpus.iter().all(|cpu| (2..=30).contains(cpu)), "{drawn:?}");
        assert_eq!((drawn.free.as_slice(), drawn.to_spare()), (&[0, 31][..], true));
    }

    #[test]
    fn a_few_isolated_processors_do_not_shrink_a_container() {
        let some_isolated = |allowed: &str, isolated: &str, cpu_max: &str| {
            let tree = host(allowed, cpu_max);
            tree.put("/sys/devices/system/cpu/online", "0-31\n");
            tree.put("/sys/devices/system/cpu/isolated", isolated);
            tree
        };
        // docker --cpuset-cpus=0-7 where 7 is isolated.
        let (cores, _) = chosen_of(&some_isolated("0-7", "7", "max 100000"), None);
        assert_eq!(cpu::format_list(&cores.cpus), "1-7");
        let tree = some_isolated("0-31", "30,31", "400000 100000");
        let drawn: BTreeSet<_> = (0..100)
            .map(|pod| {
                tree.put("/proc/sys/kernel/hostname", &format!("generator-{pod}"));
                chosen_of(&tree, None).0.cpus
            })
            .collect();
        assert!(drawn.len() > 5, "all pods are on {drawn:?}");
    }

    #[test]
    fn helpers_leave_siblings_of_the_cores_alone_and_stay_on_their_node() {
        let tree = host("0-127", "max 100000");
        tree.put_two_sockets();
        let free = |cores: &str| cpu::format_list(&chosen_of(&tree, Some(cores)).0.free);
        assert_eq!(free("0-30"), "31,95,32-63,96-127");
        assert_eq!(free("33-63"), "32,96,0-31,64-95");
        assert_eq!(free("0-63"), "64-127", "nothing but siblings is left");
        let (mut cores, _) = chosen_of(&tree, Some("33-63"));
        cores.keep(1, true, &tree.sysfs());
        assert_eq!(cpu::format_list(&cores.free), "32,34-63,96,98-127,0-31,64-95");
    }

    #[test]
    fn a_list_must_be_usable() {
        let (cores, errors) = chosen("0-3", "max 100000", Some("0-3"));
        assert!(errors.is_empty() && !cores.to_spare() && cores.free.is_empty());
        let (_, errors) = chosen("0-3", "max 100000", Some("2-5"));
        assert!(errors[0].what.contains("4-5"), "{}", errors[0]);
    }

    #[test]
    fn fewer_producers_need_fewer_cores() {
        let tree = host("0-7", "max 100000");
        let (mut cores, _) = chosen_of(&tree, Some("1-4"));
        cores.keep(2, true, &tree.sysfs());
        assert_eq!((cores.cpus.as_slice(), cores.free.as_slice()), (&[1, 2][..], &[0, 3, 4, 5, 6, 7][..]));
        assert_eq!(cores.notes.len(), 1);
        assert!(cores.to_spare());
        let tree = host("0-7", "100000 100000");
        let (mut throttled, _) = chosen_of(&tree, Some("1-4"));
        throttled.keep(1, true, &tree.sysfs());
        assert!(!throttled.to_spare(), "the quota leaves no processor, however many are idle");
        assert_eq!(deal(5, 2, &mut Vec::new()), [0, 1, 0, 1, 0]);
        let mut errors = Vec::new();
        deal(1025, 1, &mut errors);
        assert_eq!(errors.len(), 1);
    }
}
