//! Findings as text: worst first, what is fine in a few lines at the end.

use super::{Finding, Verdict, items};
use crate::base::units::format_counted;
use std::fmt::Write;

const GROUPS: [(Verdict, &str, &str); 3] =
    [(Verdict::Fatal, "FATAL", "fatal"), (Verdict::Hint, "HINTS", "hint"), (Verdict::Unknown, "UNKNOWN", "unknown")];
const WIDTH: usize = 110;

pub fn render(findings: &[Finding], is_root: bool) -> String {
    let of = |verdict: Verdict| findings.iter().filter(move |finding| finding.verdict == verdict);
    let mut out = String::new();
    let count = |(verdict, _, word): &(Verdict, &str, &str)| match (verdict, of(*verdict).count()) {
        (Verdict::Hint, hints) => format_counted(hints as u64, word),
        (_, others) => format!("{others} {word}"),
    };
    let counts: Vec<_> = GROUPS.iter().map(count).collect();
    put(&mut out, &format!("doctor: {}, {} fine\n", counts.join(", "), of(Verdict::Fine).count()));
    if !is_root && findings.iter().any(|finding| !finding.fix.is_empty()) {
        // `sudo echo 1 > FILE` opens the file without it.
        put(
            &mut out,
            "fixes that change this host may need root: type those without sudo in a shell that has it, sudo -s\n",
        );
    }
    for (verdict, title, _) in GROUPS {
        if of(verdict).next().is_none() {
            continue;
        }
        put(&mut out, &format!("\n{title}\n"));
        of(verdict).for_each(|finding| one(&mut out, finding));
    }
    let fine: Vec<_> = of(Verdict::Fine).collect();
    if !fine.is_empty() {
        put(&mut out, "\nFINE\n");
        by_group(&mut out, &fine);
    }
    out
}

fn put(out: &mut String, text: &str) {
    out.push_str(text);
}

/// `nic.mtu (eth0)`.
fn name(finding: &Finding) -> String {
    match &finding.subject {
        Some(subject) => format!("{} ({subject})", finding.item),
        None => finding.item.clone(),
    }
}

fn one(out: &mut String, finding: &Finding) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(out, "  {}: {}", name(finding), finding.value);
    if finding.verdict == Verdict::Unknown {
        return;
    }
    let _infallible = writeln!(out, "      why    {}", finding.why);
    let _infallible = writeln!(out, "      worth  {} [{}]", finding.worth, finding.source);
    for (number, command) in finding.fix.iter().enumerate() {
        let _infallible = writeln!(out, "      {}    {command}", if number == 0 { "fix" } else { "or " });
    }
}

fn by_group(out: &mut String, fine: &[&Finding]) {
    let group = |item: &str| item.split('.').next().unwrap_or_default().to_owned();
    let mut groups: Vec<String> = items::ITEMS.iter().map(|item| group(item.name)).collect();
    let mut seen = Vec::new();
    groups.retain(|name| {
        !seen.contains(name) && {
            seen.push(name.clone());
            true
        }
    });
    for name in groups {
        let mut line = format!("  {name:<10}");
        let parts = fine.iter().filter(|finding| group(&finding.item) == name).map(|finding| {
            let short = finding.item.split_once('.').map_or("", |(_, rest)| rest);
            let subject = finding.subject.as_ref().map(|subject| format!(" ({subject})")).unwrap_or_default();
            format!("{short}{subject}: {}", finding.value)
        });
        let mut any = false;
        for part in parts {
            if any && line.chars().count() + part.chars().count() + 2 > WIDTH {
                put(out, line.trim_end());
                put(out, "\n");
                line = " ".repeat(12);
                any = false;
            }
            if any {
                line.push_str("; ");
            }
            line.push_str(&part);
            any = true;
        }
        if any {
            put(out, &line);
            put(out, "\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_root_is_told_that_fixes_may_need_it() {
        let says = |verdict: Verdict, is_root: bool| {
            let finding = Finding::new("memory.swap", verdict, "on").fix("swapoff -a");
            render(&[finding], is_root).lines().nth(1).is_some_and(|line| line.contains("may need root"))
        };
        assert!(says(Verdict::Hint, false) && says(Verdict::Fatal, false));
        assert!(!says(Verdict::Hint, true), "root has it");
        assert!(!says(Verdict::Fine, false), "there is nothing to fix");
    }
}
