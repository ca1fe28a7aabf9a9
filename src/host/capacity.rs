//! What a rate needs of a machine: cores, drives, network, memory, connections. Arithmetic over the tables in
//! `costs`; every figure that was not measured on the machine itself is a range and called a projection.

pub mod calibrate;
pub mod command;
pub mod costs;
pub mod description;
pub mod machine;
pub mod text;

use crate::base::limits;
use costs::{Cost, Probes, Route, Table};
use machine::Machine;
use serde::Serialize;

pub const GIGA: f64 = 1e9;
/// On a calibrated host: what the prediction is allowed to be off by (the bar of `perf/run.py plan`).
const MEASURED_SPREAD: (f64, f64) = (0.8, 1.2);
/// Elsewhere: nobody has measured how many cores at once scale, nor another kernel or memory.
const PROJECTED_SPREAD: (f64, f64) = (0.5, 1.2);
/// What a drive writes on when its cache is full, as a part of its data sheet's figure.
const DRIVE_SUSTAINED: (f64, f64, f64) = (0.5, 0.8, 1.0);
/// What of the memory's data-sheet bandwidth programs reach.
const MEMORY_REACHED: (f64, f64, f64) = (0.6, 0.75, 0.85);
/// Of goodput: acknowledgements, retransmissions, other traffic.
const NIC_REACHED: (f64, f64, f64) = (0.9, 0.95, 1.0);
/// One copied TCP flow, published for Linux 394fcd8a: 65 Gbit/s; half of it is planned with.
const FLOW_BYTES_PER_SECOND: f64 = 65e9 / 8.0 / 2.0;
/// More than a host has slots for.
const DRIVES_NAMED_MAX: u32 = 64;
/// Preamble, Ethernet header, check sequence and gap around each packet.
const ETHERNET_BYTES: f64 = 38.0;
/// IPv4 and TCP with time stamps.
const HEADER_BYTES: f64 = 52.0;

/// A low, a likely and a high value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    pub low: f64,
    pub likely: f64,
    pub high: f64,
}

impl Range {
    fn around(likely: f64, (low, high): (f64, f64)) -> Self {
        Self { low: likely * low, likely, high: likely * high }
    }

    fn derated(full: f64, (low, likely, high): (f64, f64, f64)) -> Self {
        Self { low: full * low, likely: full * likely, high: full * high }
    }

    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (f(self.low), f(self.high));
        Self { low: a.min(b), likely: f(self.likely), high: a.max(b) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    pub route: Route,
    /// The target as typed, for the command; `None`: only its scheme is known.
    pub target: Option<String>,
    /// `None`: asks for the ceiling only.
    pub rate_bytes_per_second: Option<f64>,
    pub record_bytes: u64,
    /// `None`: as many as cores.
    pub producers: Option<u32>,
    /// The target has no files: it is written as a whole.
    pub is_device: bool,
    /// Where files go; `None`: no files, or on a machine that is not here to be asked.
    pub site: Option<Site>,
}

/// What this host has where files are to go.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// What files may take, and what they take unless they need more.
    pub room_bytes: u64,
    pub polite_bytes: u64,
    /// Why O_DIRECT gains nothing there.
    pub no_direct: Option<String>,
}

impl Demand {
    /// Standard output and a device: records of several producers would be torn there.
    pub fn takes_one(&self) -> bool {
        self.route == Route::Stdout || self.is_device
    }

    /// As many as the target takes, or were asked for.
    fn producers_fixed(&self) -> Option<u32> {
        if self.takes_one() { Some(1) } else { self.producers }
    }

    /// Of the fullest core.
    pub fn producers_each(&self, machine: &Machine) -> u32 {
        self.producers_fixed().unwrap_or(1).div_ceil(machine.senders())
    }

    /// Drives that the command names one by one: each wants a producer, and a path of the user's own is one target.
    fn drives(&self, machine: &Machine) -> u32 {
        let named = self.route == Route::File && self.target.is_none();
        let most = self.producers_fixed().unwrap_or(DRIVES_NAMED_MAX).min(DRIVES_NAMED_MAX);
        if named { machine.drive_count().clamp(1, most) } else { 1 }
    }

    /// By data sheets, what the command's targets can take: a drive that it does not name takes nothing, and those that
    /// it does are as fast as the one with the most producers lets them be.
    fn drives_gigabytes_per_second(&self, machine: &Machine) -> Option<f64> {
        let all = machine.drives_gigabytes_per_second()?;
        if self.target.is_some() {
            return Some(all);
        }
        let named = self.drives(machine);
        let busiest = |producers: u32| f64::from(producers) / f64::from(producers.div_ceil(named).max(1));
        let in_use = self.producers_fixed().map_or(f64::from(named), busiest);
        Some(all * in_use / f64::from(machine.drive_count().max(1)))
    }

    /// Cores at work, as far as producers fill them: each lives on one, and the one with the most is full first.
    fn cores_filled(&self, machine: &Machine) -> f64 {
        let all = f64::from(machine.senders());
        self.producers_fixed().map_or(all, |producers| f64::from(producers) / f64::from(self.producers_each(machine)))
    }

    /// As many for each drive.
    fn producers_on(&self, cores: u32, machine: &Machine) -> u32 {
        self.producers_fixed().unwrap_or_else(|| cores.next_multiple_of(self.drives(machine)))
    }
}

/// How the table's costs become this machine's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// The machine itself was asked.
    Calibrated(Probes),
    /// Another clock, or nothing known (1).
    Projected { clock_ratio: f64 },
}

impl Scale {
    pub fn of_described(machine: &Machine) -> Self {
        let reference = costs::table(machine.processor).clock_ghz;
        Self::Projected { clock_ratio: reference / machine.clock_ghz.unwrap_or(reference) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Fits,
    /// The likely values fit, the low ones do not.
    Uncertain,
    DoesNotFit,
}

/// One resource: how much of it the rate takes and there is, in its own unit.
#[derive(Clone, Debug, Serialize)]
pub struct Resource {
    pub name: &'static str,
    pub unit: &'static str,
    pub needed: Range,
    /// `null`: not known, not judged.
    pub available: Option<f64>,
    pub verdict: Option<Verdict>,
}

impl Resource {
    fn new(name: &'static str, unit: &'static str, needed: Range, available: Option<f64>) -> Self {
        let verdict = available.map(|have| {
            if needed.high <= have {
                Verdict::Fits
            } else if needed.likely <= have {
                Verdict::Uncertain
            } else {
                Verdict::DoesNotFit
            }
        });
        Self { name, unit, needed, available, verdict }
    }
}

/// The answer of `engine plan`.
#[derive(Clone, Debug, Serialize)]
pub struct Projection {
    pub target: Route,
    /// `measured_here` (scaled by a calibration) or `projection`.
    pub basis: &'static str,
    pub record_bytes: u64,
    pub rate_bytes_per_second: Option<f64>,
    pub core_bytes_per_second: Range,
    pub cpu_seconds_per_gigabyte: Range,
    /// All senders that the producers fill, at their likely rate, and what the machine's network, drives and memory let
    /// through of it.
    pub ceiling_bytes_per_second: Range,
    pub resources: Vec<Resource>,
    pub producers: Option<u32>,
    /// For each producer.
    pub connections: Option<u32>,
    /// Payload that a run of the command prepares for each producer: its own choice, or as it is told.
    pub ring_bytes: Option<u64>,
    /// The memory that all of them take together.
    pub ring_bytes_total: Option<u64>,
    /// What runs out first as the rate rises, of what is known of the machine: the same for every rate.
    pub limits_first: Option<&'static str>,
    pub verdict: Option<Verdict>,
    pub lacks: Vec<String>,
    /// `null`: it does not fit, or no rate was asked for.
    pub command: Option<String>,
    /// What the command says, also where it does not fit; `None`: no run takes so many producers.
    #[serde(skip)]
    pub flags: Option<Vec<String>>,
    pub calibration: Option<Probes>,
    pub machine: Machine,
    pub assumptions: Vec<String>,
}

impl Projection {
    /// What the ring of a producer comes to. A plan without a rate has no producers.
    pub fn with_rings(self, ring_bytes: u64) -> Self {
        let total = self.producers.map(|producers| ring_bytes.saturating_mul(producers.into()));
        Self { ring_bytes: total.and(Some(ring_bytes)), ring_bytes_total: total, ..self }
    }

    /// A run refuses the command, for what this host has.
    pub fn refused(self, why: Vec<String>) -> Self {
        Self { verdict: Some(Verdict::DoesNotFit), lacks: why, command: None, ..self }
    }
}

/// Payload that TCP over IPv4 carries at a link rate, headers with time stamps, full packets.
pub fn tcp_goodput_bytes_per_second(link_gbits: f64, mtu: u32) -> f64 {
    let mtu = f64::from(mtu);
    link_gbits * GIGA / 8.0 * (mtu - HEADER_BYTES).max(0.0) / (mtu + ETHERNET_BYTES)
}

/// What one core sends.
fn core_rate(table: &Table, cost: &Cost, record_bytes: u64, scale: Scale) -> Range {
    let (record, byte, spread) = match scale {
        Scale::Calibrated(probes) => {
            let (low, high) = if cost.checked { MEASURED_SPREAD } else { PROJECTED_SPREAD };
            let reach = probes.reach.unwrap_or((1.0, 1.0));
            let spread = (low.min(reach.0), high.max(reach.1));
            let slowness =
                |probe| probes.slowness(&table.reference, probe).expect("a plan is calibrated by what it scales as");
            (slowness(cost.record_probe), slowness(cost.byte_probe), spread)
        }
        Scale::Projected { clock_ratio } => (clock_ratio, clock_ratio, PROJECTED_SPREAD),
    };
    let size = record_bytes as f64;
    let ns = cost.record_ns * record + cost.byte_ns * size * byte;
    Range::around(size * GIGA / ns, spread)
}

pub fn project(demand: &Demand, machine: &Machine, scale: Scale) -> Projection {
    let table = costs::table(machine.processor);
    let cost = table.cost(demand.route);
    let core = core_rate(table, cost, demand.record_bytes, scale);
    let measured = matches!(scale, Scale::Calibrated(_)) && cost.checked;
    let rate = demand.rate_bytes_per_second;
    let mut resources = rate.map_or_else(Vec::new, |rate| resources(demand, cost, rate, core, machine));
    let cores = cores_planned(&resources, demand, machine);
    let producers = rate.map(|_| demand.producers_on(cores, machine));
    resources.extend(producers.and_then(|producers| command::space(demand, producers)));
    let worst = resources.iter().filter_map(|r| r.verdict).max_by_key(|verdict| *verdict as u8);
    let lacks = resources.iter().filter(|r| r.verdict == Some(Verdict::DoesNotFit));
    let lacks = lacks.map(|resource| text::lack(resource, demand, machine)).collect();
    let connections = rate.zip(producers).filter(|_| demand.route.is_network());
    let connections = connections.map(|(rate, producers)| connections_each(demand.route, rate, producers));
    // There a connection is a partition's.
    let partitions = connections.zip(producers).filter(|_| demand.route == Route::Kafka);
    let partitions = partitions.map(|(each, producers)| u64::from(each) * u64::from(producers));
    let roofs = roofs(demand, cost, core, machine);
    let mut assumptions = text::assumptions(demand, machine, scale, (table, cost), &roofs);
    let answers = rate.zip(partitions).map(|(rate, count)| text::answers(demand.record_bytes, rate, count));
    assumptions.extend(answers);
    let lowest = roofs.iter().filter_map(|(name, roof)| Some((roof.as_ref()?.likely, *name)));
    let lowest = lowest.min_by(|a, b| a.0.total_cmp(&b.0));
    // One producer may want more cores than any host has.
    let is_had = |count: u32| count.max(cores) as usize <= limits::PRODUCERS_MAX;
    let flags = rate.filter(|_| producers.is_some_and(is_had));
    let flags = flags.map(|rate| command::flags(demand, machine, rate, cores, connections));
    Projection {
        target: demand.route,
        basis: if measured { "measured_here" } else { "projection" },
        record_bytes: demand.record_bytes,
        rate_bytes_per_second: rate,
        core_bytes_per_second: core,
        cpu_seconds_per_gigabyte: core.map(|rate| GIGA / rate),
        ceiling_bytes_per_second: ceiling(&roofs),
        // Of roofs, since the whole cores of a rate would count for more than they do.
        limits_first: lowest.map(|(_, name)| name),
        verdict: worst,
        lacks,
        command: flags.as_deref().filter(|_| worst != Some(Verdict::DoesNotFit)).map(command::command),
        flags,
        producers,
        connections,
        ring_bytes: None,
        ring_bytes_total: None,
        resources,
        calibration: match scale {
            Scale::Calibrated(probes) => Some(probes),
            Scale::Projected { .. } => None,
        },
        machine: machine.clone(),
        assumptions,
    }
}

fn resources(demand: &Demand, cost: &Cost, rate: f64, core: Range, machine: &Machine) -> Vec<Resource> {
    let route = demand.route;
    let cores = core.map(|core| (rate / core).ceil());
    let mut found = vec![Resource::new("cores", "cores", cores, Some(demand.cores_filled(machine).floor()))];
    // The reach is taken off what is there by raising what is needed: one range, one comparison.
    let needs = |reached: (f64, f64, f64), amount: f64| Range::derated(1.0, reached).map(|part| amount / part);
    if route.is_network() {
        let there = machine.nic_gbits.map(|gbits| tcp_goodput_bytes_per_second(gbits, machine.mtu) / GIGA);
        found.push(Resource::new("network", "GB/s of goodput", needs(NIC_REACHED, rate / GIGA), there));
    }
    if route == Route::File {
        let there = demand.drives_gigabytes_per_second(machine);
        found.push(Resource::new("drives", "GB/s by data sheet", needs(DRIVE_SUSTAINED, rate / GIGA), there));
    }
    let crossing = rate / GIGA * cost.memory_crossings;
    let memory = needs(MEMORY_REACHED, crossing);
    found.push(Resource::new("memory", "GB/s by data sheet", memory, machine.memory_gigabytes_per_second));
    found
}

/// As many as the pessimistic number takes, with the producers dealt to them evenly. Where the machine has no more than
/// the likely number, all that it has.
fn cores_planned(resources: &[Resource], demand: &Demand, machine: &Machine) -> u32 {
    let cores = resources.iter().find(|r| r.name == "cores");
    let needed = cores.map_or(1, |cores| cores.needed.high as u32).max(1);
    let too_few = cores.is_some_and(|cores| cores.verdict == Some(Verdict::DoesNotFit));
    if too_few {
        return needed;
    }
    let producers = demand.producers_on(needed, machine);
    let each = (producers / needed).clamp(1, limits::LANES_PER_CORE_MAX as u32);
    producers.div_ceil(each).min(machine.senders())
}

/// What each resource by itself lets through; `None`: how much there is was not said.
fn roofs(demand: &Demand, cost: &Cost, core: Range, machine: &Machine) -> Vec<(&'static str, Option<Range>)> {
    let route = demand.route;
    let mut found = vec![("cores", Some(core.map(|core| core * demand.cores_filled(machine))))];
    if route.is_network() {
        let link = machine.nic_gbits.map(|gbits| tcp_goodput_bytes_per_second(gbits, machine.mtu));
        found.push(("network", link.map(|full| Range::derated(full, NIC_REACHED))));
    }
    if route == Route::File {
        let sheet = demand.drives_gigabytes_per_second(machine).map(|sheet| sheet * GIGA);
        found.push(("drives", sheet.map(|full| Range::derated(full, DRIVE_SUSTAINED))));
    }
    if cost.memory_crossings > 0.0 {
        let sheet = machine.memory_gigabytes_per_second.map(|sheet| sheet * GIGA / cost.memory_crossings);
        found.push(("memory", sheet.map(|full| Range::derated(full, MEMORY_REACHED))));
    }
    found
}

fn ceiling(roofs: &[(&'static str, Option<Range>)]) -> Range {
    let open = f64::INFINITY;
    roofs.iter().filter_map(|(_, roof)| *roof).fold(Range { low: open, likely: open, high: open }, |all, roof| Range {
        low: all.low.min(roof.low),
        likely: all.likely.min(roof.likely),
        high: all.high.min(roof.high),
    })
}

/// Over HTTP several requests hide the wait for an answer.
fn connections_each(route: Route, rate: f64, producers: u32) -> u32 {
    let flows = (rate / f64::from(producers) / FLOW_BYTES_PER_SECOND).ceil() as u32;
    flows.max(if route == Route::Http { costs::HTTP_CONNECTIONS } else { 1 })
}

#[cfg(test)]
mod tests;
