//! A projection for people, and the sentences in it.

use crate::base::{limits, units};
use crate::host::capacity::command::batch_bytes;
use crate::host::capacity::costs::{Cost, Route, Table};
use crate::host::capacity::machine::Machine;
use crate::host::capacity::{Demand, GIGA, Projection, Range, Resource, Scale, Site, Verdict};
use std::fmt::Write;

impl Projection {
    pub fn summary(&self) -> String {
        let mut out = String::new();
        let what = self.rate_bytes_per_second.map_or("what can it do".to_owned(), units::format_rate);
        let size = units::format_size(self.record_bytes);
        let basis = if self.basis == "projection" { "projection" } else { "from a calibration of this host" };
        line(&mut out, "plan", &format!("{what} to {}, records of {size} ({basis})", self.target.name()));
        line(&mut out, "one core", &rates(self.core_bytes_per_second));
        line(&mut out, "CPU", &format!("{} s of one core for each GB", span(self.cpu_seconds_per_gigabyte)));
        line(&mut out, "this machine", &format!("{} at most", rates(self.ceiling_bytes_per_second)));
        for resource in &self.resources {
            line(&mut out, resource.name, &needs(resource));
        }
        if let (Some(each), Some(all)) = (self.ring_bytes, self.ring_bytes_total) {
            line(&mut out, "rings", &rings(each, all));
        }
        if let Some(producers) = self.producers {
            line(&mut out, "producers", &producers.to_string());
        }
        if let Some(connections) = self.connections {
            line(&mut out, "connections", &format!("{connections} for each producer"));
        }
        if let Some(first) = self.limits_first {
            line(&mut out, "limits first", first);
        }
        if let Some(verdict) = self.verdict {
            line(&mut out, "verdict", verdict_text(verdict));
        }
        for lack in &self.lacks {
            line(&mut out, "lacks", lack);
        }
        if let Some(command) = &self.command {
            line(&mut out, "command", command);
        }
        out.push_str("assumptions\n");
        for assumption in &self.assumptions {
            let _ = writeln!(out, "  - {assumption}");
        }
        out
    }
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{name:13} {value}");
}

fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fits => "fits",
        Verdict::Uncertain => "uncertain: the likely values fit, the low ones do not; try it",
        Verdict::DoesNotFit => "does not fit",
    }
}

/// Two digits; more would be invented.
fn digits(value: f64) -> String {
    let places = if value > 0.0 { (1.0 - value.log10().floor()).clamp(0.0, 6.0) as usize } else { 0 };
    format!("{value:.places$}")
}

fn span(range: Range) -> String {
    let (low, high) = (digits(range.low), digits(range.high));
    if low == high { low } else { format!("{low} to {high}") }
}

fn rates(range: Range) -> String {
    format!("{} GB/s, likely {}", span(range.map(|rate| rate / GIGA)), digits(range.likely / GIGA))
}

/// Whole cores, and two digits of anything else.
fn figure(resource: &Resource, value: f64) -> String {
    if resource.unit == "cores" { format!("{value:.0}") } else { digits(value) }
}

/// So many of the resource, with its unit.
fn amount(resource: &Resource, value: f64) -> String {
    let figure = figure(resource, value);
    let unit = if resource.unit == "cores" && figure == "1" { "core" } else { resource.unit };
    format!("{figure} {unit}")
}

fn needs(resource: &Resource) -> String {
    let Resource { unit, needed, available, verdict, .. } = resource;
    let (low, high) = (figure(resource, needed.low), figure(resource, needed.high));
    let needed = if low == high { low } else { format!("{low} to {high}") };
    match (available, verdict) {
        (Some(have), Some(verdict)) => {
            let word = match verdict {
                Verdict::Fits => "ok",
                Verdict::Uncertain => "uncertain",
                Verdict::DoesNotFit => "too few",
            };
            format!("needs {needed} of {}: {word}", amount(resource, *have))
        }
        _ => format!("needs {needed} {unit}; how much there is was not said, so it is not judged"),
    }
}

fn rings(each: u64, all: u64) -> String {
    match units::format_sizes_alike([each, all]) {
        [one, _] if each == all => format!("{one} of memory, for the one producer"),
        [each, all] => format!("{each} for each producer, {all} of memory for all"),
    }
}

pub(super) fn lack(resource: &Resource, demand: &Demand, machine: &Machine) -> String {
    let have = resource.available.unwrap_or_default();
    if resource.name == "space" {
        let [needed, room] = [resource.needed.likely, have].map(|gigabytes| (gigabytes * GIGA).round() as u64);
        let [needed, room] = units::format_sizes_alike([needed, room]);
        return format!("space: the files need {needed}, and there is room for {room}");
    }
    let (needed, shown) = (amount(resource, resource.needed.likely), figure(resource, have));
    let verb = if shown == "1" { "is" } else { "are" };
    let lack = format!("{}: likely needs {needed}, there {verb} {shown}", resource.name);
    let senders = machine.senders();
    if resource.name != "cores" || have >= f64::from(senders) {
        return lack;
    }
    match demand.producers {
        _ if demand.takes_one() => format!("{lack}: the target takes one producer"),
        Some(producers) => format!("{lack}: --parallel {producers} fills no more of {senders}"),
        None => lack,
    }
}

pub(super) fn assumptions(
    demand: &Demand,
    machine: &Machine,
    scale: Scale,
    (table, cost): (&Table, &Cost),
    roofs: &[(&'static str, Option<Range>)],
) -> Vec<String> {
    let mut all = vec![
        format!("cost of one core: {} ns a record and {} ns a byte, {}", cost.record_ns, cost.byte_ns, cost.source),
        "blocks, rings, batches and connections as the engine chooses them; one core is left free".to_owned(),
        "cores add up: projection, nothing above two cores has been measured".to_owned(),
    ];
    if machine.processor.is_none() {
        all.push(format!("a processor like the {} of the table: whose it is was not said", table.machine));
    }
    match scale {
        Scale::Calibrated(probes) => {
            let spread = if probes.busy().is_none() { ", ±20 %" } else { "" };
            all.push(match cost.checked {
                true => format!("scaled by a calibration of this host{spread}"),
                false => "scaled by a calibration; the path itself is a projection".to_owned(),
            });
            all.extend(probes.busy().map(|(low, high)| {
                let (low, high) = (low * 100.0, high * 100.0);
                format!(
                    "the host is busy: the calibration's repetitions reached {low:.0} to {high:.0} % of their median \
                     rate, and the range covers that; plan again when it is quiet"
                )
            }));
        }
        Scale::Projected { clock_ratio } => all.push(format!(
            "projection: the table's time × {clock_ratio:.2} for the clock, from half of that rate to 1.2 of it"
        )),
    }
    if cost.route.is_network() {
        all.push(format!(
            "costs are of loopback, where the sender's core also does the receiving kernel's work; goodput at MTU {} \
             with IPv4 and TCP time stamps, 90 to 100 % of it reached",
            machine.mtu
        ));
    }
    if !machine.unknown.is_empty() {
        all.push(format!(
            "no address was found for {}: the card is that of the other hosts or, without any, the fastest that is up",
            machine.unknown.join(", ")
        ));
    }
    all.extend(of_files(demand, machine));
    // For a rate, each resource says so itself.
    let unsaid = roofs.iter().filter(|(_, roof)| demand.rate_bytes_per_second.is_none() && roof.is_none());
    all.extend(unsaid.map(|(name, _)| format!("{name}: how much there is was not said, so it sets no limit here")));
    all.push(format!(
        "{} bytes cross the memory bus for each byte sent (calculated); 60 to 85 % of its data sheet is reached",
        cost.memory_crossings
    ));
    if machine.sockets > 1 {
        all.push("each core sends from memory of its own node to a device there: one process for each node".to_owned());
    }
    all
}

/// Of files and drives.
fn of_files(demand: &Demand, machine: &Machine) -> Vec<String> {
    let mut all = Vec::new();
    if matches!(demand.route, Route::File | Route::Tmpfs) && !demand.takes_one() {
        all.push("files are overwritten in place (--footprint); what rotating ones cost was not measured".to_owned());
    }
    if let Some(Site { no_direct: Some(why), .. }) = &demand.site {
        all.push(format!("costs are of O_DIRECT, which is not to be had: {why}; the page cache was not measured"));
    }
    if demand.route == Route::File {
        all.push("drives sustain 50 to 100 % of their data sheet, likely 80 %".to_owned());
        if machine.drives_differ() {
            all.push("unlike drives are given the same: each as much as the slowest takes".to_owned());
        }
        all.extend(behind_one_path(demand, machine));
    }
    all
}

/// How fast brokers must answer: what is in flight to a partition is all that it carries meanwhile.
pub(super) fn answers(record_bytes: u64, rate: f64, partitions: u64) -> String {
    let batch_bytes = batch_bytes(record_bytes);
    let in_flight = limits::KAFKA_IN_FLIGHT_DEFAULT as u64;
    let in_flight_bytes = (partitions * in_flight) as f64 * (batch_bytes - batch_bytes % record_bytes) as f64;
    let carry = if partitions == 1 { "carries" } else { "carry" };
    format!(
        "{} {carry} the rate while an answer takes less than {} ({} of {} in flight each)",
        units::format_counted(partitions, "partition"),
        units::format_duration((in_flight_bytes / rate * GIGA) as u64),
        units::format_counted(in_flight, "batch"),
        units::format_size(batch_bytes)
    )
}

/// The rate is that of all drives, so what is named has to be all of them.
fn behind_one_path(demand: &Demand, machine: &Machine) -> Option<String> {
    let (count, path) = (machine.drive_count(), demand.target.as_ref()?);
    (count > 1).then(|| format!("all {count} drives are behind {path}, as one (RAID 0)"))
}
