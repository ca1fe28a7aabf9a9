//! Processors: clock, sleep, siblings, isolation.

use super::{Finding, Look, Verdict, boot, few};
use crate::host::cpu::{format_list, online_cpus, parse_list, siblings, usable_cpus};

/// A state that takes longer to leave than this is felt in latencies.
const WAKE_US_MAX: u64 = 20;
/// The processor that booted: it keeps the time, and so its tick, whatever `nohz_full=` says.
const TIMEKEEPER: usize = 0;
const ISOLCPUS_FLAGS: &[&str] = &["managed_irq", "domain", "nohz"];
/// What the kernel falls back to when the processor's own counter cannot be trusted.
const CLOCKS_OF_LAST_RESORT: &[&str] = &["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"];

pub fn examine(look: &Look) -> Vec<Finding> {
    vec![clock_source(look), governor(look), idle_states(look), smt(look), isolation(look)]
}

/// Of the processors that were asked for those that this host has, awake or not; without any what is advised in their
/// place. No advice is about what is not there.
pub fn there(look: &Look) -> Vec<usize> {
    let asked = &look.scope.cores;
    let Some(present) = present(look) else { return asked.clone() };
    let there: Vec<_> = asked.iter().copied().filter(|cpu| present.contains(cpu)).collect();
    if there.is_empty() && !asked.is_empty() { advised(asked, &usable_cpus(look.sysfs)) } else { there }
}

fn present(look: &Look) -> Option<Vec<usize>> {
    look.sysfs.text("/sys/devices/system/cpu/present").and_then(|text| parse_list(&text).ok())
}

/// Those that may be used, or else all but one, as a run by itself would take them.
fn advised(asked: &[usize], usable: &[usize]) -> Vec<usize> {
    let both: Vec<_> = usable.iter().copied().filter(|cpu| asked.contains(cpu)).collect();
    match usable {
        _ if !both.is_empty() => both,
        [_, rest @ ..] if !rest.is_empty() => rest.to_vec(),
        all => all.to_vec(),
    }
}

pub fn cores(look: &Look) -> Finding {
    const ITEM: &str = "cpu.cores";
    let (usable, online) = (usable_cpus(look.sysfs), online_cpus(look.sysfs));
    let list = look.cores_list();
    if usable.is_empty() {
        return Finding::unknown(ITEM, "/proc/self/status names no processor that this process may use");
    }
    let foreign: Vec<_> = look.scope.cores.iter().copied().filter(|cpu| !usable.contains(cpu)).collect();
    if foreign.is_empty() {
        return Finding::fine(ITEM, format!("{list} of {} that this process may use", format_list(&usable)));
    }
    let present = present(look);
    let is_there = |cpu: &usize| present.as_ref().is_none_or(|present| present.contains(cpu));
    let only = present.as_ref().filter(|_| !foreign.iter().all(is_there));
    let only = only.map(|present| format!("; this host has only {}", format_list(present))).unwrap_or_default();
    let value = format!("{list}: this process may not use {}{only}", format_list(&foreign));
    let instead = format_list(&advised(&look.scope.cores, &usable));
    let finding = Finding::new(ITEM, Verdict::Fatal, value).fix(format!("--cores {instead}"));
    let asleep = foreign.iter().filter(|&cpu| is_there(cpu) && !online.contains(cpu));
    match asleep.map(usize::to_string).collect::<Vec<_>>().as_slice() {
        [] => finding,
        [cpu] => finding.fix(format!("echo 1 > /sys/devices/system/cpu/cpu{cpu}/online")),
        cpus => finding
            .fix(format!("for cpu in {}; do echo 1 > /sys/devices/system/cpu/cpu$cpu/online; done", cpus.join(" "))),
    }
}

fn clock_source(look: &Look) -> Finding {
    const ITEM: &str = "cpu.clock_source";
    let at = "/sys/devices/system/clocksource/clocksource0";
    let Some(now) = look.sysfs.text(format!("{at}/current_clocksource")) else {
        return Finding::unknown(ITEM, format!("{at}/current_clocksource cannot be read"));
    };
    if !CLOCKS_OF_LAST_RESORT.contains(&now.as_str()) {
        return Finding::fine(ITEM, now);
    }
    let available = look.sysfs.text(format!("{at}/available_clocksource")).unwrap_or_default();
    if available.split(' ').any(|name| name == "tsc") {
        let finding = Finding::new(ITEM, Verdict::Hint, format!("{now}, though tsc is available"));
        return finding.fix(format!("echo tsc > {at}/current_clocksource"));
    }
    let value = format!("{now}; the kernel has marked tsc unstable (dmesg | grep -i tsc)");
    let reliable = boot::add(look.sysfs, "tsc=reliable");
    Finding::new(ITEM, Verdict::Fatal, value)
        .fix(reliable)
        .fix("another host, if dmesg names anything but a watchdog that was late")
}

/// The distinct values of a file of each core, with the cores that have them.
fn by_value(look: &Look, file: &str) -> Vec<(String, Vec<usize>)> {
    let mut found: Vec<(String, Vec<usize>)> = Vec::new();
    for &cpu in &look.scope.cores {
        let Some(text) = look.sysfs.text(format!("/sys/devices/system/cpu/cpu{cpu}/{file}")) else { continue };
        match found.iter_mut().find(|(value, _)| *value == text) {
            Some((_, cpus)) => cpus.push(cpu),
            None => found.push((text, vec![cpu])),
        }
    }
    found
}

fn governor(look: &Look) -> Finding {
    const ITEM: &str = "cpu.governor";
    let values = by_value(look, "cpufreq/scaling_governor");
    if values.is_empty() {
        let who = "cpufreq shows no governor (in a virtual machine the host decides)";
        return Finding::unknown(ITEM, who);
    }
    let shown: Vec<_> = values.iter().map(|(value, cpus)| format!("{value} on {}", format_list(cpus))).collect();
    let good = values.iter().all(|(value, _)| value == "performance");
    let list = look.cores_list();
    Finding::hint_unless(good, ITEM, shown.join(", "))
        .fix(format!("scripts/tune-host.sh apply --cores {list}"))
        .fix(format!("cpupower -c {list} frequency-set -g performance"))
}

fn idle_states(look: &Look) -> Finding {
    const ITEM: &str = "cpu.idle_states";
    let mut deepest: Option<(u64, String, Vec<usize>)> = None;
    let mut told = false;
    for &cpu in &look.scope.cores {
        let at = format!("/sys/devices/system/cpu/cpu{cpu}/cpuidle");
        for state in look.sysfs.names(&at) {
            let Some(us) = look.sysfs.number(format!("{at}/{state}/latency")) else { continue };
            told = true;
            if us <= WAKE_US_MAX || look.sysfs.number(format!("{at}/{state}/disable")) == Some(1) {
                continue;
            }
            let name = look.sysfs.text(format!("{at}/{state}/name")).unwrap_or(state);
            match &mut deepest {
                Some((most, _, cpus)) if *most == us => cpus.push(cpu),
                Some((most, ..)) if *most > us => {}
                _ => deepest = Some((us, name, vec![cpu])),
            }
        }
    }
    match deepest {
        None if told => Finding::fine(ITEM, format!("none that takes over {WAKE_US_MAX} µs to leave")),
        None => Finding::unknown(ITEM, "cpuidle shows no states (in a virtual machine the host decides)"),
        Some((us, name, mut cpus)) => {
            cpus.dedup();
            let value = format!("{name} on {} takes {us} µs to leave", format_list(&cpus));
            Finding::new(ITEM, Verdict::Hint, value)
                .fix(format!("cpupower -c {} idle-set -D {WAKE_US_MAX}", look.cores_list()))
        }
    }
}

fn smt(look: &Look) -> Finding {
    const ITEM: &str = "cpu.smt";
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &cpu in &look.scope.cores {
        let group = match siblings(look.sysfs, cpu) {
            Ok(group) => group,
            Err(why) => return Finding::unknown(ITEM, why),
        };
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        return Finding::unknown(ITEM, "no core is known");
    }
    let chosen = |group: &Vec<usize>| group.iter().filter(|cpu| look.scope.cores.contains(cpu)).count();
    let shared: Vec<_> = groups.iter().filter(|group| chosen(group) > 1).map(|group| format_list(group)).collect();
    if shared.is_empty() {
        let single = groups.iter().all(|group| group.len() == 1);
        let value = if single { "no siblings" } else { "one thread of each core; leave its sibling idle" };
        return Finding::fine(ITEM, value);
    }
    let first = |group: &Vec<usize>| group.iter().copied().find(|cpu| look.scope.cores.contains(cpu));
    let mut one_each: Vec<_> = groups.iter().filter_map(first).collect();
    one_each.sort_unstable();
    let pairs = few(shared.iter().map(|pair| format!("({pair})")), " ", "and");
    Finding::new(ITEM, Verdict::Hint, format!("{} share a core: {pairs}", look.cores_list()))
        .fix(format!("--cores {}", format_list(&one_each)))
}

/// A list on the kernel's command line: behind flags (`isolcpus=managed_irq,domain,1-7`), and with words that the
/// kernel knows, `all` and `N` for the last processor.
fn listed(look: &Look, value: &str) -> Option<Vec<usize>> {
    let parts: Vec<_> = value.split(',').filter(|part| !ISOLCPUS_FLAGS.contains(part)).collect();
    let list = parts.join(",").to_ascii_lowercase().replace("all", "0-n");
    let last = present(look).unwrap_or_else(|| online_cpus(look.sysfs)).into_iter().max();
    parse_list(&match last {
        Some(last) => list.replace('n', &last.to_string()),
        None => list,
    })
    .ok()
}

fn isolation(look: &Look) -> Finding {
    const ITEM: &str = "cpu.isolation";
    let Some(line) = look.sysfs.text("/proc/cmdline") else {
        return Finding::unknown(ITEM, "/proc/cmdline cannot be read");
    };
    let set = |at: &str| parse_list(&look.sysfs.text(at)?).ok();
    let argument = |name: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        listed(look, value)
    };
    let tickless = set("/sys/devices/system/cpu/nohz_full");
    // Who is to have no tick is spared RCU's work as well, the timekeeper too: the argument names it.
    let nocbs = argument("rcu_nocbs").or_else(|| argument("nohz_full")).or_else(|| tickless.clone());
    let all = [
        ("isolcpus", set("/sys/devices/system/cpu/isolated").or_else(|| argument("isolcpus"))),
        ("nohz_full", tickless.or_else(|| argument("nohz_full"))),
        ("rcu_nocbs", nocbs),
    ];
    // The kernel takes it out of nohz_full by itself.
    let keeps_tick = |name: &str, cpu: usize| name == "nohz_full" && cpu == TIMEKEEPER;
    let covers =
        |name: &str, cpus: &[usize]| look.scope.cores.iter().all(|&cpu| cpus.contains(&cpu) || keeps_tick(name, cpu));
    let show = |(name, cpus): &(&str, Option<Vec<usize>>)| {
        let Some(cpus) = cpus else { return format!("{name} none") };
        let apart = look.scope.cores.iter().any(|&cpu| keeps_tick(name, cpu) && !cpus.contains(&cpu));
        let but = if apart { format!(" (processor {TIMEKEEPER} keeps its tick)") } else { String::new() };
        format!("{name} {}{but}", format_list(cpus))
    };
    let value: Vec<_> = all.iter().map(show).collect();
    let good = all.iter().all(|(name, cpus)| cpus.as_ref().is_some_and(|cpus| covers(name, cpus)));
    let list = look.cores_list();
    Finding::hint_unless(good, ITEM, value.join(", "))
        .fix(format!("scripts/tune-host.sh apply --boot --cores {list} && reboot"))
        .fix(boot::add(look.sysfs, &format!("isolcpus=managed_irq,domain,{list} nohz_full={list} rcu_nocbs={list}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Scope;
    use crate::host::fake::Tree;

    #[test]
    fn the_processor_that_keeps_the_time_needs_no_nohz_full() {
        let judged = |tickless: &str| {
            let tree = Tree::new(&[
                ("/proc/cmdline", "quiet isolcpus=managed_irq,domain,0-30 nohz_full=0-30 rcu_nocbs=0-30\n"),
                ("/sys/devices/system/cpu/isolated", "0-30\n"),
                ("/sys/devices/system/cpu/nohz_full", tickless),
            ]);
            let scope = Scope { cores: (0..31).collect(), ..Scope::default() };
            let sysfs = tree.sysfs();
            isolation(&Look { sysfs: &sysfs, scope: &scope })
        };
        let found = judged("1-30\n");
        assert_eq!(found.verdict, Verdict::Fine);
        assert_eq!(found.value, "isolcpus 0-30, nohz_full 1-30 (processor 0 keeps its tick), rcu_nocbs 0-30");
        assert_eq!(judged("2-30\n").verdict, Verdict::Hint);
    }

    #[test]
    fn lists_are_read_as_the_kernel_does() {
        for rest in ["rcu_nocbs=1-N", "rcu_nocbs=all", "quiet"] {
            let line = format!("isolcpus=managed_irq,domain,1-N nohz_full=1-N {rest}\n");
            let tree = Tree::new(&[
                ("/proc/cmdline", line.as_str()),
                ("/sys/devices/system/cpu/present", "0-31\n"),
                ("/sys/devices/system/cpu/isolated", "1-31\n"),
                ("/sys/devices/system/cpu/nohz_full", "1-31\n"),
            ]);
            let scope = Scope { cores: (1..32).collect(), ..Scope::default() };
            let sysfs = tree.sysfs();
            let found = isolation(&Look { sysfs: &sysfs, scope: &scope });
            assert_eq!(found.verdict, Verdict::Fine, "{rest}: {}", found.value);
        }
    }
}
