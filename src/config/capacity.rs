//! The command line of `engine plan`.

use crate::base::fatal::{Exit, Fatal};
use crate::base::{limits, program, units};
use crate::config::resolve::payload::{self, Sizes};
use crate::config::resolve::{self, cores, files, record_rates, target as targets};
use crate::config::url;
use crate::config::{Deps, doctor, flags, values};
use crate::host::Sysfs;
use crate::host::capacity::calibrate::Layout;
use crate::host::capacity::costs::Route;
use crate::host::capacity::description;
use crate::host::capacity::machine::Machine;
use crate::host::capacity::{self, Demand, Projection, Scale, Site, Verdict, command};
use crate::host::fs::{self, Direct};
use crate::plan::{Annotate, Poll};
use clap::ArgMatches;
use std::net::IpAddr;
use std::path::Path;

/// Name, value, help.
pub const PLAN_FLAGS: &[(&str, &str, &str)] = &[
    (
        "target",
        "URL",
        "As for run, or only its kind: null, stdout, file, tmpfs, tcp, http, kafka. file: is a drive with O_DIRECT, \
         unless it is below /dev/shm.",
    ),
    (
        "rate",
        "R",
        "The rate wanted, of all producers together, in bytes a second or records ('rec/s'). Without it the plan tells \
         the ceiling, and what sets it.",
    ),
    ("payload-size", "S", "Bytes of a record. Default 4096."),
    ("parallel", "N", "Producers, each on one core. Default: the number of cores that are needed."),
    (
        "host",
        "FILE",
        "A described machine in place of this one, YAML or JSON: cores, and where known processor (amd or intel), \
         clock_ghz, sockets, nic_gbits, mtu, drives (write_gigabytes_per_second, count), memory_gigabytes_per_second.",
    ),
    ("mtu", "N", "In place of the machine's."),
    (
        "calibrate",
        "on|off",
        "Measures this host for about two seconds, two cores of it, and scales the table of costs by that. Default on, \
         off with --host.",
    ),
    ("json", "", "The plan as JSON."),
];

const RECORD_BYTES: u64 = 4096;
/// Of nobody (RFC 5737), and no host's own.
const EXAMPLE_ADDRESS: &str = "192.0.2.1:9";
/// No process has this id, so nothing is there.
const NOWHERE: &str = "/proc/0/";
/// A drive that is not here to be asked.
const DRIVE: Direct = Direct { align: 4096, useful: true };

/// What to plan, for which machine.
#[derive(Clone, Debug)]
pub struct CapacityArgs {
    pub demand: Demand,
    pub machine: Machine,
    /// The machine is to be measured first.
    pub calibrate: bool,
    /// `--host` was given.
    pub described: bool,
    pub json: bool,
}

pub fn parse(args: &[String], deps: &Deps) -> Result<CapacityArgs, Vec<Fatal>> {
    let mut errors = Vec::new();
    let read = flags::own_flags(flags::bare("engine plan"), PLAN_FLAGS, &[], args, &mut errors);
    let Some(matches) = read else { return Err(errors) };
    match resolve(&matches, deps, &mut errors) {
        Some(plan) if errors.is_empty() => Ok(plan),
        _ => Err(errors),
    }
}

fn resolve(matches: &ArgMatches, deps: &Deps, errors: &mut Vec<Fatal>) -> Option<CapacityArgs> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let mut refuse = |flag: &str, why: String, example: &str| {
        errors.push(Fatal::usage(format!("--{flag}: {why}")).mend(program::flag(flag, example)));
    };
    let record_bytes = text("payload-size").map_or(Ok(RECORD_BYTES), units::parse_size).and_then(|size| {
        let fits = (limits::RECORD_BYTES_MIN_UNANNOTATED..=limits::RECORD_BYTES_MAX).contains(&size);
        fits.then_some(size).ok_or_else(|| format!("{size} bytes are not from 16 to 256 Mi"))
    });
    let record_bytes = record_bytes.unwrap_or_else(|why| {
        refuse("payload-size", why, "4096");
        RECORD_BYTES
    });
    let mut number = |flag: &str, from: u32, to: u32, example: &str| {
        let text = text(flag)?;
        let value = text.parse::<u32>().ok().filter(|value| (from..=to).contains(value));
        if value.is_none() {
            refuse(flag, format!("'{text}' is no number from {from} to {to}"), example);
        }
        value
    };
    let producers = number("parallel", 1, 65_536, "8");
    let mtu = number("mtu", 576, 65_535, "9000");
    let described = text("host");
    let calibrate = match (text("calibrate"), described) {
        (Some("on"), Some(_)) => {
            refuse("calibrate", "a described host cannot be measured".to_owned(), "off");
            false
        }
        (Some("on"), None) | (None, None) => true,
        (Some("off"), _) | (None, Some(_)) => false,
        (Some(other), _) => {
            refuse("calibrate", format!("'{other}' is none of on, off"), "on");
            false
        }
    };
    // What is planned is a run with the header, so leaving it out mends nothing here.
    let too_short = payload::too_short(record_bytes, Annotate::Payload);
    errors.extend(too_short.map(|fatal| fatal.mend(format!("--payload-size={}", limits::RECORD_BYTES_MIN))));
    let rate = text("rate").map(|text| rate(text, record_bytes)).transpose();
    let rate = rate.map_err(|fatal| errors.push(fatal)).ok().flatten();
    let target = target(text("target")).map_err(|fatal| errors.push(fatal)).ok();
    let machine = match described {
        Some(path) => description::described(Path::new(path)).map_err(|fatal| errors.push(fatal)).ok(),
        None => {
            let url = target.as_ref().and_then(|(_, url)| url.as_deref());
            let (peers, unknown) = url.map(|url| peers(url, &deps.sysfs)).unwrap_or_default();
            Some(Machine { unknown, ..Machine::here(&deps.sysfs, &peers) })
        }
    };
    let (route, target) = target?;
    let mut machine = machine?;
    machine.mtu = mtu.unwrap_or(machine.mtu);
    // A core has no room for more, as `run` says too.
    if let Some(producers) = producers {
        cores::deal(producers as usize, machine.senders() as usize, errors);
    }
    let rate_bytes_per_second = rate.map(|rate| rate as f64);
    let (is_device, site) = whereabouts(route, target.as_deref(), described.is_some(), deps);
    let demand = Demand { route, target, rate_bytes_per_second, record_bytes, producers, is_device, site };
    if let Some(producers) = producers.filter(|producers| *producers > 1 && demand.takes_one()) {
        let what = format!("--parallel {producers}: the target takes one producer");
        errors.push(Fatal::usage(what).mend("--parallel=1"));
    }
    Some(CapacityArgs { demand, machine, calibrate, described: described.is_some(), json: matches.get_flag("json") })
}

/// The answer, with the rings that a run of its command has.
pub fn project(args: &CapacityArgs, scale: Scale, deps: &Deps) -> Projection {
    let mut plan = capacity::project(&args.demand, &args.machine, scale);
    let Some(flags) = &plan.flags else { return plan };
    let mut errors = Vec::new();
    let ring_bytes = ring_bytes(args, flags, deps, &mut errors);
    if args.described {
        let untold = "rings as a run chooses them where nothing is known of caches and of free memory";
        plan.assumptions.push(untold.to_owned());
    }
    // Of a described machine nobody knows, and the command of what does not fit names cores that are not there.
    let is_told = args.described || plan.verdict == Some(Verdict::DoesNotFit);
    let refused = errors.into_iter().filter(|fatal| !is_told && fatal.exit == Exit::Host).map(|fatal| fatal.what);
    let refused: Vec<_> = refused.collect();
    let plan = if refused.is_empty() { plan } else { plan.refused(refused) };
    plan.with_rings(ring_bytes)
}

/// How records lie on the fullest core of a run to `null` on this host, with all cores that may send: no other path has
/// a probe that must follow them.
pub fn layout(args: &CapacityArgs, deps: &Deps) -> Layout {
    let (demand, machine) = (&args.demand, &args.machine);
    let senders = machine.senders();
    let flags = [
        ("--target", Route::Null.name().to_owned()),
        ("--payload-size", demand.record_bytes.to_string()),
        ("--cores", machine.sending(senders)),
        ("--parallel", demand.producers.unwrap_or(senders).to_string()),
    ];
    let flags: Vec<_> = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    let settings = flags::run_settings(Vec::new(), &flags, [], &mut Vec::new());
    let wanted = values::read(&settings, &mut Vec::new());
    let (block_bytes, ring_bytes) = resolve::rings(&settings, &wanted, deps, &mut Vec::new());
    Layout { lanes: demand.producers_each(machine), record_bytes: demand.record_bytes, block_bytes, ring_bytes }
}

/// What `run` comes to by these flags, on the machine that is planned for, and why it refuses them there.
fn ring_bytes(args: &CapacityArgs, flags: &[String], deps: &Deps, errors: &mut Vec<Fatal>) -> u64 {
    let flags: Vec<_> = flags.iter().map(|word| word.replace(command::ADDRESS, EXAMPLE_ADDRESS)).collect();
    let settings = flags::run_settings(Vec::new(), &flags, [], &mut Vec::new());
    let mut wanted = values::read(&settings, &mut Vec::new());
    let is_drive = args.demand.route == Route::File;
    let mut deps = deps.clone();
    if args.described {
        deps = Deps { sysfs: Sysfs::untold(), ..Deps::new(|| Ok(())) };
        wanted.poll = Some(if args.machine.cores > 1 { Poll::Busy } else { Poll::Adaptive });
        // Whatever lies here by that name.
        for target in &mut wanted.targets {
            let nowhere =
                url::path_of_file(target).map(|path| format!("file:{NOWHERE}{}", path.trim_start_matches('/')));
            *target = nowhere.unwrap_or_else(|| target.clone());
        }
    }
    match (is_drive, args.described, &args.demand.target) {
        (true, true, _) => deps.direct_probe = |_, _| Ok(DRIVE),
        (false, true, _) => deps.direct_probe = |_, _| Err("no drive".to_owned()),
        (true, false, None) => {
            deps.direct_probe = |sysfs, path| if path.exists() { fs::try_direct(sysfs, path) } else { Ok(DRIVE) };
        }
        _ => {}
    }
    resolve::rings(&settings, &wanted, &deps, errors).1
}

/// Bytes a second of a rate as `run` takes it.
fn rate(text: &str, record_bytes: u64) -> Result<u64, Fatal> {
    let wanted = values::rate(text).map_err(|why| Fatal::usage(format!("--rate: {why}")).mend("--rate=8GB/s"))?;
    let none = || Fatal::usage(format!("--rate '{text}' is no rate to plan for")).mend("leave it out, for the ceiling");
    record_rates::bytes_per_second("rate", wanted.ok_or_else(none)?, &Sizes::fixed_at(record_bytes))
}

/// Whoever a URL leads to, and names without an address; what is wrong with it otherwise, `run` says.
fn peers(url: &str, sysfs: &Sysfs) -> (Vec<IpAddr>, Vec<String>) {
    let targets = targets::resolve(&[url.to_owned()], sysfs, &mut Vec::new());
    let (mut peers, mut unknown) = (Vec::new(), Vec::new());
    for (host, port) in targets.remotes.iter().flat_map(|url| &url.hosts) {
        let found = doctor::peers(host, *port, sysfs);
        if found.is_empty() {
            unknown.push(host.clone());
        }
        peers.extend(found);
    }
    (peers, unknown)
}

/// Whether a file target is a device, and what this host has there. What is not here is taken for what its name says.
fn whereabouts(route: Route, target: Option<&str>, described: bool, deps: &Deps) -> (bool, Option<Site>) {
    let url = match (route, target) {
        (Route::File | Route::Tmpfs, Some(url)) => url.to_owned(),
        (Route::Tmpfs, None) => format!("file:{}", command::TMPFS_FOLDER),
        _ => return (false, None),
    };
    let named = |path: &str| path.starts_with("/dev/") && !path.ends_with('/');
    let is_named_so = route == Route::File && url::path_of_file(&url).is_some_and(named);
    let place = if described { None } else { targets::resolve(&[url], &deps.sysfs, &mut Vec::new()).places.pop() };
    let Some(place) = place else { return (is_named_so, None) };
    let path = place.path();
    let no_direct = || match (deps.direct_probe)(&deps.sysfs, path) {
        Ok(direct) if direct.useful => None,
        Ok(_) => Some(format!("what lies at {} is buffered all the same", path.display())),
        Err(why) => Some(why),
    };
    let site = files::room_at(path, &deps.sysfs).map(|(room_bytes, polite_bytes)| Site {
        room_bytes,
        polite_bytes,
        no_direct: if route == Route::File { no_direct() } else { None },
    });
    (place.is_device() || is_named_so && !path.exists(), site)
}

/// A kind, or a URL: then it is kept for the command.
fn target(text: Option<&str>) -> Result<(Route, Option<String>), Fatal> {
    let example = "--target=kafka, --target=tcp://receiver:9000 or --target=file:/mnt/nvme0/";
    let text = text.ok_or_else(|| Fatal::usage("plan has no --target").mend(example))?;
    let shown = url::for_errors(text);
    if url::without_user_info(text) != text {
        let what = format!("--target '{shown}': a password in a flag is seen by everyone on this host");
        return Err(Fatal::usage(what).mend(program::flag("target", &shown)));
    }
    if let Some(route) = Route::ALL.into_iter().find(|route| route.name() == text) {
        return Ok((route, None));
    }
    let is_in_memory = url::path_of_file(text).is_some_and(|path| path.starts_with("/dev/shm"));
    let route = match text.split_once(':') {
        Some(("file", _)) if is_in_memory => Route::Tmpfs,
        Some(("file", path)) if !path.is_empty() => Route::File,
        Some(("tcp", rest)) if rest.starts_with("//") => Route::Tcp,
        Some(("http", rest)) if rest.starts_with("//") => Route::Http,
        Some(("kafka", rest)) if rest.starts_with("//") => Route::Kafka,
        Some(("https", _)) => {
            let what = format!("--target '{shown}': what TLS costs is not in the table");
            return Err(Fatal::usage(what).mend("--target=http for all but the encryption"));
        }
        _ => return Err(Fatal::usage(format!("--target '{shown}' is no target")).mend(example)),
    };
    Ok((route, Some(text.to_owned())))
}

#[cfg(test)]
mod tests;
