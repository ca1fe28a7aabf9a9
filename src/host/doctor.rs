//! What on this host stands in the way of a load: each item with its value, why it matters, what it is worth, and
//! what mends it. Looks only, needs no privilege, and says so where it was not told.

mod boot;
mod cpu;
mod drive;
mod iommu;
pub mod items;
mod load;
mod memory;
mod net;
mod nic;
mod numa;
mod pci;
mod process;
mod qdisc;
mod speed;
pub mod text;

use crate::base::fatal::Exit;
use crate::host::{Sysfs, network};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// The processors of the load's threads.
    pub cores: Vec<usize>,
    /// Where files are written; their drives are judged.
    pub paths: Vec<PathBuf>,
    pub network: bool,
    /// Cards by name; none: those that lead to `peers`, and without peers the fastest that are up.
    pub nics: Vec<String>,
    pub peers: Vec<IpAddr>,
    /// Hosts of the target that have no address: no card leads to them.
    pub unresolved: Vec<String>,
    /// The compatible Kafka client makes the connections, and leaves them the host's congestion control.
    pub rskafka: bool,
}

/// `engine doctor`.
#[derive(Clone, Debug)]
pub struct DoctorArgs {
    pub sysfs: Sysfs,
    pub scope: Scope,
    pub json: bool,
}

/// Worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The load cannot run like this, or its figures would be wrong.
    Fatal,
    /// It runs, but not as well as it could.
    Hint,
    /// The host does not say.
    Unknown,
    Fine,
}

/// One item, judged.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// `cpu.governor`; the part before the dot is its group.
    pub item: String,
    pub verdict: Verdict,
    /// The card, drive or processors that it is about.
    pub subject: Option<String>,
    /// As measured; of an unknown one, what could not be read.
    pub value: String,
    pub why: String,
    pub worth: String,
    /// Where the figure in `worth` comes from.
    pub source: String,
    /// What mends it, the most convenient first: a command, flags of the engine, or what to do in words; any one does.
    /// Empty where nothing is to be mended.
    pub fix: Vec<String>,
}

impl Finding {
    fn new(item: &str, verdict: Verdict, value: impl Into<String>) -> Self {
        let row = items::row(item);
        let owned = |text: &str| text.to_owned();
        Self {
            item: owned(item),
            verdict,
            subject: None,
            value: value.into(),
            why: owned(row.why),
            worth: owned(row.worth),
            source: owned(row.source),
            fix: Vec::new(),
        }
    }

    fn fine(item: &str, value: impl Into<String>) -> Self {
        Self::new(item, Verdict::Fine, value)
    }

    /// Fine if `good`, else a hint.
    fn hint_unless(good: bool, item: &str, value: impl Into<String>) -> Self {
        Self::new(item, if good { Verdict::Fine } else { Verdict::Hint }, value)
    }

    /// `what` could not be read.
    fn unknown(item: &str, what: impl Into<String>) -> Self {
        Self::new(item, Verdict::Unknown, what)
    }

    fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Replaces the general worth by one that was calculated for this host.
    fn worth(mut self, worth: impl Into<String>, source: &str) -> Self {
        self.worth = worth.into();
        self.source = source.to_owned();
        self
    }

    /// Only what is not fine needs mending.
    fn fix(mut self, command: impl Into<String>) -> Self {
        if matches!(self.verdict, Verdict::Fatal | Verdict::Hint) {
            self.fix.push(command.into());
        }
        self
    }
}

/// What the checks share.
struct Look<'a> {
    sysfs: &'a Sysfs,
    scope: &'a Scope,
}

impl Look<'_> {
    /// `--cores` as `tune-host.sh` and `engine` read it.
    fn cores_list(&self) -> String {
        crate::host::cpu::format_list(&self.scope.cores)
    }
}

/// The addresses among hosts, without looking names up; this host's own name is known.
pub fn addresses(hosts: &[String]) -> Vec<IpAddr> {
    let address = |host: &String| match host.as_str() {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        _ => host.parse().ok(),
    };
    hosts.iter().filter_map(address).collect()
}

/// Looks at everything in the scope once; worst first, and in the order of the table of items.
pub fn examine(sysfs: &Sysfs, scope: &Scope) -> Vec<Finding> {
    look_around(sysfs, scope, |_| None)
}

/// [`examine`], and how busy the cores are just now: that takes a fifth of a second, which no run is to wait for.
pub fn examine_at_leisure(sysfs: &Sysfs, scope: &Scope) -> Vec<Finding> {
    look_around(sysfs, scope, load::examine)
}

/// How busy the cores of a run are, by what it saw while they got ready: see [`examine`].
pub fn load_seen(percent: &BTreeMap<usize, u64>) -> Option<Finding> {
    load::seen(percent)
}

/// The list of cores is judged as it was asked for, and everything else by those of them that the host has.
fn look_around(sysfs: &Sysfs, scope: &Scope, moving: fn(&Look) -> Option<Finding>) -> Vec<Finding> {
    let asked = Look { sysfs, scope };
    let scope = Scope { cores: cpu::there(&asked), ..scope.clone() };
    let look = Look { sysfs, scope: &scope };
    let mut found = vec![cpu::cores(&asked)];
    found.extend(at_rest(&look));
    found.extend(moving(&look));
    found.sort_by_key(|finding| (finding.verdict, items::place(&finding.item)));
    found
}

/// What a single look shows.
fn at_rest(look: &Look) -> Vec<Finding> {
    let mut found = cpu::examine(look);
    found.extend(memory::examine(look));
    found.extend(process::examine(look));
    let nics = if look.scope.network { nic::choose(look) } else { nic::Choice::default() };
    if look.scope.network {
        found.extend(net::examine(look, nics.loopback));
        found.extend(nic::examine(look, &nics));
    }
    let drives = drive::disks(look);
    found.extend(drive::examine(look));
    let cards = nics.cards();
    let folders = cards.iter().map(|name| format!("{}/device", network::folder(name)));
    numa::route_cards(look, folders, &mut found);
    numa::split_drives(look, drives.iter().map(|disk| disk.pci_folder(look.sysfs)), &mut found);
    found.extend(iommu::examine(look, &cards, &drives));
    found
}

/// The first few, and after `rest` how many more there are: a line is read, a list is not.
fn few(all: impl ExactSizeIterator<Item = String>, separator: &str, rest: &str) -> String {
    const SHOWN_MAX: usize = 4;
    let more = all.len().saturating_sub(SHOWN_MAX);
    let shown = all.take(SHOWN_MAX).collect::<Vec<_>>().join(separator);
    if more > 0 { format!("{shown} {rest} {more} more") } else { shown }
}

/// 0: nothing is fatal; 3: something is.
pub fn exit(findings: &[Finding]) -> Exit {
    let fatal = findings.iter().any(|finding| finding.verdict == Verdict::Fatal);
    if fatal { Exit::Host } else { Exit::Done }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_short() {
        let listed = |count: i32| few((0..count).map(|n| n.to_string()), ", ", "and some of");
        assert_eq!((listed(4).as_str(), listed(6).as_str()), ("0, 1, 2, 3", "0, 1, 2, 3 and some of 2 more"));
    }
}
