//! The command that a plan comes to.

use crate::base::{limits, program};
use crate::host::capacity::calibrate::TMPFS_BYTES_MAX;
use crate::host::capacity::costs::Route;
use crate::host::capacity::machine::Machine;
use crate::host::capacity::{Demand, GIGA, Range, Resource};

/// Of each producer: twice the blocks of 1 MiB that are in flight to a drive, and one merged call.
const DRIVE_FILE_BYTES_MIN: u64 = 64 << 20;
const TMPFS_FILE_BYTES_MIN: u64 = 16 << 20;
const FILE_RECORDS_MIN: u64 = 4;
/// What O_DIRECT wants a multiple of.
const SECTOR_BYTES_MAX: u64 = 4096;
/// Of each producer: it fills a block of 1 MiB in 10 ms.
const DIRECT_BYTES_PER_SECOND_MIN: f64 = 100e6;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Stands in the command for one that nobody named.
pub const ADDRESS: &str = "HOST:PORT";
/// Where the command writes in memory, if nobody says.
pub const TMPFS_FOLDER: &str = "/dev/shm/engine/";

/// A flag and its value.
type Flag = (&'static str, String);

/// What it leaves out the engine chooses for this very target, as it did when the costs were measured: blocks, rings,
/// what is in flight. A ring of another size keeps connections or a drive idle, or leaves the cache.
pub(super) fn flags(
    demand: &Demand,
    machine: &Machine,
    rate: f64,
    cores: u32,
    connections: Option<u32>,
) -> Vec<String> {
    let drives = demand.drives(machine);
    let targets = match &demand.target {
        None if drives > 1 => (0..drives).map(|k| format!("file:/mnt/nvme{k}/")).collect(),
        named => vec![named.clone().unwrap_or_else(|| example(demand.route))],
    };
    let producers = demand.producers_on(cores, machine);
    let mut flags: Vec<Flag> = targets.into_iter().map(|target| ("--target", target)).collect();
    flags.extend([
        ("--rate", format!("{rate:.0}")),
        ("--payload-size", demand.record_bytes.to_string()),
        ("--cores", machine.sending(cores)),
        ("--parallel", producers.to_string()),
    ]);
    flags.extend(connections.filter(|each| *each > 1).into_iter().flat_map(|each| links(demand, each, producers)));
    flags.extend(files(demand, rate, producers));
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

pub(super) fn command(flags: &[String]) -> String {
    let words: Vec<_> = flags.iter().map(|word| program::quoted(word)).collect();
    program::command(&words.join(" "))
}

/// For a Kafka broker a connection is a partition's, and the ring that a run would choose is for one.
fn links(demand: &Demand, each: u32, producers: u32) -> Vec<Flag> {
    if demand.route != Route::Kafka {
        return vec![("--connections", each.to_string())];
    }
    let batches = u64::from(each) * limits::KAFKA_IN_FLIGHT_DEFAULT as u64 + 1;
    let ring = (batches * batch_bytes(demand.record_bytes)).div_ceil(MIB);
    vec![("--partitions", (each * producers).to_string()), ("--ring-size", format!("{ring}Mi"))]
}

/// What was measured: files that are overwritten in place, with O_DIRECT on a drive. Whole sectors have that anyway;
/// where others would wait for a block to fill, the page cache costs little. A device has no files.
fn files(demand: &Demand, rate: f64, producers: u32) -> Vec<Flag> {
    let footprint = footprint(demand, producers).map(|bytes| ("--footprint", bytes));
    let mut flags = Vec::from_iter(footprint);
    let is_whole = demand.record_bytes.is_multiple_of(SECTOR_BYTES_MAX);
    let fills = rate / f64::from(producers) >= DIRECT_BYTES_PER_SECOND_MIN;
    let has_direct = demand.site.as_ref().is_none_or(|site| site.no_direct.is_none());
    if demand.route == Route::File && !is_whole && fills && has_direct {
        flags.push(("--direct", "on".to_owned()));
    }
    flags
}

/// The least that the files of all producers need, and what they take where there is room.
fn files_bytes(demand: &Demand, producers: u32) -> Option<(u64, u64)> {
    let (all_bytes, each_bytes) = match demand.route {
        Route::File => (limits::FOOTPRINT_BYTES_DEFAULT, DRIVE_FILE_BYTES_MIN),
        Route::Tmpfs => (TMPFS_BYTES_MAX, TMPFS_FILE_BYTES_MIN),
        _ => return None,
    };
    let least = each_bytes.max(FILE_RECORDS_MIN * demand.record_bytes) * u64::from(producers);
    (!demand.takes_one()).then_some((least.next_multiple_of(MIB), all_bytes))
}

/// As much as was measured with, or what may be had of it here, in whole GiB if those are enough.
fn footprint(demand: &Demand, producers: u32) -> Option<String> {
    let (least, wanted) = files_bytes(demand, producers)?;
    let bytes = demand.site.as_ref().map_or(wanted, |site| wanted.min(site.polite_bytes)).max(least);
    let whole = bytes / GIB;
    Some(if whole * GIB >= least { format!("{whole}Gi") } else { format!("{}Mi", bytes / MIB) })
}

/// What the files need at the least of what they may take.
pub(super) fn space(demand: &Demand, producers: u32) -> Option<Resource> {
    let (least, _) = files_bytes(demand, producers)?;
    let needed = Range::around(least as f64 / GIGA, (1.0, 1.0));
    Some(Resource::new("space", "GB for files", needed, Some(demand.site.as_ref()?.room_bytes as f64 / GIGA)))
}

fn example(route: Route) -> String {
    match route {
        Route::Null => "null".to_owned(),
        Route::Stdout => "stdout".to_owned(),
        Route::File => "file:/mnt/nvme0/".to_owned(),
        Route::Tmpfs => format!("file:{TMPFS_FOLDER}"),
        Route::Tcp => format!("tcp://{ADDRESS}"),
        Route::Http => format!("http://{ADDRESS}/"),
        Route::Kafka => format!("kafka://{ADDRESS}/TOPIC"),
    }
}

pub(super) fn batch_bytes(record_bytes: u64) -> u64 {
    limits::KAFKA_BATCH_BYTES_DEFAULT.max(record_bytes)
}
