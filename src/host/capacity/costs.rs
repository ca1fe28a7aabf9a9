//! What each path costs, as measured. The one table to refit: `perf/run.py plan` prints new rows for it.

use serde::Serialize;

/// The way of the bytes out of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    Null,
    Stdout,
    File,
    Tmpfs,
    Tcp,
    Http,
    Kafka,
}

impl Route {
    pub const ALL: [Self; 7] = [Self::Null, Self::Stdout, Self::File, Self::Tmpfs, Self::Tcp, Self::Http, Self::Kafka];

    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Stdout => "stdout",
            Self::File => "file",
            Self::Tmpfs => "tmpfs",
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Kafka => "kafka",
        }
    }

    pub fn is_network(self) -> bool {
        matches!(self, Self::Tcp | Self::Http | Self::Kafka)
    }
}

/// What a calibration measures to scale a route by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Core,
    Tmpfs,
    Loopback,
}

/// One row: time of one core is `record_ns` for each record and `byte_ns` for each byte (1 ns for each byte is
/// 1 s for each GB). Blocks, batches and system calls are inside these, at the sizes that the engine chooses itself;
/// over HTTP a record is a request, so its cost is in `record_ns`.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub route: Route,
    pub record_ns: f64,
    pub byte_ns: f64,
    /// Bytes that cross the memory bus for each byte sent.
    pub memory_crossings: f64,
    pub probe: Probe,
    /// Whether points that it was not fitted to were within 20 %.
    pub checked: bool,
    pub source: &'static str,
}

const FITTED: &str = "fitted to 512 B, 4 KiB and 64 KiB records, 2-vCPU VM, AMD EPYC (perf/runs/2026-11-25, plan-fit)";
const ROWS: &str = "from single-core rows of perf/runs, 2-vCPU VM, AMD EPYC, 2026-11-23";

#[rustfmt::skip]
pub const COSTS: &[Cost] = &[
    Cost { route: Route::Null, record_ns: 8.0, byte_ns: 0.00027, memory_crossings: 0.1, probe: Probe::Core, checked: true, source: FITTED },
    Cost { route: Route::Stdout, record_ns: 8.0, byte_ns: 0.442, memory_crossings: 3.0, probe: Probe::Core, checked: false, source: "row stdout-stamped of perf/runs, 2-vCPU VM, Xeon, 2026-11-23" },
    Cost { route: Route::File, record_ns: 8.0, byte_ns: 0.0277, memory_crossings: 1.1, probe: Probe::Core, checked: false, source: "O_DIRECT, row file of perf/runs, 2-vCPU VM, Xeon, 2026-11-23" },
    Cost { route: Route::Tmpfs, record_ns: 21.6, byte_ns: 0.327, memory_crossings: 3.0, probe: Probe::Tmpfs, checked: true, source: FITTED },
    // HTTP: 4 KiB on 8 connections and 1 MiB on 2. TCP: one size only; a record costs here what it costs over null.
    Cost { route: Route::Tcp, record_ns: 8.0, byte_ns: 0.1002, memory_crossings: 3.0, probe: Probe::Loopback, checked: false, source: ROWS },
    Cost { route: Route::Http, record_ns: 5094.0, byte_ns: 0.1293, memory_crossings: 3.0, probe: Probe::Loopback, checked: false, source: ROWS },
    Cost { route: Route::Kafka, record_ns: 34.3, byte_ns: 0.111, memory_crossings: 3.0, probe: Probe::Loopback, checked: false, source: ROWS },
];

/// Of each core, that the row of HTTP was fitted with.
pub const HTTP_CONNECTIONS: u32 = 8;

/// What the calibration saw on the machine of the table while that was measured. `None`: that has not been done, and a
/// calibration is shown but scales nothing.
pub const REFERENCE: Option<Probes> = None;
/// Its clock, which the processor's model name does not tell.
pub const REFERENCE_CLOCK_GHZ: f64 = 2.6;

/// Costs of three small loops.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Probes {
    /// A dependent multiplication and rotation.
    pub core_ns: f64,
    /// A byte copied to tmpfs by `pwrite`, overwriting.
    pub tmpfs_byte_ns: f64,
    /// A byte sent over loopback to a receiver that truncates.
    pub loopback_byte_ns: f64,
}

impl Probes {
    /// How many times as long as on the machine of the table.
    pub fn slowness(&self, reference: &Probes, probe: Probe) -> f64 {
        match probe {
            Probe::Core => self.core_ns / reference.core_ns,
            Probe::Tmpfs => self.tmpfs_byte_ns / reference.tmpfs_byte_ns,
            Probe::Loopback => self.loopback_byte_ns / reference.loopback_byte_ns,
        }
    }
}

pub fn cost(route: Route) -> &'static Cost {
    COSTS.iter().find(|cost| cost.route == route).expect("each route has a row, a test sees to it")
}
